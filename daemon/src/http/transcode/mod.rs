//! Messages of the API from and to JSON, with the conventions of Mesos' clients: field names as in
//! the `.proto` files, enums by name, bytes as base64, 64-bit numbers as numbers; unknown fields
//! and null are as good as absent; declared defaults are told, and of some answers empty lists.
//! Mesos: stout's `protobuf.hpp`.

mod budget;
mod known;
mod read;
mod shape;
mod write;

use std::fmt;

use prost::{Message, Name};

use budget::{Budget, MESSAGE_MAX};
use read::read_message;
use shape::{Label, Shaped, Value};
pub(crate) use write::ascii;
use write::write_message;

/// Missing fields that one refusal names.
const MISSING_MAX: usize = 20;

/// Why bytes are no message, in Mesos' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadMessage {
    /// No JSON at all.
    Json(String),
    /// JSON, but not of this message.
    Convert(&'static str, String),
    /// No protobuf of this message.
    Protobuf(&'static str),
    /// Fields that must be there are not: some of them.
    Missing(&'static str, Vec<String>),
    /// It has more parts than there is memory for.
    Large,
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
            Self::Large => write!(
                f,
                "the parts of a message have at most {MESSAGE_MAX} bytes of memory: \
                 send it as more than one"
            ),
        }
    }
}

/// Reads a message from JSON.
pub(crate) fn from_json<M: Message + Name + Default>(json: &[u8]) -> Result<M, BadMessage> {
    // Parsed whole first: what is no JSON is told apart from JSON of something else.
    let budget = Budget::of(MESSAGE_MAX);
    let value = known::read(json, described::<M>(), &budget);
    if budget.is_spent() {
        return Err(BadMessage::Large);
    }
    let value = value.map_err(|error| BadMessage::Json(error.to_string()))?;
    if !value.is_object() {
        return Err(BadMessage::Convert(M::NAME, "Expecting a JSON object".to_owned()));
    }
    let mut message = Shaped::new(described::<M>());
    read_message(&value, &mut message)
        .map_err(|wrong| BadMessage::Convert(M::NAME, wrong.to_string()))?;
    require::<M>(&message)?;
    let mut bytes = Vec::new();
    message.write(&mut bytes);
    M::decode(&*bytes).map_err(|_| BadMessage::Protobuf(M::NAME))
}

/// Reads a message from its bytes. What must be there is looked for only when the message could
/// not be told from one in which it is.
pub(crate) fn from_protobuf<M: Message + Name + Default>(bytes: &[u8]) -> Result<M, BadMessage> {
    let budget = Budget::of(MESSAGE_MAX);
    let message = Shaped::read(described::<M>(), bytes, &budget);
    if budget.is_spent() {
        return Err(BadMessage::Large);
    }
    let message = message.map_err(|_| BadMessage::Protobuf(M::NAME))?;
    require::<M>(&message).map_err(|_| BadMessage::Protobuf(M::NAME))?;
    M::decode(bytes).map_err(|_| BadMessage::Protobuf(M::NAME))
}

/// Writes a message as JSON, in ASCII alone.
pub(crate) fn to_json<M: Message + Name>(message: &M) -> Vec<u8> {
    let whole = Shaped::read(described::<M>(), &message.encode_to_vec(), &Budget::boundless());
    let whole = whole.unwrap_or_else(|_| {
        mesita_core::stop(line!(), "a message that is not what it is described as");
    });
    let mut text = Vec::new();
    write_message(&whole, &mut text);
    ascii(text)
}

fn described<M: Name>() -> &'static shape::Message {
    let found = shape::Message::named(&M::full_name());
    found.unwrap_or_else(|| mesita_core::stop(line!(), "a message that is not of the API"))
}

fn require<M: Name>(message: &Shaped) -> Result<(), BadMessage> {
    let mut missing = Vec::new();
    look_for_missing(message, "", &mut missing);
    if missing.is_empty() { Ok(()) } else { Err(BadMessage::Missing(M::NAME, missing)) }
}

/// Collects the paths of required fields that are not there, as many as a sentence holds.
fn look_for_missing(message: &Shaped, path: &str, missing: &mut Vec<String>) {
    for (place, field) in message.of.fields.iter().enumerate() {
        if missing.len() >= MISSING_MAX {
            return;
        }
        let at = format!("{path}{}", field.name);
        match message.get(place) {
            None if field.label == Label::Required => missing.push(at),
            Some(Value::Message(inner)) => look_for_missing(inner, &format!("{at}."), missing),
            Some(Value::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    if missing.len() >= MISSING_MAX {
                        return;
                    }
                    if let Value::Message(inner) = item {
                        look_for_missing(inner, &format!("{at}[{index}]."), missing);
                    }
                }
            }
            Some(Value::Map(entries)) => {
                for item in entries.values() {
                    if let Value::Message(inner) = item {
                        look_for_missing(inner, &format!("{at}[]."), missing);
                    }
                }
            }
            None | Some(_) => {}
        }
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
    fn numbers_and_truth_are_read_from_text_and_what_is_wrong_is_named() {
        let of = |info: &str| {
            let call = format!(
                r#"{{"type":"SUBSCRIBE","subscribe":{{"framework_info":{{"user":"u","name":"n",{info}}}}}}}"#
            );
            let call: Result<Call, _> = from_json(call.as_bytes());
            call.map(|call| call.subscribe.unwrap().framework_info).map_err(|bad| bad.to_string())
        };
        let info = of(r#""checkpoint":"true","failover_timeout":"1.5""#).unwrap();
        assert_eq!((info.checkpoint, info.failover_timeout), (Some(true), Some(1.5)));
        assert_eq!(of(r#""failover_timeout":2e1"#).unwrap().failover_timeout, Some(20.0));
        for (info, why) in [
            (r#""checkpoint":"yes""#, "Not expecting a JSON string for field '{}checkpoint'"),
            (r#""roles":"a""#, "Not expecting a JSON string for field '{}roles'"),
            (r#""id":[]"#, "Not expecting a JSON array for field '{}id'"),
            (r#""id":{"value":7}"#, "Not expecting a JSON number for field '{}id.value'"),
        ] {
            let path = why.replace("{}", "subscribe.framework_info.");
            let whole = format!("Failed to convert JSON into Call protobuf: {path}");
            assert_eq!(of(info).unwrap_err(), whole);
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_told_with_its_field() {
        use crate::pb::mesos::v1::value::Ranges;
        for number in ["-1", "1.5", "18446744073709551616", "\"-1\""] {
            let ranges = format!(r#"{{"range":[{{"begin":{number},"end":5}}]}}"#);
            let bad = from_json::<Ranges>(ranges.as_bytes()).unwrap_err().to_string();
            assert!(bad.starts_with("Failed to convert JSON into Ranges protobuf: "), "{bad}");
            assert!(bad.ends_with(" for field 'range.begin'"), "{bad}");
        }
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
    fn a_message_of_many_small_parts_is_refused_before_it_takes_memory() {
        let many = |item: &str, count: usize| vec![item; count].join(",");
        let accept = |count| format!(r#"{{"accept":{{"operations":[{}]}}}}"#, many("{}", count));
        assert!(from_json::<Call>(accept(1_000).as_bytes()).is_ok());
        for (text, path) in [
            (accept(100_000), "a list"),
            (format!(r#"{{"revive":{{"roles":[{}]}}}}"#, many("\"\"", 1_000_000)), "texts"),
        ] {
            assert_eq!(from_json::<Call>(text.as_bytes()), Err(BadMessage::Large), "{path}");
        }
        // The same in protobuf: two bytes an operation.
        let operations = [0x12, 0].repeat(100_000);
        let mut call = vec![0x22];
        prost::encoding::encode_varint(operations.len() as u64, &mut call);
        call.extend(operations);
        assert_eq!(from_protobuf::<Call>(&call), Err(BadMessage::Large));
    }

    #[test]
    fn a_refusal_names_some_of_what_is_missing() {
        let ids = vec!["{}"; 10_000].join(",");
        let bad = from_json::<Call>(format!(r#"{{"decline":{{"offer_ids":[{ids}]}}}}"#).as_bytes());
        let Err(BadMessage::Missing(_, paths)) = bad else { panic!("{bad:?}") };
        assert_eq!(paths.len(), MISSING_MAX);
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
        // prost leaves out a value of a map that is nothing but zeros.
        let none = quota::QuotaConfig {
            role: "r".to_owned(),
            limits: [("cpus".to_owned(), value::Scalar { value: 0.0 })].into(),
            ..Default::default()
        };
        let told = text(to_json(&none));
        assert_eq!(told, r#"{"role":"r","limits":{"cpus":{"value":0.0}}}"#);
        let read: quota::QuotaConfig = from_json(told.as_bytes()).unwrap();
        assert_eq!(read, none);
        assert_eq!(from_protobuf::<quota::QuotaConfig>(&none.encode_to_vec()).unwrap(), none);
    }

    #[test]
    fn json_is_ascii_whatever_its_strings_hold() {
        let told = ascii("{\"é\u{7f}\":\"😀\"}".as_bytes().to_vec());
        assert_eq!(told, br#"{"\u00e9\u007f":"\ud83d\ude00"}"#);
    }
}
