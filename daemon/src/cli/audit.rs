//! `mesita audit`: who asked for which change.

use std::process::ExitCode;

use mesita_core::wire::svc::{Rows, Stream};
use serde_json::Value;

use super::ps::{columns, text};
use super::{Failure, ask};
use crate::flags::Ls;

pub(super) fn main(flags: &Ls) -> Result<ExitCode, Failure> {
    super::log_warnings();
    ask::list(&flags.at, flags.json, Stream::Rows { of: Rows::Audit }, table)
}

fn table(rows: &[Value]) -> String {
    let head = ["TIME", "WHO", "WHAT", "OF", ""].map(str::to_owned).to_vec();
    let lines = rows.iter().map(|row| {
        let seconds = row["time_us"].as_u64().unwrap_or(0) / 1_000_000;
        let of = ["who", "what", "of", "told"].map(|name| text(&row[name]));
        [crate::clock::moment(seconds)].into_iter().chain(of).collect()
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
