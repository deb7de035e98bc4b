//! Flags of credentials and rights.

use std::path::PathBuf;

use clap::Args;

use super::text::Size;
use crate::access::{Asks, Wanted};
use crate::audit;

/// Who may use a master.
#[derive(Clone, Debug, Args)]
pub(crate) struct OfMaster {
    /// File of principals and their secrets, which only its owner reads: {"credentials":
    /// [{"principal": "web", "secret": "...", "roles": ["web"]}]}; with users, operate and agent as of
    /// `mesita principal add`. SIGHUP has it read again
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    /// Whoever reads, over HTTP or by mesita, must show a credential
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) authenticate_http_readonly: bool,
    /// Whoever operates the cluster must show a credential
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) authenticate_http_readwrite: bool,
    /// Frameworks must show a credential
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) authenticate_http_frameworks: bool,
    /// The same: in Mesos it is about frameworks that speak no HTTP
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", require_equals = true,
          hide_short_help = true)]
    pub(crate) authenticate_frameworks: bool,
    /// Agents must show a credential
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) authenticate_agents: bool,
    /// File of rules of who may do what, or the rules themselves, in Mesos' JSON. SIGHUP has the file read
    /// again
    #[arg(long, value_name = "FILE|JSON")]
    pub(crate) acls: Option<String>,
    /// File of how many calls a second the frameworks of a principal may make, or that itself, in
    /// Mesos' JSON. SIGHUP has the file read again
    #[arg(long, value_name = "FILE|JSON")]
    pub(crate) rate_limits: Option<String>,
    /// Changes that `mesita audit` tells who asked for, the newest
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    pub(crate) audit_max: usize,
    /// File that they are appended to, a line of JSON for each
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// Bytes of it; the older half is in FILE.1, and then goes
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    pub(crate) audit_log_max: Size,
}

impl OfMaster {
    /// What is kept of who changed what.
    pub(crate) fn audited(&self) -> audit::Wanted {
        audit::Wanted {
            lines_max: self.audit_max,
            path: self.audit_log.clone(),
            bytes_max: self.audit_log_max.bytes,
        }
    }

    /// What is wanted.
    pub(crate) fn wanted(&self) -> Wanted {
        let asks = Asks {
            readonly: self.authenticate_http_readonly,
            readwrite: self.authenticate_http_readwrite,
            frameworks: self.authenticate_http_frameworks || self.authenticate_frameworks,
            agents: self.authenticate_agents,
            ..Asks::default()
        };
        let (acls, rates) = (self.acls.clone(), self.rate_limits.clone());
        Wanted { credentials: self.credentials.clone(), acls, rates, asks }
    }
}

/// Who may use an agent, and who it is itself.
#[derive(Clone, Debug, Args)]
pub(crate) struct OfAgent {
    /// File with the principal and secret that the agent shows its master: {"principal": "agents",
    /// "secret": "..."}
    #[arg(long, value_name = "FILE")]
    pub(crate) credential: Option<PathBuf>,
    /// File with the principal and secret that every task finds in its environment, with the masters'
    /// addresses, for tasks that are schedulers: whoever runs a task has it then
    #[arg(long, value_name = "FILE")]
    pub(crate) task_credential: Option<PathBuf>,
    /// File of principals and secrets of those who use the agent's own port, as --credentials of the
    /// master
    #[arg(long, value_name = "FILE", alias = "credentials")]
    pub(crate) http_credentials: Option<PathBuf>,
    /// Whoever reads at the agent's own port must show a credential
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) authenticate_http_readonly: bool,
    /// Whoever operates the agent at its own port must show a credential
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) authenticate_http_readwrite: bool,
    /// Executors must show the token of their environment, also where the kernel tells which they
    /// are
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = false,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) authenticate_http_executors: bool,
    /// File of rules of who may do what here, or the rules themselves, in Mesos' JSON; also for who
    /// asks by way of the master. SIGHUP has the file read again
    #[arg(long, value_name = "FILE|JSON")]
    pub(crate) acls: Option<String>,
    /// File that changes are appended to which were asked for at the agent's own port, a line of JSON for
    /// each; the masters have those that came by way of them
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// Bytes of it; the older half is in FILE.1, and then goes
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    pub(crate) audit_log_max: Size,
}

impl OfAgent {
    /// What is kept of who changed what. Nobody asks for it: what is written is enough.
    pub(crate) fn audited(&self) -> audit::Wanted {
        audit::Wanted {
            lines_max: 1,
            path: self.audit_log.clone(),
            bytes_max: self.audit_log_max.bytes,
        }
    }

    /// What is wanted.
    pub(crate) fn wanted(&self) -> Wanted {
        let asks = Asks {
            readonly: self.authenticate_http_readonly,
            readwrite: self.authenticate_http_readwrite,
            executors: self.authenticate_http_executors,
            ..Asks::default()
        };
        let (credentials, acls) = (self.http_credentials.clone(), self.acls.clone());
        Wanted { credentials, acls, rates: None, asks }
    }
}
