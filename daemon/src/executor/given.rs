//! What an agent tells an executor by its environment.

use std::str::FromStr;

use crate::flags::text::Duration;

/// From losing the agent to giving up. Mesos: `--recovery_timeout`.
const RECOVERY: Duration = Duration { us: 900_000_000 };
/// At most between two attempts. Mesos: `--executor_reregistration_timeout`.
const BACKOFF: Duration = Duration { us: 2_000_000 };
/// From being shut down to being killed.
const GRACE: Duration = Duration { us: 5_000_000 };

/// What an executor is, and where its agent listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) endpoint: String,
    pub(super) framework: String,
    pub(super) executor: String,
    /// Shown to the agent, where there is one.
    pub(super) token: Option<String>,
    /// How long the agent may be away; none = not at all.
    pub(super) recovery_us: u64,
    pub(super) backoff_us: u64,
    pub(super) grace_us: u64,
}

impl Given {
    /// Reads variables; what is wrong with them otherwise.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let needed = |name: &str| variable(name).ok_or(format!("{name} is not set"));
        let duration = |name: &str, usual| match variable(name) {
            Some(text) => Duration::from_str(&text).map_err(|why| format!("{name}: {why}")),
            None => Ok(usual),
        };
        let recovery = duration("MESOS_RECOVERY_TIMEOUT", RECOVERY)?;
        let checkpoints = variable("MESOS_CHECKPOINT").as_deref() == Some("1");
        Ok(Self {
            endpoint: needed("MESOS_AGENT_ENDPOINT")?,
            framework: needed("MESOS_FRAMEWORK_ID")?,
            executor: needed("MESOS_EXECUTOR_ID")?,
            token: variable("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
            recovery_us: if checkpoints { recovery.us } else { 0 },
            backoff_us: duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", BACKOFF)?.us,
            grace_us: duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", GRACE)?.us,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Given, String> {
        let value = |name: &str| variables.iter().find(|(key, _)| *key == name);
        Given::of(|name| value(name).map(|(_, value)| (*value).to_owned()))
    }

    const NEEDED: [(&str, &str); 3] = [
        ("MESOS_AGENT_ENDPOINT", "127.0.0.1:5051"),
        ("MESOS_FRAMEWORK_ID", "f"),
        ("MESOS_EXECUTOR_ID", "e"),
    ];

    #[test]
    fn what_is_missing_is_named() {
        for (left_out, (name, _)) in NEEDED.iter().enumerate() {
            let mut variables = NEEDED.to_vec();
            variables.remove(left_out);
            assert_eq!(of(&variables), Err(format!("{name} is not set")));
        }
    }

    #[test]
    fn what_is_not_said_is_as_mesos_has_it() {
        let given = of(&NEEDED).unwrap();
        assert_eq!((given.recovery_us, given.backoff_us), (0, 2_000_000));
        let checkpoints = [&NEEDED[..], &[("MESOS_CHECKPOINT", "1")]].concat();
        assert_eq!(of(&checkpoints).unwrap().recovery_us, 900_000_000);
        let bad = [&NEEDED[..], &[("MESOS_RECOVERY_TIMEOUT", "soon")]].concat();
        assert!(of(&bad).unwrap_err().starts_with("MESOS_RECOVERY_TIMEOUT: expected a duration"));
    }
}
