//! `mesita maintenance`

use std::process::ExitCode;

use mesita_core::limits::HEAD_MAX;
use mesita_core::wire::Scratch;
use mesita_core::wire::event::Unavailability;
use mesita_core::wire::operator::{MachineId, OperatorVerb, Planned};
use mesita_core::wire::svc::{Rows, Stream};
use serde_json::Value;

use super::ps::{columns, text};
use super::{Failure, USAGE, ask, print};
use crate::flags::{Ls, Machines, Maintenance, Plan, Where};
use crate::{alarm, clock};

pub(super) fn main(flags: &Maintenance) -> Result<ExitCode, Failure> {
    super::log_warnings();
    match flags {
        Maintenance::Ls(flags) => ls(flags),
        Maintenance::Plan(flags) => plan(flags),
        Maintenance::Drop(flags) => unplan(flags),
        Maintenance::Start(flags) => set_down(flags, true),
        Maintenance::Stop(flags) => set_down(flags, false),
    }
}

/// A machine in the schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    hostname: String,
    ip: String,
    window: Unavailability,
}

impl Row {
    fn id(&self) -> MachineId<'_> {
        MachineId { hostname: &self.hostname, ip: &self.ip }
    }

    fn is(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

/// A host's name, an address, or both as `HOST/ADDRESS`.
fn machine(text: &str, window: Unavailability) -> Row {
    let (hostname, ip) = match text.split_once('/') {
        Some(both) => both,
        None if text.parse::<std::net::IpAddr>().is_ok() => ("", text),
        None => (text, ""),
    };
    Row { hostname: hostname.to_ascii_lowercase(), ip: ip.to_owned(), window }
}

fn known(at: &Where) -> Result<Vec<Row>, Failure> {
    let rows = alarm::block_on(ask::rows(at, Stream::Rows { of: Rows::Machines }))?;
    let known = rows.iter().map(|row| {
        let part = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        // Seconds with µs behind the point, as the master has told them.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let us = |name: &str| (row[name].as_f64().unwrap_or(0.0) * 1e6).round() as u64;
        let window = Unavailability { start_wall_us: us("start"), duration_us: us("duration") };
        Row { hostname: part("hostname"), ip: part("ip"), window }
    });
    Ok(known.collect())
}

/// Adds machines to the schedule, or moves the windows of those that are in it.
fn plan(flags: &Plan) -> Result<ExitCode, Failure> {
    let at = &flags.of.at;
    let window = Unavailability {
        start_wall_us: clock::wall_us().saturating_add(flags.after.map_or(0, |after| after.us)),
        duration_us: flags.duration.map_or(0, |duration| duration.us),
    };
    let new: Vec<Row> = flags.of.machines.iter().map(|name| machine(name, window)).collect();
    let mut rows = known(at)?;
    rows.retain(|row| !new.iter().any(|other| row.is(other)));
    rows.extend(new);
    schedule(at, &rows)
}

fn unplan(flags: &Machines) -> Result<ExitCode, Failure> {
    let at = &flags.at;
    let mut rows = known(at)?;
    for name in &flags.machines {
        let gone = machine(name, Unavailability { start_wall_us: 0, duration_us: 0 });
        let before = rows.len();
        rows.retain(|row| !row.is(&gone));
        if rows.len() == before {
            let message = format!("`{name}` is not in the maintenance schedule");
            return Err(Failure::new(USAGE, message));
        }
    }
    schedule(at, &rows)
}

fn schedule(at: &Where, rows: &[Row]) -> Result<ExitCode, Failure> {
    let planned = rows.iter().map(|row| Planned { machine: row.id(), window: row.window });
    let mut memory = vec![0; HEAD_MAX];
    let machines = Scratch::new(&mut memory).seq::<Planned<'static>>(planned);
    let machines = machines.map_err(|_| Failure::new(USAGE, "more machines than fit a message"))?;
    alarm::block_on(ask::operate(at, OperatorVerb::Schedule { machines }))?;
    Ok(ExitCode::SUCCESS)
}

fn set_down(flags: &Machines, down: bool) -> Result<ExitCode, Failure> {
    let none = Unavailability { start_wall_us: 0, duration_us: 0 };
    let rows: Vec<Row> = flags.machines.iter().map(|name| machine(name, none)).collect();
    let mut memory = vec![0; HEAD_MAX];
    let machines = Scratch::new(&mut memory).seq::<MachineId<'static>>(rows.iter().map(Row::id));
    let machines = machines.map_err(|_| Failure::new(USAGE, "more machines than fit a message"))?;
    let verb = OperatorVerb::Down { machines, down };
    alarm::block_on(ask::operate(&flags.at, verb))?;
    Ok(ExitCode::SUCCESS)
}

fn ls(flags: &Ls) -> Result<ExitCode, Failure> {
    let stream = Stream::Rows { of: Rows::Machines };
    let rows = alarm::block_on(ask::rows(&flags.at, stream))?;
    if flags.json {
        print(rows.iter().map(|row| format!("{row}\n")).collect());
    } else {
        print(table(&rows, clock::wall_us()));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Value], now_us: u64) -> String {
    let head = ["HOST", "ADDRESS", "MODE", "BEGINS IN", "FOR"].map(str::to_owned).to_vec();
    #[allow(clippy::cast_precision_loss)] // Exact until the year 2255.
    let now = now_us as f64 / 1e6;
    let lines = rows.iter().map(|row| {
        let left = (row["start"].as_f64().unwrap_or(0.0) - now).round();
        let during = row["duration"].as_f64();
        vec![
            text(&row["hostname"]),
            text(&row["ip"]),
            text(&row["mode"]),
            if left > 0.0 { format!("{left}secs") } else { "now".to_owned() },
            during.map_or_else(|| "good".to_owned(), |seconds| format!("{seconds}secs")),
        ]
    });
    columns(&[head].into_iter().chain(lines).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_machine_is_a_line() {
        let rows = [
            json!({"hostname": "pi1", "ip": null, "mode": "DRAINING", "start": 160.0,
                   "duration": 3600.0}),
            json!({"hostname": "pi2", "ip": "10.0.0.7", "mode": "DOWN", "start": 1.0}),
        ];
        assert_eq!(
            table(&rows, 100_000_000),
            "HOST  ADDRESS   MODE      BEGINS IN  FOR\n\
             pi1   -         DRAINING  60secs     3600secs\n\
             pi2   10.0.0.7  DOWN      now        good\n"
        );
    }

    #[test]
    fn a_machine_is_named_by_host_address_or_both() {
        let window = Unavailability { start_wall_us: 1, duration_us: 2 };
        let of = |text: &str| {
            let row = machine(text, window);
            (row.hostname, row.ip)
        };
        assert_eq!(of("Pi1"), ("pi1".to_owned(), String::new()));
        assert_eq!(of("10.0.0.7"), (String::new(), "10.0.0.7".to_owned()));
        assert_eq!(of("pi1/::1"), ("pi1".to_owned(), "::1".to_owned()));
    }
}
