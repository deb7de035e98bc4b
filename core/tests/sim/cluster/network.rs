//! Connections: dialled, used in order, silent, cut at either end.

use super::*;
use crate::machines::waiting::{Level, Sort};

/// False for acknowledgements: an agent takes those of the connection that it has, and of no other.
fn names_its_session(cargo: &Cargo) -> bool {
    let Cargo::Head(head, _) = cargo else { return false };
    let acknowledges = |event: &AgentEvent<'_>| {
        matches!(event, AgentEvent::Acknowledge { .. } | AgentEvent::AcknowledgeOperation { .. })
    };
    !matches!(decode(head), Ok(Head::AgentEvent(event)) if acknowledges(&event))
}

/// Two ends of a connection: a master's, and that of whoever dialled. Each end has a number of its
/// own for it, as daemons have.
pub(super) struct Link {
    ends: [(Node, Id); 2],
    open: [bool; 2],
    /// What is on its way to each end, when the newest of it arrives, and what has arrived.
    flow: [Waiting<Cargo>; 2],
    last: [Time; 2],
    pipes: [Pipe; 2],
    /// When its last ping came, by the master's clock; when the newest that was answered was sent, by
    /// the other's.
    last_ping: Time,
    answered: Time,
}

impl Link {
    /// When the newest question was asked that was answered, by the clock of whoever dialled.
    pub(super) const fn asked(&self) -> Time {
        self.answered
    }
}

/// From one ping to the next.
const PING_EVERY: u64 = AGENT_TIMEOUT * 3 / 10;
const WATCH_EVERY: u64 = SECOND;
/// How soon something is tried again that cannot come through.
const AGAIN: u64 = 50 * MILLI;

impl Cluster {
    fn is_blocked(&self, from: Node, to: Node) -> bool {
        self.blocked.contains(&(from, to))
    }

    /// Every connection of a process that died: the other ends hear of it.
    pub(super) fn drop_links(&mut self, who: Node) {
        let of = |link: &Link| link.ends.iter().any(|(node, _)| *node == who);
        let all: Vec<_> =
            self.links.iter().filter(|(_, link)| of(link)).map(|(number, _)| *number).collect();
        all.into_iter().for_each(|link| self.cut(link, Some(who)));
        match who {
            Node::Master(_) => {}
            Node::Agent(agent) => self.agents[agent].link = None,
            Node::Framework(framework) => self.frameworks[framework].link = None,
        }
    }

    /// Breaks a connection: each end that lives hears of it, in its own time.
    pub(super) fn cut(&mut self, number: u64, dead: Option<Node>) {
        let Some(link) = self.links.get(&number) else { return };
        let (ends, open) = (link.ends, link.open);
        for (end, (node, conn)) in ends.into_iter().enumerate() {
            if Some(node) == dead {
                self.ends.remove(&(node, conn));
                self.links.get_mut(&number).unwrap().open[end] = false;
            } else if open[end] {
                let delay = self.delay();
                self.at(delay, Happening::Closed { at: node, link: number });
            }
        }
        if open.iter().all(|open| !open) {
            self.links.remove(&number);
        }
    }

    pub(super) fn links(&self) -> Vec<u64> {
        self.links.keys().copied().collect()
    }

    pub(super) fn send(&mut self, from: Node, conn: Id, head: &Head<'_>, bodies: &[BodyRef]) {
        if self.trace {
            let told = crate::support::show::head(head);
            println!("{:>11.6} {from:?} {conn:?}: {told}", self.now.0 as f64 / 1e6);
        }
        head.check().unwrap();
        self.send_bytes(from, conn, bytes_of(head), bodies);
    }

    pub(super) fn send_bytes(&mut self, from: Node, conn: Id, head: Vec<u8>, bodies: &[BodyRef]) {
        let Some(number) = self.ends.get(&(from, conn)).copied() else { return };
        let cargo = Cargo::Head(head, bodies.to_vec());
        match from {
            Node::Master(id) => self.say_under_lease(id, number, cargo),
            Node::Agent(_) | Node::Framework(_) => self.load(number, 0, cargo),
        }
    }

    /// Whatever a leader says is looked at right before it is written.
    fn say_under_lease(&mut self, id: u8, number: u64, cargo: Cargo) {
        if self.has_lease(id) && self.master(id).unwritten.is_empty() {
            self.load(number, 1, cargo);
        } else {
            self.master(id).unwritten.push_back((number, cargo));
        }
    }

    /// Puts something on its way to an end, behind all that is on its way there.
    pub(super) fn load(&mut self, number: u64, to: usize, cargo: Cargo) {
        let delay = self.delay();
        let now = self.now;
        let Some(link) = self.links.get_mut(&number) else { return };
        let arrives = now.after(delay).max(link.last[to]);
        link.last[to] = arrives;
        let level = link.flow[to].push(Sort::Control, cargo);
        let (from, conn) = link.ends[1 - to];
        let to = link.ends[to].0;
        self.at(arrives.since(now), Happening::Deliver { to, link: number });
        if let Some(level) = level {
            self.is_at(from, conn, number, level);
        }
    }

    /// What waits in a connection is another level of much.
    fn is_at(&mut self, from: Node, conn: Id, number: u64, level: Level) {
        match (from, level) {
            (Node::Master(id), Level::Congested) => {
                self.saw("a connection is congested");
                self.tell_master(id, master::Input::Congested { conn });
            }
            (Node::Master(id), Level::Drained) => {
                self.tell_master(id, master::Input::Drained { conn });
            }
            (Node::Agent(_) | Node::Framework(_), Level::Congested | Level::Drained) => {}
            (Node::Master(_) | Node::Agent(_) | Node::Framework(_), Level::Overrun) => {
                self.saw("a connection is cut whose reader is slow");
                self.cut(number, None);
            }
        }
    }

    pub(super) fn close(&mut self, from: Node, conn: Id) {
        if let Some(number) = self.ends.get(&(from, conn)).copied() {
            self.hang_up(from, number);
        }
    }

    /// An end ends it: itself at once, the other behind all that is on its way.
    fn hang_up(&mut self, at: Node, number: u64) {
        let Some(link) = self.links.get(&number) else { return };
        let other = usize::from(link.ends[0].0 == at);
        self.load(number, other, Cargo::Gone);
        self.closed(at, number);
    }

    // ---------------------------------------------------------------- dialling

    pub(super) fn dial(&mut self, who: Node) {
        let linked = match who {
            Node::Agent(agent) => self.agents[agent].link.is_some(),
            Node::Framework(framework) => {
                self.frameworks[framework].link.is_some() || self.frameworks[framework].over
            }
            Node::Master(_) => return,
        };
        if !self.lives(who) || linked {
            return;
        }
        let ids = self.world.ids();
        let hint = self.hint(who).take().filter(|id| ids.contains(id));
        let id = hint.unwrap_or_else(|| ids[self.rng.below(ids.len() as u32) as usize]);
        let there = Node::Master(id);
        let silent = self.is_blocked(who, there) || self.is_blocked(there, who);
        if silent || self.sleeps_until(there).is_some() || !self.lives(there) {
            let again = SECOND / 5 + self.delay() * 10;
            return self.at(again, Happening::Dial { who });
        }
        if self.masters[usize::from(id) - 1].drive.is_none() {
            // A standby shows who leads, if it knows.
            let now = self.world.local(id);
            let front = self.world.peek(id).front.as_ref().unwrap();
            let leader = front.leader(now).map(|(leader, _)| leader).filter(|other| *other != id);
            *self.hint(who) = leader;
            let again = self.delay() * 20;
            return self.at(again, Happening::Dial { who });
        }
        self.connect(who, id);
    }

    fn hint(&mut self, who: Node) -> &mut Option<u8> {
        match who {
            Node::Agent(agent) => &mut self.agents[agent].hint,
            Node::Framework(framework) => &mut self.frameworks[framework].hint,
            Node::Master(_) => panic!("masters dial nobody here"),
        }
    }

    /// What was on its way to an agent when its connection went may come up in the next one, as if it
    /// had lain in a ring meanwhile: all but what is held to its connection and to no session.
    fn keep_leftover(&mut self, at: Node, number: u64, end: usize) {
        let Node::Agent(agent) = at else { return };
        if self.chance(300) {
            let flow = &mut self.links.get_mut(&number).unwrap().flow[end];
            let rest = std::iter::from_fn(|| flow.next());
            self.agents[agent].leftover = rest.filter(names_its_session).collect();
        }
    }

    fn connect(&mut self, who: Node, id: u8) {
        let number = self.next_link;
        self.next_link += 1;
        let there = Node::Master(id);
        let conn = Id { index: self.free_slot(there), generation: number as u32 };
        let theirs = Id { index: 0, generation: number as u32 };
        // Every other scheduler is told in records, as one that subscribed over HTTP.
        let in_records = matches!(who, Node::Framework(framework) if framework % 2 == 1);
        let max = self.outbox_max;
        let link = Link {
            ends: [(there, conn), (who, theirs)],
            open: [true, true],
            flow: [Waiting::new(max), Waiting::new(max)],
            last: [Time(0); 2],
            pipes: [Pipe::new(false), Pipe::new(in_records)],
            last_ping: self.local(there),
            answered: self.local(who),
        };
        self.links.insert(number, link);
        self.ends.insert((there, conn), number);
        self.ends.insert((who, theirs), number);
        self.at(PING_EVERY, Happening::Ping { from: who, link: number });
        self.at(WATCH_EVERY, Happening::Watch { at: who, link: number });
        let (version, caller, head_max) = (3, 0, 8_192);
        let opened = |role| master::Input::Opened { conn, role, version, caller, head_max };
        match who {
            Node::Agent(agent) => {
                self.at(WATCH_EVERY, Happening::Watch { at: there, link: number });
                self.agents[agent].link = Some(number);
                self.tell_master(id, opened(Role::Agent));
                let role = Role::Master;
                self.tell_agent(agent, agent::Input::Opened { conn: theirs, role, head_max });
                self.at(SECOND / 2, Happening::Leftover { agent, link: number });
            }
            Node::Framework(framework) => {
                self.frameworks[framework].link = Some(number);
                self.tell_master(id, opened(Role::Framework));
                self.tell_framework(framework, scheduler::Input::Connected);
            }
            Node::Master(_) => {}
        }
    }

    /// A slot that no connection of this master's has now.
    fn free_slot(&self, there: Node) -> u32 {
        let from = (there, Id { index: 0, generation: 0 });
        let used: BTreeSet<_> = self
            .ends
            .range(from..)
            .take_while(|((node, _), _)| *node == there)
            .map(|((_, conn), _)| conn.index)
            .collect();
        (0..).find(|slot| !used.contains(slot)).unwrap()
    }

    // ---------------------------------------------------------------- arriving

    pub(super) fn deliver(&mut self, to: Node, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let end = usize::from(link.ends[0].0 != to);
        let (from, _) = link.ends[1 - end];
        if !link.open[end] {
            return;
        }
        if self.blocked.contains(&(from, to)) {
            return self.at(AGAIN, Happening::Deliver { to, link: number });
        }
        let Some(cargo) = link.flow[end].next() else { return };
        let weight = link.flow[end].weight(&cargo);
        let level = link.flow[end].read(weight);
        let (from, conn) = link.ends[1 - end];
        link.pipes[end].put(&cargo);
        if let Some(level) = level {
            self.is_at(from, conn, number, level);
        }
        self.reads(to, number);
    }

    /// What an end reads of what arrived: with threads, not all of it at once.
    fn reads(&mut self, to: Node, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let end = usize::from(link.ends[0].0 != to);
        let pipe = &mut link.pipes[end];
        let some = !self.threads.is_empty() && !pipe.is_ended() && self.luck.below(4) == 0;
        let mut left = pipe.len();
        if some {
            left = self.luck.below(left as u32 + 1) as usize;
        }
        let mut whole = vec![];
        while left > 0 {
            let piece = 1 + self.luck.below(2 * left as u32) as usize;
            let piece = piece.min(left);
            left -= piece;
            pipe.read(piece, &mut whole);
        }
        let (rests, over) = (pipe.len() > 0, pipe.is_over());
        for cargo in whole {
            self.heard(to, number, cargo);
        }
        if over {
            self.closed(to, number);
        } else if rests {
            self.saw("a frame arrives in parts");
            let after = 1 + self.luck.below_u64(2 * MILLI);
            self.at(after, Happening::Rest { to, link: number });
        }
    }

    /// More of what arrived is read.
    pub(super) fn read_rest(&mut self, to: Node, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let end = usize::from(link.ends[0].0 != to);
        if link.open[end] && link.pipes[end].len() > 0 {
            self.reads(to, number);
        }
    }

    fn heard(&mut self, to: Node, number: u64, cargo: Cargo) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let end = usize::from(link.ends[0].0 != to);
        if !link.open[end] {
            return;
        }
        match cargo {
            Cargo::Head(head, bodies) => {
                let conn = link.ends[end].1;
                self.arrives(to, conn, &head, &bodies);
            }
            Cargo::Ping(stamp) => {
                let now = self.local(to);
                self.links.get_mut(&number).unwrap().last_ping = now;
                if let Node::Master(id) = to {
                    self.say_under_lease(id, number, Cargo::Pong(stamp));
                }
            }
            Cargo::Pong(stamp) => {
                link.answered = link.answered.max(stamp);
                let answered = link.answered;
                if let Node::Agent(agent) = to {
                    self.agents[agent].contact = answered;
                }
            }
            Cargo::Gone => {}
        }
    }

    fn arrives(&mut self, to: Node, conn: Id, head: &[u8], bodies: &[BodyRef]) {
        let mut memory = [0; 4096];
        let bodies = list_of(bodies, &mut memory);
        match to {
            Node::Master(id) => {
                let verdicts = Seq::EMPTY;
                self.tell_master(id, master::Input::Frame { conn, head, bodies, verdicts });
            }
            Node::Agent(agent) => {
                self.tell_agent(agent, agent::Input::Frame { conn, head, bodies });
            }
            Node::Framework(framework) => {
                self.tell_framework(framework, scheduler::Input::Frame { head, bodies });
            }
        }
    }

    pub(super) fn closed(&mut self, at: Node, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let end = usize::from(link.ends[0].0 != at);
        if !std::mem::take(&mut link.open[end]) {
            return;
        }
        let (conn, since) = (link.ends[end].1, link.last_ping);
        self.keep_leftover(at, number, end);
        let Some(link) = self.links.get_mut(&number) else { return };
        if link.open == [false, false] {
            self.links.remove(&number);
        }
        self.ends.remove(&(at, conn));
        let again = SECOND / 10 + self.delay() * 10;
        match at {
            Node::Master(id) => self.tell_master(id, master::Input::Closed { conn, since }),
            Node::Agent(agent) => {
                if self.agents[agent].link == Some(number) {
                    self.agents[agent].link = None;
                    self.at(again, Happening::Dial { who: at });
                }
                self.tell_agent(agent, agent::Input::Closed { conn });
            }
            Node::Framework(framework) => {
                let node = &mut self.frameworks[framework];
                if node.link == Some(number) {
                    node.link = None;
                    node.offers.clear();
                    self.at(again, Happening::Dial { who: at });
                }
                self.tell_framework(framework, scheduler::Input::Disconnected);
            }
        }
    }

    pub(super) fn leftover(&mut self, agent: usize, number: u64) {
        for cargo in std::mem::take(&mut self.agents[agent].leftover) {
            self.load(number, 1, cargo);
        }
    }

    // ---------------------------------------------------------------- silence

    pub(super) fn ping(&mut self, from: Node, number: u64) {
        if !self.links.get(&number).is_some_and(|link| link.open[1]) {
            return;
        }
        let stamp = self.local(from);
        self.load(number, 0, Cargo::Ping(stamp));
        self.at(PING_EVERY, Happening::Ping { from, link: number });
    }

    pub(super) fn watch(&mut self, at: Node, number: u64) {
        let Some(link) = self.links.get(&number) else { return };
        let end = usize::from(link.ends[0].0 != at);
        if !link.open[end] {
            return;
        }
        let now = self.local(at);
        let silent = match at {
            Node::Master(_) => now.since(link.last_ping) > AGENT_TIMEOUT,
            Node::Agent(_) | Node::Framework(_) => now.since(link.answered) > AGENT_TIMEOUT * 3 / 4,
        };
        if !silent {
            return self.at(WATCH_EVERY, Happening::Watch { at, link: number });
        }
        match at {
            Node::Master(_) => self.saw("a master ends the session of an agent that is silent"),
            Node::Agent(_) => self.saw("an agent ends a session that nobody answers in"),
            Node::Framework(_) => self.saw("a scheduler ends a stream that nobody answers in"),
        }
        self.hang_up(at, number);
    }
}
