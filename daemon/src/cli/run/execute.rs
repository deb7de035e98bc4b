//! Called as mesos-execute: its flags, and its words on stdout. Mesos: `cli/execute.cpp`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use serde_json::Value;

use super::voice::Voice;
use super::{Job, check, on_cluster, plain};
use crate::cli::{FAILED, Failure, USAGE};
use crate::command::standing_on;
use crate::flags::Where;
use crate::pb::mesos::v1::{CommandInfo, ContainerInfo, Environment, environment::Variable};
use crate::v1::docker;

/// Run a command on a cluster, as Mesos' mesos-execute does
#[derive(Debug, Parser)]
#[command(name = "mesos-execute", version)]
struct Flags {
    /// Address of a master: HOST:PORT
    #[arg(long, value_name = "HOST:PORT", env = "MESOS_MASTER")]
    master: String,
    /// Name of the command
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Command to run; may be left out where there is an image
    #[arg(long, value_name = "LINE", required_unless_present = "docker_image")]
    command: Option<String>,
    /// Whether --command is a line for the shell
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    shell: bool,
    /// Environment as JSON: {"NAME": "value"}
    #[arg(long, value_name = "JSON")]
    env: Option<String>,
    /// Resources of the command
    #[arg(long, value_name = "RESOURCES", default_value = "cpus:1;mem:128")]
    resources: String,
    /// Role to run in
    #[arg(long, value_name = "ROLE", default_value = "*")]
    role: String,
    /// Who holds the container of the command: `docker` for an image of --docker_image
    #[arg(long, value_name = "NAME", default_value = "mesos")]
    containerizer: String,
    /// Image of the command's container, or that it stands on
    #[arg(long, value_name = "IMAGE", alias = "docker_image")]
    docker_image: Option<String>,
    /// Principal to claim
    #[arg(long, value_name = "NAME", default_value = "")]
    principal: String,
    /// File with the principal and secret to show the master
    #[arg(long, value_name = "FILE", env = "MESITA_CREDENTIAL", hide_env = true)]
    credential: Option<PathBuf>,
    /// Speak with masters of other machines in the clear, too
    #[arg(long, env = "MESITA_INSECURE", hide_env = true)]
    insecure: bool,
    /// Accepted for Mesos' sake: every framework is checkpointed here
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          require_equals = true)]
    checkpoint: Option<bool>,
}

pub(crate) fn main(arguments: Vec<OsString>) -> Result<ExitCode, Failure> {
    crate::cli::log_warnings();
    // Mesos' flags are in snake case; ours in kebab case are taken as well.
    let command = Flags::command();
    let flags =
        match command.try_get_matches_from(arguments).and_then(|m| Flags::from_arg_matches(&m)) {
            Ok(flags) => flags,
            Err(error) => {
                let _ = error.print();
                let status = if error.use_stderr() { USAGE } else { 0 };
                return Ok(ExitCode::from(status));
            }
        };
    let environment = flags.env.as_deref().map(environment).transpose()?;
    let container = container(&flags)?;
    let by_engine = container.as_ref().is_some_and(docker::is_docker);
    // Without a command the image says what is run.
    let shell = flags.shell && flags.command.is_some();
    let argv = flags.command.clone().filter(|_| !shell && !by_engine);
    let arguments = argv.into_iter().collect();
    let command = CommandInfo {
        shell: Some(shell),
        value: flags.command.clone(),
        arguments,
        environment,
        ..CommandInfo::default()
    };
    let job = Job {
        name: flags.name,
        command,
        container,
        resources: plain(&flags.resources)?,
        role: flags.role,
        user: String::new(),
        principal: flags.principal,
        instances: 1,
        wait_us: None,
        grace_us: None,
        restart: Default::default(),
        failover_us: 0,
        detach: false,
        output: false,
    };
    check(&job)?;
    let address = flags.master.strip_prefix("http://").unwrap_or(&flags.master).to_owned();
    let status = {
        let at = Where {
            master: Some(address.clone()),
            credential: flags.credential,
            trusted: Default::default(),
            insecure: flags.insecure,
        };
        on_cluster(job, Voice::Mesos, &address, &at)?
    };
    // Mesos knows only two ends.
    let well = status == ExitCode::SUCCESS;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// What holds the command, as its flags say.
fn container(flags: &Flags) -> Result<Option<ContainerInfo>, Failure> {
    let usage = |why: &str| Err(Failure::new(USAGE, why));
    match (flags.containerizer.as_str(), flags.docker_image.as_deref()) {
        ("docker", Some(image)) => Ok(Some(docker::of_image(image))),
        ("docker", None) => usage("--containerizer=docker needs --docker_image"),
        ("mesos", None) => Ok(None),
        ("mesos", Some(image)) => Ok(Some(standing_on(&super::image(image)?))),
        _ => usage("--containerizer: expected mesos or docker"),
    }
}

fn environment(json: &str) -> Result<Environment, Failure> {
    let bad = |why: &str| Failure::new(USAGE, format!("--env: {why}"));
    let value: Value = serde_json::from_str(json).map_err(|error| bad(&error.to_string()))?;
    let object = value.as_object().ok_or_else(|| bad("expected {\"NAME\": \"value\"}"))?;
    let variables = object.iter().map(|(name, value)| {
        let value = value.as_str().ok_or_else(|| bad(&format!("`{name}` is not a text")))?;
        Ok(Variable { name: name.clone(), value: Some(value.to_owned()), ..Variable::default() })
    });
    let variables: Result<Vec<Variable>, Failure> = variables.collect();
    Ok(Environment { variables: variables? })
}
