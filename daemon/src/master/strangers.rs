//! Agents that a framework names and that are none of this cluster, by what it calls them: the
//! answer names them as the question did.

use std::cell::RefCell;
use std::collections::VecDeque;

use mesita_core::limits::NAME_MAX;
use mesita_core::wire::call::Capability;

use crate::pb::mesos::v1::scheduler::Call;
use crate::pb::mesos::v1::scheduler::call::reconcile;
use crate::pb::mesos::v1::{AgentId, TaskState, TaskStatus, task_status};
use crate::v1::calls::NO_AGENT;
use crate::v1::events::agent_id;

/// Questions of one framework that wait for their answer; the oldest go first.
const WAITING_MAX: usize = 1_024;

/// Takes those tasks out of a call whose names are longer than any task's, so that nobody has them: each
/// is answered so.
pub(super) fn nameless(call: &mut Call, knows: u32) -> Vec<TaskStatus> {
    let mut none = Vec::new();
    if let Some(reconcile) = &mut call.reconcile {
        let long = |task: &reconcile::Task| task.task_id.value.len() > NAME_MAX;
        let (gone, rest) = std::mem::take(&mut reconcile.tasks).into_iter().partition(long);
        reconcile.tasks = rest;
        none = gone;
    }
    none.into_iter().map(|task| unknown(task, knows)).collect()
}

/// Mesos: `Master::_reconcileTasks`, of a task that nobody knows.
fn unknown(task: reconcile::Task, knows: u32) -> TaskStatus {
    let mut status =
        TaskStatus { task_id: task.task_id, agent_id: task.agent_id, ..TaskStatus::default() };
    let is_aware = knows & Capability::PartitionAware.bit() != 0;
    status.set_state(if is_aware { TaskState::TaskUnknown } else { TaskState::TaskLost });
    status.set_source(task_status::Source::Master);
    status.set_reason(task_status::Reason::Reconciliation);
    status.message = Some("Reconciliation: Task is unknown".to_owned());
    status
}

/// Tasks that a call is about, each with the agent that it names.
fn named(call: &Call) -> impl Iterator<Item = (&str, &AgentId)> {
    let asked = call.reconcile.iter().flat_map(|call| &call.tasks);
    let asked = asked.map(|task| (&task.task_id, task.agent_id.as_ref()));
    let killed = call.kill.iter().map(|kill| (&kill.task_id, kill.agent_id.as_ref()));
    let operations = call.accept.iter().flat_map(|accept| &accept.operations);
    let launched = operations.flat_map(|operation| {
        let alone = operation.launch.iter().flat_map(|launch| &launch.task_infos);
        let groups = operation.launch_group.iter();
        alone.chain(groups.flat_map(|launch| &launch.task_group.tasks))
    });
    let launched = launched.map(|task| (&task.task_id, Some(&task.agent_id)));
    let all = asked.chain(killed).chain(launched);
    all.filter_map(|(task, agent)| Some((task.value.as_str(), agent?)))
}

/// Those that one framework names: the task, and what the agent is called.
#[derive(Default)]
pub(super) struct Strangers(RefCell<VecDeque<(String, String)>>);

impl Strangers {
    /// Takes note of the agents of a call that are none of the cluster's, with the task of each.
    pub(super) fn asked(&self, call: &Call, cluster: u64) {
        let mut waiting = self.0.borrow_mut();
        for (task, agent) in named(call) {
            let shown = task.len() <= NAME_MAX && agent.value.len() <= NAME_MAX;
            if !shown || mesita_core::wire::AgentId::parse(&agent.value, cluster).is_some() {
                continue;
            }
            if waiting.len() == WAITING_MAX {
                waiting.pop_front();
            }
            waiting.push_back((task.to_owned(), agent.value.clone()));
        }
    }

    /// Calls the agent of an answer what the question called it.
    pub(super) fn name(&self, status: &mut TaskStatus, cluster: u64) {
        let mut waiting = self.0.borrow_mut();
        if waiting.is_empty() || status.agent_id != Some(agent_id(NO_AGENT, cluster)) {
            return;
        }
        let of = waiting.iter().position(|(task, _)| *task == status.task_id.value);
        if let Some((_, value)) = of.and_then(|at| waiting.remove(at)) {
            status.agent_id = Some(AgentId { value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::mesos::v1::TaskId;
    use crate::pb::mesos::v1::scheduler::call::{Reconcile, reconcile};

    fn asks(tasks: &[(&str, &str)]) -> Call {
        let task = |(task, agent): &(&str, &str)| reconcile::Task {
            task_id: TaskId { value: (*task).to_owned() },
            agent_id: Some(AgentId { value: (*agent).to_owned() }),
        };
        let tasks = tasks.iter().map(task).collect();
        Call { reconcile: Some(Reconcile { tasks }), ..Call::default() }
    }

    fn named(strangers: &Strangers, task: &str) -> String {
        let mut status = TaskStatus {
            task_id: TaskId { value: task.to_owned() },
            agent_id: Some(agent_id(NO_AGENT, 7)),
            ..TaskStatus::default()
        };
        strangers.name(&mut status, 7);
        status.agent_id.unwrap().value
    }

    #[test]
    fn an_answer_names_the_agent_as_the_question_did() {
        let strangers = Strangers::default();
        let (ours, nobody) = (agent_id(mesita_core::wire::AgentId::NONE, 7), agent_id(NO_AGENT, 7));
        strangers.asked(&asks(&[("a", "foo"), ("b", "bar"), ("a", "baz")]), 7);
        assert_eq!([named(&strangers, "b"), named(&strangers, "a")], ["bar", "foo"]);
        assert_eq!([named(&strangers, "a"), named(&strangers, "a")], ["baz", &nobody.value]);
        let mut status = TaskStatus { agent_id: Some(ours.clone()), ..TaskStatus::default() };
        strangers.asked(&asks(&[("", "foo")]), 7);
        strangers.name(&mut status, 7);
        assert_eq!(status.agent_id, Some(ours), "an agent of the cluster keeps its name");
    }

    #[test]
    fn only_so_many_questions_are_remembered() {
        let strangers = Strangers::default();
        for _ in 0..2 * WAITING_MAX {
            strangers.asked(&asks(&[("a", "foo")]), 7);
        }
        assert_eq!(strangers.0.borrow().len(), WAITING_MAX);
    }
}
