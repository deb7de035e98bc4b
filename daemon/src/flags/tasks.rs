//! Flags of who runs tasks and looks at them.

use std::path::PathBuf;

use clap::Args;

use super::restart::RestartRule;
use super::text::Duration;
use super::tls::Trusted;
use crate::tls::Trust;

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
    /// Speak with masters of other machines in the clear, too: who is on the way may read and change all
    #[arg(long, env = "MESITA_INSECURE")]
    pub(crate) insecure: bool,
}

impl Where {
    /// How far masters are trusted.
    pub(crate) fn trust(&self) -> Trust<'_> {
        Trust { insecure: self.insecure, ..self.trusted.trust() }
    }
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
    /// What tasks use of processors, memory, disk and network, as their agents say
    #[arg(long, conflicts_with_all = ["agents", "frameworks"])]
    pub(crate) usage: bool,
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
