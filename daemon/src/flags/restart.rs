//! Flags of a restart rule.

use clap::Args;
use mesita_core::wire::task::Restart;

use crate::v1::restarts;

/// When the agent starts a task again by itself: the words of labels.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Restarts")]
pub(crate) struct RestartRule {
    /// Have its agent start it again when it ends, also after a reboot: never, on-failure, always
    #[arg(long, value_name = "RULE", value_parser = rule_value("restart"))]
    pub(crate) restart: Option<String>,
    /// While no master answers: exclusive waits for one, availability may run twice
    #[arg(long, value_name = "WORD", requires = "restart", value_parser = rule_value("copies"))]
    pub(crate) restart_copies: Option<String>,
    /// After a reboot of unknown length, with availability: hold, start
    #[arg(long, value_name = "WORD", requires = "restart", value_parser = rule_value("unknown"))]
    pub(crate) restart_unknown: Option<String>,
    /// Which copy stays when two of one id meet: keep-replacement, keep-original, longest-running
    #[arg(long, value_name = "WORD", value_parser = rule_value("reconcile"))]
    pub(crate) reconcile: Option<String>,
    /// Have it stop when no master has answered for so long
    #[arg(long, value_name = "DURATION", value_parser = rule_value("stop-after"))]
    pub(crate) stop_after: Option<String>,
    /// It may be taken for lost after so long
    #[arg(long, value_name = "DURATION", value_parser = rule_value("lost-after"))]
    pub(crate) lost_after: Option<String>,
}

impl RestartRule {
    /// The rule that they say together.
    pub(crate) fn rule(&self) -> Restart {
        let mut restart = Default::default();
        let all = [
            ("restart", &self.restart),
            ("copies", &self.restart_copies),
            ("unknown", &self.restart_unknown),
            ("reconcile", &self.reconcile),
            ("stop-after", &self.stop_after),
            ("lost-after", &self.lost_after),
        ];
        for (key, value) in all {
            // Each was read before.
            let _ = value.iter().try_for_each(|value| restarts::set(&mut restart, key, value));
        }
        restart
    }
}

fn rule_value(key: &'static str) -> impl Fn(&str) -> Result<String, String> + Clone {
    move |value| {
        restarts::set(&mut Default::default(), key, value)?;
        Ok(value.to_owned())
    }
}
