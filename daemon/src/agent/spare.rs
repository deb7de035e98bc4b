//! What of an agent is offered twice, and taken back when the machine is short (Mesos:
//! `ResourceEstimator`, `QoSController`; its modules `fixed` and `load`).
//!
//! Only frameworks that know REVOCABLE_RESOURCES get it. The estimate is part of all that the agent
//! says that it has; who has to go is decided here, by the load of the machine or by what waits for
//! it, and ended by the core. Nothing is looked at unless a flag says so.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use mesita_core::agent::Input;
use mesita_core::resources::Amount;
use mesita_core::wire::ContainerId;
use mesita_core::wire::resource::Value;

use super::AgentNode;
use super::containers::count;
use crate::alarm;
use crate::clock;
use crate::encoded::Resources;
use crate::flags::spare::{Controller, Estimator, Spare as Flags};

/// Estimates of which the least counts: what was free for a moment only is not offered.
const ESTIMATES: usize = 4;
/// What changes by less is not told, in thousandths of a CPU.
const STEP_MILLI: u64 = 100;
/// The least time from one look at the machine to the next, in µs.
const LOOK_US: u64 = 1_000_000;

/// What is offered twice.
pub(super) struct Spare {
    flags: Flags,
    /// In the text form of `--resources`; empty = nothing.
    told: RefCell<String>,
    preempted: Cell<u64>,
}

/// What a container used until a time, in µs of CPU time and of the clock.
type Sample = (u64, u64);

/// What tasks hold and do not use, from one look to the next.
#[derive(Default)]
struct Estimates {
    before: BTreeMap<ContainerId, Sample>,
    last: VecDeque<u64>,
}

impl Estimates {
    /// Takes in what containers hold, in thousandths of a CPU, and have used in all; what may be
    /// offered by now.
    fn take(&mut self, now_us: u64, used: &[(ContainerId, u64, Option<u64>)]) -> u64 {
        let mut samples = BTreeMap::new();
        let mut slack = 0u64;
        for &(id, held_milli, used_us) in used {
            let Some(used_us) = used_us else { continue };
            samples.insert(id, (used_us, now_us));
            let Some(&(before, at)) = self.before.get(&id) else { continue };
            let passed = now_us.saturating_sub(at).max(1);
            let milli = used_us.saturating_sub(before).saturating_mul(1000) / passed;
            slack = slack.saturating_add(held_milli.saturating_sub(milli));
        }
        self.before = samples;
        self.last.push_back(slack);
        if self.last.len() > ESTIMATES {
            self.last.pop_front();
        }
        let whole = self.last.len() == ESTIMATES;
        let least = self.last.iter().min().copied().filter(|_| whole).unwrap_or(0);
        least / STEP_MILLI * STEP_MILLI
    }
}

impl Spare {
    pub(super) fn new(flags: Flags) -> Self {
        let told = match &flags.resource_estimator {
            Some(Estimator::Fixed(told)) => told.clone(),
            Some(Estimator::Usage) | None => String::new(),
        };
        Self { flags, told: RefCell::new(told), preempted: Cell::default() }
    }

    /// What is offered twice, in the text form of `--resources`.
    pub(super) fn told(&self) -> String {
        self.told.borrow().clone()
    }

    /// Containers that had to make room.
    pub(super) fn preempted(&self) -> u64 {
        self.preempted.get()
    }
}

/// What is wrong with flags: which one, and why.
pub(super) fn check(flags: &Flags) -> Result<(), (&'static str, String)> {
    let flag = "--qos-controller";
    let by = |controller| flags.qos_controller.contains(&controller);
    let loads = flags.load_threshold_5min.or(flags.load_threshold_15min);
    if by(Controller::Load) && loads.is_none() {
        let why = "`load` needs --load-threshold-5min or --load-threshold-15min";
        return Err((flag, why.to_owned()));
    }
    let mut pressures = PRESSURES.into_iter().filter(|(threshold, _)| threshold(flags).is_some());
    if by(Controller::Pressure) && pressures.clone().next().is_none() {
        let why = "`pressure` needs --pressure-threshold-cpu, -memory or -io";
        return Err((flag, why.to_owned()));
    }
    match pressures.find(|(_, file)| std::fs::read(file).is_err()) {
        Some((_, file)) => {
            let why = format!("this kernel tells no pressure in {file}; boot it with psi=1");
            Err((flag, why))
        }
        None => Ok(()),
    }
}

/// A threshold, and the file of the kernel that it is about.
type Pressure = (fn(&Flags) -> Option<u32>, &'static str);

const PRESSURES: [Pressure; 3] = [
    (|flags| flags.pressure_threshold_cpu.map(|share| share.milli), "/proc/pressure/cpu"),
    (|flags| flags.pressure_threshold_memory.map(|share| share.milli), "/proc/pressure/memory"),
    (|flags| flags.pressure_threshold_io.map(|share| share.milli), "/proc/pressure/io"),
];

/// The part of the last 10 s in which something waited, in thousandths: `some avg10=1.23 …`.
fn waited_milli(text: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let avg = line.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    // Of a hundred, with two digits behind the point.
    let parts = Amount::parse(avg).ok()?.milli() / 100;
    u32::try_from(parts).ok()
}

/// Why all has to be given back, if it has.
fn overloaded(flags: &Flags, loads: [u64; 3]) -> Option<String> {
    let of = [(flags.load_threshold_5min, loads[1], 5), (flags.load_threshold_15min, loads[2], 15)];
    of.into_iter().find_map(|(threshold, load, minutes)| {
        let threshold = threshold.filter(|threshold| load > threshold.milli)?;
        let load = Amount::from_milli(load);
        Some(format!("the load of {minutes} minutes is {load}, above {threshold}"))
    })
}

/// The loads of 1, 5 and 15 minutes, in thousandths.
fn loads_milli() -> [u64; 3] {
    let loads = rustix::system::sysinfo().loads;
    // Their width is the machine's; they are in parts of 2^16.
    #[allow(clippy::useless_conversion)]
    let loads = loads.map(u64::from);
    loads.map(|load| load.saturating_mul(1000) >> 16)
}

/// Why somebody has to go, if somebody has.
fn pressed(flags: &Flags) -> Option<String> {
    PRESSURES.into_iter().find_map(|(threshold, file)| {
        let threshold = threshold(flags)?;
        let waited = waited_milli(&std::fs::read_to_string(file).ok()?)?;
        (waited > threshold).then(|| {
            let (whole, part) = (waited / 10, waited % 10);
            format!("{file}: something waited {whole}.{part}% of the last 10 seconds")
        })
    })
}

/// What of a list is CPUs, in thousandths, and whether any of it may be taken back.
fn cpus_of(list: &Resources) -> (u64, bool) {
    let list = list.list();
    let milli = list.iter().filter(|one| one.name == "cpus").map(|one| match one.value {
        Value::Scalar(amount) => amount.milli(),
        Value::Ranges(_) | Value::Set(_) => 0,
    });
    (milli.sum(), list.iter().any(|one| one.traits.revocable))
}

impl AgentNode {
    /// Estimates and corrects, for as long as the agent lives, as far as flags say so.
    pub(super) fn share_out(&self) {
        let Some(me) = self.me.upgrade() else { return };
        if self.spare.flags.resource_estimator == Some(Estimator::Usage) {
            let me = Rc::clone(&me);
            self.tasks.go(async move { me.estimate().await });
        }
        if !self.spare.flags.qos_controller.is_empty() {
            self.tasks.go(async move { me.correct().await });
        }
    }

    async fn estimate(&self) {
        let mut estimates = Estimates::default();
        loop {
            alarm::after(self.spare.flags.oversubscribed_resources_interval.us.max(LOOK_US)).await;
            let mut used = Vec::new();
            for (id, (milli, revocable)) in self.cpus_held() {
                if !revocable {
                    let usage = self.usage_of(self.containers.at(id)).await;
                    let us = usage.user_us.zip(usage.system_us).map(|(user, system)| user + system);
                    used.push((id, milli, us));
                }
            }
            let milli = estimates.take(clock::now().0, &used);
            let told = match milli {
                0 => String::new(),
                milli => format!("cpus:{}", Amount::from_milli(milli)),
            };
            if *self.spare.told.borrow() != told {
                log::info!(
                    "may be offered twice: {}",
                    if told.is_empty() { "nothing" } else { told.as_str() }
                );
                *self.spare.told.borrow_mut() = told;
                self.describe();
            }
        }
    }

    /// What runs in each container that is in no other one: CPUs, and whether any of it may be taken
    /// back.
    fn cpus_held(&self) -> BTreeMap<ContainerId, (u64, bool)> {
        let mut held = BTreeMap::<ContainerId, (u64, bool)>::new();
        let tasks = self.tally.tasks().into_iter().filter(|row| !row.state.is_terminal());
        let tasks = tasks.map(|row| (row.inside.unwrap_or(row.container), row.resources));
        let executors =
            self.tally.executors().into_iter().map(|row| (row.container, row.resources));
        for (id, resources) in tasks.chain(executors) {
            let (milli, revocable) = cpus_of(&resources);
            let one = held.entry(id).or_default();
            *one = (one.0.saturating_add(milli), one.1 | revocable);
        }
        held
    }

    async fn correct(&self) {
        let flags = &self.spare.flags;
        let by = |controller| flags.qos_controller.contains(&controller);
        loop {
            alarm::after(flags.qos_correction_interval_min.us.max(LOOK_US)).await;
            let held = self.cpus_held();
            let all: Vec<ContainerId> = held
                .into_iter()
                .filter(|(_, (_, revocable))| *revocable)
                .map(|(id, _)| id)
                .collect();
            if all.is_empty() {
                continue;
            }
            let loaded = overloaded(flags, loads_milli()).filter(|_| by(Controller::Load));
            if let Some(why) = loaded {
                log::warn!("{why}: all that may be taken back is");
                all.into_iter().for_each(|id| self.take_back(id));
            } else if let Some(why) = pressed(flags).filter(|_| by(Controller::Pressure))
                && let Some(id) = self.largest(&all).await
            {
                log::warn!("{why}: container {id} has to make room");
                self.take_back(id);
            }
        }
    }

    /// Whoever uses most memory of these.
    async fn largest(&self, all: &[ContainerId]) -> Option<ContainerId> {
        let mut largest = None;
        for id in all {
            let usage = self.usage_of(self.containers.at(*id)).await;
            largest = largest.max(Some((usage.mem_bytes.unwrap_or(0), *id)));
        }
        largest.map(|(_, id)| id)
    }

    fn take_back(&self, container: ContainerId) {
        let Some(me) = self.me.upgrade() else { return };
        self.port.put_then(&Input::Preempt { container }, Vec::new(), move |result| {
            if result.is_ok() {
                count(&me.spare.preempted);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(counter: u32) -> ContainerId {
        ContainerId { incarnation: 1, counter }
    }

    #[test]
    fn what_is_held_and_not_used_may_be_offered_when_it_was_so_for_a_while() {
        let mut estimates = Estimates::default();
        let mut take = |second: u64, used_ms: u64| {
            estimates.take(
                second * 1_000_000,
                &[(id(1), 2_000, Some(used_ms * 1000)), (id(2), 500, None)],
            )
        };
        // Half a CPU of two, each second; of the other one nothing is known.
        assert_eq!([take(0, 0), take(1, 500), take(2, 1_000), take(3, 1_500)], [0; 4]);
        assert_eq!(take(4, 2_000), 1_500);
        assert_eq!(take(5, 3_950), 0, "busy once");
        assert_eq!([take(6, 3_950), take(7, 3_950), take(8, 3_950)], [0; 3]);
        assert_eq!(take(9, 3_950), 2_000);
    }

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text = "some avg10=12.34 avg60=1.00 avg300=0.10 total=1\nfull avg10=99.00 total=2\n";
        assert_eq!(waited_milli(text), Some(123));
        assert_eq!(waited_milli("full avg10=1.00"), None);
    }
}
