//! `mesita quota`

use std::process::ExitCode;

use mesita_core::resources::Amount;
use mesita_core::resources::text::{TextValue, resources};
use mesita_core::wire::Scratch;
use mesita_core::wire::call::Quantity;
use mesita_core::wire::operator::OperatorVerb;
use mesita_core::wire::svc::{Rows, Stream};
use serde_json::Value;

use super::ps::{columns, text};
use super::{Failure, USAGE, ask};
use crate::alarm;
use crate::flags::{Ls, Quota, QuotaSet};

pub(super) fn main(flags: &Quota) -> Result<ExitCode, Failure> {
    super::log_warnings();
    match flags {
        Quota::Set(flags) => set(flags),
        Quota::Ls(flags) => ls(flags),
    }
}

fn set(flags: &QuotaSet) -> Result<ExitCode, Failure> {
    let guarantees = amounts("--guarantee", flags.guarantee.as_deref().unwrap_or_default())?;
    let limits = amounts("--limit", flags.limit.as_deref().unwrap_or_default())?;
    let mut memory = [vec![0; 4096], vec![0; 4096]];
    let [first, second] = &mut memory;
    let list = |memory, amounts| {
        let amounts: &[(&str, Amount)] = amounts;
        let each = amounts.iter().map(|&(name, amount)| Quantity { name, amount });
        let list = Scratch::new(memory).seq::<Quantity<'_>>(each);
        list.map_err(|_| Failure::new(USAGE, "more amounts than a quota has"))
    };
    let verb = OperatorVerb::SetQuota {
        role: &flags.role,
        guarantees: list(first, &guarantees)?,
        limits: list(second, &limits)?,
        force: flags.force,
    };
    alarm::block_on(ask::operate(&flags.at, verb))?;
    Ok(ExitCode::SUCCESS)
}

/// Mesos' text form of scalars.
fn amounts<'t>(flag: &str, text: &'t str) -> Result<Vec<(&'t str, Amount)>, Failure> {
    let read = resources(text).map(|entry| match entry {
        Ok(entry) => match entry.value {
            TextValue::Scalar(amount) => Ok((entry.name, amount)),
            TextValue::Ranges(_) | TextValue::Set(_) | TextValue::Text(_) => {
                Err(Failure::new(USAGE, format!("{flag}: `{}` is no amount", entry.name)))
            }
        },
        Err(bad) => Err(Failure::new(USAGE, format!("{flag}: {bad}"))),
    });
    read.collect()
}

fn ls(flags: &Ls) -> Result<ExitCode, Failure> {
    ask::list(&flags.at, flags.json, Stream::Rows { of: Rows::Quotas }, table)
}

fn table(rows: &[Value]) -> String {
    let head = ["ROLE", "RESOURCE", "GUARANTEE", "LIMIT", "TASKS USE"].map(str::to_owned).to_vec();
    let mut lines = vec![head];
    for row in rows {
        let names = |of: &str| row[of].as_object().into_iter().flatten().map(|(name, _)| name);
        let mut all: Vec<&String> = names("guarantees").chain(names("limits")).collect();
        all.sort();
        all.dedup();
        for name in all {
            lines.push(vec![
                text(&row["role"]),
                text(&Value::from(name.as_str())),
                text(&row["guarantees"][name]),
                text(&row["limits"][name]),
                row["used"].get(name).map_or_else(|| "0".to_owned(), text),
            ]);
        }
    }
    columns(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_quota_is_a_line_for_each_resource() {
        let row = json!({
            "role": "web",
            "guarantees": {"cpus": 2},
            "limits": {"cpus": 4, "mem": 512},
            "used": {"cpus": 0.5, "mem": 0},
        });
        assert_eq!(
            table(&[row]),
            "ROLE  RESOURCE  GUARANTEE  LIMIT  TASKS USE\n\
             web   cpus      2          4      0.5\n\
             web   mem       -          512    0\n"
        );
    }

    #[test]
    fn what_is_no_amount_is_refused_before_anybody_is_asked() {
        assert!(amounts("--limit", "ports:[1-2]").unwrap_err().message.contains("no amount"));
        assert_eq!(amounts("--limit", "cpus:1;mem:2").unwrap().len(), 2);
        assert!(amounts("--limit", "").unwrap().is_empty());
    }
}
