//! Messages of the API from and to JSON, with the conventions of Mesos' clients: field names as in
//! the `.proto` files, enums by name, bytes as base64, 64-bit numbers as numbers; unknown fields
//! and null are as good as absent; declared defaults are told. Mesos: stout's `protobuf.hpp`.

use std::fmt;
use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, MessageDescriptor,
    ReflectMessage, SerializeOptions, Value,
};
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
const WRITE: SerializeOptions = SerializeOptions::new()
    .stringify_64_bit_integers(false)
    .use_proto_field_name(true)
    .skip_default_fields(true);

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
    let mut value = value;
    let message = if durations(&mut value).map_err(convert)? {
        DynamicMessage::deserialize_with_options(described::<M>(), value, &READ)
            .map_err(|error| convert(error.to_string()))?
    } else {
        drop(value);
        let mut reader = Deserializer::from_slice(json);
        DynamicMessage::deserialize_with_options(described::<M>(), &mut reader, &READ)
            .map_err(|error| convert(error.to_string()))?
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
    declare(&mut whole);
    let mut text = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut text, Ascii);
    // A vector takes everything, and our own messages have no way to fail.
    let _ = whole.serialize_with_options(&mut writer, &WRITE);
    text
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

/// Sets every field that is not there and declares a default, unless it is deprecated.
fn declare(message: &mut DynamicMessage) {
    let described = message.descriptor();
    for field in described.fields() {
        if message.has_field(&field) {
            match message.get_field_mut(&field) {
                Value::Message(inner) => declare(inner),
                Value::List(items) => items.iter_mut().for_each(declare_value),
                Value::Map(entries) => entries.values_mut().for_each(declare_value),
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
        } else if declares(&field) {
            message.set_field(&field, field.default_value());
        }
    }
}

fn declare_value(value: &mut Value) {
    if let Value::Message(inner) = value {
        declare(inner);
    }
}

fn declares(field: &FieldDescriptor) -> bool {
    let raw = field.field_descriptor_proto();
    let deprecated = raw.options.as_ref().is_some_and(|options| options.deprecated());
    raw.default_value.is_some() && !deprecated
}

/// JSON in ASCII: whatever the reader takes bytes for, it reads the same.
struct Ascii;

impl serde_json::ser::Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        for character in fragment.chars() {
            if character.is_ascii() && character != '\u{7f}' {
                writer.write_all(&[u8::try_from(character).unwrap_or(b'?')])?;
                continue;
            }
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
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
}
