//! The two threads of a process, and the daemon's own rings, backlog and doorbells between them.
//!
//! The IO thread hears connections, the kernel and timers, and does what the core says; the core
//! thread steps. Each has its turns when chance lets it: usually at once, at times after a stall of
//! its own, while the other goes on and rings fill up. Draws come from a stream of chance of their
//! own: lives without threads, in which every input is stepped the moment it comes, are what they are.

use super::*;
use crate::machines::passing::{Backlog, Ends, Side};
use mesita_core::drive::stamped;
use mesita_core::sync::{Consumer, Doorbell, Ring, Word};
use mesita_core::wire::frame::CASTAGNOLI;

/// Words of the rings from IO, from the disk, and to IO.
const WORDS: [usize; 3] = [2_048, 64, 4_096];
/// Bytes that a step may put out here, of heads that are an eighth of the largest.
const ROOM: usize = 24 * 1024;
/// Outputs that are handled, and inputs stepped, before others have their turn.
const BATCHES: [u32; 3] = [1, 8, 256];
/// Bytes that wait in a connection at the most.
const OUTBOXES: [usize; 3] = [1_600, 4_000, 200_000];
/// The largest record.
const RECORD_MAX: usize = 2 * BUFFER;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thread {
    Core = 0,
    Io = 1,
}

/// What a thread is about to do.
#[derive(Clone, Copy, Debug)]
struct Doing {
    /// Its next turn.
    due: Time,
    /// It found nothing to do, and is about to say that it sleeps.
    tires: bool,
    asleep: bool,
}

const NOTHING: Doing = Doing { due: Time::NEVER, tires: false, asleep: false };

/// What is between the two threads of a process.
pub(super) struct Threads {
    to_core: Backlog<'static>,
    disk_to_core: Backlog<'static>,
    ends: Ends<'static>,
    of_core: Consumer<'static>,
    bells: [Doorbell; 2],
    doing: [Doing; 2],
    /// Until when its IO thread does nothing.
    stalled: Time,
    batch: u32,
    /// What was passed on and did not come out yet, of each side, by its checksum.
    passed: [VecDeque<u32>; 2],
}

/// What becomes of a record from the core.
const OUTPUT: u8 = 0;
/// The outputs of a step are complete.
const DONE: u8 = 1;

thread_local! {
    /// Rings are lent for ever, and so lent again.
    static POOL: RefCell<Vec<Threads>> = const { RefCell::new(vec![]) };
}

impl Threads {
    fn of_pool(batch: u32) -> Self {
        let threads = POOL.with_borrow_mut(Vec::pop).unwrap_or_else(Self::made);
        Self { batch, ..threads }
    }

    fn made() -> Self {
        let ring = |words: usize| {
            let words = (0..words).map(|_| Word::new()).collect::<Vec<_>>();
            Box::leak(Box::new(Ring::new(words.leak()))).split()
        };
        let [(to_core, io), (to_disk, disk), (out, of_core)] = WORDS.map(ring);
        Self {
            to_core: Backlog::new(to_core),
            disk_to_core: Backlog::new(to_disk),
            ends: Ends { disk, masters: None, io, out, room: ROOM },
            of_core,
            bells: [Doorbell::new(), Doorbell::new()],
            doing: [NOTHING; 2],
            stalled: Time(0),
            batch: 1,
            passed: [VecDeque::new(), VecDeque::new()],
        }
    }

    /// Its process is gone, with all that lay in its memory.
    fn forget(&mut self, into: &mut [u8]) {
        while self.of_core.pop(into).is_some() {}
        loop {
            self.to_core.flush();
            self.disk_to_core.flush();
            if self.ends.next(into).is_none() {
                break;
            }
        }
        self.bells = [Doorbell::new(), Doorbell::new()];
        self.doing = [NOTHING; 2];
        self.stalled = Time(0);
        self.passed.iter_mut().for_each(VecDeque::clear);
    }

    fn doing(&mut self, thread: Thread) -> &mut Doing {
        &mut self.doing[thread as usize]
    }

    fn has_work(&mut self, thread: Thread) -> bool {
        match thread {
            Thread::Core => self.ends.has_work(),
            Thread::Io => {
                let flushes = self.to_core.can_flush() || self.disk_to_core.can_flush();
                !self.of_core.is_empty() || flushes
            }
        }
    }

    /// True when the thread sleeps from now on.
    fn dozes(&mut self, thread: Thread) -> bool {
        // A bell is looked at while the rings are.
        let bell = std::mem::take(&mut self.bells[thread as usize]);
        let dozes = bell.doze(|| self.has_work(thread));
        self.bells[thread as usize] = bell;
        dozes
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut into = vec![0; RECORD_MAX];
        for (_, mut threads) in std::mem::take(&mut self.threads) {
            threads.forget(&mut into);
            // Not there any more when the thread of a test ends.
            let _ = POOL.try_with(|pool| pool.borrow_mut().push(threads));
        }
    }
}

impl Cluster {
    /// Every process has two threads from now on.
    pub(super) fn have_threads(&mut self, plan: &Plan) {
        self.outbox_max = OUTBOXES[self.luck.below(3) as usize];
        let masters = (1..=plan.masters).map(Node::Master);
        let agents = (0..plan.agents).map(Node::Agent);
        let frameworks = (0..plan.frameworks).map(Node::Framework);
        for node in masters.chain(agents).chain(frameworks) {
            self.have_thread(node);
        }
    }

    pub(super) fn have_thread(&mut self, node: Node) {
        let batch = BATCHES[self.luck.below(3) as usize];
        self.threads.insert(node, Threads::of_pool(batch));
    }

    fn threads(&mut self, node: Node) -> &mut Threads {
        self.threads.get_mut(&node).unwrap()
    }

    /// A process begins.
    pub(super) fn begin_threads(&mut self, node: Node) {
        self.end_threads(node);
        if self.threads.contains_key(&node) {
            self.turn_after(node, Thread::Core, 0);
            self.turn_after(node, Thread::Io, 0);
        }
    }

    /// A process ends.
    pub(super) fn end_threads(&mut self, node: Node) {
        if let Some(threads) = self.threads.get_mut(&node) {
            threads.forget(&mut self.memory);
        }
    }

    /// Until when the IO thread of a process does nothing of what it is to do.
    pub(super) fn stalls_until(&self, what: &Happening) -> Option<Time> {
        let node = what.node()?;
        let of_others = matches!(
            what,
            Happening::Persisted { .. } | Happening::Turn { thread: Thread::Core, .. }
        );
        let until = self.threads.get(&node).map(|threads| threads.stalled)?;
        (!of_others && until > self.now).then_some(until)
    }

    /// An input on its way to a core. False: there are no threads, and it is to be stepped now.
    pub(super) fn passes(&mut self, node: Node, side: Side, input: &[u8]) -> bool {
        let Some(threads) = self.threads.get_mut(&node) else { return false };
        let backlog = match side {
            Side::Io => &mut threads.to_core,
            Side::Disk => &mut threads.disk_to_core,
        };
        backlog.push(&[input]);
        threads.passed[side as usize].push_back(CASTAGNOLI.checksum(input));
        let backlog = match side {
            Side::Io => &threads.to_core,
            Side::Disk => &threads.disk_to_core,
        };
        if !backlog.is_empty() {
            self.saw("a ring is full");
        }
        self.ring(node, Thread::Core);
        true
    }

    fn ring(&mut self, node: Node, thread: Thread) {
        let mut woken = false;
        self.threads(node).bells[thread as usize].ring(|| woken = true);
        if woken {
            // Whom the kernel wakes has the processor soon, and at times not so soon.
            let after = if self.luck.below(50) == 0 { 20 * MILLI } else { 50 };
            let after = self.luck.below_u64(after);
            *self.threads(node).doing(thread) = NOTHING;
            self.turn_after(node, thread, after);
        }
    }

    fn turn_after(&mut self, node: Node, thread: Thread, after: u64) {
        let due = self.now.after(after);
        let doing = self.threads(node).doing(thread);
        if due < doing.due {
            doing.due = due;
            self.at(after, Happening::Turn { at: node, thread });
        }
    }

    pub(super) fn turn(&mut self, node: Node, thread: Thread) {
        let now = self.now;
        let doing = self.threads(node).doing(thread);
        if doing.due > now {
            // It was had, or is nobody's any more.
            return;
        }
        doing.due = Time::NEVER;
        if std::mem::take(&mut doing.tires) {
            if self.threads(node).dozes(thread) {
                return self.sleeps(node, thread);
            }
            self.saw("a thread that was about to sleep finds something");
        } else if std::mem::take(&mut doing.asleep) {
            self.threads(node).bells[thread as usize].wake();
        }
        let life = self.life(node);
        let (worked, other) = match thread {
            Thread::Core => (self.steps_some(node), Thread::Io),
            Thread::Io => (self.does_some(node), Thread::Core),
        };
        if self.life(node) != life || !self.lives_here(node) {
            return;
        }
        if worked {
            self.ring(node, other);
        }
        self.threads(node).doing(thread).tires = !worked;
        let pause = self.pause_of(node, thread);
        self.turn_after(node, thread, pause);
    }

    /// From one turn to the next: a moment, or a stall.
    fn pause_of(&mut self, node: Node, thread: Thread) -> u64 {
        if self.healed || self.luck.below(400) > 0 {
            return u64::from(1 + self.luck.below(20));
        }
        self.saw("a thread stalls");
        let longest = [5 * MILLI, 100 * MILLI, 2 * SECOND][self.luck.below(3) as usize];
        let us = self.luck.below_u64(longest);
        if thread == Thread::Io {
            self.threads(node).stalled = self.now.after(us);
        }
        us
    }

    /// Until it is rung for, and a core thread until its next tick.
    fn sleeps(&mut self, node: Node, thread: Thread) {
        self.threads(node).doing(thread).asleep = true;
        if thread == Thread::Io {
            return;
        }
        let deadline = self.deadline(node);
        let until = self.threads(node).ends.sleeps_until(deadline);
        if until > deadline {
            self.saw("a tick waits for room");
        }
        if until != Time::NEVER {
            let after = self.due(node, until).since(self.now);
            self.turn_after(node, thread, after);
        }
    }

    fn lives_here(&self, node: Node) -> bool {
        match node {
            Node::Master(id) => self.masters[usize::from(id) - 1].drive.is_some(),
            Node::Agent(_) | Node::Framework(_) => self.lives(node),
        }
    }

    fn deadline(&self, node: Node) -> Time {
        let deadline = match node {
            Node::Master(id) => {
                self.masters[usize::from(id) - 1].drive.as_ref().map(Drive::next_deadline)
            }
            Node::Agent(agent) => self.agents[agent].drive.as_ref().map(Drive::next_deadline),
            Node::Framework(one) => self.frameworks[one].drive.as_ref().map(Drive::next_deadline),
        };
        deadline.unwrap_or(Time::NEVER)
    }

    /// The core thread's turn: true if there was something.
    fn steps_some(&mut self, node: Node) -> bool {
        let mut memory = std::mem::take(&mut self.memory);
        let (mut stepped, batch) = (0, self.threads(node).batch);
        while stepped < batch {
            let threads = self.threads(node);
            let Some((side, len)) = threads.ends.next(&mut memory) else { break };
            let passed = threads.passed[side as usize].pop_front();
            let came = Some(CASTAGNOLI.checksum(&memory[..len]));
            assert_eq!(passed, came, "C12: {node:?} is passed something in another order");
            self.steps_one(node, &memory[..len]);
            stepped += 1;
        }
        self.memory = memory;
        let due = self.deadline(node) <= self.local(node);
        if due && self.threads(node).ends.has_room() {
            let tick = match node {
                Node::Master(_) => Master::tick(),
                Node::Agent(_) => Agent::tick(),
                Node::Framework(_) => Driver::tick(),
            };
            self.steps_one(node, tick);
            stepped += 1;
        }
        stepped > 0
    }

    fn steps_one(&mut self, node: Node, input: &[u8]) {
        let taken = match node {
            Node::Master(id) => self.step_master(id, input),
            Node::Agent(agent) => self.step_agent(agent, input),
            Node::Framework(framework) => self.step_framework(framework, input),
        };
        let out = &mut self.threads(node).ends.out;
        for (output, bodies) in taken.0 {
            let count = [OUTPUT, bodies.len() as u8];
            let refs: Vec<u8> = bodies
                .iter()
                .flat_map(|body| [u64::from(body.slot), u64::from(body.len), body.hash])
                .flat_map(u64::to_le_bytes)
                .collect();
            out.push(&[&count, &refs, &output]).expect("a step puts out no more than its bound");
        }
        out.push(&[&[DONE]]).expect("a step puts out no more than its bound");
    }

    /// The IO thread's turn: true if there was something.
    fn does_some(&mut self, node: Node) -> bool {
        let life = self.life(node);
        let threads = self.threads(node);
        let flushed = threads.to_core.flush() | threads.disk_to_core.flush();
        if flushed {
            self.ring(node, Thread::Core);
        }
        let mut memory = std::mem::take(&mut self.memory_of_outputs);
        let (mut handled, batch) = (0, self.threads(node).batch);
        while handled < batch && self.life(node) == life {
            let Some(record) = self.threads(node).of_core.pop(&mut memory) else { break };
            handled += 1;
            match record {
                [DONE, ..] => {
                    if let Node::Master(id) = node {
                        self.check_tables(id);
                    }
                }
                [_, count, rest @ ..] => {
                    let (refs, output) = rest.split_at(usize::from(*count) * 24);
                    let bodies: Vec<_> = refs.as_chunks().0.iter().map(body_of).collect();
                    self.output(node, output, &bodies);
                }
                [..] => panic!("a record of the core that cannot be read"),
            }
        }
        self.memory_of_outputs = memory;
        handled > 0
    }

    fn output(&mut self, node: Node, output: &[u8], bodies: &[BodyRef]) {
        match node {
            Node::Master(id) => self.master_output(id, output, bodies),
            Node::Agent(agent) => self.agent_output(agent, output, bodies),
            Node::Framework(framework) => self.framework_output(framework, output, bodies),
        }
    }

    /// C12: nobody sleeps while there is something for it, and nobody is to wake it.
    pub(super) fn nobody_oversleeps(&mut self) {
        for (node, threads) in &mut self.threads {
            for thread in [Thread::Core, Thread::Io] {
                let sleeps = threads.doing(thread).asleep;
                let lost = sleeps && threads.has_work(thread);
                assert!(!lost, "C12: the {thread:?} thread of {node:?} sleeps over its work");
            }
        }
    }

    /// The bytes of an agent's input behind its wall clock.
    pub(super) fn stamp(&self, agent: usize, now: Time, input: &[u8]) -> Vec<u8> {
        let wall_us = self.agents[agent].clock.wall_us(self.now, now);
        let mut into = vec![0; input.len() + mesita_core::drive::STAMP];
        stamped(wall_us, input, &mut into).unwrap().to_vec()
    }
}

fn body_of(bytes: &[u8; 24]) -> BodyRef {
    let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    BodyRef { slot: word(0) as u32, len: word(8) as u32, hash: word(16) }
}
