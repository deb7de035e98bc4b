//! Flags about a Docker engine.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::text::Duration;
use crate::agent::EngineOptions;

/// Who holds the containers of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Containerizer {
    /// The agent itself
    Mesos,
    /// A Docker engine, those of tasks whose container is of type DOCKER
    Docker,
}

/// What an operator chose about it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Engine {
    /// Who holds the containers of tasks
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "mesos")]
    pub(crate) containerizers: Vec<Containerizer>,
    /// Socket of the Docker engine
    #[arg(long, value_name = "PATH", default_value = "/var/run/docker.sock")]
    pub(crate) docker_socket: PathBuf,
    /// How long the Docker engine may take for a call
    #[arg(long, value_name = "DURATION", default_value = "1mins")]
    pub(crate) docker_timeout: Duration,
    /// Calls to the Docker engine at once; others wait
    #[arg(long, value_name = "NUMBER", default_value_t = 16)]
    pub(crate) docker_calls_max: usize,
    /// How long a Docker container that ended is kept
    #[arg(long, value_name = "DURATION", default_value = "6hrs")]
    pub(crate) docker_remove_delay: Duration,
    /// Whether Docker containers of this agent that no task is in are removed when it starts
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) docker_kill_orphans: bool,
}

impl Engine {
    /// A Docker engine is to hold containers.
    pub(crate) fn docker(&self) -> bool {
        self.containerizers.contains(&Containerizer::Docker)
    }

    /// The agent is to hold containers itself.
    pub(crate) fn mesos(&self) -> bool {
        self.containerizers.contains(&Containerizer::Mesos)
    }

    /// The same for whoever asks the engine.
    pub(crate) fn engine(&self) -> EngineOptions {
        EngineOptions {
            socket: self.docker_socket.clone(),
            timeout_us: self.docker_timeout.us,
            calls_max: self.docker_calls_max,
        }
    }
}
