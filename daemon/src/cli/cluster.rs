//! The daemons of a cluster, built from flags: a master, an agent, alone or in one process.

use std::rc::Rc;

use mesita_core::agent as core_agent;
use mesita_core::allocator;
use mesita_core::capacity::Capacity;
use mesita_core::master::{self as core_master, Input};
use mesita_core::registry::body::Shape;
use mesita_core::wire::Fence;
use mesita_core::wire::gossip::Table;
use mesita_core::wire::task::Kind;

use super::{FAILED, Failure, USAGE};
use crate::access::{Access, Credential, ForTasks};
use crate::agent::docker::Rooms;
use crate::agent::{self, AgentNode, Life, Prepared, Ready};
use crate::audit;
use crate::conn::listen::Door;
use crate::disk_thread::{Store, ToDisk};
use crate::flags::{Common, Decisions, Holds};
use crate::io_thread::Tasks;
use crate::master::{self, MasterNode, whitelist};
use crate::port::Port;
use crate::random;
use crate::seats::Blueprint;
use crate::set::charter::Sources;
use crate::set::standing::Standing;
use crate::tls::Pin;

/// A master that is ready to start.
pub(crate) struct MasterPlan {
    pub(crate) blueprint: Blueprint,
    pub(crate) body_bytes: u64,
    in_memory: bool,
    /// Agents, frameworks and roles that fit.
    rows: [u32; 3],
    weights: Vec<(String, u32)>,
    excluded: Vec<String>,
    options: master::Options,
}

/// Where what a master must not forget is.
pub(crate) enum Home {
    /// In memory: the cluster ends with this process.
    Memory,
    /// In the registry of a cluster whose T is this, in µs.
    Registry(Rc<Standing>, u32),
}

/// Plans a master.
pub(crate) fn plan_master(
    home: Home,
    decisions: &Decisions,
    common: &Common,
) -> Result<MasterPlan, Failure> {
    let capacity = common.master_capacity();
    let recovery = &decisions.recovery;
    let config = core_master::Config {
        seed: common.seed(),
        timing_us: match home {
            Home::Registry(_, t_us) => t_us.into(),
            Home::Memory => decisions.timing.us(),
        },
        agent_timeout_us: decisions.agent_timeout_us().max(100_000),
        offer_timeout_us: decisions.offer_timeout.us,
        failover_min_us: decisions.min_failover_timeout.us,
        allocation_delay_us: decisions.allocation_delay.us,
        body_bytes_max: common.max_body_bytes.bytes,
        reregister_us: recovery.agent_reregister_timeout.us,
        removal_share_milli: recovery.recovery_agent_removal_limit.milli,
        removal_every_us: recovery.agent_removal_rate_limit.map_or(0, |rate| rate.every_us),
        offers_per_caller_max: decisions.max_offers_per_principal,
        recovery_share_milli: recovery.allocator_agent_recovery_factor.milli,
        recovery_timeout_us: recovery.allocator_recovery_timeout.us,
        allocator: allocator_config(decisions)?,
    };
    let standing = match &home {
        Home::Registry(standing, _) => Rc::clone(standing),
        Home::Memory => Rc::new(Standing::alone(None)),
    };
    let options = master::Options {
        agent_timeout_us: config.agent_timeout_us,
        stream_bytes_max: usize::try_from(common.max_stream_bytes.bytes).unwrap_or(usize::MAX),
        agent_bytes_max: all_bytes(common),
        conns_max: capacity.conns,
        callers_max: capacity.callers,
        hostname: None,
        region: String::new(),
        zone: String::new(),
        whitelist: decisions.whitelist.clone(),
        door: Rc::default(),
        insecure: false,
        access: Access::default(),
        flags: crate::flags::told(),
        audit: audit::Wanted::default(),
        charter: Sources::default(),
        standing,
    };
    let weights = decisions.weights.clone().unwrap_or_default().0;
    Ok(MasterPlan {
        blueprint: Blueprint::Master { capacity, config },
        body_bytes: common.max_body_bytes.bytes,
        in_memory: matches!(home, Home::Memory),
        rows: [capacity.agents, capacity.frameworks, capacity.roles],
        weights,
        excluded: decisions.fair_sharing_excluded_resource_names.clone(),
        options,
    })
}

/// Everything that is held at once, and what may wait for one connection.
fn all_bytes(common: &Common) -> usize {
    let bytes = common.max_body_bytes.bytes.saturating_add(common.max_stream_bytes.bytes);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn allocator_config(decisions: &Decisions) -> Result<allocator::Config, Failure> {
    use mesita_core::resources::text::{TextValue, resources};
    let bad = |why: String| Failure::new(USAGE, format!("--min-allocatable-resources: {why}"));
    let (mut cpus, mut mem) = (0, 0);
    for alternative in decisions.min_allocatable_resources.split('|') {
        let mut entries = resources(alternative);
        let entry = entries.next().transpose().map_err(|error| bad(error.to_string()))?;
        let read = entry.map(|entry| (entry.name, entry.value));
        match (read, entries.next()) {
            (None, _) => {}
            (Some(("cpus", TextValue::Scalar(amount))), None) => cpus = amount.milli(),
            (Some(("mem", TextValue::Scalar(amount))), None) => mem = amount.milli(),
            _ => {
                let message = format!("expected cpus:N|mem:N, not `{alternative}`");
                return Err(bad(message));
            }
        }
    }
    Ok(allocator::Config {
        role_sorter: decisions.role_sorter,
        framework_sorter: decisions.framework_sorter,
        min_reoffer_us: decisions.min_reoffer.us,
        min_cpus_milli: cpus,
        min_mem_milli: mem,
        filter_gpus: decisions.filter_gpu_resources,
    })
}

impl MasterPlan {
    /// The same, under a name.
    pub(crate) fn called(mut self, hostname: Option<&str>) -> Self {
        self.options.hostname = hostname.map(str::to_owned);
        self
    }

    /// The same, in a region and zone.
    pub(crate) fn placed(mut self, region: &str, zone: &str) -> Self {
        (self.options.region, self.options.zone) = (region.to_owned(), zone.to_owned());
        self
    }

    /// The same, for those alone who may use it.
    pub(crate) fn guarded(mut self, access: Access, door: Rc<Door>, insecure: bool) -> Self {
        (self.options.access, self.options.insecure) = (access, insecure);
        self.options.door = door;
        self
    }

    /// The same, for masters that join to be given this.
    pub(crate) fn giving(mut self, charter: Sources) -> Self {
        self.options.charter = charter;
        self
    }

    /// Flags that it has, though its command line does not say so.
    pub(crate) fn also_told(mut self, flags: Vec<(&'static str, String)>) -> Self {
        let flags = flags.into_iter().map(|(name, value)| (name.to_owned(), value));
        self.options.flags.extend(flags);
        self
    }

    /// The same, with so much kept of who changed what.
    pub(crate) fn audited(mut self, wanted: audit::Wanted) -> Self {
        self.options.audit = wanted;
        self
    }

    /// What of it goes to a core thread, and what stays here.
    pub(crate) fn part(self) -> ((Blueprint, Store, u64), MasterRest) {
        let Self { in_memory, rows, weights, excluded, options, .. } = self;
        let rest = MasterRest { in_memory, rows, weights, excluded, options };
        ((self.blueprint, Store::Memory, self.body_bytes), rest)
    }
}

/// What a master's IO side starts with.
pub(crate) struct MasterRest {
    in_memory: bool,
    /// Agents, frameworks and roles that fit.
    rows: [u32; 3],
    weights: Vec<(String, u32)>,
    excluded: Vec<String>,
    options: master::Options,
}

impl MasterRest {
    /// Starts the IO side. It leads when its registry says so; without one, at once.
    pub(crate) fn start(self, port: Port, tasks: Tasks) -> Rc<MasterNode> {
        let node = MasterNode::new(port, tasks.clone(), self.options);
        tasks.go(whitelist::watch(Rc::clone(&node)));
        tasks.go(Rc::clone(&node).count_tokens());
        for (role, weight) in &self.weights {
            let shown = role.clone();
            let input = Input::Weight { role, weight: *weight };
            node.port.put_then(&input, Vec::new(), move |result| {
                if let Err(refusal) = result {
                    log::error!("--weights: `{shown}`: {refusal}");
                }
            });
        }
        for name in &self.excluded {
            let shown = name.clone();
            node.port.put_then(&Input::LeaveOut { name }, Vec::new(), move |result| {
                if let Err(refusal) = result {
                    let flag = "--fair-sharing-excluded-resource-names";
                    log::error!("{flag}: `{shown}`: {refusal}");
                }
            });
        }
        let region = node.options.region.clone();
        node.port.put_then(&Input::Region { name: &region }, Vec::new(), |result| {
            if let Err(refusal) = result {
                log::error!("--region: {refusal}");
            }
        });
        if self.in_memory {
            // As much as a registry of this size would have.
            let [agents, frameworks, roles] = self.rows;
            let shape = Shape::new(agents, frameworks, roles);
            node.store.borrow_mut().begin(1, shape.slots(Table::Store));
            // Zero would mean that the cluster has no id.
            let cluster = random::number().max(1);
            node.port.put(&Input::Leads { cluster, fence: Fence { epoch: 1, ..Fence::default() } });
        }
        node
    }
}

/// An agent that is ready to start.
pub(crate) struct AgentPlan {
    pub(crate) seat: (Blueprint, Store, u64),
    ready: Ready,
    options: agent::Options,
}

/// Plans an agent out of what was prepared before the first thread.
pub(crate) fn plan_agent(
    prepared: Prepared,
    holds: &Holds,
    common: &Common,
    address: String,
    backoff_us: u64,
    life: Life,
) -> AgentPlan {
    let capacity: Capacity = common.agent_capacity();
    let groups = Kind::Group { group: 0 }.bit() | Kind::Given { group: 0 }.bit();
    let task_kinds = Kind::Command.bit() | Kind::Executor.bit() | groups;
    let config = core_agent::Config {
        seed: common.seed(),
        task_kinds,
        switch_user: holds.switch_user,
        body_bytes_max: common.max_body_bytes.bytes,
        registration_us: holds.executor_registration_timeout.us,
        reregistration_us: holds.executor_reregistration_timeout.us,
    };
    let options = agent::Options {
        stream_bytes_max: usize::try_from(common.max_stream_bytes.bytes).unwrap_or(usize::MAX),
        master_bytes_max: all_bytes(common),
        conns_max: capacity.conns,
        backoff_us,
        keeping: agent::garbage::Keeping {
            delay_us: holds.gc_delay.us,
            headroom_milli: holds.gc_disk_headroom.milli,
            watch_us: holds.disk_watch_interval.us,
        },
        hands: holds.hands,
        inner_max: holds.inner_containers_max,
        log_bytes_max: holds.task_log_max.bytes,
        fetch: agent::fetch::Options {
            bytes_max: holds.fetch.fetcher_max_size.bytes,
            timeout_us: holds.fetch.fetcher_timeout.us,
            stall_us: holds.fetch.fetcher_stall_timeout.us,
            cache_bytes_max: holds.fetch.fetcher_cache_size.bytes,
            ca_file: holds.fetch.fetcher_ca_file.clone(),
            hadoop_home: holds.fetch.hadoop_home.clone(),
            webhdfs: holds.fetch.fetcher_webhdfs,
        },
        docker_room: Rooms {
            pids: holds.task_pids_max,
            capped: holds.cgroups_enable_cfs,
            total: prepared.total_mem_bytes,
            io: holds.walls.task_io(),
        },
        devices: holds.devices.clone(),
        spare: holds.spare.clone(),
        switch_user: holds.switch_user,
        address,
        region: holds.region.clone(),
        zone: holds.zone.clone(),
        tasks_max: capacity.tasks,
        task_kinds,
        joining: None,
        insecure: false,
        access: Access::default(),
        audit: audit::Wanted::default(),
        credential: None,
        for_tasks: ForTasks::default(),
        flags: crate::flags::told(),
        life,
    };
    let (store, ready) = Ready::part(prepared, life);
    let blueprint = Blueprint::Agent { capacity, config };
    AgentPlan { seat: (blueprint, store, common.max_body_bytes.bytes), ready, options }
}

impl AgentPlan {
    /// The same, for those alone who may use it, with what it shows its master, and its tasks.
    pub(crate) fn guarded(
        mut self,
        access: Access,
        credential: Option<Rc<Credential>>,
        for_tasks: ForTasks,
        insecure: bool,
    ) -> Self {
        (self.options.access, self.options.credential) = (access, credential);
        (self.options.for_tasks, self.options.insecure) = (for_tasks, insecure);
        self
    }

    /// The same, with so much kept of who changed what.
    pub(crate) fn audited(mut self, wanted: audit::Wanted) -> Self {
        self.options.audit = wanted;
        self
    }

    /// The same, with the key by which it knows the masters once it has joined.
    pub(crate) fn joining(mut self, pin: Option<Pin>) -> Self {
        self.options.joining = pin;
        self
    }

    /// What of it goes to a core thread, and what stays here.
    pub(crate) fn part(self) -> ((Blueprint, Store, u64), AgentRest) {
        (self.seat, AgentRest { ready: self.ready, options: self.options })
    }
}

/// What an agent's IO side starts with.
pub(crate) struct AgentRest {
    ready: Ready,
    options: agent::Options,
}

impl AgentRest {
    /// Starts the IO side.
    pub(crate) fn start(
        self,
        port: Port,
        tasks: Tasks,
        to_disk: Rc<ToDisk>,
    ) -> Result<Rc<AgentNode>, Failure> {
        let node = AgentNode::start(self.ready, port, tasks, to_disk, self.options);
        node.map_err(|error| Failure::new(FAILED, error.to_string()))
    }
}
