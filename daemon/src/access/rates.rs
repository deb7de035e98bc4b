//! How many calls a second the frameworks of each principal may make: Mesos' `--rate_limits`.
//!
//! Mesos: `RateLimits`, `docs/framework-rate-limiting.md`; there it is about drivers alone, here about
//! every framework. A call that comes too early waits; of those that came over HTTP no more than the
//! capacity wait, and what speaks frames is read no faster, so that the kernel holds it back.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mesita_core::time::Time;
use serde::Deserialize;

use super::acls;
use crate::v1::amounts::amount;

/// Principals with a rate of their own.
const RATES_MAX: usize = 1_024;

/// The rate of a principal, or of all that have none of their own together.
#[derive(Debug)]
struct Rate {
    /// From one call to the next, in µs.
    every_us: u64,
    /// Calls that may wait; none = any number.
    capacity: Option<u64>,
    /// When the next one may go.
    next: Cell<Time>,
    refused: Cell<u64>,
}

/// All rates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates {
    /// None: this one is not limited.
    each: BTreeMap<String, Option<Rc<Rate>>>,
    others: Option<Rc<Rate>>,
}

/// As Mesos' JSON has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    #[serde(default)]
    limits: Vec<Limit>,
    aggregate_default_qps: Option<f64>,
    aggregate_default_capacity: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    principal: String,
    qps: Option<f64>,
    capacity: Option<u64>,
}

impl Rates {
    /// Reads what the flag says: the rates, or where they are.
    pub(super) fn read(told: &str) -> Result<Self, String> {
        acls::told(told, Self::parse)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let told: Told = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if told.limits.len() > RATES_MAX {
            return Err(format!("more than {RATES_MAX} limits"));
        }
        let mut each = BTreeMap::new();
        for Limit { principal, qps, capacity } in told.limits {
            let rate = qps.map(|qps| rate(qps, capacity)).transpose();
            let rate = rate.map_err(|why| format!("`{}`: {why}", principal.escape_debug()))?;
            if each.insert(principal.clone(), rate).is_some() {
                return Err(format!("`{}` is there twice", principal.escape_debug()));
            }
        }
        let others = told.aggregate_default_qps;
        let others = others.map(|qps| rate(qps, told.aggregate_default_capacity)).transpose();
        Ok(Self { each, others: others.map_err(|why| format!("aggregate_default_qps: {why}"))? })
    }

    /// The same, going on where those before have stood.
    pub(super) fn after(self, before: &Self) -> Self {
        let go_on = |new: &Rate, old: &Rate| {
            new.next.set(old.next.get());
            new.refused.set(old.refused.get());
        };
        for (principal, rate) in &self.each {
            if let (Some(new), Some(Some(old))) = (rate, before.each.get(principal)) {
                go_on(new, old);
            }
        }
        if let (Some(new), Some(old)) = (&self.others, &before.others) {
            go_on(new, old);
        }
        self
    }

    fn of(&self, principal: Option<&str>) -> Option<&Rate> {
        match principal.and_then(|principal| self.each.get(principal)) {
            Some(own) => own.as_deref(),
            None => self.others.as_deref(),
        }
    }

    /// When a call that came now may go, at once for most; none if as many wait as may.
    pub(crate) fn turn(&self, principal: Option<&str>, now: Time) -> Option<Time> {
        let Some(rate) = self.of(principal) else { return Some(now) };
        let at = now.max(rate.next.get());
        let most = rate.capacity.map(|calls| rate.every_us.saturating_mul(calls));
        if most.is_some_and(|most| at.since(now) > most) {
            rate.refused.set(rate.refused.get() + 1);
            return None;
        }
        rate.next.set(at.after(rate.every_us));
        Some(at)
    }

    /// When the next call of somebody may go whose call goes now.
    pub(crate) fn next(&self, principal: Option<&str>, now: Time) -> Time {
        let Some(rate) = self.of(principal) else { return now };
        let next = now.max(rate.next.get()).after(rate.every_us);
        rate.next.set(next);
        next
    }

    /// Rates, the most of them, and calls that were not let wait.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 3] {
        let all = self.each.values().flatten().chain(&self.others);
        [
            ("rates", self.each.len() as u64),
            ("rates_max", RATES_MAX as u64),
            ("rates_refused_total", all.map(|rate| rate.refused.get()).sum()),
        ]
    }
}

fn rate(qps: f64, capacity: Option<u64>) -> Result<Rc<Rate>, String> {
    let milli = amount(qps).ok().map(|amount| amount.milli()).filter(|milli| *milli > 0);
    let milli = milli.ok_or("qps is 0.001 or more")?;
    let every_us = 1_000_000_000 / milli;
    Ok(Rc::new(Rate { every_us, capacity, next: Cell::default(), refused: Cell::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: &str = r#"{"limits": [{"principal": "slow", "qps": 2, "capacity": 2},
                                        {"principal": "free"}],
                            "aggregate_default_qps": 10}"#;

    #[test]
    fn calls_are_so_far_apart_and_no_more_wait_than_may() {
        let rates = Rates::read(RATES).unwrap();
        let now = Time(5_000_000);
        let turn = |who| rates.turn(Some(who), now).map(|at| at.since(now));
        assert_eq!(turn("slow"), Some(0));
        assert_eq!(turn("slow"), Some(500_000));
        assert_eq!(turn("slow"), Some(1_000_000));
        assert_eq!(turn("slow"), None, "two wait");
        assert_eq!(turn("free"), Some(0));
        assert_eq!(turn("free"), Some(0));
        // Those without a rate of their own share one.
        assert_eq!(turn("a"), Some(0));
        assert_eq!(turn("b"), Some(100_000));
        assert_eq!(rates.turn(None, now).map(|at| at.since(now)), Some(200_000));
        let later = now.after(10_000_000);
        assert_eq!(rates.turn(Some("slow"), later), Some(later), "what was not used is not saved");
        assert_eq!(rates.gauges()[2].1, 1);
        assert_eq!(Rates::default().turn(Some("slow"), now), Some(now));
    }

    #[test]
    fn who_has_waited_waits_no_more_when_the_rates_are_read_again() {
        let rates = Rates::read(RATES).unwrap();
        let now = Time(5_000_000);
        for _ in 0..3 {
            assert!(rates.turn(Some("slow"), now).is_some());
        }
        assert_eq!(rates.turn(Some("slow"), now), None);
        let faster = Rates::read(&RATES.replace("\"qps\": 2", "\"qps\": 4")).unwrap();
        let again = faster.after(&rates);
        assert_eq!(again.gauges()[2].1, 1);
        assert_eq!(again.turn(Some("slow"), now), None, "those that went before count");
        let later = now.after(1_500_000);
        assert_eq!(again.turn(Some("slow"), later), Some(later));
        assert_eq!(again.turn(Some("slow"), later), Some(later.after(250_000)));
    }

    #[test]
    fn what_is_read_no_faster_is_as_far_apart() {
        let rates = Rates::read(RATES).unwrap();
        let now = Time(5_000_000);
        assert_eq!(rates.next(Some("slow"), now).since(now), 500_000);
        assert_eq!(rates.next(Some("slow"), now).since(now), 1_000_000);
        assert_eq!(rates.next(Some("free"), now), now);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, why) in [
            ("{", "EOF"),
            (r#"{"limit": []}"#, "limit"),
            (r#"{"limits": [{"principal": "a", "qps": 0}]}"#, "`a`: qps is 0.001 or more"),
            (r#"{"limits": [{"principal": "a", "qps": -1}]}"#, "`a`: qps"),
            (r#"{"limits": [{"principal": "a"}, {"principal": "a"}]}"#, "`a` is there twice"),
            (r#"{"aggregate_default_qps": 0}"#, "aggregate_default_qps: qps"),
            ("/nowhere/x", "/nowhere/x: No such file"),
        ] {
            let refused = Rates::read(text).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
