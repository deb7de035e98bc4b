//! `mesita drain`, `mesita deactivate`, `mesita reactivate`

use std::process::ExitCode;

use mesita_core::wire::AgentId;
use mesita_core::wire::operator::OperatorVerb;
use mesita_core::wire::svc::{Rows, Stream};
use serde_json::Value;

use super::{Failure, USAGE, ask};
use crate::alarm;
use crate::flags::{Drain, OfAgent};

pub(super) fn drain(flags: &Drain) -> Result<ExitCode, Failure> {
    let grace_us = flags.grace.map(|grace| grace.us);
    let gone = flags.gone;
    operate(&flags.of, |agent| OperatorVerb::Drain { agent, grace_us, gone })
}

/// Offers nothing new of an agent, or offers it again.
pub(super) fn activate(flags: &OfAgent, deactivated: bool) -> Result<ExitCode, Failure> {
    operate(flags, |agent| OperatorVerb::Deactivate { agent, deactivated })
}

fn operate(
    flags: &OfAgent,
    verb: impl FnOnce(AgentId) -> OperatorVerb<'static>,
) -> Result<ExitCode, Failure> {
    super::log_warnings();
    let at = &flags.at;
    let rows = alarm::block_on(ask::rows(at, Stream::Rows { of: Rows::Agents }))?;
    let agent = named(&rows, &flags.agent)?;
    alarm::block_on(ask::operate(at, verb(agent)))?;
    Ok(ExitCode::SUCCESS)
}

/// The one agent of that id or host.
fn named(rows: &[Value], name: &str) -> Result<AgentId, Failure> {
    let is = |row: &&Value| row["id"] == *name || row["hostname"] == *name;
    let mut found = rows.iter().filter(is);
    let (first, second) = (found.next(), found.next());
    let Some(first) = first else {
        let message = format!("no agent `{name}` is known; `mesita ps --agents` lists them");
        return Err(Failure::plain(message));
    };
    if second.is_some() {
        let message = format!("several agents are on host `{name}`: give the id of one");
        return Err(Failure::new(USAGE, message));
    }
    let id = first["id"].as_str().unwrap_or_default();
    crate::encoded::cluster_of(id)
        .and_then(|cluster| AgentId::parse(id, cluster))
        .ok_or_else(|| Failure::plain(format!("the master tells of an agent `{id}`")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_agent_is_named_by_its_id_or_its_host() {
        let rows = [
            json!({"id": "00000000000000ab-1-S1", "hostname": "pi1"}),
            json!({"id": "00000000000000ab-1-S2", "hostname": "pi2"}),
            json!({"id": "00000000000000ab-1-S3", "hostname": "pi2"}),
        ];
        let id = |number| AgentId { epoch: 1, number };
        assert_eq!(named(&rows, "pi1").unwrap(), id(1));
        assert_eq!(named(&rows, "00000000000000ab-1-S3").unwrap(), id(3));
        assert!(named(&rows, "pi2").unwrap_err().message.contains("several"));
        assert!(named(&rows, "pi3").unwrap_err().message.contains("no agent"));
    }
}
