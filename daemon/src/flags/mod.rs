//! Flags: one list for help, variables of the environment and configuration files.
//!
//! Flags carry Mesos' names in kebab case, with the snake case of Mesos accepted as well. A value
//! comes from the command line, else from `MESITA_<NAME>`, else from the file of `--config`, else
//! from the default that the help shows.

mod access;
pub(crate) mod docker;
mod fetch;
pub(crate) mod file;
pub(crate) mod images;
pub(crate) mod json;
mod restart;
pub(crate) mod spare;
pub(crate) mod text;
mod tls;
mod tokens;
pub(crate) mod walls;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use fetch::Fetch;
use mesita_core::allocator::Policy;
use mesita_core::capacity::Capacity;
use restart::RestartRule;
use text::{Duration, Rate, Share, Size};
use tls::{Shown, Trusted};
#[cfg(feature = "tls")]
pub(crate) use tokens::NewCluster;
pub(crate) use tokens::{NodeOf, Nodes, TokenCreate, TokenOf, Tokens};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "mesita",
    version,
    about = "Apache Mesos made small: many applications share one pool of machines",
    after_help = "The cluster's address is taken from --master, else MESITA_MASTER, else it is \
                  looked for on this host at ports 5050 and 5051.",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command on the cluster, or without one here, and wait for its end
    Run(Box<Run>),
    /// List tasks, agents or frameworks
    Ps(Ps),
    /// Print what a task wrote
    Logs(Logs),
    /// Run a command in the container of a task, for as long as this is connected
    Exec(Exec),
    /// Print what a task writes from now on, to where it writes it
    Attach(Attach),
    /// Print what changes on the cluster, as it does
    Events(Events),
    /// Show agents, frameworks and tasks as they are, until interrupted; once, if not on a terminal
    Top(Top),
    /// Tell why a framework does not get what agents have
    Explain(Explain),
    /// Set or list what roles are guaranteed, and may have at most
    #[command(subcommand)]
    Quota(Quota),
    /// Set or list the weights of roles
    #[command(subcommand)]
    Weights(WeightsOf),
    /// End all tasks of an agent, and offer nothing of it until it is reactivated
    Drain(Drain),
    /// Offer nothing new of an agent; its tasks run on
    Deactivate(OfAgent),
    /// Offer an agent again that was drained or deactivated
    Reactivate(OfAgent),
    /// Plan when machines will be absent, and take them down and up
    #[command(subcommand)]
    Maintenance(Maintenance),
    /// Run a whole cluster in this process, to develop against
    Dev(Box<Dev>),
    /// Make a closed cluster: its authority, its credentials, its first tokens
    #[cfg(feature = "tls")]
    Init(NewCluster),
    /// Run a master
    Master(Box<Master>),
    /// Run an agent
    Agent(Box<Agent>),
    /// Tell what an agent with these flags would find here, and what to change
    Doctor(Box<Doctor>),
    /// Make a master or an agent a service of this machine, that begins with it
    Install(Install),
    /// Small values that the masters keep: list, get, put, remove
    #[command(subcommand)]
    Store(Store),
    /// Tell who asked for which change of the cluster
    Audit(Ls),
    /// Who may use the cluster, beside those of the masters' --credentials: list, add, remove
    #[command(subcommand)]
    Principal(Principal),
    /// Who the masters of the cluster are: list, add, remove, replace
    #[command(subcommand)]
    Masters(Masters),
    /// Tokens by which nodes join the cluster: create, list, revoke
    #[command(subcommand)]
    Token(Tokens),
    /// Nodes that have joined the cluster: list, revoke
    #[command(subcommand)]
    Node(Nodes),
    /// What a master of a set has on its disk, while it does not run
    #[command(subcommand)]
    Registry(Registry),
    /// Repeat a journal and compare every decision
    Replay(Replay),
}

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
    /// run tasks as root
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
    #[arg(long, value_name = "NAME")]
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
    /// Follow a set that is there, whose masters --masters names: a new one, which `mesita masters
    /// add` or `replace` lets in; later it is as if this was not given
    #[arg(long, requires = "masters", conflicts_with = "bootstrap")]
    pub(crate) join: bool,
    /// Vote and keep the registry, but never lead
    #[arg(long, requires = "masters")]
    pub(crate) witness: bool,
    /// File of 32 bytes that only the masters have; a second one is understood, too, while they
    /// are given another
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
    #[arg(long, value_name = "NAME")]
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
    /// No task is limited to less memory
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    pub(crate) min_task_mem: Size,
    /// Processes and threads of a task that does not say
    #[arg(long, value_name = "NUMBER", default_value_t = 1024)]
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
    /// The token by which it joins, or a file with it, once: `mesita token create` prints one
    #[arg(long, value_name = "TOKEN|FILE", env = "MESITA_JOIN", conflicts_with_all = ["credential",
          "tls_ca_file", "tls_pin"])]
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

/// Where the cluster is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Where {
    /// Addresses of masters, or of agents, which know them; by TLS where they are https://HOST:PORT
    /// [default: looked for on this host, at ports 5050 and 5051]
    #[arg(long, value_name = "HOST:PORT,...", env = "MESITA_MASTER")]
    pub(crate) master: Option<String>,
    /// File with the principal and secret to show the master: {"principal": "...", "secret": "..."}
    #[arg(long, value_name = "FILE", env = "MESITA_CREDENTIAL")]
    pub(crate) credential: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) trusted: Trusted,
}

/// `mesita run`
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) at: Where,
    /// Name of the framework and its tasks [default: run- and a number]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// A line for the shell
    #[arg(long, value_name = "LINE", conflicts_with = "argv")]
    pub(crate) command: Option<String>,
    /// A program and its arguments, run without a shell
    #[arg(last = true, value_name = "ARGV", num_args = 1..)]
    pub(crate) argv: Vec<String>,
    /// Run it in a container of this image, by a Docker engine; without a command what the image says
    #[arg(long, value_name = "IMAGE")]
    pub(crate) docker_image: Option<String>,
    /// Image that it stands on: NAME or NAME:TAG of the agents' --docker-registry, or a path of theirs; what
    /// is not said to run, the image says
    #[arg(long, value_name = "NAME|PATH", conflicts_with = "docker_image")]
    pub(crate) image: Option<String>,
    /// What the task gets [default: cpus:1;mem:128, or less where this host has less]
    #[arg(long, value_name = "RESOURCES")]
    pub(crate) resources: Option<String>,
    /// Variables of its environment
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// User to run it as [default: who runs this]
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Role that it runs in
    #[arg(long, value_name = "ROLE", default_value = "*")]
    pub(crate) role: String,
    /// Principal that it claims
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) principal: String,
    /// How many of it run
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) instances: u32,
    /// Give up, with status 3, when no agent had room for so long; what runs may run on [default: for ever]
    #[arg(long, value_name = "DURATION")]
    pub(crate) wait: Option<Duration>,
    /// Time from SIGTERM to SIGKILL when it is killed
    #[arg(long, value_name = "DURATION", default_value = "3secs")]
    pub(crate) kill_grace: Duration,
    #[command(flatten)]
    pub(crate) restart: RestartRule,
    /// Hand it to the cluster, print its id and return
    #[arg(long)]
    pub(crate) detach: bool,
    /// Tell what happens as lines of JSON, on stderr
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mesita ps`
#[derive(Clone, Debug, Args)]
pub(crate) struct Ps {
    #[command(flatten)]
    pub(crate) at: Where,
    /// List agents
    #[arg(long, conflicts_with = "frameworks")]
    pub(crate) agents: bool,
    /// List frameworks
    #[arg(long)]
    pub(crate) frameworks: bool,
    /// List tasks that ended lately, too
    #[arg(long, conflicts_with_all = ["agents", "frameworks"])]
    pub(crate) all: bool,
    /// As lines of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mesita logs`
#[derive(Clone, Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) at: Where,
    /// The task
    pub(crate) task: String,
    /// Go on as it writes, until it ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Its standard error instead of its standard output
    #[arg(long)]
    pub(crate) stderr: bool,
    /// Only the last so many bytes
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tail: Option<u32>,
}

/// A task that runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct TaskAt {
    #[command(flatten)]
    pub(crate) at: Where,
    /// The task
    pub(crate) task: String,
    /// Id of its framework, where several have a task of this name
    #[arg(long, value_name = "ID")]
    pub(crate) framework: Option<String>,
}

/// `mesita exec`
#[derive(Clone, Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) at: TaskAt,
    /// Pass standard input on; else the command has an empty one
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal, as large as this one
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Run it as this user, who is the task's if nobody is named
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The command, a program and its arguments; its exit status becomes this one's
    #[arg(last = true, value_name = "ARGV", num_args = 1.., required = true)]
    pub(crate) argv: Vec<String>,
}

/// `mesita attach`
#[derive(Clone, Debug, Args)]
pub(crate) struct Attach {
    #[command(flatten)]
    pub(crate) at: TaskAt,
}

/// `mesita events`
#[derive(Clone, Debug, Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) at: Where,
    /// Only lines with this in them: a task, an agent, a state
    pub(crate) about: Option<String>,
    /// Every event as Mesos' API tells it, one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mesita top`
#[derive(Clone, Debug, Args)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) at: Where,
    /// Time between two pictures; nothing is drawn while nothing changes
    #[arg(long, value_name = "DURATION", default_value = "1secs")]
    pub(crate) interval: Duration,
}

/// `mesita explain`
#[derive(Clone, Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) at: Where,
    /// The framework, by its name or id
    pub(crate) framework: Option<String>,
    /// Only this agent, by its host or id
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Without a framework: what is to fit, `cpus:2;mem:64`
    #[arg(long, value_name = "RESOURCES", conflicts_with = "framework")]
    pub(crate) need: Option<String>,
    /// Only agents with these attributes, `rack:a;kind:big`
    #[arg(long, value_name = "ATTRIBUTES")]
    pub(crate) attributes: Option<String>,
    /// As lines of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mesita deactivate`, `mesita reactivate`
#[derive(Clone, Debug, Args)]
pub(crate) struct OfAgent {
    #[command(flatten)]
    pub(crate) at: Where,
    /// Its id, or its host's name if that is of one agent alone
    pub(crate) agent: String,
}

/// `mesita drain`
#[derive(Clone, Debug, Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    pub(crate) of: OfAgent,
    /// No task gets more time from SIGTERM to SIGKILL than this [default: what each task says]
    #[arg(long, value_name = "DURATION")]
    pub(crate) grace: Option<Duration>,
    /// Mark the agent gone then: it may never come back
    #[arg(long)]
    pub(crate) gone: bool,
}

/// `mesita maintenance`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Maintenance {
    /// List machines that will be absent
    Ls(Ls),
    /// Plan an absence: frameworks are asked to give back what they have there
    Plan(Plan),
    /// Forget that machines were to be absent
    Drop(Machines),
    /// Take machines down as planned: their agents are sent away
    Start(Machines),
    /// Let machines come back, and forget that they were absent
    Stop(Machines),
}

/// `mesita maintenance drop`, `start`, `stop`
#[derive(Clone, Debug, Args)]
pub(crate) struct Machines {
    #[command(flatten)]
    pub(crate) at: Where,
    /// Hosts, addresses, or both as HOST/ADDRESS
    #[arg(required = true, value_name = "MACHINE")]
    pub(crate) machines: Vec<String>,
}

/// `mesita maintenance plan`
#[derive(Clone, Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) of: Machines,
    /// When they will go [default: now]
    #[arg(long = "in", value_name = "DURATION")]
    pub(crate) after: Option<Duration>,
    /// For how long [default: for good]
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) duration: Option<Duration>,
}

/// `mesita store`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Store {
    /// List keys
    Ls(StoreLs),
    /// Print a value as it is
    Get(StoreKey),
    /// Store a value, and print its version
    Put(StorePut),
    /// Remove a value
    Rm(StoreRm),
}

/// Whose values.
#[derive(Clone, Debug, Args)]
pub(crate) struct StoreOf {
    #[command(flatten)]
    pub(crate) at: Where,
    /// Principal, or caller as `local:NAME`, whose they are, for operators [default: the caller]
    #[arg(long, value_name = "OWNER", default_value = "")]
    pub(crate) owner: String,
}

/// `mesita store ls`
#[derive(Clone, Debug, Args)]
pub(crate) struct StoreLs {
    #[command(flatten)]
    pub(crate) of: StoreOf,
    /// As lines of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mesita store get`
#[derive(Clone, Debug, Args)]
pub(crate) struct StoreKey {
    #[command(flatten)]
    pub(crate) of: StoreOf,
    /// The key
    pub(crate) key: String,
}

/// `mesita store rm`
#[derive(Clone, Debug, Args)]
pub(crate) struct StoreRm {
    #[command(flatten)]
    pub(crate) named: StoreKey,
    /// Only if it has this version
    #[arg(long, value_name = "VERSION")]
    pub(crate) if_version: Option<u64>,
}

/// `mesita store put`
#[derive(Clone, Debug, Args)]
pub(crate) struct StorePut {
    #[command(flatten)]
    pub(crate) named: StoreKey,
    /// The value [default: what comes on stdin], up to 4 KiB
    pub(crate) value: Option<String>,
    /// Only if it has this version; 0 = only if there is none
    #[arg(long, value_name = "VERSION")]
    pub(crate) if_version: Option<u64>,
}

/// `mesita masters`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Masters {
    /// List masters, and new ones that ask to follow
    Ls(Ls),
    /// Let a new master follow: it votes as soon as it has the registry
    Add(MasterAdd),
    /// Remove a master that is gone for good
    Remove(MasterRemove),
    /// Remove one, and let a new one follow in its place
    Replace(MasterReplace),
}

/// `mesita masters add`
#[derive(Clone, Debug, Args)]
pub(crate) struct MasterAdd {
    #[command(flatten)]
    pub(crate) at: Where,
    /// The new master's key as `mesita masters ls` shows it, or at least 16 digits of it; it was
    /// started with --join
    pub(crate) key: String,
}

/// `mesita masters remove`
#[derive(Clone, Debug, Args)]
pub(crate) struct MasterRemove {
    #[command(flatten)]
    pub(crate) at: Where,
    /// The id of the master that is gone
    #[arg(value_parser = clap::value_parser!(u8).range(1..=63))]
    pub(crate) id: u8,
    /// Also one that still answers
    #[arg(long)]
    pub(crate) force: bool,
}

/// `mesita masters replace`
#[derive(Clone, Debug, Args)]
pub(crate) struct MasterReplace {
    #[command(flatten)]
    pub(crate) of: MasterRemove,
    /// The new master's key
    pub(crate) key: String,
}

/// `mesita quota`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Quota {
    /// Set a role's quota; without amounts, take it back
    Set(QuotaSet),
    /// List quotas
    Ls(Ls),
}

/// `mesita quota set`
#[derive(Clone, Debug, Args)]
pub(crate) struct QuotaSet {
    #[command(flatten)]
    pub(crate) at: Where,
    /// The role
    pub(crate) role: String,
    /// Held free for it, `cpus:2;mem:1024`
    #[arg(long, value_name = "RESOURCES")]
    pub(crate) guarantee: Option<String>,
    /// The most that it may have; what is not named is not limited
    #[arg(long, value_name = "RESOURCES")]
    pub(crate) limit: Option<String>,
    /// Also when the role has more already, or the cluster less than all guarantees
    #[arg(long)]
    pub(crate) force: bool,
}

/// `mesita weights`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum WeightsOf {
    /// Set weights; 1 is what every role has
    Set(WeightsSet),
    /// List weights other than 1
    Ls(Ls),
}

/// `mesita weights set`
#[derive(Clone, Debug, Args)]
pub(crate) struct WeightsSet {
    #[command(flatten)]
    pub(crate) at: Where,
    /// Roles and their weights
    #[arg(value_name = "ROLE=WEIGHT,...", value_parser = weights)]
    pub(crate) weights: Weights,
}

/// `mesita quota ls`, `mesita weights ls`
#[derive(Clone, Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    pub(crate) at: Where,
    /// As lines of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mesita principal`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Principal {
    /// List them, without their secrets
    Ls(Ls),
    /// Draw a secret for a principal, have the masters keep it, and print both, once: the file that
    /// --credential takes
    Add(PrincipalAdd),
    /// Let it use the cluster no more, and cut its connections
    Rm(PrincipalRm),
}

/// `mesita principal add`
#[derive(Clone, Debug, Args)]
pub(crate) struct PrincipalAdd {
    /// Its name
    pub(crate) name: String,
    /// Roles that its frameworks may be offered resources of: `web,web/%`; `%` is all below
    #[arg(long, value_name = "ROLE,...", value_delimiter = ',')]
    pub(crate) role: Vec<String>,
    /// Users that its tasks may run as [default: every one but root]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) user: Vec<String>,
    /// It operates the cluster
    #[arg(long)]
    pub(crate) operate: bool,
    /// Its nodes may be agents
    #[arg(long)]
    pub(crate) agent: bool,
    /// Another secret and other terms for one that is there
    #[arg(long)]
    pub(crate) replace: bool,
    /// New file that the credential is written to, which only its owner reads [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) at: Where,
}

/// `mesita principal rm`
#[derive(Clone, Debug, Args)]
pub(crate) struct PrincipalRm {
    /// Its name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) at: Where,
}

/// `mesita registry`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Registry {
    /// Print it: who the masters are, what this one voted for, quota and weights
    Show(RegistryAt),
    /// Tell whether it is whole
    Verify(RegistryAt),
    /// Print it as a text that `import` takes
    Export(RegistryAt),
    /// Put an exported registry into the empty work directory of a single master
    Import(RegistryImport),
}

/// `mesita registry import`
#[derive(Clone, Debug, Args)]
pub(crate) struct RegistryImport {
    /// What `mesita registry export` printed
    pub(crate) file: PathBuf,
    /// Directory that will be given to the master [default: as for the master]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
    /// Begin another history of the cluster: agents obey none of the old masters any more
    #[arg(long)]
    pub(crate) new_generation: bool,
    /// A majority of the masters of a set is lost for good; what they decided after this export is
    /// lost, too
    #[arg(long, requires = "new_generation")]
    pub(crate) i_lost_quorum: bool,
}

/// `mesita registry show`, `mesita registry verify`
#[derive(Clone, Debug, Args)]
pub(crate) struct RegistryAt {
    /// Directory that was given to the master [default: as for the master]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
    /// As one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mesita replay`
#[derive(Clone, Debug, Args)]
pub(crate) struct Replay {
    /// Directory that was given to --journal
    pub(crate) journal: PathBuf,
    /// As one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Sizes of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SizeClass {
    /// 16 agents, 4 frameworks, 64 tasks
    Tiny,
    /// 256 agents, 32 frameworks, 2,048 tasks
    Edge,
    /// 1,000 agents, 200 frameworks, 10,000 tasks
    Rack,
    /// 10,000 agents, 1,000 frameworks, 100,000 tasks
    Large,
    /// 50,000 agents, 200 frameworks, 100,000 tasks
    Max,
}

/// Units of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Timing {
    /// 150 ms
    Fast,
    /// 500 ms
    Default,
    /// 1 s
    Slow,
    /// 5 s
    Wan,
}

impl Timing {
    /// T, in µs.
    pub(crate) const fn us(self) -> u64 {
        match self {
            Self::Fast => 150_000,
            Self::Default => 500_000,
            Self::Slow => 1_000_000,
            Self::Wan => 5_000_000,
        }
    }
}

/// Weights of roles, in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weights(pub(crate) Vec<(String, u32)>);

/// Tables whose size is set by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows(Vec<(String, u32)>);

impl Rows {
    fn apply(&self, capacity: &mut Capacity) {
        for (name, rows) in &self.0 {
            if let Some(field) = field(capacity, name) {
                *field = *rows;
            }
        }
    }
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

/// The size of a table by its name; none if there is no such table.
fn field<'c>(capacity: &'c mut Capacity, name: &str) -> Option<&'c mut u32> {
    Some(match name {
        "agents" => &mut capacity.agents,
        "frameworks" => &mut capacity.frameworks,
        "roles" => &mut capacity.roles,
        "clients" => &mut capacity.clients,
        "tasks" => &mut capacity.tasks,
        "executors" => &mut capacity.executors,
        "offers" => &mut capacity.offers,
        "machines" => &mut capacity.machines,
        "requests" => &mut capacity.requests,
        "filters" => &mut capacity.filters,
        "updates" => &mut capacity.updates,
        "operations" => &mut capacity.operations,
        "names" => &mut capacity.names,
        "cells" => &mut capacity.cells,
        "attributes" => &mut capacity.attributes,
        "idents" => &mut capacity.idents,
        "layers" => &mut capacity.layers,
        "pieces" => &mut capacity.pieces,
        "spans" => &mut capacity.spans,
        "conns" => &mut capacity.conns,
        "callers" => &mut capacity.callers,
        _ => return None,
    })
}

fn capacity(text: &str) -> Result<Rows, String> {
    let pairs = pairs(text)?.into_iter().map(|(name, rows)| {
        let known = field(&mut Capacity::tiny(), name).is_some();
        if !known {
            return Err(format!("no table is called `{name}`"));
        }
        let rows = rows.parse().ok().filter(|rows| (1..=10_000_000).contains(rows));
        let rows = rows.ok_or_else(|| format!("`{name}` needs 1 to 10,000,000 rows"))?;
        if name == "operations" && rows > mesita_core::capacity::OPERATIONS_MAX {
            return Err("`operations` needs 1 to 256 rows".to_owned());
        }
        Ok((name.to_owned(), rows))
    });
    pairs.collect::<Result<_, _>>().map(Rows)
}

fn policy(text: &str) -> Result<Policy, String> {
    let named = Policy::ALL.iter().find(|(_, name)| *name == text);
    named.map(|(policy, _)| *policy).ok_or_else(|| "expected drf or random".to_owned())
}

fn weights(text: &str) -> Result<Weights, String> {
    let pairs = pairs(text)?.into_iter().map(|(role, weight)| {
        let amount = mesita_core::resources::Amount::parse(weight).ok();
        let milli = amount.and_then(|amount| u32::try_from(amount.milli()).ok());
        let milli = milli.filter(|milli| (1..=mesita_core::limits::WEIGHT_MAX).contains(milli));
        let milli = milli.ok_or_else(|| format!("the weight of `{role}` is not 0.001 to 1000"))?;
        Ok((role.to_owned(), milli))
    });
    pairs.collect::<Result<_, _>>().map(Weights)
}

fn pairs(text: &str) -> Result<Vec<(&str, &str)>, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let parted = pairs.map(|pair| {
        let parts = pair.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        parts.ok_or_else(|| format!("expected name=value, not `{pair}`"))
    });
    parted.collect()
}

/// Reads the command line, with what the environment and the configuration file add. An error
/// prints itself, and is a usage error of status 2.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let command = command();
    let first = command.clone().try_get_matches_from(arguments.clone());
    let file = match &first {
        Ok(matches) => matches.subcommand().and_then(|(name, of)| {
            let file = of.try_get_one::<PathBuf>("config").ok().flatten();
            file.map(|file| (name.to_owned(), file.clone()))
        }),
        // A required flag may stand in the file.
        Err(_) => None,
    };
    let matches = match file {
        None => first?,
        Some((name, file)) => {
            file::with_file(command, &name, &file)?.try_get_matches_from(arguments)?
        }
    };
    // The command line is read once.
    let _ = TOLD.set(raw(&matches));
    Cli::from_arg_matches(&matches)
}

/// Every flag of the subcommand with its value, under Mesos' name, for who asks a daemon.
static TOLD: OnceLock<BTreeMap<String, String>> = OnceLock::new();

/// See [`TOLD`]; empty before the command line was read.
pub(crate) fn told() -> BTreeMap<String, String> {
    TOLD.get().cloned().unwrap_or_default()
}

fn raw(matches: &clap::ArgMatches) -> BTreeMap<String, String> {
    let Some((_, of)) = matches.subcommand() else { return BTreeMap::new() };
    // Groups of flags have ids, too: the names of their types.
    let flags = of.ids().filter(|id| id.as_str().starts_with(|c: char| c.is_ascii_lowercase()));
    // A token is nobody else's.
    let flags = flags.filter(|id| *id != "join");
    let flags = flags.filter_map(|id| {
        let values = of.try_get_raw(id.as_str()).ok().flatten()?;
        let values: Vec<String> =
            values.map(|value| value.to_string_lossy().into_owned()).collect();
        Some((id.as_str().to_owned(), values.join(",")))
    });
    flags.collect()
}

/// How values are written, below the flags that take them.
const UNITS: [(&str, &str); 4] = [
    (
        "DURATION",
        "a number and ns, us, ms, secs, mins, hrs, days or weeks, such as 5secs or 1.5hrs",
    ),
    ("SIZE", "a number and B, KiB, MiB, GiB or TiB; MiB if it has none"),
    (
        "RESOURCES",
        "name:amount;... with cpus in CPUs, mem and disk in MiB, ports:[first-last]; or Mesos' JSON",
    ),
    ("NAME=VALUE", "may be given more than once"),
];

/// The flags, each also in snake case and as a variable of the environment.
pub(crate) fn command() -> clap::Command {
    let names: Vec<String> =
        Cli::command().get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.into_iter().fold(Cli::command(), |command, name| {
        command.mut_subcommand(name, |sub| {
            let units = units_of(&sub);
            let sub = sub.mut_args(named_as_in_mesos).mut_args(with_its_default);
            sub.after_help(format!(
                "{units}Every flag can be a variable as well: --work-dir is MESITA_WORK_DIR."
            ))
        })
    })
}

/// What the values of a subcommand's flags are written in.
fn units_of(sub: &clap::Command) -> String {
    let takes = |name: &str| {
        let names = sub.get_arguments().filter_map(clap::Arg::get_value_names);
        names.flatten().any(|of| of.as_str().starts_with(name))
    };
    let units = UNITS.iter().filter(|(name, _)| takes(name));
    units.map(|(name, unit)| format!("{name}: {unit}.\n")).collect()
}

/// A flag whose help says what holds without it.
fn with_its_default(arg: clap::Arg) -> clap::Arg {
    let told = |help: Option<&clap::builder::StyledStr>| {
        help.is_some_and(|help| help.to_string().contains("[default"))
    };
    let shown = !arg.get_default_values().is_empty() && arg.get_action().takes_values();
    if arg.get_long().is_none() || shown || told(arg.get_help()) || told(arg.get_long_help()) {
        return arg;
    }
    let default = if arg.get_action().takes_values() { "none" } else { "off" };
    let with = |help: &clap::builder::StyledStr| format!("{help} [default: {default}]");
    let (short, long) = (arg.get_help().map(with), arg.get_long_help().map(with));
    let arg = if let Some(short) = short { arg.help(short) } else { arg };
    if let Some(long) = long { arg.long_help(long) } else { arg }
}

fn named_as_in_mesos(arg: clap::Arg) -> clap::Arg {
    let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
    let snake = long.replace('-', "_");
    let variable = format!("MESITA_{}", snake.to_uppercase());
    let arg = if arg.get_env().is_none() && long != "help" && long != "version" {
        arg.env(clap::builder::OsStr::from(variable))
    } else {
        arg
    };
    let arg = arg.hide_env(true);
    if snake == long { arg } else { arg.alias(snake) }
}
