//! `mesita masters`

use std::process::ExitCode;

use mesita_core::wire::operator::OperatorVerb;
use mesita_core::wire::svc::{Rows, Stream};
use serde_json::Value;

use super::ps::{columns, text};
use super::{Failure, ask, left};
use crate::alarm;
use crate::flags::{Ls, Masters, Where};

pub(super) fn main(flags: &Masters) -> Result<ExitCode, Failure> {
    super::log_warnings();
    match flags {
        Masters::Ls(flags) => ls(flags),
        Masters::Add(flags) => change(&flags.at, 0, &flags.key, false),
        Masters::Remove(flags) => change(&flags.at, flags.id, "", flags.force),
        Masters::Replace(flags) => change(&flags.of.at, flags.of.id, &flags.key, flags.of.force),
    }
}

/// `remove` is 0 where none is.
fn change(at: &Where, remove: u8, add: &str, force: bool) -> Result<ExitCode, Failure> {
    alarm::block_on(ask::operate(at, OperatorVerb::Masters { remove, add, force }))?;
    if remove != 0 {
        errln!("master {remove} is none any more.");
        left::told(at);
    }
    Ok(ExitCode::SUCCESS)
}

fn ls(flags: &Ls) -> Result<ExitCode, Failure> {
    ask::list(&flags.at, flags.json, Stream::Rows { of: Rows::Masters }, table)
}

fn table(rows: &[Value]) -> String {
    let head = ["ID", "ADDRESS", "STATE", "REGISTRY", "KEY"].map(str::to_owned).to_vec();
    let of =
        |row: &Value| ["id", "address", "state", "registry", "key"].map(|name| text(&row[name]));
    let lines = rows.iter().map(|row| of(row).to_vec());
    columns(&[head].into_iter().chain(lines).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_master_is_a_line_and_so_is_one_that_asks() {
        let rows = [
            json!({"id": 1, "address": "a:1", "state": "leads", "registry": "3.2", "key": "aa"}),
            json!({"address": "b:1", "state": "asks", "key": "bb"}),
        ];
        assert_eq!(
            table(&rows),
            "ID  ADDRESS  STATE  REGISTRY  KEY\n\
             1   a:1      leads  3.2       aa\n\
             -   b:1      asks   -         bb\n"
        );
    }
}
