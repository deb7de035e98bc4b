//! JSON as a tree of what a message has. All else is read past and takes no memory, however much of it
//! somebody sends: of a known field whose value is of the wrong kind there is no more than its kind.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value as Json};

use super::budget::Budget;
use super::shape::{Field, Kind, Label, Message};

/// Reads JSON, up to its end, as far as a message has it.
pub(super) fn read(json: &[u8], of: &'static Message, budget: &Budget) -> serde_json::Result<Json> {
    // What is read past would not be looked at.
    let text = std::str::from_utf8(json).map_err(Error::custom)?;
    let mut from = serde_json::Deserializer::from_str(text);
    let known = Known { what: What::Message(of), budget };
    let value = known.deserialize(&mut from)?;
    from.end()?;
    Ok(value)
}

/// What of a value is kept, as long as there is memory for it.
#[derive(Clone, Copy)]
struct Known<'b> {
    what: What,
    budget: &'b Budget,
}

/// What of it is kept.
#[derive(Clone, Copy)]
enum What {
    /// Fields that are this message's.
    Message(&'static Message),
    /// All items, each of that kind.
    List(Kind),
    /// All entries, each of that kind.
    Map(Kind),
    /// Anything that is neither a list nor an object.
    Single,
}

impl What {
    fn of(field: &Field) -> Self {
        match field.label {
            Label::List => Self::List(field.kind),
            Label::Map => Self::Map(field.kind),
            Label::Optional | Label::Required => Self::one(field.kind),
        }
    }

    fn one(kind: Kind) -> Self {
        match kind {
            Kind::Message(place) => Self::Message(Message::at(place)),
            Kind::Double
            | Kind::Int32
            | Kind::Int64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Bool
            | Kind::String
            | Kind::Bytes
            | Kind::Choice(_) => Self::Single,
        }
    }
}

impl Known<'_> {
    /// What is inside of it.
    const fn within(self, what: What) -> Self {
        Self { what, ..self }
    }

    fn takes<E: Error>(self, kind: Kind) -> Result<(), E> {
        let message = "it has more parts than there is memory for";
        if self.budget.takes(kind) { Ok(()) } else { Err(E::custom(message)) }
    }
}

impl<'de> DeserializeSeed<'de> for Known<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Json, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Known<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        if let What::List(kind) = self.what {
            while let Some(item) = from.next_element_seed(self.within(What::one(kind)))? {
                self.takes(kind)?;
                items.push(item);
            }
        } else {
            while from.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut entries = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            let kept = match self.what {
                What::Message(of) => of.place(&key).map(|place| What::of(&of.fields[place])),
                What::Map(kind) => {
                    self.takes(kind)?;
                    Some(What::one(kind))
                }
                What::List(_) | What::Single => None,
            };
            match kept {
                Some(kept) => drop(entries.insert(key, from.next_value_seed(self.within(kept))?)),
                None => drop(from.next_value::<IgnoredAny>()?),
            }
        }
        Ok(entries.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(name: &str) -> &'static Message {
        Message::named(name).unwrap()
    }

    #[test]
    fn what_a_message_does_not_have_is_read_past() {
        let text = br#"{"type":"DECLINE","x":[[1,{"y":[]}],"a"],"decline":{"z":{},"offer_ids":
            [{"value":"o","w":1},7],"filters":{"refuse_seconds":"2.5"}},"kill":[1,2],"n":-1.5}"#;
        let kept = read(text, of("mesos.v1.scheduler.Call"), &Budget::boundless()).unwrap();
        let wanted = json!({"type": "DECLINE", "kill": [], "decline":
            {"offer_ids": [{"value": "o"}, 7], "filters": {"refuse_seconds": "2.5"}}});
        assert_eq!(kept, wanted);
        let map = br#"{"role":"r","limits":{"cpus":{"value":1.5,"x":1},"mem":{"value":2}}}"#;
        let kept = read(map, of("mesos.v1.quota.QuotaConfig"), &Budget::boundless()).unwrap();
        let wanted = json!({"role": "r", "limits": {"cpus": {"value": 1.5}, "mem": {"value": 2}}});
        assert_eq!(kept, wanted);
    }

    #[test]
    fn what_is_read_past_must_be_json_all_the_same() {
        let call = of("mesos.v1.scheduler.Call");
        for bad in [&br#"{"x":[1,}"#[..], b"{\"x\":\"\xff\"}", b"{} {}", b"{\"x\":tru}", b""] {
            let read = read(bad, call, &Budget::boundless());
            assert!(read.is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(read(b"[1,2,3]", call, &Budget::boundless()).unwrap(), json!([]));
    }
}
