//! What an agent says that is emulated here: that it is there, and what it holds.

use std::io;

use mesita_core::limits::HEAD_MAX;
use mesita_core::resources::Amount;
use mesita_core::wire::agent::{AgentCall, FrameworkHeld, Hash, Register, Report, TaskHeld};
use mesita_core::wire::call::{Capability, Ownership};
use mesita_core::wire::resource::Resource;
use mesita_core::wire::task::{Kind, TaskState};
use mesita_core::wire::{AgentId, ContainerId, Fence, FrameworkId, Head, Scratch, Seq, Session};

/// Roles of the framework.
pub(crate) const ROLE: &str = "*";

/// The key of an agent.
pub(crate) fn key(number: u32) -> [u8; 32] {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&number.to_le_bytes());
    key
}

/// That it is there.
pub(crate) fn register<T>(
    number: u32,
    session: Session,
    say: impl FnOnce(&Head<'_>) -> io::Result<T>,
) -> io::Result<T> {
    let mut memory = [0; 1_024];
    let resources =
        [("cpus", 64), ("mem", 65_536)].map(|(name, units)| scalar(name, units * 1_000));
    let resources = Scratch::new(&mut memory).seq::<Resource<'static>>(resources);
    let hostname = format!("host{number}");
    let register = Register {
        session,
        agent: AgentId::NONE,
        seen: Fence::default(),
        cluster: 0,
        key: key(number),
        hostname: &hostname,
        region: "",
        zone: "",
        address: "",
        attributes: Seq::EMPTY,
        resources: resources.map_err(|_| io::Error::other("no room for resources"))?,
        tasks_max: 1_000,
        task_kinds: Kind::Command.bit(),
        reports: 1,
    };
    say(&Head::AgentCall(AgentCall::Register(register)))
}

/// What it holds: so many tasks of a framework, of which everybody may see something.
pub(crate) fn report<T>(
    number: u32,
    session: Session,
    of: FrameworkId,
    tasks: u32,
    public: Hash,
    say: impl FnOnce(&Head<'_>) -> io::Result<T>,
) -> io::Result<T> {
    let full = |_| io::Error::other("more tasks than a report takes");
    let (mut roles, mut frameworks) = ([0; 64], [0; 512]);
    let roles = Scratch::new(&mut roles).seq::<&'static str>([ROLE]).map_err(full)?;
    let held = FrameworkHeld {
        framework: of,
        name: "decliner",
        user: "root",
        principal: "",
        caller: "local:root",
        failover_us: 60_000_000,
        capabilities: Capability::PartitionAware.bit() | Capability::MultiRole.bit(),
        roles,
        owned: Ownership::Scheduler,
    };
    let frameworks = Scratch::new(&mut frameworks).seq::<FrameworkHeld<'static>>([held]);
    let (mut held, mut memory) = ([0; 256], vec![0; HEAD_MAX]);
    let resources = [scalar("cpus", 100), scalar("mem", 32_000)];
    let resources = Scratch::new(&mut held).seq::<Resource<'static>>(resources).map_err(full)?;
    let names: Vec<String> = (0..tasks).map(|task| format!("task-{number}-{task}")).collect();
    let list = (1..).zip(&names).map(|(counter, task)| TaskHeld {
        framework: of,
        task,
        executor: "",
        role: ROLE,
        container: ContainerId { incarnation: 1, counter },
        state: TaskState::Running,
        unacknowledged: None,
        attempt: 0,
        restart: Default::default(),
        resources,
        public,
    });
    let report = Report {
        session,
        part: 0,
        frameworks: frameworks.map_err(full)?,
        executors: Seq::EMPTY,
        tasks: Scratch::new(&mut memory).seq::<TaskHeld<'static>>(list).map_err(full)?,
    };
    say(&Head::AgentCall(AgentCall::Report(report)))
}

fn scalar(name: &str, milli: u64) -> Resource<'_> {
    Resource::scalar(name, Amount::from_milli(milli))
}
