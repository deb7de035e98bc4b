//! Sizes, times and amounts that have names.

use clap::ValueEnum;
use mesita_core::allocator::Policy;
use mesita_core::capacity::Capacity;

/// Sizes of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SizeClass {
    /// 16 agents, 4 frameworks, 64 tasks
    Tiny,
    /// 256 agents, 32 frameworks, 2,048 tasks
    Edge,
    /// 1,000 agents, 200 frameworks, 10,000 tasks
    Rack,
    /// 10,000 agents, 1,000 frameworks, 100,000 tasks
    Large,
    /// 50,000 agents, 200 frameworks, 100,000 tasks
    Max,
}

/// Units of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Timing {
    /// 150 ms
    Fast,
    /// 500 ms
    Default,
    /// 1 s
    Slow,
    /// 5 s
    Wan,
}

impl Timing {
    /// T, in µs.
    pub(crate) const fn us(self) -> u64 {
        match self {
            Self::Fast => 150_000,
            Self::Default => 500_000,
            Self::Slow => 1_000_000,
            Self::Wan => 5_000_000,
        }
    }
}

/// Weights of roles, in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weights(pub(crate) Vec<(String, u32)>);

/// Tables whose size is set by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows(Vec<(String, u32)>);

impl Rows {
    pub(super) fn apply(&self, capacity: &mut Capacity) {
        for (name, rows) in &self.0 {
            if let Some(field) = field(capacity, name) {
                *field = *rows;
            }
        }
    }
}
/// The size of a table by its name; none if there is no such table.
fn field<'c>(capacity: &'c mut Capacity, name: &str) -> Option<&'c mut u32> {
    Some(match name {
        "agents" => &mut capacity.agents,
        "frameworks" => &mut capacity.frameworks,
        "roles" => &mut capacity.roles,
        "clients" => &mut capacity.clients,
        "tasks" => &mut capacity.tasks,
        "executors" => &mut capacity.executors,
        "offers" => &mut capacity.offers,
        "machines" => &mut capacity.machines,
        "requests" => &mut capacity.requests,
        "filters" => &mut capacity.filters,
        "updates" => &mut capacity.updates,
        "operations" => &mut capacity.operations,
        "names" => &mut capacity.names,
        "cells" => &mut capacity.cells,
        "attributes" => &mut capacity.attributes,
        "idents" => &mut capacity.idents,
        "layers" => &mut capacity.layers,
        "pieces" => &mut capacity.pieces,
        "spans" => &mut capacity.spans,
        "conns" => &mut capacity.conns,
        "callers" => &mut capacity.callers,
        _ => return None,
    })
}

pub(super) fn capacity(text: &str) -> Result<Rows, String> {
    let pairs = pairs(text)?.into_iter().map(|(name, rows)| {
        let known = field(&mut Capacity::tiny(), name).is_some();
        if !known {
            return Err(format!("no table is called `{name}`"));
        }
        let rows = rows.parse().ok().filter(|rows| (1..=10_000_000).contains(rows));
        let rows = rows.ok_or_else(|| format!("`{name}` needs 1 to 10,000,000 rows"))?;
        if name == "operations" && rows > mesita_core::capacity::OPERATIONS_MAX {
            return Err("`operations` needs 1 to 256 rows".to_owned());
        }
        Ok((name.to_owned(), rows))
    });
    pairs.collect::<Result<_, _>>().map(Rows)
}

pub(super) fn policy(text: &str) -> Result<Policy, String> {
    let named = Policy::ALL.iter().find(|(_, name)| *name == text);
    named.map(|(policy, _)| *policy).ok_or_else(|| "expected drf or random".to_owned())
}

pub(super) fn weights(text: &str) -> Result<Weights, String> {
    let pairs = pairs(text)?.into_iter().map(|(role, weight)| {
        let amount = mesita_core::resources::Amount::parse(weight).ok();
        let milli = amount.and_then(|amount| u32::try_from(amount.milli()).ok());
        let milli = milli.filter(|milli| (1..=mesita_core::limits::WEIGHT_MAX).contains(milli));
        let milli = milli.ok_or_else(|| format!("the weight of `{role}` is not 0.001 to 1000"))?;
        Ok((role.to_owned(), milli))
    });
    pairs.collect::<Result<_, _>>().map(Weights)
}

fn pairs(text: &str) -> Result<Vec<(&str, &str)>, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let parted = pairs.map(|pair| {
        let parts = pair.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        parts.ok_or_else(|| format!("expected name=value, not `{pair}`"))
    });
    parted.collect()
}
