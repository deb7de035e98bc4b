//! Flags of daemons, and of what sets them up.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mesita_core::allocator::Policy;
use mesita_core::capacity::Capacity;

use super::amounts::{Rows, SizeClass, Timing, Weights, capacity, policy, weights};
use super::fetch::Fetch;
use super::text::{self, Duration, Rate, Share, Size};
use super::tls::{Shown, Trusted};
use super::{access, docker, images, spare, walls};

/// Flags of every daemon.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// File with flags as keys: `port = 5050`
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    /// What is logged to stderr: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) logging_level: log::LevelFilter,
    /// How many agents, frameworks and tasks fit: tables are taken at the start
    #[arg(long, value_enum, value_name = "CLASS", default_value_t = SizeClass::Edge)]
    pub(crate) size: SizeClass,
    /// Single tables in another size: `tasks=5000,offers=1000`
    #[arg(long, value_name = "TABLE=ROWS,...", value_parser = capacity)]
    pub(crate) capacity: Option<Rows>,
    /// Bytes of task descriptions and messages held at once
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub(crate) max_body_bytes: Size,
    /// Bytes that may wait for one connection; a reader slower than that is cut off
    #[arg(long, value_name = "SIZE", default_value = "4MiB")]
    pub(crate) max_stream_bytes: Size,
    /// Directory of a journal of all inputs, for `mesita replay`
    #[arg(long, value_name = "DIR")]
    pub(crate) journal: Option<PathBuf>,
    /// Bytes of the journal; its oldest part goes
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub(crate) journal_max: Size,
    /// Seed of everything that is drawn [default: drawn itself]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
}

/// Where a daemon listens.
#[derive(Clone, Debug, Args)]
pub(crate) struct Listen {
    /// Address to listen at; other machines reach only those that are not loopback, and only by TLS
    /// with credentials
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) ip: IpAddr,
    /// Listen where other machines reach it, without TLS or passwords: anyone may do anything but
    /// run tasks as root. An agent speaks with masters of other machines in the clear, too
    #[arg(long)]
    pub(crate) insecure: bool,
    #[command(flatten)]
    pub(crate) shown: Shown,
}

/// Flags about the decisions of a master.
#[derive(Clone, Debug, Args)]
pub(crate) struct Decisions {
    /// Unit of all waiting, T: fast 150 ms, default 500 ms, slow 1 s, wan 5 s; that of several
    /// masters is chosen when their set is made
    #[arg(long, value_enum, value_name = "CLASS", default_value_t = Timing::Default)]
    pub(crate) timing: Timing,
    /// An agent silent for so long is not offered any more
    #[arg(long, value_name = "DURATION", default_value = "10secs")]
    pub(crate) agent_timeout: Duration,
    /// Mesos' form of --agent-timeout: the time between two signs of life...
    #[arg(long, value_name = "DURATION", hide_short_help = true)]
    pub(crate) agent_ping_timeout: Option<Duration>,
    /// ...and how many of them may be missing
    #[arg(long, value_name = "NUMBER", requires = "agent_ping_timeout", hide_short_help = true)]
    pub(crate) max_agent_ping_timeouts: Option<u32>,
    /// An offer not answered for so long is taken back; 0 = never
    #[arg(long, value_name = "DURATION", default_value = "60secs")]
    pub(crate) offer_timeout: Duration,
    /// Offers that all frameworks of one principal, or of one user without a credential, may hold
    /// unanswered: more are not made until one of them was answered; 0 = any number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) max_offers_per_principal: u32,
    /// How long tasks of a framework that names no failover timeout live on without it
    #[arg(long, value_name = "DURATION", default_value = "60secs")]
    pub(crate) min_failover_timeout: Duration,
    /// Time from the first change to the round that offers it
    #[arg(long, value_name = "DURATION", default_value = "0ms")]
    pub(crate) allocation_delay: Duration,
    /// The same resources are not offered to the same framework again within this time
    #[arg(long, value_name = "DURATION", default_value = "100ms")]
    pub(crate) min_reoffer: Duration,
    /// The least that is offered: alternatives parted by `|`
    #[arg(long, value_name = "RESOURCES|...", default_value = "cpus:0.01|mem:1")]
    pub(crate) min_allocatable_resources: String,
    /// Weights of roles: `web=2,batch=0.5`; others have 1
    #[arg(long, value_name = "ROLE=WEIGHT,...", value_parser = weights)]
    pub(crate) weights: Option<Weights>,
    /// Resources that count in no share: `gpus,disk`
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) fair_sharing_excluded_resource_names: Vec<String>,
    /// What orders roles: drf, or random in proportion to weights
    #[arg(long, value_name = "POLICY", default_value = "drf", value_parser = policy)]
    pub(crate) role_sorter: Policy,
    /// What orders the frameworks of a role: drf or random
    #[arg(long, value_name = "POLICY", default_value = "drf", value_parser = policy)]
    pub(crate) framework_sorter: Policy,
    /// Offer agents with GPUs only to frameworks that say that they use GPUs
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true")]
    pub(crate) filter_gpu_resources: bool,
    /// File of the hosts whose agents may be offered, one a line, read again every 5 seconds
    #[arg(long, value_name = "FILE")]
    pub(crate) whitelist: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) recovery: Recovery,
}

/// What becomes of agents that the registry has and that do not come back.
#[derive(Clone, Debug, Args)]
pub(crate) struct Recovery {
    /// How long agents of the registry may take to come back to a new leader
    #[arg(long, value_name = "DURATION", default_value = "10mins")]
    pub(crate) agent_reregister_timeout: Duration,
    /// Of those that do not, no more than this, but one at the least, are given up without an operator;
    /// 0 = none
    #[arg(long, value_name = "PERCENT", default_value = "50%")]
    pub(crate) recovery_agent_removal_limit: Share,
    /// No more silent agents are given up than this: `1/10mins` [default: no limit]
    #[arg(long, value_name = "N/DURATION")]
    pub(crate) agent_removal_rate_limit: Option<Rate>,
    /// The share of agents that a new leader awaits before it offers anything, where roles have
    /// quota
    #[arg(long, value_name = "SHARE", default_value = "0.8")]
    pub(crate) allocator_agent_recovery_factor: Share,
    /// How long it awaits them
    #[arg(long, value_name = "DURATION", default_value = "10mins")]
    pub(crate) allocator_recovery_timeout: Duration,
}

/// `mesita master`
#[derive(Clone, Debug, Args)]
pub(crate) struct Master {
    #[command(flatten)]
    pub(crate) listen: Listen,
    /// Port for frames and HTTP alike
    #[arg(long, default_value_t = 5050)]
    pub(crate) port: u16,
    /// Directory of what must not be forgotten [default: /var/lib/mesita/master, or below the home
    /// directory of a user that is not root]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
    /// Name by which clients are shown this master and led to it, never looked up [default: its
    /// address]
    #[arg(long, value_name = "NAME", value_parser = text::hostname)]
    pub(crate) hostname: Option<String>,
    /// Region that the master is in: agents of others are for frameworks that know of regions
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) region: String,
    /// Zone that the master is in, for frameworks
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) zone: String,
    #[command(flatten)]
    pub(crate) set: Set,
    #[command(flatten)]
    pub(crate) access: access::OfMaster,
    #[command(flatten)]
    pub(crate) decisions: Decisions,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Flags of a master that is one of several.
#[derive(Clone, Debug, Args)]
pub(crate) struct Set {
    /// All masters of the cluster, this one among them, the same list for each; of 1, 2, 3, 5 or 7
    /// a majority decides [default: this is the only one]
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub(crate) masters: Vec<String>,
    /// Make a new cluster together with all others of --masters: once, on each of them
    #[arg(long, requires = "masters")]
    pub(crate) bootstrap: bool,
    /// Follow a set that is there, whose masters --masters names: a new one, which a token for masters
    /// lets in, or a file of it, or without one `mesita masters add` or `replace`; later it is as if
    /// this was not given. No variable stands for it: MESITA_JOIN is an agent's
    #[arg(long, value_name = "TOKEN|FILE", requires = "masters", conflicts_with = "bootstrap",
          num_args = 0..=1, default_missing_value = "true")]
    pub(crate) join: Option<String>,
    /// Vote and keep the registry, but never lead
    #[arg(long, requires = "masters")]
    pub(crate) witness: bool,
    /// The key of the authority that has signed --tls-cert-file, as PEM, which others cannot read:
    /// by it masters that join by a token are given certificates, and the key
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) tls_ca_key_file: Option<PathBuf>,
    /// File of 32 bytes that only the masters have, and their user reads; a second one is
    /// understood, too, while they are given another: it may be missing as long as it is gossip2.key
    /// beside the first
    #[arg(long, value_name = "FILE,...", value_delimiter = ',')]
    pub(crate) gossip_key_file: Vec<PathBuf>,
    /// Address by which others reach this master, as in --masters [default: that of --ip]
    #[arg(long, value_name = "HOST")]
    pub(crate) advertise_ip: Option<String>,
    /// Port by which others reach this master [default: that of --port]
    #[arg(long, value_name = "PORT")]
    pub(crate) advertise_port: Option<u16>,
}

/// What an agent has, and how it holds tasks.
#[derive(Clone, Debug, Args)]
pub(crate) struct Holds {
    /// What is offered [default: what the machine has]: `cpus:4;mem:4096;ports:[31000-32000]`
    #[arg(long, value_name = "RESOURCES")]
    pub(crate) resources: Option<String>,
    /// Devices that are offered as sets while they are plugged in, by path, name or link below /dev, or
    /// USB numbers: `serial:{ttyUSB0,0403:6001};camera:{video0}`
    #[arg(long, value_name = "RESOURCES")]
    pub(crate) devices: Option<String>,
    /// What frameworks choose by: `rack:a;kernel:6.1`
    #[arg(long, value_name = "ATTRIBUTES")]
    pub(crate) attributes: Option<String>,
    /// Name of this host, never looked up [default: the kernel's node name]
    #[arg(long, value_name = "NAME", value_parser = text::hostname)]
    pub(crate) hostname: Option<String>,
    /// Region that the agent is in, for frameworks
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) region: String,
    /// Zone that the agent is in, for frameworks
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) zone: String,
    /// Isolators, or `cgroups` or `all` [default: every one that privilege and kernel allow]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) isolation: Option<Vec<String>>,
    /// Directory of all agents' cgroups in each hierarchy
    #[arg(long, value_name = "NAME", default_value = "mesita")]
    pub(crate) cgroups_root: String,
    /// CPUs asked for are also the most a task gets
    #[arg(long)]
    pub(crate) cgroups_enable_cfs: bool,
    /// Limits of memory are of memory and swap together; else tasks have all swap that there is
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) cgroups_limit_swap: bool,
    /// No task is limited to less memory
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = text::some_size)]
    pub(crate) min_task_mem: Size,
    /// Processes and threads of a task that does not say
    #[arg(long, value_name = "NUMBER", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) task_pids_max: u32,
    #[command(flatten)]
    pub(crate) walls: walls::Walls,
    /// Run tasks as their users; else all as the agent's own
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) switch_user: bool,
    /// How long a custom executor may take from its start until it subscribes
    #[arg(long, value_name = "DURATION", default_value = "1mins")]
    pub(crate) executor_registration_timeout: Duration,
    /// The same from the start of the agent, for one that was there before it
    #[arg(long, value_name = "DURATION", default_value = "15secs")]
    pub(crate) executor_reregistration_timeout: Duration,
    /// The part of the disk that sandboxes of tasks that ended leave free: the fuller it is, the
    /// sooner they go
    #[arg(long, value_name = "SHARE", default_value = "10%")]
    pub(crate) gc_disk_headroom: Share,
    /// From one look at the disk to the next, while there are such sandboxes
    #[arg(long, value_name = "DURATION", default_value = "1mins")]
    pub(crate) disk_watch_interval: Duration,
    /// How long the sandbox of a task that ended is kept while the disk is empty
    #[arg(long, value_name = "DURATION", default_value = "1weeks")]
    pub(crate) gc_delay: Duration,
    /// The newest of what a task writes to stdout, and to stderr, that is kept; 0 = all of it
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub(crate) task_log_max: Size,
    /// Containers and sessions that the operator API may have started at once, those that have ended
    /// included, until they are removed
    #[arg(long, value_name = "NUMBER", default_value_t = 64)]
    pub(crate) inner_containers_max: usize,
    /// Blocking steps that are done at once for tasks: cgroups, sandboxes, logs
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    pub(crate) hands: usize,
    #[command(flatten)]
    pub(crate) fetch: Fetch,
    #[command(flatten)]
    pub(crate) docker: docker::Engine,
    #[command(flatten)]
    pub(crate) spare: spare::Spare,
    #[command(flatten)]
    pub(crate) images: images::Images,
}

/// `mesita agent`
#[derive(Clone, Debug, Args)]
pub(crate) struct Agent {
    /// Addresses of masters; by TLS where they are https://HOST:PORT
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', env = "MESITA_MASTER")]
    pub(crate) master: Vec<String>,
    #[command(flatten)]
    pub(crate) trusted: Trusted,
    /// The token by which it joins, or a file with it, once: `mesita token create` prints one. It
    /// says by which key the masters are known, and stands for a --credential
    #[arg(long, value_name = "TOKEN|FILE", env = "MESITA_JOIN")]
    pub(crate) join: Option<String>,
    #[command(flatten)]
    pub(crate) listen: Listen,
    /// Port for frames and HTTP alike
    #[arg(long, default_value_t = 5051)]
    pub(crate) port: u16,
    /// Directory of the agent's key, ledger and sandboxes [default: /var/lib/mesita/agent, or below
    /// the home directory of a user that is not root]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) holds: Holds,
    #[command(flatten)]
    pub(crate) access: access::OfAgent,
    /// The longest first pause before it tries a master again; doubled up to 16 times that
    #[arg(long, value_name = "DURATION", default_value = "1secs")]
    pub(crate) registration_backoff_factor: Duration,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// `mesita doctor`
#[derive(Clone, Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) agent: Agent,
    /// As lines of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mesita doctor master`
#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorMaster {
    #[command(flatten)]
    pub(crate) master: Master,
    /// As lines of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mesita install`
#[derive(Clone, Debug, Args)]
pub(crate) struct Install {
    /// What it is to be
    #[arg(value_enum)]
    pub(crate) daemon: Daemon,
    /// Flags of it, which are written to its file in /etc/mesita; without any the file stays as it is
    #[arg(last = true, value_name = "FLAGS")]
    pub(crate) flags: Vec<String>,
    /// Directory that will be the root of a machine: nothing is started or stopped
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// What begins services [default: the one that is there]
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) init: Option<Init>,
    /// Do not start it now
    #[arg(long)]
    pub(crate) no_start: bool,
    /// End it and its tasks, and remove all that was installed
    #[arg(long, conflicts_with_all = ["flags", "no_start"])]
    pub(crate) uninstall: bool,
    /// Remove its work directory, too: the registry of a master; key and volumes of an agent
    #[arg(long, requires = "uninstall")]
    pub(crate) purge: bool,
}

/// What can be a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Daemon {
    /// A master
    Master,
    /// An agent
    Agent,
}

impl Daemon {
    /// The subcommand.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Agent => "agent",
        }
    }
}

/// What begins services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Init {
    /// Units in /etc/systemd/system
    Systemd,
    /// Scripts in /etc/init.d
    Openrc,
}

/// `mesita dev`
#[derive(Clone, Debug, Args)]
pub(crate) struct Dev {
    /// Port of the master
    #[arg(long, default_value_t = 5050)]
    pub(crate) port: u16,
    /// How many agents it has
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) agents: u8,
    #[command(flatten)]
    pub(crate) holds: Holds,
    #[command(flatten)]
    pub(crate) decisions: Decisions,
    #[command(flatten)]
    pub(crate) common: Common,
}
impl Common {
    /// The sizes of a master's tables.
    pub(crate) fn master_capacity(&self) -> Capacity {
        let mut capacity = match self.size {
            SizeClass::Tiny => Capacity::tiny(),
            SizeClass::Edge => Capacity::edge(),
            SizeClass::Rack => Capacity::rack(),
            SizeClass::Large => Capacity::large(),
            SizeClass::Max => Capacity::max(),
        };
        self.capacity.iter().for_each(|rows| rows.apply(&mut capacity));
        capacity
    }

    /// The sizes of an agent's tables: one machine's part of a cluster of that size.
    pub(crate) fn agent_capacity(&self) -> Capacity {
        let tasks = match self.size {
            SizeClass::Tiny => 16,
            SizeClass::Edge => 256,
            SizeClass::Rack | SizeClass::Large | SizeClass::Max => 1_024,
        };
        let mut capacity = Capacity {
            tasks,
            executors: tasks / 2,
            updates: tasks * 4,
            names: tasks * 3,
            cells: tasks * 4,
            pieces: tasks * 6 + 64,
            spans: tasks * 2 + 64,
            idents: 128,
            layers: 128,
            ..self.master_capacity()
        };
        self.capacity.iter().for_each(|rows| rows.apply(&mut capacity));
        capacity
    }

    /// The seed: given, or drawn.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(crate::random::number)
    }
}

impl Decisions {
    /// A, in µs.
    pub(crate) fn agent_timeout_us(&self) -> u64 {
        match self.agent_ping_timeout {
            Some(ping) => {
                // Mesos: five may be missing.
                ping.us.saturating_mul(self.max_agent_ping_timeouts.unwrap_or(5).into())
            }
            None => self.agent_timeout.us,
        }
    }
}
