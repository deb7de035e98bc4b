//! Mesos' text form of resources and attributes (`Resources::parse`, `Attributes::parse`):
//! `cpus:4;mem(web):512;ports:[31000-32000,33000-33100];racks:{a,b}`.
//!
//! Nothing is copied: an entry borrows the text, and its ranges and set items are read when they
//! are walked. The JSON form is the daemon's.

use core::fmt;

use super::amount::{Amount, NotAnAmount};
use crate::wire::resource::Range;

/// One entry: `name(role):value`. Spaces around parts are not part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'t> {
    /// The resource or attribute.
    pub name: &'t str,
    /// The role it is reserved for by the agent's flags; `*` = anyone's.
    pub role: &'t str,
    /// What is said of it.
    pub value: TextValue<'t>,
}

/// What an entry says. Ranges and sets were checked when the entry was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextValue<'t> {
    /// A number.
    Scalar(Amount),
    /// The inside of `[…]`: see [`ranges`].
    Ranges(&'t str),
    /// The inside of `{…}`: see [`items`].
    Set(&'t str),
    /// Anything else: only attributes may say that.
    Text(&'t str),
}

/// Why text is no list of resources, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadText<'t> {
    /// The entry as it was written.
    pub entry: &'t str,
    /// What is wrong with it.
    pub fault: TextFault,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextFault {
    /// There is no `:` between name and value.
    NoColon,
    /// The name is empty.
    NoName,
    /// Name, role or value has brackets that do not match.
    Brackets,
    /// A number below zero or above 2^50 thousandths.
    Number(NotAnAmount),
    /// Not a number, where only numbers, ranges and sets are allowed.
    NotAResource,
    /// A range that is no `begin-end`, runs backwards, or overlaps the one before it.
    BadRange,
    /// A set names an item twice, or an empty one.
    BadSet,
}

impl fmt::Display for TextFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoColon => f.write_str("expected name:value"),
            Self::NoName => f.write_str("the name is empty"),
            Self::Brackets => f.write_str("brackets do not match"),
            Self::Number(why) => write!(f, "the number is {why}"),
            Self::NotAResource => f.write_str(
                "expected a number, [begin-end,...] or {item,...}; text is only for attributes",
            ),
            Self::BadRange => {
                f.write_str("expected [begin-end,...], ascending and without overlap")
            }
            Self::BadSet => f.write_str("expected {item,...}, each item once"),
        }
    }
}

impl fmt::Display for BadText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.entry, self.fault)
    }
}

impl core::error::Error for BadText<'_> {}

// A lone character is sought as an array of one, here and on the wire: the search that `core` has
// for a `char` keeps a bounds check in the image of a microcontroller, the other one keeps none.

/// The entries of `text`, parted by `;`. Empty entries are passed over, as in Mesos.
pub fn entries(text: &str) -> impl Iterator<Item = Result<Entry<'_>, BadText<'_>>> {
    text.split([';']).map(str::trim).filter(|entry| !entry.is_empty()).map(entry)
}

/// The entries of a list of resources: [`entries`] without text values.
pub fn resources(text: &str) -> impl Iterator<Item = Result<Entry<'_>, BadText<'_>>> {
    text.split([';']).map(str::trim).filter(|text| !text.is_empty()).map(|text| match entry(text) {
        Ok(Entry { value: TextValue::Text(_), .. }) => {
            Err(BadText { entry: text, fault: TextFault::NotAResource })
        }
        read => read,
    })
}

fn entry(text: &str) -> Result<Entry<'_>, BadText<'_>> {
    let bad = |fault| BadText { entry: text, fault };
    let (name, value) = text.split_once([':']).ok_or(bad(TextFault::NoColon))?;
    let (name, role) = match name.split_once(['(']) {
        Some((name, role)) => {
            let role = role.trim_end().strip_suffix(')').ok_or(bad(TextFault::Brackets))?;
            (name.trim(), role.trim())
        }
        None => (name.trim(), "*"),
    };
    if name.is_empty() {
        return Err(bad(TextFault::NoName));
    }
    if role.is_empty() || name.contains([')', '(']) || role.contains([')', '(']) {
        return Err(bad(TextFault::Brackets));
    }
    let value = value_of(value.trim()).map_err(bad)?;
    Ok(Entry { name, role, value })
}

fn value_of(text: &str) -> Result<TextValue<'_>, TextFault> {
    if let Some(inside) = text.strip_prefix('[') {
        let inside = inside.strip_suffix(']').ok_or(TextFault::Brackets)?;
        let mut last = None;
        for part in parts(inside) {
            let range = range(part).ok_or(TextFault::BadRange)?;
            if last.is_some_and(|last| last >= range.begin) {
                return Err(TextFault::BadRange);
            }
            last = Some(range.end);
        }
        return Ok(TextValue::Ranges(inside));
    }
    if let Some(inside) = text.strip_prefix('{') {
        let inside = inside.strip_suffix('}').ok_or(TextFault::Brackets)?;
        // Against the later ones, not by `enumerate`: a count is a sum that could overflow.
        let mut rest = parts(inside);
        while let Some(item) = rest.next() {
            if item.is_empty() || rest.clone().any(|later| later == item) {
                return Err(TextFault::BadSet);
            }
        }
        return Ok(TextValue::Set(inside));
    }
    if text.contains(['[', ']', '{', '}']) {
        return Err(TextFault::Brackets);
    }
    match Amount::parse(text) {
        Ok(amount) => Ok(TextValue::Scalar(amount)),
        Err(NotAnAmount::NotANumber) => Ok(TextValue::Text(text)),
        Err(why) => Err(TextFault::Number(why)),
    }
}

/// The ranges inside `[…]`. Stops at what is none, which an [`Entry`] does not hold.
pub fn ranges(inside: &str) -> impl Iterator<Item = Range> + Clone {
    parts(inside).map_while(range)
}

/// The items inside `{…}`.
pub fn items(inside: &str) -> impl Iterator<Item = &str> + Clone {
    parts(inside)
}

fn parts(inside: &str) -> impl Iterator<Item = &str> + Clone {
    let empty = inside.trim().is_empty();
    inside.split([',']).map(str::trim).skip(usize::from(empty))
}

fn range(text: &str) -> Option<Range> {
    let (begin, end) = text.split_once(['-'])?;
    let (begin, end) = (begin.trim().parse().ok()?, end.trim().parse().ok()?);
    (begin <= end).then_some(Range { begin, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn the_forms_of_mesos_are_read() {
        let text = "cpus:4; mem(web/db) : 512.5 ;ports:[31000-32000, 33000-33100];;racks:{a,b}";
        let read: Vec<_> = entries(text).map(Result::unwrap).collect();
        let names: Vec<_> = read.iter().map(|entry| (entry.name, entry.role)).collect();
        assert_eq!(names, [("cpus", "*"), ("mem", "web/db"), ("ports", "*"), ("racks", "*")]);
        assert_eq!(read[0].value, TextValue::Scalar(Amount::from_units(4)));
        assert_eq!(read[1].value, TextValue::Scalar(Amount::from_milli(512_500)));
        let TextValue::Ranges(inside) = read[2].value else { panic!("{:?}", read[2]) };
        let expected = [Range { begin: 31000, end: 32000 }, Range { begin: 33000, end: 33100 }];
        assert_eq!(ranges(inside).collect::<Vec<_>>(), expected);
        let TextValue::Set(inside) = read[3].value else { panic!("{:?}", read[3]) };
        assert_eq!(items(inside).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(entries("ports:[]").next().unwrap().unwrap().value, TextValue::Ranges(""));
    }

    #[test]
    fn attributes_may_be_text_and_resources_may_not() {
        let rack = entries("rack:a-7").next().unwrap().unwrap();
        assert_eq!(rack.value, TextValue::Text("a-7"));
        let refused = resources("cpus:four").next().unwrap().unwrap_err();
        assert_eq!(refused.fault, TextFault::NotAResource);
        assert!(refused.to_string().starts_with("`cpus:four`: expected a number"));
    }

    #[test]
    fn what_is_no_list_of_resources_is_refused_with_its_entry() {
        for (text, fault) in [
            ("cpus", TextFault::NoColon),
            (":4", TextFault::NoName),
            ("cpus(:4", TextFault::Brackets),
            ("cpus():4", TextFault::Brackets),
            ("ports:[1-2", TextFault::Brackets),
            ("ports:1-2]", TextFault::Brackets),
            ("cpus:-1", TextFault::Number(NotAnAmount::Negative)),
            ("disk:1e15", TextFault::Number(NotAnAmount::TooLarge)),
            ("ports:[2-1]", TextFault::BadRange),
            ("ports:[1-5,3-9]", TextFault::BadRange),
            ("ports:[1]", TextFault::BadRange),
            ("ports:[1-5,]", TextFault::BadRange),
            ("racks:{a,a}", TextFault::BadSet),
            ("racks:{a,,b}", TextFault::BadSet),
        ] {
            let refused = resources(text).find_map(Result::err);
            assert_eq!(refused, Some(BadText { entry: text, fault }), "{text}");
        }
    }
}
