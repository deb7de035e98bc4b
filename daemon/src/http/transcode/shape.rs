//! What messages of the API have, as tables that the build makes, and messages of any shape: out of
//! protobuf and back into it. The tables are part of the program and take no memory of their own.

use std::collections::BTreeMap;

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use super::budget::Budget;

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

/// Messages inside of each other, as prost takes them.
const DEPTH_MAX: u32 = 100;

/// A message's fields, in the order of their numbers.
pub(super) struct Message {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// One of them.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) label: Label,
    /// Of a list or a map, what each of its values is.
    pub(super) kind: Kind,
    /// What JSON tells when it is not there; empty = nothing.
    pub(super) told: &'static str,
}

/// How often a field is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Optional,
    Required,
    List,
    /// By text.
    Map,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Double,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Bool,
    String,
    Bytes,
    /// By its place among all.
    Message(u16),
    /// The same.
    Choice(u16),
}

/// An enum: names with their numbers.
pub(super) struct Choice {
    values: &'static [(&'static str, i32)],
}

impl Choice {
    pub(super) fn at(place: u16) -> &'static Self {
        &CHOICES[usize::from(place)]
    }

    pub(super) fn number(&self, name: &str) -> Option<i32> {
        self.values.iter().find(|(of, _)| *of == name).map(|(_, number)| *number)
    }

    pub(super) fn name(&self, number: i32) -> Option<&'static str> {
        self.values.iter().find(|(_, of)| *of == number).map(|(name, _)| *name)
    }
}

impl Message {
    pub(super) fn at(place: u16) -> &'static Self {
        &MESSAGES[usize::from(place)]
    }

    /// How many there are.
    pub(super) fn count() -> u16 {
        u16::try_from(MESSAGES.len()).unwrap_or(u16::MAX)
    }

    /// The message of a full name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        let place = MESSAGES.binary_search_by(|of| of.name.cmp(name)).ok()?;
        MESSAGES.get(place)
    }

    /// The place of a field among them.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}

/// A message of any shape.
pub(super) struct Shaped {
    pub(super) of: &'static Message,
    /// What is there, in the order of its fields, by their places. Most come in that order.
    values: Vec<(usize, Value)>,
}

/// What is there of a field.
pub(super) enum Value {
    Double(f64),
    /// Every integer that has a sign, and enums.
    Signed(i64),
    Unsigned(u64),
    Bool(bool),
    String(String),
    Bytes(Vec<u8>),
    Message(Shaped),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

/// It is no such message.
#[derive(Debug)]
pub(super) struct Unshaped;

impl From<prost::DecodeError> for Unshaped {
    fn from(_: prost::DecodeError) -> Self {
        Self
    }
}

impl Shaped {
    pub(super) const fn new(of: &'static Message) -> Self {
        Self { of, values: Vec::new() }
    }

    pub(super) fn get(&self, place: usize) -> Option<&Value> {
        let at = self.values.binary_search_by_key(&place, |(of, _)| *of).ok()?;
        self.values.get(at).map(|(_, value)| value)
    }

    pub(super) fn set(&mut self, place: usize, value: Value) {
        *self.at(place, || Value::Bool(false)) = value;
    }

    /// What is there of a field; `none` if nothing was.
    fn at(&mut self, place: usize, none: impl FnOnce() -> Value) -> &mut Value {
        let at = match self.values.binary_search_by_key(&place, |(of, _)| *of) {
            Ok(at) => at,
            Err(at) => {
                self.values.insert(at, (place, none()));
                at
            }
        };
        &mut self.values[at].1
    }

    /// Reads protobuf; fields that are not known are passed over.
    pub(super) fn read(
        of: &'static Message,
        bytes: &[u8],
        budget: &Budget,
    ) -> Result<Self, Unshaped> {
        let mut message = Self::new(of);
        message.merge(bytes, budget, 0)?;
        Ok(message)
    }

    fn merge(&mut self, mut bytes: &[u8], budget: &Budget, depth: u32) -> Result<(), Unshaped> {
        if depth > DEPTH_MAX {
            return Err(Unshaped);
        }
        while bytes.has_remaining() {
            let (number, wire) = decode_key(&mut bytes)?;
            match self.of.fields.binary_search_by_key(&number, |field| field.number) {
                Ok(place) => self.merge_field(place, wire, &mut bytes, budget, depth)?,
                Err(_) => skip(number, wire, &mut bytes, depth)?,
            }
        }
        Ok(())
    }

    fn merge_field(
        &mut self,
        place: usize,
        wire: WireType,
        bytes: &mut &[u8],
        budget: &Budget,
        depth: u32,
    ) -> Result<(), Unshaped> {
        let Field { label, kind, .. } = self.of.fields[place];
        let item = |wire: WireType, bytes: &mut &[u8]| match budget.takes(kind) {
            true => value(kind, wire, bytes, budget, depth),
            false => Err(Unshaped),
        };
        match label {
            Label::Map => {
                if !budget.takes(kind) {
                    return Err(Unshaped);
                }
                let (key, value) = entry(kind, part(wire, bytes)?, budget, depth)?;
                if let Value::Map(entries) = self.at(place, || Value::Map(BTreeMap::new())) {
                    entries.insert(key, value);
                }
            }
            Label::List => {
                let mut some = Vec::new();
                if wire == WireType::LengthDelimited && wire_of(kind) != wire {
                    let mut packed = part(wire, bytes)?;
                    while packed.has_remaining() {
                        some.push(item(wire_of(kind), &mut packed)?);
                    }
                } else {
                    some.push(item(wire, bytes)?);
                }
                if let Value::List(items) = self.at(place, || Value::List(Vec::new())) {
                    items.append(&mut some);
                }
            }
            Label::Optional | Label::Required => {
                // Parts of a message that comes twice are put together.
                if let Kind::Message(of) = kind {
                    let none = || Value::Message(Self::new(Message::at(of)));
                    if let Value::Message(before) = self.at(place, none) {
                        before.merge(part(wire, bytes)?, budget, depth + 1)?;
                    }
                    return Ok(());
                }
                self.set(place, value(kind, wire, bytes, budget, depth)?);
            }
        }
        Ok(())
    }

    /// As protobuf.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        for (place, value) in &self.values {
            let Field { number, kind, .. } = &self.of.fields[*place];
            let (number, kind) = (*number, *kind);
            match value {
                Value::List(items) => items.iter().for_each(|item| put(number, kind, item, into)),
                Value::Map(entries) => entries.iter().for_each(|(key, value)| {
                    let mut entry = Vec::new();
                    put_bytes(1, key.as_bytes(), &mut entry);
                    put(2, kind, value, &mut entry);
                    put_bytes(number, &entry, into);
                }),
                Value::Double(_)
                | Value::Signed(_)
                | Value::Unsigned(_)
                | Value::Bool(_)
                | Value::String(_)
                | Value::Bytes(_)
                | Value::Message(_) => put(number, kind, value, into),
            }
        }
    }
}

const fn wire_of(kind: Kind) -> WireType {
    match kind {
        Kind::Double => WireType::SixtyFourBit,
        Kind::String | Kind::Bytes | Kind::Message(_) => WireType::LengthDelimited,
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Bool | Kind::Choice(_) => {
            WireType::Varint
        }
    }
}

/// The bytes of what says how long it is.
fn part<'b>(wire: WireType, bytes: &mut &'b [u8]) -> Result<&'b [u8], Unshaped> {
    if wire != WireType::LengthDelimited {
        return Err(Unshaped);
    }
    let len = usize::try_from(decode_varint(bytes)?).map_err(|_| Unshaped)?;
    let (part, rest) = bytes.split_at_checked(len).ok_or(Unshaped)?;
    *bytes = rest;
    Ok(part)
}

fn fixed<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Unshaped> {
    let (first, rest) = bytes.split_first_chunk().ok_or(Unshaped)?;
    *bytes = rest;
    Ok(*first)
}

/// One value. Numbers are cut to their width, as prost does it.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
fn value(
    kind: Kind,
    wire: WireType,
    bytes: &mut &[u8],
    budget: &Budget,
    depth: u32,
) -> Result<Value, Unshaped> {
    if wire != wire_of(kind) {
        return Err(Unshaped);
    }
    Ok(match kind {
        Kind::Double => Value::Double(f64::from_le_bytes(fixed(bytes)?)),
        Kind::Int32 | Kind::Choice(_) => Value::Signed((decode_varint(bytes)? as i32).into()),
        Kind::Int64 => Value::Signed(decode_varint(bytes)? as i64),
        Kind::Uint32 => Value::Unsigned((decode_varint(bytes)? as u32).into()),
        Kind::Uint64 => Value::Unsigned(decode_varint(bytes)?),
        Kind::Bool => Value::Bool(decode_varint(bytes)? != 0),
        Kind::String => {
            let text = std::str::from_utf8(part(wire, bytes)?).map_err(|_| Unshaped)?;
            Value::String(text.to_owned())
        }
        Kind::Bytes => Value::Bytes(part(wire, bytes)?.to_vec()),
        Kind::Message(of) => {
            let mut inner = Shaped::new(Message::at(of));
            inner.merge(part(wire, bytes)?, budget, depth + 1)?;
            Value::Message(inner)
        }
    })
}

/// An entry of a map, whose parts may be left out.
fn entry(
    kind: Kind,
    mut bytes: &[u8],
    budget: &Budget,
    depth: u32,
) -> Result<(String, Value), Unshaped> {
    let (mut key, mut found) = (String::new(), None);
    while bytes.has_remaining() {
        match decode_key(&mut bytes)? {
            (1, wire) => {
                let text = std::str::from_utf8(part(wire, &mut bytes)?).map_err(|_| Unshaped)?;
                text.clone_into(&mut key);
            }
            (2, wire) => found = Some(value(kind, wire, &mut bytes, budget, depth + 1)?),
            (number, wire) => skip(number, wire, &mut bytes, depth)?,
        }
    }
    Ok((key, found.unwrap_or_else(|| none(kind, depth))))
}

/// What a value of a map is that is left out, as prost leaves out those that are nothing but zeros: with
/// whatever must be there.
fn none(kind: Kind, depth: u32) -> Value {
    match kind {
        Kind::Message(of) => {
            let mut message = Shaped::new(Message::at(of));
            let required = message.of.fields.iter().enumerate();
            let required = required.filter(|(_, field)| field.label == Label::Required);
            for (place, field) in required.filter(|_| depth < DEPTH_MAX) {
                message.set(place, none(field.kind, depth + 1));
            }
            Value::Message(message)
        }
        Kind::Double => Value::Double(0.0),
        Kind::Int32 | Kind::Int64 | Kind::Choice(_) => Value::Signed(0),
        Kind::Uint32 | Kind::Uint64 => Value::Unsigned(0),
        Kind::Bool => Value::Bool(false),
        Kind::String => Value::String(String::new()),
        Kind::Bytes => Value::Bytes(Vec::new()),
    }
}

/// Passes over a field that is not known.
fn skip(number: u32, wire: WireType, bytes: &mut &[u8], depth: u32) -> Result<(), Unshaped> {
    match wire {
        WireType::Varint => decode_varint(bytes).map(|_| ())?,
        WireType::SixtyFourBit => fixed::<8>(bytes).map(|_| ())?,
        WireType::ThirtyTwoBit => fixed::<4>(bytes).map(|_| ())?,
        WireType::LengthDelimited => part(wire, bytes).map(|_| ())?,
        WireType::StartGroup if depth < DEPTH_MAX => loop {
            match decode_key(bytes)? {
                (end, WireType::EndGroup) if end == number => break,
                (inner, wire) => skip(inner, wire, bytes, depth + 1)?,
            }
        },
        WireType::StartGroup | WireType::EndGroup => return Err(Unshaped),
    }
    Ok(())
}

/// Writes one value with its number.
fn put(number: u32, kind: Kind, value: &Value, into: &mut Vec<u8>) {
    let mut varint = |bits: u64| {
        encode_key(number, WireType::Varint, into);
        encode_varint(bits, into);
    };
    match value {
        Value::Signed(value) => varint(value.cast_unsigned()),
        Value::Unsigned(value) => varint(*value),
        Value::Bool(value) => varint(u64::from(*value)),
        Value::Double(value) => {
            encode_key(number, wire_of(kind), into);
            into.extend_from_slice(&value.to_le_bytes());
        }
        Value::String(text) => put_bytes(number, text.as_bytes(), into),
        Value::Bytes(bytes) => put_bytes(number, bytes, into),
        Value::Message(inner) => {
            let mut bytes = Vec::new();
            inner.write(&mut bytes);
            put_bytes(number, &bytes, into);
        }
        // Neither is inside of another.
        Value::List(_) | Value::Map(_) => {}
    }
}

fn put_bytes(number: u32, bytes: &[u8], into: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, into);
    encode_varint(bytes.len() as u64, into);
    into.extend_from_slice(bytes);
}
