//! `mesita ps`

use std::process::ExitCode;

use mesita_core::wire::svc::{Rows, Stream};
use serde_json::Value;

use super::{Failure, ask, print, usage};
use crate::alarm;
use crate::flags::Ps;

pub(super) fn main(flags: &Ps) -> Result<ExitCode, Failure> {
    super::log_warnings();
    let of = match (flags.agents, flags.frameworks) {
        (true, _) => Rows::Agents,
        (_, true) => Rows::Frameworks,
        (false, false) => Rows::Tasks,
    };
    let at = &flags.at;
    let mut rows = alarm::block_on(ask::rows(at, Stream::Rows { of }))?;
    if flags.all {
        let completed = Stream::Rows { of: Rows::Completed };
        let completed = alarm::block_on(ask::rows(at, completed))?;
        rows.splice(0..0, completed);
    }
    if flags.usage {
        alarm::block_on(usage::add(at, &mut rows));
    }
    let text = match (flags.json, flags.usage) {
        (true, _) => rows.iter().map(|row| format!("{row}\n")).collect(),
        (false, true) => usage::table(&rows),
        (false, false) => table(of, &rows),
    };
    print(text);
    Ok(ExitCode::SUCCESS)
}

fn table(of: Rows, rows: &[Value]) -> String {
    let head = match of {
        Rows::Tasks | Rows::Completed => "TASK STATE AGENT FRAMEWORK ROLE CPUS MEM",
        Rows::Agents => "AGENT STATE ADDRESS CPUS MEM ISOLATION",
        Rows::Frameworks => "FRAMEWORK NAME STATE USER ROLES TASKS",
        Rows::Quotas | Rows::Weights | Rows::Machines | Rows::Masters | Rows::Audit => "",
    };
    let cells = rows.iter().map(|row| match of {
        Rows::Tasks | Rows::Completed => task(row),
        Rows::Agents => agent(row),
        Rows::Frameworks => framework(row),
        Rows::Quotas | Rows::Weights | Rows::Machines | Rows::Masters | Rows::Audit => Vec::new(),
    });
    let head = head.split(' ').map(str::to_owned).collect();
    columns(&[head].into_iter().chain(cells).collect::<Vec<Vec<String>>>())
}

fn task(row: &Value) -> Vec<String> {
    let state = text(&row["state"]);
    vec![
        text(&row["id"]),
        state.strip_prefix("TASK_").unwrap_or(&state).to_owned(),
        text(&row["agent"]),
        text(&row["framework"]),
        text(&row["role"]),
        text(&row["resources"]["cpus"]),
        text(&row["resources"]["mem"]),
    ]
}

fn agent(row: &Value) -> Vec<String> {
    let share = |name: &str| {
        format!("{}/{}", text(&row["used_resources"][name]), text(&row["resources"][name]))
    };
    let names = |attribute: &str| {
        let list = row["attributes"][attribute].as_str().unwrap_or_default();
        list.split(',').filter(|name| !name.is_empty()).map(short).collect::<Vec<_>>()
    };
    let on = names("isolation").into_iter().map(str::to_owned);
    let off = names("isolation_off").into_iter().map(|name| format!("{name}:OFF"));
    let isolation: Vec<String> = on.chain(off).collect();
    // Of one that has not come back no more than its id is known.
    let name = Some(text(&row["hostname"])).filter(|name| !name.is_empty());
    vec![
        name.unwrap_or_else(|| text(&row["id"])),
        text(&row["state"]),
        text(&row["address"]),
        share("cpus"),
        share("mem"),
        isolation.join(" "),
    ]
}

fn framework(row: &Value) -> Vec<String> {
    let roles: Vec<String> = row["roles"].as_array().into_iter().flatten().map(text).collect();
    vec![
        text(&row["id"]),
        text(&row["name"]),
        text(&row["state"]),
        text(&row["user"]),
        roles.join(","),
        text(&row["tasks"]),
    ]
}

/// The last part of an isolator's name.
fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A value as people read it; nothing as `-`.
pub(super) fn text(value: &Value) -> String {
    if let Value::String(text) = value {
        // Nobody types what a terminal acts on.
        return text.chars().filter(|c| !c.is_control()).collect();
    }
    if value.is_null() { "-".to_owned() } else { value.to_string() }
}

/// Characters that a column has at the most: a cell that is longer makes its own line longer alone.
const COLUMN_MAX: usize = 40;

/// Lines in columns, two spaces apart.
pub(super) fn columns(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        let width = |cell: &String| Some(cell.chars().count()).filter(|width| *width <= COLUMN_MAX);
        cells.map(|cell| width(cell).unwrap_or(0)).max()
    };
    let widths: Vec<usize> = (0..).map_while(width).collect();
    let mut text = String::new();
    for line in lines {
        let padded = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [["A", "LONG"], ["abc", "x"]].map(|line| line.map(str::to_owned).to_vec());
        assert_eq!(columns(&lines), "A    LONG\nabc  x\n");
    }

    #[test]
    fn a_long_cell_makes_no_other_line_longer() {
        let long = "x".repeat(255);
        let lines = [["TASK", "STATE"], ["one", "RUNNING"], [long.as_str(), "FINISHED"]];
        let lines = lines.map(|line| line.map(str::to_owned).to_vec());
        let told = format!("TASK  STATE\none   RUNNING\n{long}  FINISHED\n");
        assert_eq!(columns(&lines), told);
    }

    #[test]
    fn what_is_off_is_shown() {
        let row = json!({
            "hostname": "zero1",
            "state": "active",
            "address": "",
            "resources": {"cpus": 1, "mem": 424},
            "used_resources": {"cpus": 0.5, "mem": 0},
            "attributes": {"isolation": "cgroups/cpu,namespaces/pid", "isolation_off": "cgroups/mem"},
        });
        assert_eq!(agent(&row), ["zero1", "active", "", "0.5/1", "0/424", "cpu pid mem:OFF"]);
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        assert_eq!(text(&json!("a\u{1b}[2Jb")), "a[2Jb");
    }
}
