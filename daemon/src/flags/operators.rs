//! Flags of who operates a cluster.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Where;
use super::amounts::{Weights, weights};
use super::text::{Duration, Size, some_size};

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

/// `mesita pull`
#[derive(Clone, Debug, Args)]
pub(crate) struct Pull {
    #[command(flatten)]
    pub(crate) at: Where,
    /// The image, as --docker-registry of the agents has it
    pub(crate) image: String,
    /// On which agents: all, or ids, hosts and attributes: `pi1,pi2`, `rack:r1;zone:a`, `all`
    #[arg(long, value_name = "EXPR")]
    pub(crate) agents: String,
    /// What comes to each of them in a second [default: as much as there is]
    #[arg(long, value_name = "SIZE", value_parser = some_size)]
    pub(crate) rate: Option<Size>,
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
