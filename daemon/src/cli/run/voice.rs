//! How `run` tells what happens: to people, to programs, or in the words of mesos-execute.

use mesita_core::wire::task::{Exit, Reason, Source, TaskState};
use serde_json::{Value, json};

use crate::catalog::rows::source;

/// To whom it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// To people, of a cluster: every step, on stderr.
    Cluster,
    /// To people, of a cluster that is only there for this: the end, on stderr.
    Embedded,
    /// To programs: lines of JSON, on stderr.
    Json,
    /// In the words of mesos-execute, on stdout.
    Mesos,
}

/// A status, as far as it is told.
#[derive(Clone, Debug)]
pub(super) struct Told<'s> {
    pub(super) task: &'s str,
    pub(super) agent: &'s str,
    pub(super) state: TaskState,
    pub(super) source: Source,
    pub(super) reason: Option<Reason>,
    pub(super) message: &'s str,
    pub(super) exit: Exit,
    /// How long it ran, in µs, and what it used; at its end.
    pub(super) ran_us: Option<u64>,
    pub(super) used: &'s str,
}

impl Voice {
    /// The framework has an id.
    pub(super) fn subscribed(self, framework: &str) {
        match self {
            Self::Cluster => errln!("mesita: framework {framework}"),
            Self::Embedded => {}
            Self::Json => line(&json!({"event": "subscribed", "framework_id": framework})),
            Self::Mesos => outln!("Subscribed with ID {framework}"),
        }
    }

    /// A task goes to an agent.
    pub(super) fn submitted(self, task: &str, agent: &str, agent_id: &str) {
        match self {
            Self::Cluster => errln!("mesita: task {task} submitted to agent {agent}"),
            Self::Embedded => {}
            Self::Json => line(&json!({
                "event": "submitted",
                "task_id": task,
                "agent": agent,
                "agent_id": agent_id,
            })),
            Self::Mesos => outln!("Submitted task '{task}' to agent '{agent_id}'"),
        }
    }

    /// A task has a new state that it goes on from.
    pub(super) fn status(self, told: &Told<'_>) {
        match self {
            Self::Cluster => {
                errln!("{} {} on {}{}", told.state.name(), told.task, told.agent, why(told))
            }
            Self::Embedded => {}
            Self::Json => line(&object("status", told)),
            Self::Mesos => mesos(told),
        }
    }

    /// A task is over, and everything it wrote was passed on.
    pub(super) fn ended(self, told: &Told<'_>) {
        match self {
            Self::Cluster | Self::Embedded => {
                let ran = told.ran_us.map_or_else(String::new, |us| format!("  {}", time(us)));
                let used =
                    if told.used.is_empty() { String::new() } else { format!("  {}", told.used) };
                let on = if told.agent.is_empty() {
                    String::new()
                } else {
                    format!(" on {}", told.agent)
                };
                errln!("{} {}{on}{}{ran}{used}", told.state.name(), told.task, why(told));
            }
            Self::Json => {
                let mut object = object("status", told);
                object["ran_ms"] = told.ran_us.map(|us| us / 1000).into();
                object["used"] = told.used.into();
                line(&object);
            }
            Self::Mesos => mesos(told),
        }
    }

    /// Nothing fits.
    pub(super) fn waiting(self, why: &str, fits: &str) {
        match self {
            Self::Cluster | Self::Embedded => {
                errln!("waiting: {why}");
                if !fits.is_empty() {
                    errln!("         would fit: --resources \"{fits}\"");
                }
            }
            Self::Json => line(&json!({"event": "waiting", "why": why, "would_fit": fits})),
            Self::Mesos => errln!("Waiting: {why}"),
        }
    }

    /// Something beside the course of things.
    pub(super) fn note(self, text: &str) {
        match self {
            Self::Cluster | Self::Embedded => errln!("mesita: {text}"),
            Self::Json => line(&json!({"event": "note", "text": text})),
            Self::Mesos => errln!("{text}"),
        }
    }
}

fn line(object: &Value) {
    errln!("{object}");
}

fn object(event: &str, told: &Told<'_>) -> Value {
    let (code, signal) = match told.exit {
        Exit::Unseen => (None, None),
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
    };
    json!({
        "event": event,
        "task_id": told.task,
        "agent": told.agent,
        "state": told.state.name(),
        "source": source(told.source),
        "reason": told.reason.map(Reason::name),
        "message": told.message,
        "exit_code": code,
        "signal": signal,
    })
}

/// Mesos: `CommandScheduler::update` in `cli/execute.cpp`.
fn mesos(told: &Told<'_>) {
    outln!("Received status update {} for task '{}'", told.state.name(), told.task);
    if !told.message.is_empty() {
        outln!("  message: '{}'", told.message);
    }
    outln!("  source: {}", source(told.source));
    if let Some(reason) = told.reason {
        outln!("  reason: {}", reason.name());
    }
}

/// What went wrong, when something did.
fn why(told: &Told<'_>) -> String {
    let well = matches!(
        told.state,
        TaskState::Finished | TaskState::Starting | TaskState::Running | TaskState::Staging
    );
    let mut why = String::new();
    if !well && !told.message.is_empty() {
        // One line for one end; `--json` tells it all.
        why.push_str(": ");
        why.push_str(told.message.lines().next().unwrap_or_default());
    }
    if let Some(reason) = told.reason {
        why.push_str(&format!(" ({})", reason.name()));
    }
    why
}

fn time(us: u64) -> String {
    match us {
        0..10_000_000 => format!("{} ms", us / 1000),
        us => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}
