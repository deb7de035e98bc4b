//! `mesita events`: what changes on a cluster, as lines.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::Value;

use super::{Failure, stream};
use crate::alarm;
use crate::flags::Events;

pub(super) fn main(flags: &Events) -> Result<ExitCode, Failure> {
    super::log_warnings();
    alarm::block_on(stream::follow(&flags.at, |event| tell(&event, flags)))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints an event; false when nobody reads any more.
fn tell(event: &Value, flags: &Events) -> Result<bool, Failure> {
    let line = if flags.json { Some(event.to_string()) } else { line(event) };
    let about = flags.about.as_deref();
    let Some(line) = line.filter(|line| about.is_none_or(|about| line.contains(about))) else {
        return Ok(true);
    };
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::plain(error)),
    }
}

/// An event as a line for people; none for what is no news.
fn line(event: &Value) -> Option<String> {
    let kind = event["type"].as_str().unwrap_or_default();
    let part = &event[kind.to_lowercase()];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let short = |id: &Value| {
        let id = id["value"].as_str().unwrap_or_default();
        id.rsplit('-').next().unwrap_or_default().to_owned()
    };
    let now = crate::clock::wall_us();
    Some(match kind {
        "SUBSCRIBED" => {
            let state = &part["get_state"];
            let count = |of: &str, list: &str| state[of][list].as_array().map_or(0, Vec::len);
            format!(
                "{}  {} agents, {} frameworks, {} tasks",
                clock_time(now),
                count("get_agents", "agents"),
                count("get_frameworks", "frameworks"),
                count("get_tasks", "tasks")
            )
        }
        "TASK_ADDED" => {
            let task = &part["task"];
            format!(
                "{}  STAGING  {} on {}",
                clock_time(now),
                text(&task["task_id"]["value"]),
                short(&task["agent_id"])
            )
        }
        "TASK_UPDATED" => {
            let status = &part["status"];
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A time of day.
            let us = (status["timestamp"].as_f64().unwrap_or(0.0) * 1e6) as u64;
            let state = text(&status["state"]);
            let name = text(&status["task_id"]["value"]);
            let agent = short(&status["agent_id"]);
            let state = state.strip_prefix("TASK_").unwrap_or(&state);
            let mut line = format!("{}  {state}  {name} on {agent}", clock_time(us));
            for part in [&status["message"], &status["reason"]] {
                let part = text(part);
                if !part.is_empty() {
                    line.push_str("  ");
                    line.push_str(&part);
                }
            }
            line
        }
        "AGENT_ADDED" => {
            let info = &part["agent"]["agent_info"];
            format!(
                "{}  agent {} is here: {}",
                clock_time(now),
                short(&info["id"]),
                text(&info["hostname"])
            )
        }
        "AGENT_REMOVED" => {
            format!("{}  agent {} is gone", clock_time(now), short(&part["agent_id"]))
        }
        "FRAMEWORK_ADDED" => {
            let info = &part["framework"]["framework_info"];
            format!(
                "{}  framework {} is here: {}",
                clock_time(now),
                short(&info["id"]),
                text(&info["name"])
            )
        }
        "FRAMEWORK_REMOVED" => {
            let info = &part["framework_info"];
            format!(
                "{}  framework {} is gone: {}",
                clock_time(now),
                short(&info["id"]),
                text(&info["name"])
            )
        }
        _ => return None,
    })
}

/// The time of day in UTC.
pub(super) fn clock_time(us: u64) -> String {
    let seconds = us / 1_000_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_tells_what_became_of_a_task() {
        let event = json!({"type": "TASK_UPDATED", "task_updated": {"status": {
            "task_id": {"value": "it"}, "state": "TASK_FAILED", "timestamp": 3_661.5,
            "agent_id": {"value": "c-1-S3"}, "message": "Command exited with status 3"}}});
        let told = "01:01:01  FAILED  it on S3  Command exited with status 3";
        assert_eq!(line(&event).unwrap(), told);
        assert_eq!(line(&json!({"type": "HEARTBEAT"})), None);
    }
}
