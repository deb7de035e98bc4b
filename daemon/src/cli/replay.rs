//! `mesita replay`

use std::process::ExitCode;

use serde_json::json;

use super::{FAILED, Failure};
use crate::flags::Replay;
use crate::journal::replay::{Difference, Report, replay};

pub(super) fn main(flags: &Replay) -> Result<ExitCode, Failure> {
    let report = replay(&flags.journal).map_err(Failure::plain)?;
    if flags.json {
        outln!("{}", as_json(&report));
    } else {
        print(&report);
    }
    let same = report.difference.is_none();
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn print(report: &Report) {
    if report.lost > 0 {
        outln!("{} inputs are missing: the disk was too slow, or the process died", report.lost);
    }
    if report.torn {
        outln!("the journal ends in the middle of an entry: the process died there");
    }
    match &report.difference {
        None => {
            let seats: Vec<String> =
                report.seats.iter().map(|(kind, digest)| format!("{kind} {digest:016x}")).collect();
            let (inputs, seats) = (grouped(report.inputs), seats.join(", "));
            outln!("{inputs} inputs, digest {seats}, identical to the recorded run");
        }
        Some(difference) => {
            let Difference { segment, seat, input, recorded, repeated, .. } = difference;
            outln!(
                "input {} of the {seat} in segment {segment} gave digest {recorded:016x} then, \
                 {repeated:016x} now",
                grouped(*input)
            );
            outln!("input: {}", hex(&difference.what));
        }
    }
}

fn as_json(report: &Report) -> serde_json::Value {
    let seats: Vec<_> = report
        .seats
        .iter()
        .map(|(kind, digest)| json!({"kind": kind, "digest": format!("{digest:016x}")}))
        .collect();
    let difference = report.difference.as_ref().map(|difference| {
        json!({
            "segment": difference.segment,
            "seat": difference.seat,
            "input": difference.input,
            "bytes": hex(&difference.what),
            "recorded": format!("{:016x}", difference.recorded),
            "repeated": format!("{:016x}", difference.repeated),
        })
    });
    json!({
        "inputs": report.inputs,
        "segments": report.segments,
        "lost": report.lost,
        "torn": report.torn,
        "seats": seats,
        "identical": report.difference.is_none(),
        "difference": difference,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let (head, tail) = digits.split_at(first);
    let mut groups: Vec<&str> = if head.is_empty() { Vec::new() } else { vec![head] };
    groups.extend(tail.as_bytes().chunks(3).filter_map(|group| std::str::from_utf8(group).ok()));
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(18_204), "18,204");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
