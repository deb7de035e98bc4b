//! A master between named connections, stepped by lines of text.
//!
//! Every input goes through its bytes, as from a journal, and every output is read back from its
//! bytes. `core/tests/transcripts/*.txt` are written in the language of [`Rig::line`].

use std::collections::BTreeMap;

use mesita_core::Refusal;
use mesita_core::allocator::{self, Policy};
use mesita_core::capacity::Capacity;
use mesita_core::doors::Rights;
use mesita_core::drive::{Drive, Sink};
use mesita_core::limits::HEAD_MAX;
use mesita_core::master::explain::Question;
use mesita_core::master::{Config, Fact, Input, Master, Output, Storage};
use mesita_core::resources::Amount;
use mesita_core::table::Id;
use mesita_core::time::Time;
use mesita_core::wire::agent::*;
use mesita_core::wire::call::*;
use mesita_core::wire::event::Unavailability;
use mesita_core::wire::hello::Role;
use mesita_core::wire::operator::{MachineId, OperatorCall, OperatorVerb, Planned};
use mesita_core::wire::resource::{Resource, Value};
use mesita_core::wire::task::*;
use mesita_core::wire::*;

use super::text::{scratch, wire};
use super::{Leak, show};

pub const CLUSTER: u64 = 0xc1;
const SECOND: u64 = 1_000_000;

pub fn config() -> Config {
    Config {
        seed: 1,
        timing_us: 500_000,
        agent_timeout_us: 10 * SECOND,
        offer_timeout_us: 60 * SECOND,
        failover_min_us: 60 * SECOND,
        allocation_delay_us: 0,
        body_bytes_max: 1 << 20,
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
    }
}

pub struct Rig {
    pub drive: Drive<'static, Master<'static>>,
    pub now: Time,
    pub epoch: u32,
    conns: BTreeMap<String, Id>,
    peers: BTreeMap<String, Peer>,
    /// Facts are told, too.
    pub facts: bool,
    capacity: Capacity,
    config: Config,
    /// Facts that the registry keeps, by what they are about.
    kept: BTreeMap<String, Vec<u8>>,
    /// What waits for a registry that is slow; none: it has everything at once.
    slow: Option<Vec<Id>>,
    next_conn: u32,
    pub said: Vec<String>,
    /// Every output as it came, for who keeps books of its own; none: nobody does.
    pub outputs: Option<Vec<Vec<u8>>>,
}

#[derive(Clone, Default)]
pub struct Peer {
    pub agent: AgentId,
    pub framework: FrameworkId,
    pub session: Session,
    pub region: &'static str,
    pub offers: BTreeMap<String, (OfferId, AgentId)>,
    /// The operation that it was last ordered to do.
    pub operation: String,
}

fn drive(capacity: &Capacity, config: Config) -> Drive<'static, Master<'static>> {
    let master = Master::new(Storage::lend(capacity, &mut Leak), config).unwrap();
    let buffer = Box::leak(vec![0; mesita_core::drive::BUFFER].into_boxed_slice());
    Drive::new(master, buffer)
}

/// Outputs as they came, by their bytes.
#[derive(Default)]
pub struct Outputs(pub Vec<Vec<u8>>);

impl Sink for Outputs {
    fn put(&mut self, output: &[u8], _bodies: &[BodyRef]) {
        self.0.push(output.to_vec());
    }
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Capacity::tiny(), config(), 1)
    }

    pub fn with(capacity: Capacity, config: Config, epoch: u32) -> Self {
        // Reservations and volumes each take an identity, and more while one becomes another.
        let (idents, layers) = (capacity.idents + 32, capacity.layers + 32);
        let capacity = Capacity { head_max: 16_384, idents, layers, ..capacity };
        let mut rig = Self {
            drive: drive(&capacity, config),
            now: Time(1_000),
            epoch: epoch - 1,
            conns: BTreeMap::new(),
            peers: BTreeMap::new(),
            facts: false,
            capacity,
            config,
            kept: BTreeMap::new(),
            slow: None,
            next_conn: 1,
            said: vec![],
            outputs: None,
        };
        rig.lead();
        rig.said.clear();
        rig
    }

    /// The master begins to lead, told of what the registry keeps.
    fn lead(&mut self) {
        let kept = self.kept.clone();
        // A host is told after its agent, if that was admitted.
        let agent_of = |about: &str| about.strip_prefix("host ").map(str::to_owned);
        let (hosts, rest): (Vec<_>, Vec<_>) =
            kept.clone().into_iter().partition(|one| agent_of(&one.0).is_some());
        let admitted = |about: &str| kept.contains_key(&agent_of(about).unwrap());
        let hosts = hosts.into_iter().filter(|(about, _)| admitted(about));
        for (_, fact) in rest.into_iter().chain(hosts) {
            let input = match postcard::from_bytes::<Fact<'_>>(&fact).unwrap() {
                Fact::Weight { role, weight } => Input::Weight { role, weight },
                Fact::Quota { role, guarantees, limits } => {
                    Input::Quota { role, guarantees, limits }
                }
                Fact::Admission(admission) => Input::Admitted(admission),
                Fact::Agent { info, .. } => {
                    Input::Hosted { agent: info.agent, hostname: info.hostname }
                }
                Fact::Machine { machine, window, down, .. } => {
                    Input::Machine { planned: Planned { machine, window }, down }
                }
                Fact::Removed { framework, .. } => Input::Removed { framework },
                Fact::Framework { info, .. } => Input::Owned(info.kept()),
                fact => panic!("{fact:?} is not kept"),
            };
            self.input(input).unwrap();
        }
        self.epoch += 1;
        let fence = Fence { epoch: self.epoch, ..Fence::default() };
        self.input(Input::Leads { cluster: CLUSTER, fence }).unwrap();
        for (caller, name, rights) in [
            (0, "local:root", Rights::ANY_USER.and(Rights::OPERATE)),
            (1, "local:pi", Rights::NONE),
            (2, "local:eve", Rights::NONE),
        ] {
            self.input(Input::Caller { caller, name, rights }).unwrap();
        }
    }

    /// What the registry has when it has a fact.
    fn keep(&mut self, fact: &Fact<'_>) {
        let about = match fact {
            Fact::Weight { role, .. } => format!("weight {role}"),
            Fact::Quota { role, .. } => format!("quota {role}"),
            Fact::Admission(admission) => format!("{:?}", admission.agent),
            Fact::Agent { info, .. } => format!("host {:?}", info.agent),
            Fact::Machine { row, .. } => format!("machine {row:?}"),
            Fact::MachineGone { row } => {
                self.kept.remove(&format!("machine {row:?}"));
                return;
            }
            Fact::Removed { framework, instead_of } => {
                self.kept.remove(&format!("{instead_of:?}"));
                format!("{framework:?}")
            }
            Fact::Framework { info, .. } => {
                let about = format!("{:?}", info.framework);
                // One that was removed stays so.
                let removed = self.kept.get(&about).is_some_and(|kept| {
                    matches!(postcard::from_bytes(kept), Ok(Fact::Removed { .. }))
                });
                if removed {
                    return;
                }
                about
            }
            Fact::Unheard { framework } => {
                self.kept.remove(&format!("{framework:?}"));
                return;
            }
            Fact::Dismissed { agent } => {
                self.kept.remove(&format!("{agent:?}"));
                return;
            }
            _ => return,
        };
        let mut bytes = vec![0; 10_000];
        let bytes = encode(fact, &mut bytes).unwrap().to_vec();
        self.kept.insert(about, bytes);
    }

    /// Steps the master with one input, by its bytes, and takes in what it said.
    pub fn input(&mut self, input: Input<'_>) -> Result<(), Refusal> {
        let mut bytes = vec![0; 100_000];
        let bytes = encode(&input, &mut bytes).unwrap().to_vec();
        let mut outputs = Outputs::default();
        let result = self.drive.step(self.now, &bytes, &mut outputs);
        for output in outputs.0 {
            if let Some(outputs) = &mut self.outputs {
                outputs.push(output.clone());
            }
            self.output(&output);
        }
        result
    }

    fn output(&mut self, bytes: &[u8]) {
        let (output, rest) = postcard::take_from_bytes::<Output<'_>>(bytes).unwrap();
        assert!(rest.is_empty());
        if let Output::Fact(fact) = &output {
            self.keep(fact);
        }
        match output {
            Output::Send { conn, head } => {
                head.check().unwrap();
                let name = self.name_of(conn);
                self.learn(&name, &head);
                self.said.push(format!("  -> {name}: {}", show::head(&head)));
                if let Head::AgentEvent(AgentEvent::Registered { session, .. }) = head {
                    // The agents of these conversations keep what they are told at once.
                    self.agent_call(&name, AgentCall::Settled { session }).unwrap();
                }
            }
            Output::Close { conn, reason, message } => {
                let name = self.name_of(conn);
                let message =
                    if message.is_empty() { String::new() } else { format!(", {message}") };
                self.said.push(format!("  -> {name}: closed, {reason:?}{message}"));
            }
            Output::Fact(fact) if self.facts => {
                self.said.push(format!("  fact: {}", show::fact(&fact)));
            }
            Output::Fact(_) | Output::KeepBody(_) | Output::DropBody(_) => {}
            Output::Outranked { fence: Fence { generation, epoch } } => {
                let number = generation.number;
                self.said.push(format!("  -> outranked by epoch {epoch} of generation {number}"));
            }
            Output::Await { agent } => match &mut self.slow {
                Some(waiting) => waiting.push(agent),
                None => self.input(Input::Marked { agent }).unwrap(),
            },
        }
    }

    fn name_of(&self, conn: Id) -> String {
        let known = self.conns.iter().find(|(_, id)| **id == conn);
        known.map_or_else(|| "an old connection".into(), |(name, _)| name.clone())
    }

    /// Remembers ids, as the peer would.
    fn learn(&mut self, name: &str, head: &Head<'_>) {
        let peer = self.peers.entry(name.to_string()).or_default();
        match head {
            Head::AgentEvent(AgentEvent::Registered { agent, .. }) => peer.agent = *agent,
            Head::AgentEvent(AgentEvent::Operate { operations, .. }) => {
                peer.operation = operations.first().unwrap().id().to_string();
            }
            Head::Event(event::Event::Subscribed { framework, .. }) => {
                peer.framework = *framework;
            }
            Head::Event(event::Event::Offers { offers }) => {
                for offer in offers.iter() {
                    peer.offers.insert(show::offer(offer.id), (offer.id, offer.agent));
                }
            }
            Head::Event(event::Event::InverseOffers { offers }) => {
                for offer in offers.iter() {
                    peer.offers.insert(show::offer(offer.id), (offer.id, offer.agent));
                }
            }
            _ => {}
        }
    }

    pub fn open(&mut self, name: &str, role: Role, caller: u16) -> Id {
        let conn = Id { index: self.next_conn % 24, generation: self.next_conn };
        self.next_conn += 1;
        self.conns.insert(name.to_string(), conn);
        self.input(Input::Opened { conn, role, version: 3, caller, head_max: 8_192 }).unwrap();
        conn
    }

    pub fn frame(&mut self, name: &str, head: &Head<'_>) -> Result<(), Refusal> {
        let mut bytes = vec![0; 65_536];
        let bytes = encode(head, &mut bytes).unwrap().to_vec();
        let conn = self.conns[name];
        self.input(Input::Frame { conn, head: &bytes, bodies: Seq::EMPTY, verdicts: Seq::EMPTY })
    }

    pub fn call(&mut self, name: &str, verb: Verb<'_>) -> Result<(), Refusal> {
        let framework = self.peers.get(name).cloned().unwrap_or_default().framework;
        self.frame(name, &Head::Call(Call { framework, ticket: 0, verb }))
    }

    pub fn agent_call(&mut self, name: &str, call: AgentCall<'_>) -> Result<(), Refusal> {
        self.frame(name, &Head::AgentCall(call))
    }

    pub fn peer(&mut self, name: &str) -> &mut Peer {
        self.peers.entry(name.to_string()).or_default()
    }

    pub fn registration(&mut self, name: &str, resources: &str, reports: u32) -> Register<'static> {
        let peer = self.peer(name);
        let counter = peer.session.counter + 1;
        peer.session = Session { incarnation: peer.session.incarnation.max(1), counter };
        let (session, agent, region) = (peer.session, peer.agent, peer.region);
        let mut key = [1; 32];
        key[..name.len()].copy_from_slice(name.as_bytes());
        Register {
            session,
            agent,
            seen: Fence::default(),
            cluster: 0,
            key,
            hostname: Box::leak(name.to_string().into_boxed_str()),
            region,
            zone: "",
            address: "",
            attributes: Seq::EMPTY,
            resources: wire(resources),
            tasks_max: 0,
            task_kinds: Kind::Command.bit() | Kind::Executor.bit(),
            reports,
        }
    }

    pub fn subscription(role: &str) -> Subscribe<'static> {
        let role: &'static str = Box::leak(role.to_string().into_boxed_str());
        Subscribe {
            name: "test",
            user: "pi",
            principal: "",
            hostname: "",
            webui_url: "",
            roles: scratch().seq::<&'static str>(role.split(',')).unwrap(),
            suppressed: Seq::EMPTY,
            minimums: Seq::EMPTY,
            failover_us: 0,
            capabilities: Capability::PartitionAware.bit(),
            owned: Ownership::Scheduler,
            public: Body::NONE,
        }
    }

    pub fn launch(task: &str, agent: AgentId, resources: &str) -> Launch<'static> {
        Launch {
            task: Box::leak(task.to_string().into_boxed_str()),
            agent,
            kind: Kind::Command,
            resources: wire(resources),
            limits: Seq::EMPTY,
            executor: None,
            user: "",
            grace_us: None,
            completion_us: None,
            restart: Restart::default(),
            public: Body::NONE,
            private: Body::NONE,
        }
    }

    /// One tick, and more while the master wants them at once.
    pub fn settle(&mut self) {
        for _ in 0..64 {
            self.input(Input::Tick).unwrap();
            if self.drive.next_deadline() > self.now {
                return;
            }
        }
        panic!("the master never comes to rest");
    }

    pub fn wait(&mut self, us: u64) {
        let until = self.now.after(us);
        while self.drive.next_deadline() <= until {
            self.now = self.now.max(self.drive.next_deadline());
            self.settle();
        }
        self.now = until;
    }

    /// Does what one line of a transcript says; what the master said, in lines.
    pub fn line(&mut self, line: &str) -> Vec<String> {
        self.said.clear();
        let words: Vec<_> = line.split_whitespace().collect();
        let result = self.act(&words);
        if let Err(refusal) = result {
            self.said.push(format!("  refused: {refusal:?}"));
        } else {
            self.settle();
        }
        std::mem::take(&mut self.said)
    }

    /// Does what one line of a transcript says, and nothing that would be due then.
    pub fn act(&mut self, words: &[&str]) -> Result<(), Refusal> {
        match *words {
            ["facts"] => {
                self.facts = true;
                Ok(())
            }
            ["wait", time] => {
                self.wait(micros(time));
                Ok(())
            }
            ["new-master"] => {
                self.drive = drive(&self.capacity, self.config);
                self.conns.clear();
                self.lead();
                Ok(())
            }
            ["registry-is-slow"] => {
                self.slow = Some(vec![]);
                Ok(())
            }
            ["registry-has-it"] => {
                for agent in self.slow.take().unwrap_or_default() {
                    self.input(Input::Marked { agent })?;
                }
                Ok(())
            }
            ["agent", name, resources, ref held @ ..] => {
                self.open(name, Role::Agent, 0);
                self.register(name, resources, held)
            }
            ["agent-again", name, resources, ref held @ ..] => self.register(name, resources, held),
            // It has obeyed so many reigns, or generations, later than this master's.
            ["agent-obeyed", name, later, of] => {
                let later: u32 = later.parse().unwrap();
                let ours = Fence { epoch: self.epoch, ..Fence::default() };
                let number = ours.generation.number + later;
                let seen = match of {
                    "generations" => {
                        Fence { generation: Generation { number, nonce: 7 }, epoch: 1 }
                    }
                    _ => Fence { epoch: self.epoch + later, ..ours },
                };
                let register =
                    Register { seen, cluster: CLUSTER, ..self.registration(name, "cpus:1", 0) };
                self.agent_call(name, AgentCall::Register(register))
            }
            ["leaves", name] => {
                let session = self.peer(name).session;
                self.agent_call(name, AgentCall::Leave { session })
            }
            ["says-leaving", name] => {
                let session = self.peer(name).session;
                self.agent_call(name, AgentCall::Leaving { session })
            }
            ["totals", name, resources] => {
                let session = self.peer(name).session;
                self.agent_call(name, AgentCall::Totals { session, resources: wire(resources) })
            }
            ["framework", name, role, ref options @ ..] => {
                let caller = u16::from(!options.contains(&"root"));
                let caller = if options.contains(&"eve") { 2 } else { caller };
                self.open(name, Role::Framework, caller);
                if let Some(other) = options.iter().find_map(|word| word.strip_prefix("as=")) {
                    self.peer(name).framework = self.peer(other).framework;
                }
                self.call(name, Verb::Subscribe(described(role, options)))
            }
            ["update-framework", name, role, ref options @ ..] => {
                self.call(name, Verb::UpdateFramework(described(role, options)))
            }
            ["closes", name] => {
                let (conn, since) = (self.conns[name], self.now);
                self.input(Input::Closed { conn, since })
            }
            ["accept", name, offers, ref tasks @ ..] => {
                self.accept(name, offers, tasks, Verb::Accept)
            }
            ["accept-part", name, offers, ref tasks @ ..] => {
                self.accept(name, offers, tasks, Verb::AcceptPart)
            }
            ["decline", name, offers, ref options @ ..] => {
                let offers = self.offers(name, offers);
                let offers = scratch().seq::<OfferId>(offers).unwrap();
                let refuse_us = options.first().map(|time| micros(time));
                self.call(name, Verb::Decline { offers, refuse_us })
            }
            ["status", agent, framework, task, state, ref options @ ..] => {
                self.status(agent, framework, task, state, options)
            }
            ["ack", name, task, agent, sequence] => {
                let agent = self.peer(agent).agent;
                let sequence = sequence.trim_start_matches('#').parse().unwrap();
                self.call(name, Verb::Acknowledge { task, uuid: Uuid { agent, sequence } })
            }
            ["operate", name, agent, operation] => {
                let agent = self.peer(agent).agent;
                let operation = operation_of(operation).unwrap();
                let operation = scratch().seq::<Operation<'static>>([operation]).unwrap();
                self.operate(name, OperatorVerb::Operate { agent, operation })
            }
            ["operated", agent, framework, state, ref options @ ..] => {
                self.operated(agent, framework, state, options)
            }
            ["ack-operation", name, operation, agent, sequence] => {
                let agent = self.peer(agent).agent;
                let sequence = sequence.trim_start_matches('#').parse().unwrap();
                let operation = OperationRef { operation, agent, provider: "" };
                let uuid = Uuid { agent, sequence };
                self.call(name, Verb::AcknowledgeOperation { operation, uuid })
            }
            ["reconcile-operations", name, ref operations @ ..] => {
                let operations: Vec<_> = operations
                    .iter()
                    .map(|operation| {
                        let (operation, agent) =
                            operation.split_once('@').unwrap_or((operation, ""));
                        OperationRef { operation, agent: self.peer(agent).agent, provider: "" }
                    })
                    .collect();
                let operations = scratch().seq::<OperationRef<'static>>(operations).unwrap();
                self.call(name, Verb::ReconcileOperations { operations })
            }
            ["kill", name, task] => {
                let task = TaskAt { task, agent: AgentId::NONE };
                self.call(name, Verb::Kill { task, grace_us: None })
            }
            ["reconcile", name, ref tasks @ ..] => {
                let tasks: Vec<_> = tasks
                    .iter()
                    .map(|task| {
                        let (task, agent) = task.split_once('@').unwrap_or((task, ""));
                        TaskAt { task, agent: self.peer(agent).agent }
                    })
                    .collect();
                let tasks = scratch().seq::<TaskAt<'static>>(tasks).unwrap();
                self.call(name, Verb::Reconcile { tasks })
            }
            ["revive", name] => self.call(name, Verb::Revive { roles: Seq::EMPTY }),
            ["suppress", name] => self.call(name, Verb::Suppress { roles: Seq::EMPTY }),
            ["teardown", name] => self.call(name, Verb::Teardown),
            ["request", name, amounts] => {
                let amounts = quantities(amounts);
                let request = Request { agent: AgentId::NONE, amounts };
                let requests = scratch().seq::<Request<'static>>([request]).unwrap();
                self.call(name, Verb::Request { requests })
            }
            ["weight", role, weight] => {
                self.input(Input::Weight { role, weight: weight.parse().unwrap() })
            }
            ["operator", name] => {
                self.open(name, Role::Client, 0);
                Ok(())
            }
            ["nobody", name] => {
                self.open(name, Role::Client, 1);
                Ok(())
            }
            ["quota", name, role, guarantees, limits, ref force @ ..] => {
                let force = force.contains(&"force");
                let (guarantees, limits) = (amounts(guarantees), amounts(limits));
                self.operate(name, OperatorVerb::SetQuota { role, guarantees, limits, force })
            }
            ["weigh", name, role, weight] => {
                let weight = weight.parse().unwrap();
                self.operate(name, OperatorVerb::SetWeight { role, weight })
            }
            ["reactivate", name, agent] => {
                let agent = self.peer(agent).agent;
                self.operate(name, OperatorVerb::Deactivate { agent, deactivated: false })
            }
            ["deactivate", name, agent, deactivated] => {
                let (agent, deactivated) = (self.peer(agent).agent, deactivated == "yes");
                self.operate(name, OperatorVerb::Deactivate { agent, deactivated })
            }
            ["schedule", name, ref machines @ ..] => {
                let machines = machines.iter().map(|machine| planned(machine));
                let machines = scratch().seq::<Planned<'static>>(machines).unwrap();
                self.operate(name, OperatorVerb::Schedule { machines })
            }
            ["machines", name, way, ref machines @ ..] => {
                let machines = machines.iter().map(|machine| machine_id(machine));
                let machines = scratch().seq::<MachineId<'static>>(machines).unwrap();
                self.operate(name, OperatorVerb::Down { machines, down: way == "down" })
            }
            ["drain", name, agent, ref options @ ..] => {
                let grace = options.iter().find_map(|word| word.strip_prefix("grace="));
                let (agent, gone) = (self.peer(agent).agent, options.contains(&"gone"));
                let grace_us = grace.map(micros);
                self.operate(name, OperatorVerb::Drain { agent, grace_us, gone })
            }
            ["mark-gone", name, agent] => {
                let agent = self.peer(agent).agent;
                self.operate(name, OperatorVerb::MarkGone { agent })
            }
            ["says-draining", agent] => {
                let session = self.peer(agent).session;
                self.agent_call(agent, AgentCall::Draining { session, grace_us: None, gone: false })
            }
            ["inverse", name, answer, offers, ref refuse @ ..] => {
                let offers = self.offers(name, offers);
                let offers = scratch().seq::<OfferId>(offers).unwrap();
                let refuse_us = refuse.first().map(|time| micros(time));
                self.call(
                    name,
                    if answer == "yes" {
                        Verb::AcceptInverse { offers, refuse_us }
                    } else {
                        Verb::DeclineInverse { offers, refuse_us }
                    },
                )
            }
            ["whitelist", name, hosts, ref adds @ ..] => {
                let adds = adds.contains(&"more");
                let hosts = hosts.split(',').filter(|host| !host.is_empty() && *host != "-");
                let hosts = scratch().seq::<&'static str>(hosts).unwrap();
                self.operate(name, OperatorVerb::Whitelist { hosts: Some(hosts), adds })
            }
            ["no-whitelist", name] => {
                self.operate(name, OperatorVerb::Whitelist { hosts: None, adds: false })
            }
            ["region", name] => self.input(Input::Region { name }),
            ["in-region", agent, region] => {
                self.peer(agent).region = Box::leak(region.to_string().into_boxed_str());
                Ok(())
            }
            ["why", framework, ref agent @ ..] => {
                let framework = self.peer(framework).framework;
                let agent = agent.first().map(|agent| self.peer(agent).agent);
                self.explain(&Question::Why { framework, agent })
            }
            ["need", needed] => self.explain(&Question::Need { amounts: amounts(needed) }),
            ["congested", name] => {
                let conn = self.conns[name];
                self.input(Input::Congested { conn })
            }
            ["drained", name] => {
                let conn = self.conns[name];
                self.input(Input::Drained { conn })
            }
            _ => panic!("no such line: {words:?}"),
        }
    }

    pub fn operate(&mut self, name: &str, verb: OperatorVerb<'_>) -> Result<(), Refusal> {
        let before = self.drive.state_digest();
        let operated = self.frame(name, &Head::OperatorCall(OperatorCall { ticket: 7, verb }));
        if operated.is_err() {
            assert_eq!(self.drive.state_digest(), before, "a refusal changes nothing");
        }
        operated
    }

    /// Asks a question in parts of three rows.
    fn explain(&mut self, question: &Question<'_>) -> Result<(), Refusal> {
        let before = self.drive.state_digest();
        let (now, mut from) = (self.now, 0);
        loop {
            let mut rows = vec![];
            let next = self.drive.front_mut().explain(now, question, from, &mut |row| {
                let fits = rows.len() < 3;
                if fits {
                    rows.push(show::row(row));
                }
                fits
            });
            self.said.append(&mut rows);
            match next? {
                Some(next) => from = next,
                None => break,
            }
        }
        assert_eq!(self.drive.state_digest(), before, "an answer changes nothing");
        Ok(())
    }

    fn register(&mut self, name: &str, resources: &str, held: &[&str]) -> Result<(), Refusal> {
        let register = self.registration(name, resources, u32::from(!held.is_empty()));
        self.agent_call(name, AgentCall::Register(register))?;
        if held.is_empty() {
            return Ok(());
        }
        let mut frameworks = vec![];
        let mut tasks = vec![];
        for held in held {
            // framework/task/state/resources; the state may be the one that is to be acknowledged next,
            // `>` and the newest.
            let parts: Vec<&'static str> = held
                .split('/')
                .map(|part| &*Box::leak(part.to_string().into_boxed_str()))
                .collect();
            let framework = self.peer(parts[0]).framework;
            let known = FrameworkHeld {
                framework,
                name: "test",
                user: "pi",
                principal: "",
                caller: "local:pi",
                failover_us: 0,
                capabilities: Capability::PartitionAware.bit(),
                roles: scratch().seq::<&'static str>(["*"]).unwrap(),
                owned: Ownership::Scheduler,
            };
            if !frameworks.contains(&known) {
                frameworks.push(known);
            }
            let (first, newest) = match parts[2].split_once('>') {
                Some((first, newest)) => (Some(state(first)), newest),
                None => (None, parts[2]),
            };
            tasks.push(TaskHeld {
                framework,
                task: parts[1],
                executor: "",
                role: "*",
                container: ContainerId { incarnation: 1, counter: 1 },
                state: state(newest),
                unacknowledged: first,
                attempt: 0,
                restart: Restart::default(),
                resources: wire(parts[3]),
                public: Hash::default(),
            });
        }
        let report = Report {
            session: self.peer(name).session,
            part: 0,
            frameworks: scratch().seq::<FrameworkHeld<'static>>(frameworks).unwrap(),
            executors: Seq::EMPTY,
            tasks: scratch().seq::<TaskHeld<'static>>(tasks).unwrap(),
        };
        self.agent_call(name, AgentCall::Report(report))
    }

    fn offers(&mut self, name: &str, offers: &str) -> Vec<OfferId> {
        offers.split(',').map(|offer| self.find_offer(name, offer).0).collect()
    }

    fn find_offer(&mut self, name: &str, offer: &str) -> (OfferId, AgentId) {
        let own = self.peer(name).offers.get(offer).copied();
        own.or_else(|| self.peers.values().find_map(|peer| peer.offers.get(offer).copied()))
            .unwrap_or_else(|| (made_up(offer), AgentId::NONE))
    }

    fn accept(
        &mut self,
        name: &str,
        offers: &str,
        tasks: &[&str],
        verb: fn(Accept<'static>) -> Verb<'static>,
    ) -> Result<(), Refusal> {
        let first = offers.split(',').next().unwrap();
        let (_, agent) = self.find_offer(name, first);
        let offers = self.offers(name, offers);
        let mut refuse_us = Some(0);
        let mut launches = vec![];
        let mut operations = vec![];
        for word in tasks {
            if let Some(time) = word.strip_prefix("refuse=") {
                refuse_us = Some(micros(time));
                continue;
            }
            if let Some(operation) = operation_of(word) {
                flush(&mut launches, &mut operations);
                operations.push(operation);
                continue;
            }
            let (task, rest) = word.split_once('=').unwrap();
            let (resources, user) = rest.split_once('@').unwrap_or((rest, ""));
            let (resources, executor) = resources.split_once('+').unwrap_or((resources, ""));
            let mut launch = Self::launch(task, agent, resources);
            launch.user = Box::leak(user.to_string().into_boxed_str());
            if !executor.is_empty() {
                launch.kind = Kind::Executor;
                launch.executor = Some(Executor {
                    id: Box::leak(executor.to_string().into_boxed_str()),
                    resources: wire("cpus:0.1;mem:32"),
                    user: "",
                    grace_us: None,
                    body: Body::NONE,
                });
            }
            launches.push(launch);
        }
        flush(&mut launches, &mut operations);
        let operations = roomy().seq::<Operation<'static>>(operations).unwrap();
        let offers = scratch().seq::<OfferId>(offers).unwrap();
        self.call(name, verb(Accept { offers, operations, refuse_us }))
    }

    fn operated(
        &mut self,
        agent: &str,
        framework: &str,
        state: &str,
        options: &[&str],
    ) -> Result<(), Refusal> {
        let framework =
            if framework == "-" { FrameworkId::NONE } else { self.peer(framework).framework };
        let mut operation = self.peer(agent).operation.clone();
        let (mut uuid, mut converted) = (None, Seq::EMPTY);
        for option in options {
            if let Some(sequence) = option.strip_prefix('#') {
                uuid = Some(sequence.parse().unwrap());
            } else if let Some(id) = option.strip_prefix("id=") {
                operation = id.to_string();
            } else {
                converted = wire(option);
            }
        }
        use OperationState::*;
        let states = [Finished, Failed, Error, Dropped];
        let state = states.into_iter().find(|one| format!("{one:?}").to_uppercase() == state);
        let operation =
            OperationRef { operation: &operation, agent: self.peer(agent).agent, provider: "" };
        let state = state.unwrap();
        let status = OperationStatus { operation, state, uuid, message: "", converted };
        self.agent_call(agent, AgentCall::OperationUpdate { framework, status })
    }

    fn status(
        &mut self,
        agent: &str,
        framework: &str,
        task: &str,
        state_name: &str,
        options: &[&str],
    ) -> Result<(), Refusal> {
        let framework = self.peer(framework).framework;
        let state = state(state_name);
        let mut detail = Detail::default();
        let mut uuid = None;
        for option in options {
            if let Some(sequence) = option.strip_prefix('#') {
                uuid = Some(sequence.parse().unwrap());
            } else if let Some(code) = option.strip_prefix("exit=") {
                detail.exit = Exit::Code(code.parse().unwrap());
            }
        }
        let status = Status {
            task,
            state,
            source: Source::Agent,
            agent: self.peer(agent).agent,
            uuid,
            wall_us: 1,
            detail: Some(detail),
        };
        self.agent_call(agent, AgentCall::Update { framework, latest: state, status })
    }
}

/// `reserve@id=cpus(~web):1`, `grow@id=disk%db(~web):64;disk(~web):8` and their likes; none for others.
fn operation_of(word: &str) -> Option<Operation<'static>> {
    let (what, text) = word.split_once('=')?;
    let (what, id) = what.split_once('@').unwrap_or((what, ""));
    let id: &'static str = Box::leak(id.to_string().into_boxed_str());
    let resources = || wire(text);
    let change = || Change { id, resources: resources() };
    Some(match what {
        "reserve" => Operation::Reserve(change()),
        "unreserve" => Operation::Unreserve(change()),
        "create" => Operation::Create(change()),
        "destroy" => Operation::Destroy(change()),
        // `move@id=cpus(~web):1>cpus(~db):1`
        "move" => {
            let (source, to) = text.split_once('>')?;
            Operation::Move { id, source: wire(source), resources: wire(to) }
        }
        "grow" => {
            let mut list = resources().iter();
            let (volume, addition) = (list.next().unwrap(), list.next().unwrap());
            Operation::Grow { id, volume, addition }
        }
        "shrink" => {
            let mut list = resources().iter();
            let (volume, by) = (list.next().unwrap(), list.next().unwrap());
            let Value::Scalar(subtract) = by.value else { panic!() };
            Operation::Shrink { id, volume, subtract }
        }
        _ => return None,
    })
}

/// Memory for as much as a head holds.
fn roomy() -> Scratch<'static> {
    Scratch::new(Box::leak(vec![0; HEAD_MAX].into_boxed_slice()))
}

/// Launches so far are one operation.
fn flush(launches: &mut Vec<Launch<'static>>, operations: &mut Vec<Operation<'static>>) {
    if !launches.is_empty() {
        let tasks = roomy().seq::<Launch<'static>>(std::mem::take(launches)).unwrap();
        operations.push(Operation::Launch { tasks });
    }
}

/// An offer by its name, though nobody was ever offered it.
fn made_up(offer: &str) -> OfferId {
    let (index, generation) = offer.trim_start_matches('O').split_once('.').unwrap();
    let generation = generation.parse::<u32>().unwrap() * 2 + 1;
    OfferId { epoch: 1, id: Id { index: index.parse().unwrap(), generation } }
}

/// `host/ip`, either of which may be empty.
fn machine_id(text: &str) -> MachineId<'static> {
    let text: &'static str = Box::leak(text.to_string().into_boxed_str());
    let (hostname, ip) = text.split_once('/').unwrap_or((text, ""));
    MachineId { hostname, ip }
}

/// `host/ip@start+duration`, in µs.
fn planned(text: &str) -> Planned<'static> {
    let (machine, window) = text.split_once('@').unwrap();
    let (start, duration) = window.split_once('+').unwrap_or((window, "0"));
    let (start_wall_us, duration_us) = (start.parse().unwrap(), duration.parse().unwrap());
    Planned { machine: machine_id(machine), window: Unavailability { start_wall_us, duration_us } }
}

fn described(role: &str, options: &[&str]) -> Subscribe<'static> {
    let mut subscribe = Rig::subscription(role);
    for option in options {
        if let Some(time) = option.strip_prefix("failover=") {
            subscribe.failover_us = micros(time);
        } else if let Some(user) = option.strip_prefix("user=") {
            subscribe.user = Box::leak(user.to_string().into_boxed_str());
        } else if let Some(name) = option.strip_prefix("name=") {
            subscribe.name = Box::leak(name.to_string().into_boxed_str());
        } else if let Some(principal) = option.strip_prefix("principal=") {
            subscribe.principal = Box::leak(principal.to_string().into_boxed_str());
        } else if *option == "owned" {
            subscribe.owned = Ownership::Master;
        } else if *option == "old" {
            subscribe.capabilities = 0;
        } else if *option == "refines" {
            subscribe.capabilities |= Capability::ReservationRefinement.bit();
        } else if *option == "shares" {
            subscribe.capabilities |= Capability::SharedResources.bit();
        } else if *option == "travels" {
            subscribe.capabilities |= Capability::RegionAware.bit();
        }
    }
    subscribe
}

pub fn quantities(text: &str) -> Seq<'static, Quantity<'static>> {
    let amounts: Vec<Quantity<'static>> = text
        .split(';')
        .map(|entry| {
            let (name, amount) = entry.split_once(':').unwrap();
            let name: &'static str = Box::leak(name.to_string().into_boxed_str());
            Quantity { name, amount: Amount::parse(amount).unwrap() }
        })
        .collect();
    scratch().seq::<Quantity<'static>>(amounts).unwrap()
}

pub fn state(name: &str) -> TaskState {
    use TaskState::*;
    [
        Starting,
        Running,
        Finished,
        Failed,
        Killed,
        Lost,
        Staging,
        Error,
        Killing,
        Dropped,
        Unreachable,
        Gone,
        GoneByOperator,
        Unknown,
    ]
    .into_iter()
    .find(|state| state.name() == format!("TASK_{name}"))
    .unwrap_or_else(|| panic!("no state {name}"))
}

pub fn micros(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
    let number: f64 = digits.parse().unwrap();
    let unit = match &text[digits.len()..] {
        "ms" => 1_000.0,
        "s" => 1_000_000.0,
        unit => panic!("no unit {unit}"),
    };
    (number * unit) as u64
}

/// An empty list of resources, for those who need none.
pub fn nothing() -> Seq<'static, Resource<'static>> {
    Seq::EMPTY
}

/// Amounts of resources; `-` = none.
fn amounts(text: &str) -> Seq<'static, Quantity<'static>> {
    if text == "-" { Seq::EMPTY } else { super::allocation::quantities(text) }
}
