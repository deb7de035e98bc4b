//! What the agent does not have yet: statuses, tasks whose first status it has not, messages.

use std::collections::VecDeque;

use mesita_core::limits::MESSAGE_MAX;
use mesita_core::wire::task::TaskState;

use super::{Error, MESSAGES_MAX, STATUSES_MAX};
use crate::pb::mesos::v1 as pb;
use pb::executor::call::{Subscribe, Update};

/// In the order in which it is to be sent.
#[derive(Debug, Default)]
pub(super) struct Kept {
    statuses: VecDeque<pb::TaskStatus>,
    /// Of `statuses`, the first so many were sent over this connection.
    sent: usize,
    tasks: Vec<pb::TaskInfo>,
    messages: VecDeque<Vec<u8>>,
    stops: bool,
}

/// The next thing to be sent.
#[derive(Debug)]
pub(super) enum Next {
    Status(pb::TaskStatus),
    Message(Vec<u8>),
    /// Nothing; more may come.
    Nothing,
    /// Nothing, and nothing more comes.
    Done,
}

impl Kept {
    pub(super) fn status(
        &mut self,
        task: &str,
        state: TaskState,
        message: &str,
        data: &[u8],
    ) -> Result<(), Error> {
        if self.statuses.len() >= STATUSES_MAX {
            return Err(Error::Full);
        }
        let cut = message.floor_char_boundary(MESSAGE_MAX);
        self.statuses.push_back(pb::TaskStatus {
            task_id: pb::TaskId { value: task.to_owned() },
            state: crate::v1::events::state(state).into(),
            message: (cut > 0).then(|| message[..cut].to_owned()),
            source: Some(pb::task_status::Source::Executor.into()),
            data: (!data.is_empty()).then(|| data.to_vec()),
            timestamp: Some(crate::v1::amounts::seconds(crate::clock::wall_us())),
            uuid: Some(crate::random::bytes::<16>().to_vec()),
            ..pb::TaskStatus::default()
        });
        Ok(())
    }

    pub(super) fn message(&mut self, data: &[u8]) -> Result<(), Error> {
        if self.messages.len() >= MESSAGES_MAX {
            return Err(Error::Full);
        }
        self.messages.push_back(data.to_vec());
        Ok(())
    }

    pub(super) fn stop(&mut self) {
        self.stops = true;
    }

    /// A task that came: the agent is told of it again until it has a status.
    pub(super) fn launched(&mut self, task: &pb::TaskInfo) {
        self.tasks.push(task.clone());
    }

    /// The agent has a status.
    pub(super) fn acknowledged(&mut self, task: &str, uuid: &[u8]) {
        let of = self.statuses.iter().position(|status| status.uuid() == uuid);
        if let Some(at) = of {
            self.statuses.remove(at);
            self.sent -= usize::from(at < self.sent);
        }
        self.tasks.retain(|one| one.task_id.value != task);
    }

    /// What a new connection begins with; with that, all statuses were sent.
    pub(super) fn subscribe(&mut self) -> Subscribe {
        self.sent = self.statuses.len();
        let update = |status: &pb::TaskStatus| Update { status: status.clone() };
        Subscribe {
            unacknowledged_tasks: self.tasks.clone(),
            unacknowledged_updates: self.statuses.iter().map(update).collect(),
        }
    }

    pub(super) fn next(&mut self) -> Next {
        if let Some(status) = self.statuses.get(self.sent) {
            self.sent += 1;
            return Next::Status(status.clone());
        }
        match self.messages.pop_front() {
            Some(message) => Next::Message(message),
            None if self.stops && self.statuses.is_empty() => Next::Done,
            None => Next::Nothing,
        }
    }

    /// Whether it is about to end.
    pub(super) fn stops(&self) -> bool {
        self.stops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next_task(kept: &mut Kept) -> Option<String> {
        match kept.next() {
            Next::Status(status) => Some(status.task_id.value),
            Next::Message(_) | Next::Nothing | Next::Done => None,
        }
    }

    #[test]
    fn a_status_is_sent_once_a_connection_until_it_is_acknowledged() {
        let mut kept = Kept::default();
        for task in ["a", "b"] {
            kept.status(task, TaskState::Running, "", b"").unwrap();
        }
        assert_eq!(next_task(&mut kept).as_deref(), Some("a"));
        let a = kept.statuses[0].uuid().to_vec();
        kept.acknowledged("a", &a);
        assert_eq!(next_task(&mut kept).as_deref(), Some("b"));
        assert!(matches!(kept.next(), Next::Nothing));
        // The connection is gone, and `b` not acknowledged.
        let again = kept.subscribe();
        assert_eq!(again.unacknowledged_updates[0].status.task_id.value, "b");
        assert!(matches!(kept.next(), Next::Nothing));
        let b = kept.statuses[0].uuid().to_vec();
        kept.stop();
        assert!(matches!(kept.next(), Next::Nothing));
        kept.acknowledged("b", &b);
        assert!(matches!(kept.next(), Next::Done));
    }

    #[test]
    fn a_task_is_told_of_until_it_has_a_status() {
        let mut kept = Kept::default();
        let task_id = pb::TaskId { value: "a".to_owned() };
        kept.launched(&pb::TaskInfo { task_id, ..pb::TaskInfo::default() });
        assert_eq!(kept.subscribe().unacknowledged_tasks.len(), 1);
        kept.status("a", TaskState::Running, "", b"").unwrap();
        let uuid = kept.statuses[0].uuid().to_vec();
        kept.acknowledged("a", &uuid);
        assert!(kept.subscribe().unacknowledged_tasks.is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut kept = Kept::default();
        for _ in 0..STATUSES_MAX {
            kept.status("a", TaskState::Running, "", b"").unwrap();
        }
        assert_eq!(kept.status("a", TaskState::Finished, "", b""), Err(Error::Full));
        for _ in 0..MESSAGES_MAX {
            kept.message(b"m").unwrap();
        }
        assert_eq!(kept.message(b"m"), Err(Error::Full));
    }
}
