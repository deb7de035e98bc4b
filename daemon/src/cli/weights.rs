//! `mesita weights`

use std::process::ExitCode;

use mesita_core::wire::operator::OperatorVerb;
use mesita_core::wire::svc::{Rows, Stream};
use serde_json::Value;

use super::ps::{columns, text};
use super::{Failure, ask};
use crate::alarm;
use crate::flags::{Ls, WeightsOf, WeightsSet};

pub(super) fn main(flags: &WeightsOf) -> Result<ExitCode, Failure> {
    super::log_warnings();
    match flags {
        WeightsOf::Set(flags) => set(flags),
        WeightsOf::Ls(flags) => ls(flags),
    }
}

fn set(flags: &WeightsSet) -> Result<ExitCode, Failure> {
    let at = &flags.at;
    for (role, weight) in &flags.weights.0 {
        let verb = OperatorVerb::SetWeight { role, weight: *weight };
        let set = alarm::block_on(ask::operate(at, verb));
        set.map_err(|Failure { message, status }| {
            Failure::new(status, format!("{role}: {message}"))
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ls(flags: &Ls) -> Result<ExitCode, Failure> {
    ask::list(&flags.at, flags.json, Stream::Rows { of: Rows::Weights }, table)
}

/// Roles that are not here have weight 1.
fn table(rows: &[Value]) -> String {
    let head = ["ROLE", "WEIGHT"].map(str::to_owned).to_vec();
    let lines = rows.iter().map(|row| vec![text(&row["role"]), text(&row["weight"])]);
    columns(&[head].into_iter().chain(lines).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_weight_is_a_line() {
        assert_eq!(table(&[json!({"role": "a", "weight": 2.5})]), "ROLE  WEIGHT\na     2.5\n");
    }
}
