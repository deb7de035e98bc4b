//! Messages of the API from and to JSON, with the conventions of Mesos' clients: field names as in
//! the `.proto` files, enums by name, bytes as base64, 64-bit numbers as numbers; unknown fields
//! and null are as good as absent; declared defaults are told, and of some answers empty lists.
//! Mesos: stout's `protobuf.hpp`.

use std::fmt;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor,
    ReflectMessage, Value,
};
use serde::Serialize;
use serde_json::Deserializer;

use crate::flags::text::Duration;
use crate::pb;

/// Made of the first message in JSON: a daemon that nobody speaks JSON with does without.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(pb::API);
    // It was made by the build of this very binary.
    pool.unwrap_or_else(|_| mesita_core::stop(line!(), "descriptions that cannot be read"))
});

const READ: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(false);

/// Why bytes are no message, in Mesos' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadMessage {
    /// No JSON at all.
    Json(String),
    /// JSON, but not of this message.
    Convert(&'static str, String),
    /// No protobuf of this message.
    Protobuf(&'static str),
    /// Fields that must be there are not.
    Missing(&'static str, Vec<String>),
}

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(why) => write!(f, "Failed to parse body into JSON: {why}"),
            Self::Convert(name, why) => {
                write!(f, "Failed to convert JSON into {name} protobuf: {why}")
            }
            Self::Protobuf(name) => write!(f, "Failed to parse body into {name} protobuf"),
            Self::Missing(name, paths) => write!(
                f,
                "Failed to convert JSON into {name} protobuf: Missing required fields: {}",
                paths.join(", ")
            ),
        }
    }
}

/// Reads a message from JSON.
pub(crate) fn from_json<M: Message + Name + Default>(json: &[u8]) -> Result<M, BadMessage> {
    // Parsed whole first: what is no JSON is told apart from JSON of something else.
    let value: serde_json::Value =
        serde_json::from_slice(json).map_err(|error| BadMessage::Json(error.to_string()))?;
    if !value.is_object() {
        return Err(BadMessage::Convert(M::NAME, "Expecting a JSON object".to_owned()));
    }
    let convert = |why: String| BadMessage::Convert(M::NAME, why);
    let of = described::<M>();
    let mut value = value;
    let read = if durations(&mut value).map_err(convert)? {
        DynamicMessage::deserialize_with_options(of.clone(), value, &READ)
    } else {
        drop(value);
        let mut reader = Deserializer::from_slice(json);
        DynamicMessage::deserialize_with_options(of.clone(), &mut reader, &READ)
    };
    let message = match read {
        Ok(message) => message,
        Err(error) => {
            // It was read before.
            let mut value: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
            durations(&mut value).map_err(convert)?;
            if !booleans(&mut value, &Kind::Message(of.clone())) {
                return Err(convert(error.to_string()));
            }
            DynamicMessage::deserialize_with_options(of, value, &READ)
                .map_err(|error| convert(error.to_string()))?
        }
    };
    require::<M>(&message)?;
    let bytes = message.encode_to_vec();
    M::decode(&*bytes).map_err(|_| BadMessage::Protobuf(M::NAME))
}

/// Fields of `google.protobuf.Duration`, which Mesos reads as an object of seconds and nanos, shows
/// in its documentation as `10mins`, and JSON has as `600s`: all three are understood.
const DURATIONS: [&str; 1] = ["/drain_agent/max_grace_period"];

/// Writes those fields as JSON has them; true when there are any.
fn durations(value: &mut serde_json::Value) -> Result<bool, String> {
    let mut found = false;
    for path in DURATIONS {
        let Some(field) = value.pointer_mut(path).filter(|field| !field.is_null()) else {
            continue;
        };
        let us = match field.as_str() {
            Some(text) => text.parse::<Duration>()?.us,
            None => {
                let part = |name: &str| {
                    let number = field.get(name).map_or(Some(0), serde_json::Value::as_u64);
                    number.ok_or_else(|| format!("'{path}' is no duration"))
                };
                if !field.is_object() {
                    return Err(format!("'{path}' is no duration"));
                }
                part("seconds")?.saturating_mul(1_000_000).saturating_add(part("nanos")? / 1_000)
            }
        };
        *field = format!("{}.{:06}s", us / 1_000_000, us % 1_000_000).into();
        found = true;
    }
    Ok(found)
}

/// Writes what is true or false as text, which stout reads, too, as JSON has it; true when there
/// was some.
fn booleans(value: &mut serde_json::Value, kind: &Kind) -> bool {
    let any = |found: bool, one: bool| found || one;
    if let Some(items) = value.as_array_mut() {
        return items.iter_mut().map(|item| booleans(item, kind)).fold(false, any);
    }
    if matches!(kind, Kind::Bool) {
        let told = value.as_str().and_then(|text| text.parse::<bool>().ok());
        let Some(told) = told else { return false };
        *value = told.into();
        return true;
    }
    let (Some(of), Some(fields)) = (kind.as_message(), value.as_object_mut()) else { return false };
    if of.is_map_entry() {
        let kind = of.map_entry_value_field().kind();
        return fields.values_mut().map(|item| booleans(item, &kind)).fold(false, any);
    }
    let each = of
        .fields()
        .filter_map(|field| Some(booleans(fields.get_mut(field.name())?, &field.kind())));
    each.fold(false, any)
}

/// Reads a message from its bytes. What must be there is looked for only when the message could
/// not be told from one in which it is.
pub(crate) fn from_protobuf<M: Message + Name + Default>(bytes: &[u8]) -> Result<M, BadMessage> {
    let message = DynamicMessage::decode(described::<M>(), bytes)
        .map_err(|_| BadMessage::Protobuf(M::NAME))?;
    require::<M>(&message).map_err(|_| BadMessage::Protobuf(M::NAME))?;
    M::decode(bytes).map_err(|_| BadMessage::Protobuf(M::NAME))
}

/// Writes a message as JSON, in ASCII alone.
pub(crate) fn to_json<M: Message + Name>(message: &M) -> Vec<u8> {
    let mut whole = DynamicMessage::new(described::<M>());
    if whole.transcode_from(message).is_err() {
        mesita_core::stop(line!(), "a message that is not what it is described as");
    }
    let mut text = Vec::new();
    write_message(&whole, &mut text);
    ascii(text)
}

fn described<M: Name>() -> MessageDescriptor {
    let found = POOL.get_message_by_name(&M::full_name());
    found.unwrap_or_else(|| mesita_core::stop(line!(), "a message that is not of the API"))
}

fn require<M: Name>(message: &DynamicMessage) -> Result<(), BadMessage> {
    let mut missing = Vec::new();
    look_for_missing(message, "", &mut missing);
    if missing.is_empty() { Ok(()) } else { Err(BadMessage::Missing(M::NAME, missing)) }
}

/// Collects the paths of required fields that are not there.
fn look_for_missing(message: &DynamicMessage, path: &str, missing: &mut Vec<String>) {
    for field in message.descriptor().fields() {
        if !message.has_field(&field) {
            if field.is_required() {
                missing.push(format!("{path}{}", field.name()));
            }
            continue;
        }
        let at = format!("{path}{}", field.name());
        match &*message.get_field(&field) {
            Value::Message(inner) => look_for_missing(inner, &format!("{at}."), missing),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Message(inner) = item {
                        look_for_missing(inner, &format!("{at}[{index}]."), missing);
                    }
                }
            }
            Value::Map(entries) => {
                for item in entries.values() {
                    if let Value::Message(inner) = item {
                        look_for_missing(inner, &format!("{at}[]."), missing);
                    }
                }
            }
            Value::Bool(_)
            | Value::I32(_)
            | Value::I64(_)
            | Value::U32(_)
            | Value::U64(_)
            | Value::F32(_)
            | Value::F64(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::EnumNumber(_) => {}
        }
    }
}

/// Writes what is there, and what is told all the same: of that, its default.
fn write_message(message: &DynamicMessage, into: &mut Vec<u8>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::mesos::v1::scheduler::{Call, call};
    use crate::pb::mesos::v1::{CommandInfo, Filters, TaskStatus};

    #[test]
    fn a_call_is_read_as_the_clients_of_mesos_write_it() {
        let json = br#"{"type":"DECLINE","framework_id":{"value":"f"},"unknown":{"a":[1]},
            "decline":{"offer_ids":[{"value":"o"}],"filters":{"refuse_seconds":"2.5"}},
            "kill":null}"#;
        let call: Call = from_json(json).unwrap();
        assert_eq!(call.r#type(), call::Type::Decline);
        assert_eq!(call.kill, None);
        let decline = call.decline.unwrap();
        assert_eq!(decline.filters, Some(Filters { refuse_seconds: Some(2.5) }));
        assert_eq!(decline.offer_ids[0].value, "o");
    }

    #[test]
    fn what_is_true_may_be_text() {
        let json = br#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n",
            "checkpoint":"true","failover_timeout":"1.5"}}}"#;
        let call: Call = from_json(json).unwrap();
        assert_eq!(call.subscribe.unwrap().framework_info.checkpoint, Some(true));
        let bad = from_json::<Call>(
            br#"{"subscribe":{"framework_info":{"user":"u","name":"n","checkpoint":"yes"}}}"#,
        );
        assert!(matches!(bad, Err(BadMessage::Convert(..))));
    }

    #[test]
    fn an_unknown_name_of_an_enum_is_dropped() {
        let call: Call = from_json(br#"{"type":"FOO"}"#).unwrap();
        assert_eq!(call.r#type, None);
    }

    #[test]
    fn what_is_missing_is_told_with_its_path() {
        let bad = from_json::<Call>(br#"{"subscribe":{"framework_info":{"name":"x"}}}"#);
        assert_eq!(
            bad.unwrap_err().to_string(),
            "Failed to convert JSON into Call protobuf: Missing required fields: \
             subscribe.framework_info.user"
        );
        let bad = from_json::<Call>(br#"{"accept":{"offer_ids":[{"value":"a"},{}]}}"#);
        assert!(bad.unwrap_err().to_string().ends_with("accept.offer_ids[1].value"));
        // The same message in protobuf: accept (4) with an offer id (1) that is empty.
        let bad = from_protobuf::<Call>(&[0x22, 2, 0x0a, 0]);
        assert_eq!(bad.unwrap_err().to_string(), "Failed to parse body into Call protobuf");
    }

    #[test]
    fn what_is_no_json_is_told_apart_from_json_of_something_else() {
        let bad = from_json::<Call>(b"{not json").unwrap_err().to_string();
        assert!(bad.starts_with("Failed to parse body into JSON: "), "{bad}");
        let bad = from_json::<Call>(b"[]").unwrap_err().to_string();
        assert_eq!(bad, "Failed to convert JSON into Call protobuf: Expecting a JSON object");
        let deep = "[".repeat(100_000);
        assert!(matches!(from_json::<Call>(deep.as_bytes()), Err(BadMessage::Json(_))));
    }

    #[test]
    fn declared_defaults_are_written_and_others_are_not() {
        let command =
            CommandInfo { value: Some("\u{e9}\u{1f600}".to_owned()), ..Default::default() };
        let text = String::from_utf8(to_json(&command)).unwrap();
        assert_eq!(text, r#"{"value":"\u00e9\ud83d\ude00","shell":true}"#);
        let uuid = Some(vec![0xff; 3]);
        let status = TaskStatus { uuid, timestamp: Some(1.5), ..Default::default() };
        let text = String::from_utf8(to_json(&status)).unwrap();
        assert!(text.contains(r#""uuid":"////""#) && text.contains(r#""timestamp":1.5"#), "{text}");
    }

    #[test]
    fn lists_that_mesos_tells_though_they_are_empty_are_told() {
        use crate::pb::mesos::v1::{agent, master, quota, value};
        let text = |told: Vec<u8>| String::from_utf8(told).unwrap();
        let told = text(to_json(&master::response::GetTasks::default()));
        assert_eq!(told, r#"{"tasks":[],"completed_tasks":[],"unreachable_tasks":[]}"#);
        let told = text(to_json(&agent::response::GetExecutors::default()));
        assert_eq!(told, r#"{"executors":[],"completed_executors":[]}"#);
        assert_eq!(text(to_json(&master::response::GetOperations::default())), "{}");
        let limits = ["mem", "cpus"].map(|name| (name.to_owned(), value::Scalar { value: 1.5 }));
        let quota = quota::QuotaConfig {
            role: "r".to_owned(),
            limits: limits.into_iter().collect(),
            ..Default::default()
        };
        let told = text(to_json(&quota));
        assert_eq!(told, r#"{"role":"r","limits":{"cpus":{"value":1.5},"mem":{"value":1.5}}}"#);
    }

    #[test]
    fn json_is_ascii_whatever_its_strings_hold() {
        let told = ascii("{\"é\u{7f}\":\"😀\"}".as_bytes().to_vec());
        assert_eq!(told, br#"{"\u00e9\u007f":"\ud83d\ude00"}"#);
    }
}
