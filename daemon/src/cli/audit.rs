//! `mesita audit`: who asked for which change.

use std::process::ExitCode;

use mesita_core::wire::svc::{Rows, Stream};
use serde_json::Value;

use super::ps::{columns, text};
use super::{Failure, ask, print};
use crate::flags::Ls;
use crate::{alarm, clock};

pub(super) fn main(flags: &Ls) -> Result<ExitCode, Failure> {
    super::log_warnings();
    let told = alarm::block_on(ask::rows(&flags.at, Stream::Rows { of: Rows::Audit }))?;
    // A master of an older release begins with a change.
    let (begin, rows): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|row| row["since_us"].is_u64());
    begin.iter().for_each(|begin| eprintln!("{}", known(begin)));
    let lines = || rows.iter().map(|row| format!("{row}\n")).collect();
    print(if flags.json { lines() } else { table(&rows) });
    Ok(ExitCode::SUCCESS)
}

/// Since when all of it is known, and what becomes of it.
fn known(begin: &Value) -> String {
    let since = clock::moment(begin["since_us"].as_u64().unwrap_or(0) / 1_000_000);
    let master = text(&begin["who"]);
    match begin["log"].as_str() {
        None => format!(
            "master {master} knows of changes since {since}, and in memory alone: none before that, none \
             asked of another master, and none of these once it ends; --audit-log FILE of each master keeps \
             them"
        ),
        Some(log) => format!(
            "master {master} shows changes since {since}; those before that are in its {log}, those asked of \
             another master in that one's"
        ),
    }
}

fn table(rows: &[Value]) -> String {
    let head = ["TIME", "WHO", "WHAT", "OF", ""].map(str::to_owned).to_vec();
    let lines = rows.iter().map(|row| {
        let seconds = row["time_us"].as_u64().unwrap_or(0) / 1_000_000;
        let of = ["who", "what", "of", "told"].map(|name| text(&row[name]));
        [clock::moment(seconds)].into_iter().chain(of).collect()
    });
    columns(&[head].into_iter().chain(lines).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_is_a_line_with_who_asked_for_it() {
        let row = json!({"time_us": 951_782_401_000_000_u64, "who": "principal:web",
                         "what": "set weight", "of": "web 2000/1000", "told": "allowed"});
        assert_eq!(
            table(&[row]),
            "TIME                  WHO            WHAT        OF\n\
             2000-02-29T00:00:01Z  principal:web  set weight  web 2000/1000  allowed\n"
        );
    }
}
