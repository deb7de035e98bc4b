//! Masters: who of them leads, what the registry keeps of what it decides, who waits for that.
//!
//! The same as in a daemon: rows are those of `set::kept`, and what waits for a majority is what
//! waits there.

use super::*;
use crate::kept::{About, Rows};
use crate::world::Heard;
use mesita_core::election::Role as Standing;
use mesita_core::registry::rows::{Life, Row};

/// How long a change waits for one of the election itself, in µs.
const BUSY: u64 = 10 * MILLI;
/// What the registry keeps of the master's decisions.
const KEPT: [Table; 4] = [Table::Agents, Table::Frameworks, Table::Roles, Table::Windows];

/// What is done when a majority has everything decided before.
pub(super) enum Ready {
    Send {
        conn: Id,
        head: Vec<u8>,
        bodies: Vec<BodyRef>,
    },
    Marked(Id),
    /// What is held for that connection.
    Welcome(Id),
}

/// A head and its bodies.
type Held = (Vec<u8>, Vec<BodyRef>);

pub(super) struct MasterNode {
    id: u8,
    pub(super) drive: Option<Drive<'static, Master<'static>>>,
    pub(super) life: u64,
    pub(super) ticking: Time,
    rows: Rows,
    ready: Rc<RefCell<Vec<Ready>>>,
    /// What frameworks are not to hear yet that have subscribed.
    welcomes: BTreeMap<Id, Vec<Held>>,
    /// The change that is on its way.
    ticket: Option<u32>,
    pub(super) model: Model,
    /// What waits for the lease.
    pub(super) unwritten: VecDeque<(u64, Cargo)>,
}

impl MasterNode {
    pub(super) fn new(id: u8, shape: Shape) -> Self {
        Self {
            id,
            drive: None,
            life: 0,
            ticking: Time::NEVER,
            rows: Rows::new(shape),
            ready: Rc::default(),
            welcomes: BTreeMap::new(),
            ticket: None,
            model: Model::default(),
            unwritten: VecDeque::new(),
        }
    }
}

impl Cluster {
    pub(super) fn master(&mut self, id: u8) -> &mut MasterNode {
        &mut self.masters[usize::from(id) - 1]
    }

    /// Whoever leads, of those that are awake.
    pub(super) fn leader(&self) -> Option<u8> {
        let leads = |node: &&MasterNode| {
            node.drive.is_some() && self.sleeps_until(Node::Master(node.id)).is_none()
        };
        let all = self.masters.iter().filter(leads).map(|node| node.id);
        all.max_by_key(|id| self.world.peek(*id).front.as_ref().map(|front| front.fence().epoch))
    }

    /// It may speak as the leader.
    pub(super) fn has_lease(&self, id: u8) -> bool {
        let now = self.world.local(id);
        let front = self.world.peek(id).front.as_ref();
        front.is_some_and(|front| front.role() == Standing::Active && front.lease_until(now) > now)
    }

    /// What the elections have told since somebody listened.
    pub(super) fn hear_masters(&mut self) {
        while let Some(heard) = self.world.heard.as_mut().and_then(VecDeque::pop_front) {
            match heard {
                Heard::Leads(id, fence) => self.leads(id, fence),
                Heard::Lost(id) => {
                    self.saw("a leader leads no more and begins again");
                    self.crash_master(id, 20 * MILLI);
                }
                Heard::Answered { id, ticket, committed } => self.answered(id, ticket, committed),
                Heard::Quarantined(id) => self.quarantined(id),
            }
        }
        for at in 0..self.masters.len() {
            if !self.masters[at].unwritten.is_empty() && self.has_lease(self.masters[at].id) {
                self.saw("what a leader says waits for its lease");
                for (link, cargo) in std::mem::take(&mut self.masters[at].unwritten) {
                    self.load(link, 1, cargo);
                }
            }
        }
    }

    fn leads(&mut self, id: u8, fence: Fence) {
        self.let_go(id);
        let buffer = self.buffer();
        let storage = master::Storage::lend(&self.capacity, &mut Leak);
        let settings = master::Config {
            timing_us: self.world.t,
            agent_timeout_us: AGENT_TIMEOUT,
            reregister_us: 60 * SECOND,
            ..config()
        };
        let front = Master::new(storage, settings).unwrap();
        let mut rows = Rows::new(self.shape);
        let body = self.world.peek(id).front.as_ref().unwrap().body();
        for table in KEPT {
            for slot in 0..self.shape.slots(table) {
                let bytes = body.slot(table, slot).unwrap();
                if bytes[0] != 0 {
                    rows.found(table, slot, bytes);
                }
            }
        }
        let mut inputs: Vec<(usize, Vec<u8>)> = rows.all().filter_map(told_of).collect();
        inputs.sort_by_key(|(depth, _)| *depth);
        // What it opens with a majority has, whoever proposed it.
        self.note_marks(id);
        if fence.epoch > 1 {
            self.saw("a registry that has something gets another leader");
        }
        let node = self.master(id);
        node.life += 1;
        node.rows = rows;
        node.welcomes.clear();
        node.drive = Some(Drive::new(front, buffer));
        self.begin_threads(Node::Master(id));
        for (_, input) in inputs {
            self.tell_master_bytes(id, &input);
        }
        self.tell_master(id, master::Input::Leads { cluster: CLUSTER, fence });
        let rights = Rights::ANY_USER.and(Rights::OPERATE);
        self.tell_master(id, master::Input::Caller { caller: 0, name: "local:root", rights });
        self.propose(id);
    }

    /// Nothing of a reign is left in its process.
    pub(super) fn let_go(&mut self, id: u8) {
        let shape = self.shape;
        let node = self.master(id);
        let life = node.life + 1;
        let buffer = node.drive.take().map(|_| ());
        *node = MasterNode { life, ..MasterNode::new(id, shape) };
        self.end_threads(Node::Master(id));
        if buffer.is_some() {
            self.drop_links(Node::Master(id));
        }
    }

    /// The process of a master ends, and begins again.
    pub(super) fn crash_master(&mut self, id: u8, after: u64) {
        self.let_go(id);
        self.paused.remove(&Node::Master(id));
        self.world.pause(id, 0);
        self.world.crash_for(id, after);
    }

    pub fn tell_master(&mut self, id: u8, input: master::Input<'_>) {
        self.tell_master_bytes(id, &bytes_of(&input));
    }

    fn tell_master_bytes(&mut self, id: u8, bytes: &[u8]) {
        let node = Node::Master(id);
        if self.master(id).drive.is_none() || self.passes(node, Side::Io, bytes) {
            return;
        }
        let life = self.master(id).life;
        let taken = self.step_master(id, bytes);
        let deadline = self.master(id).drive.as_ref().map(Drive::next_deadline);
        for (output, bodies) in taken.0 {
            if self.master(id).life == life {
                self.master_output(id, &output, &bodies);
            }
        }
        self.check_tables(id);
        self.schedule_tick(node, deadline.unwrap_or(Time::NEVER));
    }

    pub(super) fn step_master(&mut self, id: u8, input: &[u8]) -> Taken {
        let now = self.local(Node::Master(id));
        let Some(mut drive) = self.master(id).drive.take() else { return Taken::default() };
        let taken = self.step(&mut drive, now, input, "master");
        if self.steps.is_multiple_of(8) {
            self.within_bounds(&drive.front().gauges());
        }
        self.master(id).drive = Some(drive);
        taken
    }

    /// C12: every table within its bound.
    fn within_bounds(&self, gauges: &master::Gauges) {
        let max = &self.capacity;
        for (what, used, most) in [
            ("agents", gauges.agents, max.agents),
            ("frameworks", gauges.frameworks, max.frameworks),
            ("tasks", gauges.tasks, max.tasks),
            ("executors", gauges.executors, max.executors),
            ("offers", gauges.offers, max.offers),
            ("operations", gauges.operations, max.operations),
            ("names", gauges.names, max.names),
            ("cells", gauges.cells, max.cells),
            ("idents", gauges.idents, max.idents),
            ("pieces", gauges.pieces, max.pieces),
            ("spans", gauges.spans, max.spans),
            // One for each agent beside those that are told apart.
            ("filters", gauges.filters, max.filters + max.agents),
        ] {
            assert!(used <= most, "C12: a master has {used} {what} of {most}");
        }
    }

    pub(super) fn master_output(&mut self, id: u8, output: &[u8], bodies: &[BodyRef]) {
        match read::<master::Output<'_>>(output) {
            master::Output::Send { conn, head } => {
                let welcome = matches!(head, Head::AgentEvent(AgentEvent::Registered { .. }));
                if self.holds_back(id, conn, &head, bodies) {
                    return;
                }
                if welcome || matches!(head, Head::OperatorEvent(_)) {
                    let (head, bodies) = (bytes_of(&head), bodies.to_vec());
                    self.when_durable(id, Ready::Send { conn, head, bodies });
                } else {
                    self.send(Node::Master(id), conn, &head, bodies);
                }
            }
            master::Output::Close { conn, .. } => self.close(Node::Master(id), conn),
            master::Output::Fact(fact) => {
                self.keep(id, &fact);
                self.fact(id, &fact);
            }
            master::Output::KeepBody(_) | master::Output::DropBody(_) => {}
            master::Output::Outranked { fence } => {
                // One that is gone by now hears nothing.
                let _ = self.world.step(id, &mesita_core::election::Input::Seen(fence));
            }
            master::Output::Await { agent } => self.when_durable(id, Ready::Marked(agent)),
        }
    }

    // --------------------------------------------------------------- registry

    /// Keeps what a fact says, if it is to outlive this leader.
    fn keep(&mut self, id: u8, fact: &Fact<'_>) {
        let node = self.master(id);
        if !node.model.leading {
            return;
        }
        match *fact {
            Fact::Admission(admission) => {
                let agent = admission.agent;
                node.rows.keep(&Row::Agent(admission));
                let of = node.model.hosts.get(&(agent.epoch, agent.number));
                let hostname = of.map_or("", |name| name);
                node.rows.keep(&Row::Host { agent, hostname });
            }
            Fact::Machine { machine, window, down, .. } => {
                node.rows.keep(&Row::Machine { planned: Planned { machine, window }, down });
            }
            Fact::MachineGone { row } => {
                if let Some((hostname, ip)) = node.model.machines.get(&row) {
                    node.rows.forget(&About::machine(&MachineId { hostname, ip }));
                }
            }
            Fact::Removed { framework, instead_of } => {
                node.rows.forget(&About::framework(instead_of));
                node.rows.keep(&Row::Removed(framework));
            }
            Fact::Framework { info, .. } => node.rows.keep(&Row::Framework(info.kept())),
            Fact::Unheard { framework } => node.rows.forget(&About::framework(framework)),
            Fact::Dismissed { agent } => {
                node.rows.forget(&About::host(agent));
                node.rows.forget(&About::agent(agent));
            }
            Fact::Quota { role, guarantees, limits } => {
                node.rows.keep(&Row::Quota { role, guarantees, limits });
            }
            Fact::Weight { role, weight } => node.rows.keep(&Row::Weight { role, weight }),
            _ => return,
        }
        self.propose(id);
    }

    fn when_durable(&mut self, id: u8, what: Ready) {
        let node = self.master(id);
        let ready = Rc::clone(&node.ready);
        let now = node.rows.when_durable(Box::new(move || ready.borrow_mut().push(what)));
        if let Some(then) = now {
            then();
            self.do_ready(id);
        }
    }

    /// A framework hears that it subscribed, and what follows, when a majority has whose it is.
    fn holds_back(&mut self, id: u8, conn: Id, head: &Head<'_>, bodies: &[BodyRef]) -> bool {
        let subscribed = matches!(head, Head::Event(Event::Subscribed { .. }));
        let begins = !self.master(id).welcomes.contains_key(&conn);
        if begins && !subscribed {
            return false;
        }
        let held = (bytes_of(head), bodies.to_vec());
        self.master(id).welcomes.entry(conn).or_default().push(held);
        if begins {
            self.when_durable(id, Ready::Welcome(conn));
        }
        true
    }

    fn do_ready(&mut self, id: u8) {
        let ready = std::mem::take(&mut *self.master(id).ready.borrow_mut());
        for what in ready {
            match what {
                Ready::Send { conn, head, bodies } => {
                    self.send_bytes(Node::Master(id), conn, head, &bodies);
                }
                Ready::Welcome(conn) => {
                    let held = self.master(id).welcomes.remove(&conn).unwrap_or_default();
                    if held.len() > 1 {
                        self.saw("a subscription waits for a majority");
                    }
                    for (head, bodies) in held {
                        self.send_bytes(Node::Master(id), conn, head, &bodies);
                    }
                }
                Ready::Marked(agent) => {
                    self.saw("a mark is committed");
                    self.tell_master(id, master::Input::Marked { agent });
                }
            }
        }
    }

    pub(super) fn propose(&mut self, id: u8) {
        let Self { world, masters, .. } = self;
        let node = &mut masters[usize::from(id) - 1];
        let proposed = node.rows.next(|edits| world.propose_at(id, edits));
        match proposed {
            Some((ticket, Ok(()))) => node.ticket = Some(ticket),
            Some((_, Err(refusal))) => {
                node.rows.put_back();
                let life = node.life;
                if refusal == mesita_core::Refusal::Busy {
                    self.at(BUSY, Happening::Propose { id, life });
                }
            }
            None => {}
        }
    }

    fn answered(&mut self, id: u8, ticket: u32, committed: bool) {
        if self.master(id).ticket != Some(ticket) || !committed {
            return;
        }
        self.note_marks(id);
        let node = self.master(id);
        node.ticket = None;
        let ready = node.rows.committed();
        ready.into_iter().for_each(|then| then());
        self.do_ready(id);
        self.propose(id);
    }

    /// What a majority thinks of agents from now on.
    fn note_marks(&mut self, id: u8) {
        let (body, now) = (self.world.peek(id).front.as_ref().unwrap().body(), self.now);
        for slot in 0..self.shape.slots(Table::Agents) {
            let Some(Row::Agent(kept)) = Row::read(body.slot(Table::Agents, slot).unwrap()) else {
                continue;
            };
            let agent = (kept.agent.epoch, kept.agent.number);
            if kept.life == Life::Admitted {
                self.given_up.remove(&agent);
            } else {
                self.marked.insert(agent);
                self.given_up.entry(agent).or_insert(now);
            }
        }
    }

    // --------------------------------------------------------------- liveness

    /// Whenever a majority has worked for 8T, whatever the rest does, changes commit.
    pub(super) fn probe(&mut self) {
        let t = self.world.t;
        self.at(t / 4, Happening::Probe);
        self.nobody_oversleeps();
        self.nothing_runs_too_long();
        if self.is_replacing() {
            // Who counts is another question at each moment.
            return self.works.clear();
        }
        let (ids, useless) = (self.world.ids(), self.spoiled_id());
        let quorum = ids.len() / 2 + 1;
        let (now, mut longest) = (self.now.0, 0);
        for bits in 0u32..1 << ids.len() {
            if bits.count_ones() as usize != quorum {
                continue;
            }
            let among = |at: &usize| bits >> at & 1 == 1;
            let some: Vec<u8> = (0..ids.len()).filter(among).map(|at| ids[at]).collect();
            let useful = useless.is_none_or(|id| !some.contains(&id));
            if useful && self.world.work(&some) {
                let since = *self.works.entry(some).or_insert(now);
                longest = longest.max(now - since);
            } else {
                self.works.remove(&some);
            }
        }
        // 8T for a leader by clocks that are up to a twentieth slow, and 4T for a change.
        let enough = 12 * t * 1_000 / 950;
        if longest > enough {
            self.saw("a majority works for long enough to be held to it");
        }
        let since = longest.min(now - self.world.last_commit);
        assert!(since <= enough, "nothing commits for {since} us, though a majority works");
    }
}

/// What a leader is told of a row, those of shorter roles first. Nobody asks for a change by its id
/// here.
fn told_of(row: Row<'_>) -> Option<(usize, Vec<u8>)> {
    let (depth, input) = match row {
        Row::Weight { role, weight } => {
            (role.matches('/').count(), master::Input::Weight { role, weight })
        }
        Row::Quota { role, guarantees, limits } => {
            (role.matches('/').count(), master::Input::Quota { role, guarantees, limits })
        }
        Row::Agent(admission) => (0, master::Input::Admitted(admission)),
        Row::Machine { planned, down } => (0, master::Input::Machine { planned, down }),
        Row::Removed(framework) => (0, master::Input::Removed { framework }),
        Row::Framework(owned) => (0, master::Input::Owned(owned)),
        Row::Request(_) => return None,
        // After the agent's own.
        Row::Host { agent, hostname } => (1, master::Input::Hosted { agent, hostname }),
    };
    Some((depth, bytes_of(&input)))
}
