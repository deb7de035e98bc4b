//! Plays a scenario to a master: each action as the calls that a framework, an agent or an operator
//! would send, and then ticks until nothing is due.

use std::collections::BTreeMap;

use mesita_core::Refusal;
use mesita_core::allocator;
use mesita_core::capacity::Capacity;
use mesita_core::master::{self, Input, Output};
use mesita_core::resources::Amount;
use mesita_core::wire::agent::AgentCall;
use mesita_core::wire::call::*;
use mesita_core::wire::hello::Role;
use mesita_core::wire::operator::OperatorVerb;
use mesita_core::wire::resource::{Attribute, AttributeValue};
use mesita_core::wire::{OfferId, Seq, task};

use crate::amounts::{entries, list};
use crate::books::{Books, Part};
use crate::leak;
use crate::patterns::{Patterns, split};
use crate::scenario::{
    Action, Agent, Constraint, Decline, Flags, Framework, Launch, Operate, Quota, Roles, Scenario,
};
use crate::support::allocation::quantities;
use crate::support::rig::{self, Rig};
use crate::support::text::scratch;

const OPERATOR: &str = "an operator";

/// What came of an action; or what the master would need to have for it.
type Acted = Result<Result<(), Refusal>, &'static str>;

pub struct Player {
    rig: Rig,
    pub books: Books,
    /// Frameworks as they subscribed last.
    frameworks: BTreeMap<String, Framework>,
    /// What agents registered with.
    agents: BTreeMap<String, String>,
    patterns: Patterns,
    tasks_ended: u32,
}

impl Player {
    /// A master with the flags of a scenario, and its agents.
    pub fn new(scenario: &Scenario) -> Result<Self, &'static str> {
        let flags = &scenario.flags;
        let mut rig = Rig::with(Capacity::edge(), config(flags)?, 1);
        rig.outputs = Some(vec![]);
        rig.open(OPERATOR, Role::Client, 0);
        let mut player = Self {
            rig,
            books: Books::default(),
            frameworks: BTreeMap::new(),
            agents: BTreeMap::new(),
            patterns: Patterns::default(),
            tasks_ended: 0,
        };
        player.set_flags(flags).unwrap();
        for agent in &scenario.agents {
            player.add_agent(agent).unwrap();
        }
        player.settle();
        Ok(player)
    }

    fn set_flags(&mut self, flags: &Flags) -> Result<(), Refusal> {
        for name in flags.fair_sharing_excluded_resource_names.iter().flat_map(|all| all.split(','))
        {
            self.rig.input(Input::LeaveOut { name })?;
        }
        if let Some(domain) = &flags.domain {
            let domain: serde_json::Value = serde_json::from_str(domain).unwrap();
            let name = domain["fault_domain"]["region"]["name"].as_str().unwrap();
            self.rig.input(Input::Region { name })?;
        }
        if let Some(hosts) = &flags.whitelist {
            self.whitelist(hosts)?;
        }
        Ok(())
    }

    /// What is due, until nothing is.
    pub fn settle(&mut self) {
        self.rig.settle();
        self.listen();
    }

    fn listen(&mut self) {
        for output in self.rig.outputs.replace(vec![]).unwrap_or_default() {
            self.books.hear(&postcard::from_bytes::<Output<'_>>(&output).unwrap());
        }
        self.rig.said.clear();
    }

    /// Does what an action says, and nothing that would be due then.
    pub fn act(&mut self, action: &Action) -> Acted {
        let acted = match action {
            Action::AddAgent(agent) => self.add_agent(agent),
            Action::RemoveAgent(agent) => self.remove_agent(agent),
            Action::RestartAgent(agent) => self.restart_agent(agent),
            Action::DeactivateAgent(agent) => self.rig.act(&["deactivate", OPERATOR, agent, "yes"]),
            Action::ReactivateAgent(agent) => self.rig.act(&["deactivate", OPERATOR, agent, "no"]),
            Action::Oversubscribe { agent, resources } => self.oversubscribe(agent, resources),
            Action::Whitelist(hosts) => self.whitelist(hosts),
            Action::Subscribe(framework) => self.subscribe(framework),
            Action::UpdateFramework(framework) => self.update_framework(framework),
            Action::RemoveFramework(framework) => self.remove_framework(framework),
            Action::Disconnect(framework) => self.rig.act(&["closes", framework]),
            Action::Reconnect(framework) => self.reconnect(framework),
            Action::Decline(decline) => self.decline(decline),
            Action::Launch(launch) => self.launch(launch),
            Action::Finish { framework, task } => self.finish(framework, task),
            Action::Suppress(Roles { framework, roles }) => {
                self.rig.call(framework, Verb::Suppress { roles: texts(roles) })
            }
            Action::Revive(Roles { framework, roles }) => {
                self.rig.call(framework, Verb::Revive { roles: texts(roles) })
            }
            Action::Weights(weights) => self.weigh(weights),
            Action::Quota(quota) => self.quota(quota),
            Action::Wait(seconds) => {
                self.rig.wait(micros(*seconds).unwrap());
                Ok(())
            }
            Action::Reserve(operate) => self.operate(operate, Operation::Reserve),
            Action::Unreserve(operate) => self.operate(operate, Operation::Unreserve),
            Action::Create(operate) => self.operate(operate, Operation::Create),
            Action::Destroy(operate) => self.operate(operate, Operation::Destroy),
            Action::OperatorReserve { agent, resources } => self.operator_reserve(agent, resources),
            Action::SetQuota(_) => return Err("SET_QUOTA"),
            Action::RemoveQuota(_) => return Err("REMOVE_QUOTA"),
        };
        self.listen();
        Ok(acted)
    }

    // ------------------------------------------------------------------ agents

    /// Registers; under its id if it had one.
    fn add_agent(&mut self, agent: &Agent) -> Result<(), Refusal> {
        let Agent { name, resources, attributes, region, zone } = agent;
        self.rig.open(name, Role::Agent, 0);
        let attributes = attributes.split(';').filter(|one| !one.is_empty()).map(attribute);
        let mut register = self.rig.registration(name, "cpus:1", 0);
        register.attributes = scratch().seq::<Attribute<'static>>(attributes).unwrap();
        register.resources = list(&entries(resources));
        (register.region, register.zone) = (leak(region), leak(zone));
        self.rig.agent_call(name, AgentCall::Register(register))?;
        self.agents.insert(name.clone(), resources.clone());
        self.patterns.agent(agent);
        self.listen();
        self.judge()
    }

    fn restart_agent(&mut self, agent: &Agent) -> Result<(), Refusal> {
        self.rig.act(&["closes", &agent.name])?;
        self.add_agent(agent)
    }

    fn remove_agent(&mut self, name: &str) -> Result<(), Refusal> {
        self.rig.act(&["leaves", name])?;
        *self.rig.peer(name) = rig::Peer::default();
        Ok(())
    }

    /// What it registered with is joined by what it has to spare.
    fn oversubscribe(&mut self, agent: &str, more: &str) -> Result<(), Refusal> {
        let resources = list(&entries(&format!("{};{more}", self.agents[agent])));
        let session = self.rig.peer(agent).session;
        self.rig.agent_call(agent, AgentCall::Totals { session, resources })
    }

    fn whitelist(&mut self, hosts: &[String]) -> Result<(), Refusal> {
        let hosts = Some(texts(hosts));
        self.rig.operate(OPERATOR, OperatorVerb::Whitelist { hosts, adds: false })
    }

    // ------------------------------------------------------------------ frameworks

    fn subscribe(&mut self, framework: &Framework) -> Result<(), Refusal> {
        let name = &framework.framework;
        self.rig.open(name, Role::Framework, 1);
        self.rig.call(name, Verb::Subscribe(described(framework)))?;
        self.constrain(framework)
    }

    fn reconnect(&mut self, framework: &str) -> Result<(), Refusal> {
        let framework = self.frameworks[framework].clone();
        self.subscribe(&framework)
    }

    fn update_framework(&mut self, framework: &Framework) -> Result<(), Refusal> {
        let name = &framework.framework;
        self.rig.call(name, Verb::UpdateFramework(described(framework)))?;
        self.constrain(framework)
    }

    /// Its agents end its tasks, as they are told, and say so; in Mesos nobody waits for that.
    fn remove_framework(&mut self, name: &str) -> Result<(), Refusal> {
        self.rig.call(name, Verb::Teardown)?;
        self.listen();
        let of = self.books.tasks.values().filter(|part| part.framework == name);
        let of: Vec<_> = of.map(|part| (part.agent.clone(), part.task.clone())).collect();
        for (agent, task) in of {
            self.end(&agent, name, &task, "KILLED")?;
        }
        *self.rig.peer(name) = rig::Peer::default();
        Ok(())
    }

    /// Constraints come with a subscription, and go with one that has none.
    fn constrain(&mut self, framework: &Framework) -> Result<(), Refusal> {
        let name = &framework.framework;
        let had = self.frameworks.insert(name.clone(), framework.clone());
        if !framework.constraints.is_empty() || had.is_some_and(|had| !had.constraints.is_empty()) {
            let roles =
                framework.constraints.iter().map(|(role, groups)| constraints(role, groups));
            let roles = scratch().seq::<Constraints<'static>>(roles.collect::<Vec<_>>()).unwrap();
            self.rig.call(name, Verb::Constrain { roles })?;
            self.patterns.framework(framework);
            self.listen();
            self.judge()?;
        }
        Ok(())
    }

    /// Tells the master what patterns say of agents, as whoever steps it does.
    fn judge(&mut self) -> Result<(), Refusal> {
        for (framework, verdicts) in self.patterns.verdicts(&self.books.agents) {
            let framework = self.rig.peer(&framework).framework;
            let verdicts = scratch().seq::<master::Judged<'static>>(verdicts).unwrap();
            self.rig.input(Input::Judged { framework, verdicts })?;
        }
        Ok(())
    }

    // ------------------------------------------------------------------ offers and tasks

    fn offers(
        &self,
        framework: &str,
        role: Option<&String>,
        agent: Option<&String>,
    ) -> Seq<'static, OfferId> {
        let wanted = |part: &Part| {
            part.framework == framework
                && role.is_none_or(|role| *role == part.role)
                && agent.is_none_or(|agent| *agent == part.agent)
        };
        let offers = self.books.offers.iter().filter(|(_, part)| wanted(part));
        let epoch = self.rig.epoch;
        let offers = offers.map(|(id, _)| OfferId { epoch, id: *id });
        scratch().seq::<OfferId>(offers.collect::<Vec<_>>()).unwrap()
    }

    fn decline(&mut self, decline: &Decline) -> Result<(), Refusal> {
        let Decline { framework, role, agent, refuse } = decline;
        let offers = self.offers(framework, role.as_ref(), agent.as_ref());
        let verb = Verb::Decline { offers, refuse_us: micros(*refuse) };
        self.rig.call(framework, verb)
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), Refusal> {
        let Launch { framework, role, agent, task, resources, refuse } = launch;
        let offers = self.offers(framework, role.as_ref(), Some(agent));
        let mut task = Rig::launch(task, self.rig.peer(agent).agent, "cpus:1");
        task.resources = list(&entries(resources));
        let tasks = scratch().seq::<task::Launch<'static>>([task]).unwrap();
        self.accept(framework, offers, Operation::Launch { tasks }, *refuse)
    }

    fn operate(
        &mut self,
        operate: &Operate,
        operation: fn(Change<'static>) -> Operation<'static>,
    ) -> Result<(), Refusal> {
        let Operate { framework, role, agent, resources, refuse } = operate;
        let offers = self.offers(framework, role.as_ref(), Some(agent));
        self.accept(framework, offers, operation(change(resources)), *refuse)
    }

    fn accept(
        &mut self,
        framework: &str,
        offers: Seq<'static, OfferId>,
        operation: Operation<'static>,
        refuse: f64,
    ) -> Result<(), Refusal> {
        let operations = scratch().seq::<Operation<'static>>([operation]).unwrap();
        let refuse_us = micros(refuse);
        self.rig.call(framework, Verb::Accept(Accept { offers, operations, refuse_us }))
    }

    fn finish(&mut self, framework: &str, task: &str) -> Result<(), Refusal> {
        let is = |part: &&Part| part.framework == framework && part.task == task;
        let agent = self.books.tasks.values().find(is).map(|part| part.agent.clone()).unwrap();
        self.end(&agent, framework, task, "FINISHED")?;
        let sequence = format!("#{}", self.tasks_ended);
        self.rig.act(&["ack", framework, task, &agent, &sequence])
    }

    fn end(
        &mut self,
        agent: &str,
        framework: &str,
        task: &str,
        state: &str,
    ) -> Result<(), Refusal> {
        self.tasks_ended += 1;
        let sequence = format!("#{}", self.tasks_ended);
        self.rig.act(&["status", agent, framework, task, state, &sequence])
    }

    // ------------------------------------------------------------------ operators

    fn weigh(&mut self, weights: &BTreeMap<String, f64>) -> Result<(), Refusal> {
        for (role, weight) in weights {
            // A weight that is none at all is no number of thousandths: 0 stands for it.
            let weight = (weight * 1_000.0).round().max(0.0) as u32;
            self.rig.operate(OPERATOR, OperatorVerb::SetWeight { role, weight })?;
        }
        Ok(())
    }

    /// Its agent has it on disk at once.
    fn operator_reserve(&mut self, agent: &str, resources: &str) -> Result<(), Refusal> {
        let operation = [Operation::Reserve(change(resources))];
        let operation = scratch().seq::<Operation<'static>>(operation).unwrap();
        let id = self.rig.peer(agent).agent;
        self.rig.operate(OPERATOR, OperatorVerb::Operate { agent: id, operation })?;
        self.rig.act(&["operated", agent, "-", "FINISHED"])
    }

    fn quota(&mut self, quota: &Quota) -> Result<(), Refusal> {
        let Quota { role, guarantees, limits, force } = quota;
        let (guarantees, limits) = (quantities(guarantees), quantities(limits));
        let verb = OperatorVerb::SetQuota { role, guarantees, limits, force: *force };
        self.rig.operate(OPERATOR, verb)
    }
}

/// Offers that never time out, and no pause before an offer is made again: as in Mesos.
fn config(flags: &Flags) -> Result<master::Config, &'static str> {
    let mut config = rig::config();
    config.offer_timeout_us = 0;
    config.allocator = allocator::Config { min_reoffer_us: 0, ..config.allocator };
    config.allocator.filter_gpus = flags.filter_gpu_resources.as_deref() != Some("false");
    let Some(least) = &flags.min_allocatable_resources else { return Ok(config) };
    if least.contains(';') {
        return Err("--min-allocatable-resources");
    }
    let of = |name: &str| {
        let mut alternatives = least.split('|').filter_map(|one| one.split_once(':'));
        let amount = alternatives.find(|(of, _)| *of == name).map(|(_, amount)| amount);
        amount.map_or(0, |amount| Amount::parse(amount).unwrap().milli())
    };
    (config.allocator.min_cpus_milli, config.allocator.min_mem_milli) = (of("cpus"), of("mem"));
    Ok(config)
}

fn change(resources: &str) -> Change<'static> {
    Change { id: "", resources: list(&entries(resources)) }
}

fn attribute(text: &str) -> Attribute<'static> {
    let (name, value) = text.split_once(':').unwrap();
    let value = Amount::parse(value)
        .map_or_else(|_| AttributeValue::Text(leak(value)), AttributeValue::Scalar);
    Attribute { name: leak(name), value }
}

fn described(framework: &Framework) -> Subscribe<'static> {
    let mut subscribe = Rig::subscription("*");
    subscribe.name = leak(&framework.framework);
    subscribe.roles = texts(&framework.roles);
    subscribe.suppressed = texts(&framework.suppressed);
    subscribe.failover_us = 1_000_000_000_000_000;
    let all = ["MULTI_ROLE", "RESERVATION_REFINEMENT"].map(str::to_string);
    let has =
        all.iter().filter(|one| !framework.lacks.contains(one)).chain(&framework.capabilities);
    subscribe.capabilities = has.fold(0, |bits, name| bits | capability(name).bit());
    let minimums = framework.minimum.iter().map(|(role, alternatives)| {
        let amounts = alternatives.iter().map(|text| Quantities { amounts: quantities(text) });
        let alternatives = scratch().seq::<Quantities<'static>>(amounts.collect::<Vec<_>>());
        Minimum { role: leak(role), alternatives: alternatives.unwrap() }
    });
    subscribe.minimums = scratch().seq::<Minimum<'static>>(minimums.collect::<Vec<_>>()).unwrap();
    subscribe
}

fn capability(name: &str) -> Capability {
    match name {
        "MULTI_ROLE" => Capability::MultiRole,
        "RESERVATION_REFINEMENT" => Capability::ReservationRefinement,
        "GPU_RESOURCES" => Capability::GpuResources,
        "SHARED_RESOURCES" => Capability::SharedResources,
        "REVOCABLE_RESOURCES" => Capability::RevocableResources,
        "REGION_AWARE" => Capability::RegionAware,
        _ => panic!("no scenario has the capability {name}"),
    }
}

fn constraints(role: &str, groups: &[Vec<Constraint>]) -> Constraints<'static> {
    let groups = groups.iter().map(|all| {
        let all = all.iter().map(|one| split(one)).collect::<Vec<_>>();
        ConstraintGroup {
            all: scratch().seq::<mesita_core::wire::call::Constraint<'static>>(all).unwrap(),
        }
    });
    let groups = scratch().seq::<ConstraintGroup<'static>>(groups.collect::<Vec<_>>()).unwrap();
    Constraints { role: leak(role), groups }
}

fn texts(list: &[String]) -> Seq<'static, &'static str> {
    scratch().seq::<&'static str>(list.iter().map(|text| leak(text)).collect::<Vec<_>>()).unwrap()
}

/// Seconds in µs; of what is no time, none: it stands for the default.
fn micros(seconds: f64) -> Option<u64> {
    (seconds >= 0.0).then_some((seconds * 1e6) as u64)
}
