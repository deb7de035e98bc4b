//! Messages as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage, Value};
use serde::Serialize;

/// Writes what is there, and what is told all the same: of that, its default.
pub(super) fn write_message(message: &DynamicMessage, into: &mut Vec<u8>) {
    into.push(b'{');
    let mut first = true;
    for field in message.descriptor().fields() {
        if !message.has_field(&field) && !told_anyway(&field) {
            continue;
        }
        comma(&mut first, into);
        plain(field.name(), into);
        into.push(b':');
        write_value(&message.get_field(&field), &field.kind(), into);
    }
    into.push(b'}');
}

/// Answers whose lists Mesos writes by hand, and so even if they are empty. Mesos:
/// `master/readonly_handler.cpp`, `slave/http.cpp`, `jsonify…`.
const WHOLE: [&str; 4] = ["GetAgents", "GetExecutors", "GetFrameworks", "GetTasks"];

/// True for a declared default and for a list of those answers, unless it is deprecated.
fn told_anyway(field: &FieldDescriptor) -> bool {
    let raw = field.field_descriptor_proto();
    let told = raw.default_value.is_some()
        || field.is_list() && WHOLE.contains(&field.parent_message().name());
    told && !raw.options.as_ref().is_some_and(|options| options.deprecated())
}

fn write_value(value: &Value, kind: &Kind, into: &mut Vec<u8>) {
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
            // In order: theirs differs from run to run.
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by(|one, other| one.0.cmp(other.0));
            let of = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
            into.push(b'{');
            let mut first = true;
            for (key, item) in entries {
                comma(&mut first, into);
                // All maps of the API are by text.
                plain(key.as_str().unwrap_or_default(), into);
                into.push(b':');
                write_value(item, of.as_ref().unwrap_or(kind), into);
            }
            into.push(b'}');
        }
        Value::EnumNumber(number) => match kind.as_enum().and_then(|of| of.get_value(*number)) {
            Some(known) => plain(known.name(), into),
            None => plain(number, into),
        },
        Value::Bytes(bytes) => plain(&STANDARD.encode(bytes), into),
        Value::String(text) => plain(text, into),
        Value::Bool(value) => plain(value, into),
        Value::I32(value) => plain(value, into),
        Value::I64(value) => plain(value, into),
        Value::U32(value) => plain(value, into),
        Value::U64(value) => plain(value, into),
        Value::F32(value) => write_double(f64::from(*value), into),
        Value::F64(value) => write_double(*value, into),
    }
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
    if json.iter().all(plain) {
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
