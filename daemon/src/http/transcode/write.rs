//! Messages as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::shape::{Choice, Kind, Shaped, Value};

/// Writes what is there, and what is told all the same: of that, its default.
pub(super) fn write_message(message: &Shaped, into: &mut Vec<u8>) {
    into.push(b'{');
    let mut first = true;
    for (place, field) in message.of.fields.iter().enumerate() {
        let value = message.get(place);
        if value.is_none() && field.told.is_empty() {
            continue;
        }
        comma(&mut first, into);
        plain(field.name, into);
        into.push(b':');
        match value {
            Some(value) => write_value(value, field.kind, into),
            None => into.extend_from_slice(field.told.as_bytes()),
        }
    }
    into.push(b'}');
}

fn write_value(value: &Value, kind: Kind, into: &mut Vec<u8>) {
    match value {
        Value::Message(inner) => write_message(inner, into),
        Value::List(items) => {
            into.push(b'[');
            let mut first = true;
            for item in items {
                comma(&mut first, into);
                write_value(item, kind, into);
            }
            into.push(b']');
        }
        Value::Map(entries) => {
            into.push(b'{');
            let mut first = true;
            for (key, item) in entries {
                comma(&mut first, into);
                plain(key, into);
                into.push(b':');
                write_value(item, kind, into);
            }
            into.push(b'}');
        }
        Value::Signed(number) => match named(kind, *number) {
            Some(name) => plain(name, into),
            None => plain(number, into),
        },
        Value::Unsigned(value) => plain(value, into),
        Value::Bytes(bytes) => plain(&STANDARD.encode(bytes), into),
        Value::String(text) => plain(text, into),
        Value::Bool(value) => plain(value, into),
        Value::Double(value) => write_double(*value, into),
    }
}

/// The name of a number of an enum, if it is one.
fn named(kind: Kind, number: i64) -> Option<&'static str> {
    let Kind::Choice(of) = kind else { return None };
    Choice::at(of).name(i32::try_from(number).ok()?)
}

/// A number; what JSON has no number for by its name.
fn write_double(value: f64, into: &mut Vec<u8>) {
    if value.is_finite() {
        plain(&value, into);
    } else if value.is_nan() {
        plain("NaN", into);
    } else {
        plain(if value > 0.0 { "Infinity" } else { "-Infinity" }, into);
    }
}

fn comma(first: &mut bool, into: &mut Vec<u8>) {
    if !std::mem::take(first) {
        into.push(b',');
    }
}

fn plain<T: Serialize + ?Sized>(value: &T, into: &mut Vec<u8>) {
    // A vector takes everything, and numbers and text have no way to fail.
    let _ = serde_json::to_writer(into, value);
}

/// JSON in ASCII: whatever the reader takes bytes for, it reads the same. What is not ASCII stands
/// in strings, where it may be escaped.
pub(crate) fn ascii(json: Vec<u8>) -> Vec<u8> {
    let plain = |byte: &u8| byte.is_ascii() && *byte != 0x7f;
    if json.is_ascii() && !json.contains(&0x7f) {
        return json;
    }
    let mut told = Vec::with_capacity(json.len().saturating_mul(2));
    for character in String::from_utf8_lossy(&json).chars() {
        match u8::try_from(character) {
            Ok(byte) if plain(&byte) => told.push(byte),
            Ok(_) | Err(_) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    told.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
    }
    told
}
