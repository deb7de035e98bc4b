//! Statuses of tasks, and what they write.

use std::io::{self, Write};
use std::rc::Rc;

use mesita_core::wire::AgentId;
use mesita_core::wire::svc::{CloseReason, LogsOf, Output, Stream};
use mesita_core::wire::task::{Reason, Source, Status, TaskState};

use super::app::{App, Last, Stage};
use super::voice::{Told, Voice};
use crate::alarm;
use crate::clock;
use crate::conn::streams::{Closed, Handle};

/// How long output is asked for again after its stream broke, and how often, in µs.
const PATIENCE_US: u64 = 30_000_000;
const AGAIN_US: u64 = 200_000;

impl App {
    /// A task has a new state.
    pub(super) fn status(&self, status: &Status<'_>) {
        let index = {
            let instances = self.instances.borrow();
            instances.iter().position(|instance| instance.id == status.task)
        };
        let Some(index) = index else { return };
        if is_hearsay(status) {
            return;
        }
        let over = matches!(self.instances.borrow()[index].stage, Stage::Ended(_) | Stage::Told(_));
        if over {
            return;
        }
        let detail = status.detail();
        // What never began has written nothing.
        let began = detail.reason != Some(Reason::ContainerLaunchFailed);
        let ran = detail.container.is_some() && began;
        if !status.state.is_terminal() {
            self.tell(index, status);
            let starts = matches!(status.state, TaskState::Starting | TaskState::Running);
            if starts && let Some(instance) = self.instances.borrow_mut().get_mut(index) {
                instance.stage = Stage::Started;
            }
        }
        let output = status.state == TaskState::Running || (status.state.is_terminal() && ran);
        if output && self.job.output {
            self.pass_output_on(index);
        }
        if status.state.is_terminal() {
            let last = Last {
                state: status.state,
                source: status.source,
                reason: detail.reason,
                message: detail.message.to_owned(),
                exit: detail.exit,
                ended: clock::now(),
            };
            if let Some(instance) = self.instances.borrow_mut().get_mut(index) {
                instance.stage = Stage::Ended(Box::new(last));
            }
            if self.voice == Voice::Mesos {
                // Told when it comes, as mesos-execute does.
                self.tell_ended();
            }
        }
    }

    fn tell(&self, index: usize, status: &Status<'_>) {
        let instances = self.instances.borrow();
        let detail = status.detail();
        self.voice.status(&Told {
            task: &instances[index].id,
            agent: &self.name_of(instances[index].agent),
            state: status.state,
            source: status.source,
            reason: detail.reason,
            message: detail.message,
            exit: detail.exit,
            ran_us: None,
            used: "",
        });
    }

    /// Tells the ends of tasks whose output was passed on.
    pub(super) fn tell_ended(&self) {
        let mut instances = self.instances.borrow_mut();
        for instance in instances.iter_mut() {
            let Stage::Ended(last) = &instance.stage else { continue };
            if instance.streams.is_some_and(|streams| streams > 0) {
                continue;
            }
            let agent =
                if instance.agent.is_none() { String::new() } else { self.name_of(instance.agent) };
            self.voice.ended(&Told {
                task: &instance.id,
                agent: &agent,
                state: last.state,
                source: last.source,
                reason: last.reason,
                message: &last.message,
                exit: last.exit,
                ran_us: Some(last.ended.since(instance.began)),
                used: &instance.used,
            });
            instance.stage = Stage::Told(last.status());
        }
    }

    /// Passes both outputs of a task on, once.
    fn pass_output_on(&self, index: usize) {
        let mut instances = self.instances.borrow_mut();
        let Some(instance) = instances.get_mut(index) else { return };
        if instance.streams.is_some() {
            return;
        }
        let outputs = [Output::Stdout, Output::Stderr];
        instance.streams = Some(2);
        let task: Rc<str> = instance.id.as_str().into();
        drop(instances);
        for which in outputs {
            // Asked for at once: the master knows the task until its end is acknowledged.
            let first = self.open(&task, which, 0);
            let Some(me) = self.me.upgrade() else { continue };
            self.tasks.go(me.pass_on(index, Rc::clone(&task), which, first));
        }
    }

    fn open(&self, task: &str, which: Output, offset: i64) -> Option<Handle> {
        let of = LogsOf::Task { framework: self.framework.get(), task };
        let agent = AgentId::NONE;
        self.client()?.open(Stream::Logs { agent, of, which, offset, follow: true })
    }

    /// Passes one output on, over connections that break: from where the last one ended.
    async fn pass_on(
        self: Rc<Self>,
        index: usize,
        task: Rc<str>,
        which: Output,
        first: Option<Handle>,
    ) {
        let mut offset = 0i64;
        let mut handle = first;
        let mut broke = None;
        let ended = loop {
            let cut = match handle.take() {
                Some(handle) => match copy(&handle, which, &mut offset).await {
                    Ok(closed) => closed,
                    Err(error) => break Err(error),
                },
                None => gone(),
            };
            if cut.reason == CloseReason::Done {
                break Ok(cut.message);
            }
            // A master that has just begun to lead may not know the task yet.
            let since = *broke.get_or_insert(clock::now());
            let over = clock::now() > since.after(PATIENCE_US);
            let hopeless = matches!(cut.reason, CloseReason::Denied | CloseReason::Unsupported);
            if over
                || hopeless
                || (cut.reason == CloseReason::NotFound && offset == 0 && !self.was_cut())
            {
                break Err(io::Error::other(cut.message));
            }
            alarm::after(AGAIN_US).await;
            handle = self.open(&task, which, offset);
        };
        match &ended {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.unread.set(true),
            Err(error) => self.voice.note(&format!("its output is cut short: {error}")),
        }
        if let Some(instance) = self.instances.borrow_mut().get_mut(index) {
            instance.streams = instance.streams.map(|streams| streams.saturating_sub(1));
            if let Ok(used) = ended {
                instance.used = used;
            }
        }
        self.changed.notify(usize::MAX);
    }
}

/// True for the master's word that a task has ended: the agent's own, which tells how, is on its
/// way until it is acknowledged.
fn is_hearsay(status: &Status<'_>) -> bool {
    let ended = matches!(status.state, TaskState::Finished | TaskState::Failed | TaskState::Killed);
    ended
        && status.source == Source::Master
        && status.detail().reason == Some(Reason::Reconciliation)
}

fn gone() -> Closed {
    Closed { reason: CloseReason::Gone, message: "there is no connection to a master".to_owned() }
}

/// Copies a stream to where it belongs; how the stream ended.
async fn copy(handle: &Handle, which: Output, offset: &mut i64) -> io::Result<Closed> {
    loop {
        match handle.read().await {
            Ok(chunk) => {
                *offset += i64::try_from(chunk.len()).unwrap_or(0);
                blocking::unblock(move || write(which, &chunk)).await?;
            }
            Err(closed) => return Ok(closed),
        }
    }
}

fn write(which: Output, chunk: &[u8]) -> io::Result<()> {
    match which {
        Output::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(chunk)?;
            stdout.flush()
        }
        Output::Stderr => io::stderr().lock().write_all(chunk),
    }
}
