//! Lists of the wire that outlive the message they came in, still in their wire form.

use std::fmt;

use mesita_core::resources::Amount;
use mesita_core::wire::event::AgentInfo;
use mesita_core::wire::resource::{AttributeValue, Range, Resource, Value};
use mesita_core::wire::{Check, Seq, decode};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Resources, as the wire has them: a few bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources(Box<[u8]>);

/// An agent's description, as the wire has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described(Box<[u8]>);

/// Any other message, as the wire has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded(Box<[u8]>);

impl Encoded {
    /// Keeps a message.
    pub(crate) fn of<T: Serialize>(value: &T) -> Self {
        Self(encoded(value))
    }

    /// The message; none only if it was never one of this type.
    pub(crate) fn read<'a, T: serde::Deserialize<'a> + Check>(&'a self) -> Option<T> {
        decoded(&self.0)
    }
}

fn encoded<T: Serialize>(value: &T) -> Box<[u8]> {
    // Our own types have no way to fail.
    postcard::to_allocvec(value).unwrap_or_default().into()
}

fn decoded<'a, T: serde::Deserialize<'a> + Check>(bytes: &'a [u8]) -> Option<T> {
    decode(bytes).ok()
}

impl Resources {
    /// Keeps a list.
    pub(crate) fn of(list: &Seq<'_, Resource<'_>>) -> Self {
        Self(encoded(list))
    }

    /// The list.
    pub(crate) fn list(&self) -> Seq<'_, Resource<'_>> {
        decoded(&self.0).unwrap_or_default()
    }

    /// How much there is of a scalar resource, whoever it is reserved for.
    pub(crate) fn scalar(&self, name: &str) -> Amount {
        let amounts = self.list().iter().filter(|resource| resource.name == name).map(|resource| {
            match resource.value {
                Value::Scalar(amount) => amount.milli(),
                Value::Ranges(_) | Value::Set(_) => 0,
            }
        });
        Amount::from_milli(amounts.sum())
    }

    /// The names of all scalar resources, in order of appearance.
    pub(crate) fn scalars(&self) -> Vec<String> {
        let mut names = Vec::<String>::new();
        for resource in self.list().iter() {
            let scalar = matches!(resource.value, Value::Scalar(_));
            if scalar && !names.iter().any(|name| name == resource.name) {
                names.push(resource.name.to_owned());
            }
        }
        names
    }
}

impl Described {
    /// Keeps a description.
    pub(crate) fn of(info: &AgentInfo<'_>) -> Self {
        Self(encoded(info))
    }

    /// The description; none only if it was never one.
    pub(crate) fn info(&self) -> Option<AgentInfo<'_>> {
        decoded(&self.0)
    }
}

/// Amounts as JSON numbers, ranges and sets as Mesos' text: the form of its `/state`.
impl Serialize for Resources {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for name in self.scalars() {
            map.serialize_entry(&name, &number(self.scalar(&name)))?;
        }
        for resource in self.list().iter() {
            if !matches!(resource.value, Value::Scalar(_)) {
                map.serialize_entry(resource.name, &Shown(&resource.value).to_string())?;
            }
        }
        map.end()
    }
}

/// An amount as the JSON number that reads as its text.
pub(crate) fn number(amount: Amount) -> serde_json::Number {
    let milli = amount.milli();
    if milli.is_multiple_of(1000) {
        return (milli / 1000).into();
    }
    // Thousandths below 2^50 are exact enough in a double to print as they are.
    let text = amount.to_string();
    text.parse().ok().and_then(serde_json::Number::from_f64).unwrap_or_else(|| 0.into())
}

/// A value in Mesos' text form: `4`, `[31000-32000]`, `{a, b}`.
pub(crate) struct Shown<'v>(pub(crate) &'v Value<'v>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Scalar(amount) => amount.fmt(f),
            Value::Ranges(ranges) => f.write_str(&ranges_text(ranges)),
            Value::Set(items) => {
                let items: Vec<&str> = items.iter().collect();
                write!(f, "{{{}}}", items.join(", "))
            }
        }
    }
}

fn ranges_text(ranges: &Seq<'_, Range>) -> String {
    let ranges: Vec<String> =
        ranges.iter().map(|range| format!("{}-{}", range.begin, range.end)).collect();
    format!("[{}]", ranges.join(", "))
}

/// An attribute's value in Mesos' text form.
pub(crate) fn attribute_text(value: &AttributeValue<'_>) -> String {
    match value {
        AttributeValue::Text(text) => (*text).to_owned(),
        AttributeValue::Scalar(amount) => amount.to_string(),
        AttributeValue::Ranges(ranges) => ranges_text(ranges),
    }
}

/// A list of resources in Mesos' text form: `cpus:1;mem:128;ports:[31000-31000]`.
/// The cluster that an id as clients see it begins with.
pub(crate) fn cluster_of(id: &str) -> Option<u64> {
    let hex = id.split('-').next()?;
    u64::from_str_radix(hex, 16).ok()
}

#[cfg(test)]
pub(crate) fn resources_text(list: &Seq<'_, Resource<'_>>) -> String {
    let shown = list.iter().map(|resource| format!("{}:{}", resource.name, Shown(&resource.value)));
    shown.collect::<Vec<_>>().join(";")
}
