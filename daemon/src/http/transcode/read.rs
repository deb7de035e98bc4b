//! Messages out of JSON.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::Value as Json;

use super::shape::{Choice, Field, Kind, Label, Message, Shaped, Value};
use crate::flags::text::Duration;

/// What is wrong, and with which field. Mesos: the sentences of `protobuf::internal::Parser`.
#[derive(Debug)]
pub(super) struct Wrong {
    why: String,
    path: String,
}

impl Wrong {
    fn plain(why: String) -> Self {
        Self { why, path: String::new() }
    }

    fn of(json: &Json) -> Self {
        let what = match json {
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(_) => "number",
            Json::String(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        };
        Self::plain(format!("Not expecting a JSON {what}"))
    }

    fn within(self, field: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { path: format!("{field}{dot}{}", self.path), ..self }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for field '{}'", self.why, self.path)
    }
}

/// Takes in what JSON says of a message.
pub(super) fn read_message(json: &Json, into: &mut Shaped) -> Result<(), Wrong> {
    if into.of.name == "google.protobuf.Duration" {
        return read_duration(json, into);
    }
    let Some(object) = json.as_object() else { return Err(Wrong::of(json)) };
    for (place, field) in into.of.fields.iter().enumerate() {
        let Some(json) = object.get(field.name).filter(|json| !json.is_null()) else { continue };
        let value = read_field(json, field).map_err(|wrong| wrong.within(field.name))?;
        if let Some(value) = value {
            into.set(place, value);
        }
    }
    Ok(())
}

/// A duration, which Mesos reads as an object of seconds and nanos, shows in its documentation as
/// `10mins`, and JSON has as `600s`: all three are understood.
fn read_duration(json: &Json, into: &mut Shaped) -> Result<(), Wrong> {
    let none = || Wrong::plain("Expecting a duration such as 10mins".to_owned());
    let (seconds, nanos) = match (json, json.as_object()) {
        (Json::String(text), _) => {
            let us = text.parse::<Duration>().map_err(Wrong::plain)?.us;
            (us / 1_000_000, us % 1_000_000 * 1_000)
        }
        (_, Some(object)) => {
            let part = |name: &str| object.get(name).map_or(Some(0), Json::as_u64);
            (part("seconds").ok_or_else(none)?, part("nanos").ok_or_else(none)?)
        }
        _ => return Err(none()),
    };
    let nanos = i32::try_from(nanos).map_err(|_| none())?;
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    for (name, value) in [("seconds", seconds), ("nanos", nanos.into())] {
        if let Some(place) = into.of.place(name) {
            into.set(place, Value::Signed(value));
        }
    }
    Ok(())
}

/// A field's value; none for names of an enum that are not known.
fn read_field(json: &Json, field: &Field) -> Result<Option<Value>, Wrong> {
    match field.label {
        Label::Map => {
            let object = json.as_object().ok_or_else(|| Wrong::of(json))?;
            let entries = object.iter().filter_map(|(key, json)| {
                let value = read_value(json, field.kind).transpose()?;
                Some(value.map(|value| (key.clone(), value)))
            });
            Ok(Some(Value::Map(entries.collect::<Result<_, Wrong>>()?)))
        }
        Label::List => {
            let items = json.as_array().ok_or_else(|| Wrong::of(json))?;
            let items = items.iter().filter_map(|json| read_value(json, field.kind).transpose());
            Ok(Some(Value::List(items.collect::<Result<_, Wrong>>()?)))
        }
        Label::Optional | Label::Required => read_value(json, field.kind),
    }
}

/// A single value. Numbers and truth may be given as text, as Mesos' clients in some languages do.
fn read_value(json: &Json, kind: Kind) -> Result<Option<Value>, Wrong> {
    let wrong = || Wrong::of(json);
    let signed = |number: Option<i64>| number.map(Value::Signed).ok_or_else(wrong);
    Ok(Some(match kind {
        Kind::Message(of) => {
            let mut message = Shaped::new(Message::at(of));
            read_message(json, &mut message)?;
            Value::Message(message)
        }
        Kind::Choice(of) => match json.as_str().map(|name| Choice::at(of).number(name)) {
            Some(Some(known)) => Value::Signed(known.into()),
            Some(None) => return Ok(None),
            None => signed(number::<i32>(json).map(i64::from))?,
        },
        Kind::String => Value::String(json.as_str().ok_or_else(wrong)?.to_owned()),
        Kind::Bytes => {
            let text = json.as_str().ok_or_else(wrong)?;
            let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
            Value::Bytes(bytes.map_err(|_| Wrong::plain("Expecting base64".to_owned()))?)
        }
        Kind::Bool => Value::Bool(
            match json.as_str() {
                Some(text) => text.parse().ok(),
                None => json.as_bool(),
            }
            .ok_or_else(wrong)?,
        ),
        Kind::Double => Value::Double(double(json).ok_or_else(wrong)?),
        Kind::Int32 => signed(number::<i32>(json).map(i64::from))?,
        Kind::Int64 => signed(number(json))?,
        Kind::Uint32 => Value::Unsigned(number::<u32>(json).ok_or_else(wrong)?.into()),
        Kind::Uint64 => Value::Unsigned(number(json).ok_or_else(wrong)?),
    }))
}

/// An integer that fits.
fn number<T: TryFrom<i128>>(json: &Json) -> Option<T> {
    let number = match json {
        Json::String(text) => text.parse().ok()?,
        Json::Number(number) => number.as_i128().or_else(|| whole(number.as_f64()?))?,
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => return None,
    };
    T::try_from(number).ok()
}

/// `1e3` and `5.0` are integers, too.
fn whole(value: f64) -> Option<i128> {
    // Beyond this not every integer can be told from the next.
    let exact = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
    #[allow(clippy::cast_possible_truncation)]
    exact.then_some(value as i128)
}

fn double(json: &Json) -> Option<f64> {
    json.as_str().map_or_else(|| json.as_f64(), |text| text.parse().ok())
}
