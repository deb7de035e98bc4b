//! What goes wrong, and when. Every fault is drawn before the life begins, so that one can be left out
//! and the others stay.

use super::*;
use crate::world::Net;

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At its time.
    Now,
    /// With the next launch after its time.
    Launched,
    /// With the next agent that is registered.
    Registered,
    /// With the next end of a task that a scheduler is told.
    Told,
}

impl When {
    pub fn drawn(dice: &mut Rng) -> Self {
        match dice.below(10) {
            0 => Self::Launched,
            1 => Self::Registered,
            2 => Self::Told,
            _ => Self::Now,
        }
    }
}

/// Something that goes wrong; what an operator does is among it.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A connection is reset.
    Cut(u32),
    /// A master, or whoever leads, loses its power.
    CrashMaster {
        id: u32,
        down: u64,
    },
    CrashLeader {
        down: u64,
    },
    CrashMasters {
        down: u64,
    },
    /// A process is stopped, or its machine sleeps.
    PauseMaster {
        id: u32,
        us: u64,
    },
    PauseLeader {
        us: u64,
    },
    /// Datagrams between masters are lost, in this share and from now on.
    Loss(u32),
    Isolate {
        id: u32,
        us: u64,
    },
    IsolateLeader {
        us: u64,
    },
    Deafen {
        id: u32,
        us: u64,
    },
    Apart {
        id: u32,
        other: u32,
        us: u64,
    },
    /// No write of a master ends.
    Hang {
        id: u32,
        us: u64,
    },
    HangLeader {
        us: u64,
    },
    CrashAgent(usize),
    Reboot(usize),
    PauseAgent {
        agent: usize,
        us: u64,
    },
    /// Nothing comes through between an agent and the masters, without a word; or one way only.
    Silence {
        agent: usize,
        us: u64,
    },
    Mute {
        agent: usize,
        us: u64,
    },
    /// Another time by the wall clock.
    WallClock {
        agent: usize,
        us: u64,
    },
    /// The ledger is written anew.
    Compact(usize),
    CrashFramework(usize),
    SilenceFramework {
        framework: usize,
        us: u64,
    },
    /// Messages are a hundred times as late, in this share.
    Slow {
        share: u32,
        us: u64,
    },
    Drain(usize),
    Reactivate(usize),
    Schedule(usize),
    Unschedule,
    /// A role may have no more than so much, in thousandths of cpus; 0 = no limit.
    Limit(u64),
    /// A machine is off for so long.
    PowerOff {
        agent: usize,
        us: u64,
    },
    /// An operator removes a framework.
    Teardown(usize),
    /// A master's disk is lost.
    LoseDisk {
        id: u32,
    },
    /// A master's disk is, after so long, what it is now.
    GoBack {
        id: u32,
        us: u64,
    },
    /// Nothing of the registry goes out of a master, and all else does.
    HangStream {
        id: u32,
        us: u64,
    },
}

impl Fault {
    /// How many sorts there are.
    pub const SORTS: usize = 28;

    fn of_sort(sort: u32, dice: &mut Rng, agents: usize, frameworks: usize) -> Self {
        let id = dice.below(60);
        let other = id + 1 + dice.below(3);
        let agent = dice.below(agents as u32) as usize;
        let framework = dice.below(frameworks as u32) as usize;
        // Mostly shorter than anybody waits, at times longer than everybody.
        let long = if dice.below(4) == 0 { 40 * SECOND } else { 4 * SECOND };
        let us = dice.below_u64(long) + MILLI;
        let down = dice.below_u64(4 * SECOND) + MILLI;
        let share = [10, 50, 300][dice.below(3) as usize];
        match sort {
            0 => Self::Cut(id),
            1 => Self::CrashMaster { id, down },
            2 => Self::CrashLeader { down },
            3 => Self::CrashMasters { down },
            4 => Self::PauseMaster { id, us },
            5 => Self::PauseLeader { us },
            6 => Self::Loss(share),
            7 => Self::Isolate { id, us },
            8 => Self::IsolateLeader { us },
            9 => Self::Deafen { id, us },
            10 => Self::Apart { id, other, us },
            11 => Self::Hang { id, us },
            12 => Self::HangLeader { us },
            13 => Self::CrashAgent(agent),
            14 => Self::Reboot(agent),
            15 => Self::PauseAgent { agent, us },
            16 => Self::Silence { agent, us },
            17 => Self::Mute { agent, us },
            18 => Self::WallClock { agent, us: dice.below_u64(1 << 52) },
            19 => Self::Compact(agent),
            20 => Self::CrashFramework(framework),
            21 => Self::SilenceFramework { framework, us },
            22 => Self::Slow { share, us },
            23 => Self::Drain(agent),
            24 => Self::Reactivate(agent),
            25 => Self::Schedule(agent),
            26 => Self::Unschedule,
            _ => Self::Limit(u64::from(dice.below(4)) * 1_000),
        }
    }

    /// What else goes wrong in lives of every sort of work.
    pub fn drawn_of_more(dice: &mut Rng, agents: usize, frameworks: usize) -> Self {
        let (id, agent) = (dice.below(60), dice.below(agents as u32) as usize);
        let long = [4, 20, 60][dice.below(3) as usize] * SECOND;
        let us = dice.below_u64(long) + MILLI;
        match dice.below(7) {
            // The last one, if there are more.
            6 if frameworks > 1 => Self::Teardown(frameworks - 1),
            0 | 1 => Self::PowerOff { agent, us },
            2 => Self::LoseDisk { id },
            3 => Self::GoBack { id, us },
            4 => Self::HangStream { id, us },
            _ => Self::CrashAgent(agent),
        }
    }

    pub fn drawn(dice: &mut Rng, agents: usize, frameworks: usize) -> (usize, Self) {
        let sort = dice.below(Self::SORTS as u32);
        (sort as usize, Self::of_sort(sort, dice, agents, frameworks))
    }
}

impl Cluster {
    /// Something goes wrong now, or waits for its moment.
    pub(super) fn befall(&mut self, when: When, fault: Fault) {
        if when != When::Now {
            return self.armed.push((when, fault));
        }
        self.saw("something goes wrong");
        self.happens(fault);
    }

    /// The moment that a fault waits for.
    pub(super) fn strike(&mut self, moment: When) {
        if let Some(at) = self.armed.iter().position(|(when, _)| *when == moment) {
            let (_, fault) = self.armed.remove(at);
            self.saw("something goes wrong when it hurts");
            let after = self.rng.below_u64(3 * MILLI);
            self.at(after, Happening::Befalls { when: When::Now, fault });
        }
    }

    fn some_master(&self, number: u32) -> u8 {
        let ids = self.world.ids();
        ids[number as usize % ids.len()]
    }

    /// The number that stands for a master among them.
    fn number_of(&self, id: u8) -> u32 {
        self.world.ids().iter().position(|some| *some == id).unwrap_or(0) as u32
    }

    fn happens(&mut self, fault: Fault) {
        match fault {
            Fault::Cut(number) => {
                let all = self.links();
                if !all.is_empty() {
                    self.cut(all[number as usize % all.len()], None);
                }
            }
            Fault::CrashAgent(agent) => self.crash(Node::Agent(agent)),
            Fault::Reboot(agent) => self.reboot(agent, 0),
            Fault::PowerOff { agent, us } => {
                self.reboot(agent, us);
                // At times it finds nobody when it is back.
                if us.is_multiple_of(2) {
                    self.silence(Node::Agent(agent), [true, true], us + 30 * SECOND);
                }
            }
            Fault::PauseAgent { agent, us } => self.pause(Node::Agent(agent), us),
            Fault::WallClock { agent, us } => self.agents[agent].clock.wall = us,
            Fault::Compact(agent) => self.compact(agent),
            Fault::CrashFramework(framework) => self.crash(Node::Framework(framework)),
            Fault::Slow { share, us } => {
                self.slow = share;
                self.at(us, Happening::Mended);
            }
            Fault::Silence { agent, us } => self.silence(Node::Agent(agent), [true, true], us),
            Fault::Mute { agent, us } => {
                let ways = [us.is_multiple_of(2), !us.is_multiple_of(2)];
                self.silence(Node::Agent(agent), ways, us);
            }
            Fault::SilenceFramework { framework, us } => {
                self.silence(Node::Framework(framework), [true, true], us);
            }
            Fault::Teardown(framework) => self.teardown(framework),
            Fault::Drain(agent) => self.drain(agent, Some(SECOND)),
            Fault::Reactivate(agent) => self.reactivate(agent),
            Fault::Schedule(agent) => self.schedule(&[agent]),
            Fault::Unschedule => self.schedule(&[]),
            Fault::Limit(cpus) => self.limit("c", cpus),
            Fault::CrashMaster { .. }
            | Fault::CrashLeader { .. }
            | Fault::CrashMasters { .. }
            | Fault::PauseMaster { .. }
            | Fault::PauseLeader { .. }
            | Fault::Loss(_)
            | Fault::Isolate { .. }
            | Fault::IsolateLeader { .. }
            | Fault::Deafen { .. }
            | Fault::Apart { .. }
            | Fault::Hang { .. }
            | Fault::HangLeader { .. }
            | Fault::LoseDisk { .. }
            | Fault::GoBack { .. }
            | Fault::HangStream { .. } => self.happens_to_masters(fault),
        }
    }

    fn happens_to_masters(&mut self, fault: Fault) {
        if self.is_judging() {
            return;
        }
        let leader = self.leader().unwrap_or_else(|| self.some_master(0));
        match fault {
            Fault::CrashMaster { id, down } => self.crash_master(self.some_master(id), down),
            Fault::CrashLeader { down } => self.crash_master(leader, down),
            Fault::CrashMasters { down } => {
                self.saw("every master loses its power");
                self.world.ids().into_iter().for_each(|id| self.crash_master(id, down));
            }
            Fault::PauseMaster { id, us } => self.pause(Node::Master(self.some_master(id)), us),
            Fault::PauseLeader { us } => self.pause(Node::Master(leader), us),
            Fault::LoseDisk { id } => self.lose_disk(self.some_master(id)),
            Fault::GoBack { id, us } => self.go_back_later(self.some_master(id), us),
            Fault::HangStream { id, us } => {
                self.apart(us, |world, some| world.silence_stream(some), id);
            }
            Fault::Loss(share) => self.world.net = Net { loss: share, ..Net::LAN },
            Fault::Isolate { id, us } => self.apart(us, |world, some| world.isolate(some), id),
            Fault::IsolateLeader { us } => {
                let number = self.number_of(leader);
                self.apart(us, |world, some| world.isolate(some), number);
            }
            Fault::Deafen { id, us } => self.apart(us, |world, some| world.deafen(some), id),
            Fault::Apart { id, other, us } => {
                let other = self.some_master(other);
                self.apart(us, |world, some| world.cut_both(some, other), id);
            }
            Fault::Hang { id, us } => {
                let id = self.some_master(id);
                let number = self.number_of(id);
                self.apart(us, |world, some| world.node(some).hangs = true, number);
            }
            Fault::HangLeader { us } => {
                let number = self.number_of(leader);
                self.apart(us, |world, some| world.node(some).hangs = true, number);
            }
            _ => {}
        }
    }

    fn apart(&mut self, us: u64, what: impl FnOnce(&mut World, u8), number: u32) {
        let id = self.some_master(number);
        what(&mut self.world, id);
        self.at(us, Happening::Mended);
    }

    /// Nothing comes through, in one way or both, and nobody is told.
    fn silence(&mut self, who: Node, ways: [bool; 2], us: u64) {
        for id in self.world.ids() {
            let there = Node::Master(id);
            if ways[0] {
                self.blocked.insert((who, there));
            }
            if ways[1] {
                self.blocked.insert((there, who));
            }
        }
        self.at(us, Happening::Mended);
    }

    /// Everything between nodes works again, and every disk.
    pub(super) fn mend(&mut self) {
        self.blocked.clear();
        self.slow = 0;
        self.world.heal_links();
        self.world.ids().into_iter().for_each(|id| self.world.unhang(id));
    }

    /// Nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        // A bound that is less than one answer is never kept.
        self.outbox_max = usize::MAX;
        self.queue.retain(|_, what| {
            !matches!(what, Happening::Befalls { .. } | Happening::GoesBack { .. })
        });
        self.armed.clear();
        self.mend();
        self.world.net = Net::LAN;
        let asleep: Vec<Node> = self.paused.keys().copied().collect();
        for node in asleep {
            self.pause(node, 0);
        }
    }
}
