//! `mesita explain`

use std::process::ExitCode;

use mesita_core::wire::svc::Stream;
use serde_json::Value;

use super::ps::text;
use super::{Failure, USAGE, ask, print};
use crate::alarm;
use crate::flags::Explain;

pub(super) fn main(flags: &Explain) -> Result<ExitCode, Failure> {
    super::log_warnings();
    let framework = flags.framework.as_deref().unwrap_or_default();
    let need = flags.need.as_deref().unwrap_or_default();
    if framework.is_empty() && need.is_empty() {
        let message = "give a framework, or with --need what is to fit";
        return Err(Failure::new(USAGE, message));
    }
    let stream = Stream::Explain {
        framework,
        agent: flags.agent.as_deref().unwrap_or_default(),
        need,
        attributes: flags.attributes.as_deref().unwrap_or_default(),
    };
    let rows = alarm::block_on(ask::rows(&flags.at, stream))?;
    if flags.json {
        print(rows.iter().map(|row| format!("{row}\n")).collect());
    } else {
        let nothing = match flags.attributes {
            Some(_) => "no agent has these attributes\n",
            None => "no agent is known\n",
        };
        print(Some(told(&rows)).filter(|told| !told.is_empty()).unwrap_or(nothing.to_owned()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the rows say, by role.
fn told(rows: &[Value]) -> String {
    let mut told = String::new();
    let mut role = None;
    for row in rows {
        if row["role"].is_string() && role != Some(&row["role"]) {
            role = Some(&row["role"]);
            told += &format!("In role {}:\n", text(&row["role"]));
        }
        let says = text(&row["says"]);
        told += &match row["kind"].as_str() {
            Some("standing") => format!("  {says}\n"),
            _ => format!("  {}: {says}\n", text(&row["agent"])),
        };
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_said_is_said_by_role() {
        let rows = [
            json!({"kind": "standing", "role": "a", "says": "has nothing"}),
            json!({"kind": "agent", "role": "a", "agent": "pi1", "says": "nothing is free"}),
            json!({"kind": "agent", "role": "b", "agent": "pi1", "says": "it\u{1b} is refused"}),
        ];
        assert_eq!(
            told(&rows),
            "In role a:\n  has nothing\n  pi1: nothing is free\nIn role b:\n  pi1: it is refused\n"
        );
    }
}
