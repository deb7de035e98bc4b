//! How long a new leader is busy when all agents of a large cluster come to it at once: the master's
//! core alone, by the bytes of its inputs.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use mesita_core::Refusal;
use mesita_core::allocator::{self, Policy};
use mesita_core::capacity::Capacity;
use mesita_core::doors::Rights;
use mesita_core::drive::{BUFFER, Drive, Front, Sink};
use mesita_core::master::{Config, Fact, Input, Master, Output, Storage};
use mesita_core::table::Id;
use mesita_core::time::Time;
use mesita_core::wire::agent::{AgentCall, AgentEvent, Hash};
use mesita_core::wire::hello::Role;
use mesita_core::wire::{BodyRef, Fence, FrameworkId, Head, Seq, Session};

use rustix::time::{ClockId, clock_gettime};

use crate::says;
use crate::stage::Leak;

/// Tasks of each agent.
const TASKS: u32 = 10;

/// A master, what it said, and how long it took.
struct Stage {
    drive: Drive<'static, Master<'static>>,
    now: Time,
    outputs: Outputs,
    busy: Duration,
}

#[derive(Default)]
struct Outputs(VecDeque<Vec<u8>>);

impl Sink for Outputs {
    fn put(&mut self, output: &[u8], _: &[BodyRef]) {
        self.0.push_back(output.to_vec());
    }
}

/// What this thread has had of a processor: others may be busy, too.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Prints how long so many agents with their tasks take, to a leader that knows them.
pub fn print(agents: u32) -> io::Result<()> {
    let (mut first, mut admitted) = (Stage::new(agents, 1, &[])?, Vec::new());
    let registered = first.gather(agents, 1, &mut admitted)?;
    if registered != agents || admitted.len() != agents as usize {
        return Err(io::Error::other(format!("{registered} of {agents} were registered")));
    }
    let mut second = Stage::new(agents, 2, &admitted)?;
    second.busy = Duration::ZERO;
    let again = second.gather(agents, 2, &mut Vec::new())?;
    if again != agents {
        return Err(io::Error::other(format!("{again} of {agents} came back")));
    }
    let tasks = second.drive.front().gauges().tasks;
    println!("{agents} agents with {tasks} tasks, to a core in this process");
    for (name, busy) in [("new", first.busy), ("known, to a new leader", second.busy)] {
        println!(
            "{name:24} {:>8} ms, {:>6} ns an agent",
            busy.as_millis(),
            busy.as_nanos() / u128::from(agents)
        );
    }
    Ok(())
}

impl Stage {
    /// A leader that the registry tells what it has.
    fn new(agents: u32, epoch: u32, admitted: &[Vec<u8>]) -> io::Result<Self> {
        let tasks = agents.saturating_mul(TASKS);
        let capacity = Capacity {
            agents,
            tasks,
            conns: agents + 16,
            names: tasks + agents + 1_024,
            cells: (tasks + agents + 1_024) * 2,
            pieces: (tasks + agents) * 8,
            ..Capacity::large()
        };
        let config = Config {
            seed: 1,
            timing_us: 500_000,
            agent_timeout_us: 10_000_000,
            offer_timeout_us: 60_000_000,
            failover_min_us: 60_000_000,
            allocation_delay_us: 0,
            body_bytes_max: 1 << 30,
            reregister_us: 600_000_000,
            removal_share_milli: 500,
            recovery_share_milli: 800,
            recovery_timeout_us: 600_000_000,
            removal_every_us: 0,
            offers_per_caller_max: 0,
            allocator: allocator::Config {
                role_sorter: Policy::Drf,
                framework_sorter: Policy::Drf,
                min_reoffer_us: 100_000,
                min_cpus_milli: 10,
                min_mem_milli: 32_000,
                filter_gpus: true,
            },
        };
        let refused = |refusal: Refusal| io::Error::other(refusal.to_string());
        let master = Master::new(Storage::lend(&capacity, &mut Leak), config).map_err(refused)?;
        let buffer = Box::leak(vec![0; BUFFER].into_boxed_slice());
        let drive = Drive::new(master, buffer);
        let mut stage =
            Self { drive, now: Time(1_000), outputs: Outputs::default(), busy: Duration::ZERO };
        for fact in admitted {
            if let Ok(Output::Fact(Fact::Admission(admission))) = postcard::from_bytes(fact) {
                stage.put(&Input::Admitted(admission))?;
            }
        }
        stage.put(&Input::Leads { cluster: 1, fence: Fence { epoch, ..Fence::default() } })?;
        let rights = Rights::ANY_USER.and(Rights::OPERATE);
        stage.put(&Input::Caller { caller: 0, name: "local:root", rights })?;
        Ok(stage)
    }

    fn put(&mut self, input: &Input<'_>) -> io::Result<()> {
        let bytes = postcard::to_allocvec(input).map_err(io::Error::other)?;
        self.step(&bytes)
    }

    fn step(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.now = self.now.after(1);
        let began = processor();
        let done = self.drive.step(self.now, bytes, &mut self.outputs);
        self.busy += processor().saturating_sub(began);
        done.map_err(|refusal| io::Error::other(refusal.to_string()))
    }

    fn say(&mut self, conn: Id, head: &Head<'_>) -> io::Result<()> {
        let head = postcard::to_allocvec(head).map_err(io::Error::other)?;
        self.put(&Input::Frame { conn, head: &head, bodies: Seq::EMPTY, verdicts: Seq::EMPTY })
    }

    /// Every agent registers, says what it holds, and keeps what it is told; how many were registered.
    fn gather(&mut self, agents: u32, start: u32, admitted: &mut Vec<Vec<u8>>) -> io::Result<u32> {
        let of = FrameworkId { epoch: 1, number: 1 };
        let session = Session { incarnation: start, counter: 1 };
        let public = Hash { len: 0, hash: 0 };
        let mut registered = 0;
        for number in 0..agents {
            let conn = Id { index: number, generation: 1 };
            self.put(&Input::Opened {
                conn,
                role: Role::Agent,
                version: 3,
                caller: 0,
                head_max: 65_536,
            })?;
            says::register(number, session, |head| self.say(conn, head))?;
            says::report(number, session, of, TASKS, public, |head| self.say(conn, head))?;
            registered += self.answer(admitted)?;
        }
        // What is done a little at a time, until nothing is due any more.
        for _ in 0..1_000_000 {
            if self.drive.next_deadline() > self.now {
                break;
            }
            self.step(<Master<'_> as Front>::tick())?;
            registered += self.answer(admitted)?;
        }
        Ok(registered)
    }

    /// What agents, and the registry, say to what was said.
    fn answer(&mut self, admitted: &mut Vec<Vec<u8>>) -> io::Result<u32> {
        let mut registered = 0;
        while let Some(output) = self.outputs.0.pop_front() {
            match postcard::from_bytes::<Output<'_>>(&output) {
                Ok(Output::Send { conn, head: Head::AgentEvent(event) }) => {
                    if let AgentEvent::Verdicts { session, last: true, .. } = event {
                        self.say(conn, &Head::AgentCall(AgentCall::Settled { session }))?;
                    } else if let AgentEvent::Refused { message, .. } = event {
                        return Err(io::Error::other(message.to_owned()));
                    }
                    registered += u32::from(matches!(event, AgentEvent::Registered { .. }));
                }
                Ok(Output::Await { agent }) => self.put(&Input::Marked { agent })?,
                Ok(Output::Fact(Fact::Admission(_))) => admitted.push(output),
                _ => {}
            }
        }
        Ok(registered)
    }
}
