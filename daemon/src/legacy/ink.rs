//! JSON written by hand, for rows that there are many of: no value is made only to be written.

use std::fmt::Display;
use std::io::Write;

/// An object that is being written.
pub(crate) struct Row<'i> {
    into: &'i mut Vec<u8>,
    is_empty: bool,
}

/// Where one value goes, before the object goes on.
pub(crate) struct Slot<'s>(&'s mut Vec<u8>);

impl Row<'_> {
    /// An object, with what `fill` puts into it.
    pub(crate) fn write(into: &mut Vec<u8>, fill: impl FnOnce(&mut Row<'_>)) {
        into.push(b'{');
        let mut row = Row { into, is_empty: true };
        fill(&mut row);
        row.into.push(b'}');
    }

    /// The next key, one of our own names; its value must follow.
    pub(crate) fn key(&mut self, name: &'static str) -> Slot<'_> {
        self.comma();
        as_it_is(self.into, name);
        self.into.push(b':');
        Slot(self.into)
    }

    /// The same of a name that somebody else has given.
    pub(crate) fn key_of(&mut self, name: &str) -> Slot<'_> {
        self.comma();
        quoted(self.into, name);
        self.into.push(b':');
        Slot(self.into)
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.into.push(b',');
        }
    }
}

impl<'s> Slot<'s> {
    /// Text, escaped.
    pub(crate) fn text(self, text: &str) {
        quoted(self.0, text);
    }

    /// Text with nothing that must be escaped.
    pub(crate) fn word(self, word: &str) {
        as_it_is(self.0, word);
    }

    /// What prints itself with nothing that must be escaped.
    pub(crate) fn shown(self, value: impl Display) {
        self.0.push(b'"');
        // A vector takes everything.
        let _ = write!(self.0, "{value}");
        self.0.push(b'"');
    }

    /// A number or a word of JSON.
    pub(crate) fn plain(self, value: impl Display) {
        let _ = write!(self.0, "{value}");
    }

    /// JSON as it is.
    pub(crate) fn raw(self, json: &[u8]) {
        self.0.extend_from_slice(json);
    }

    /// Thousandths as a double is written: `0.1`, `128.0`.
    pub(crate) fn thousandths(self, milli: u64) {
        decimal(self.0, milli, 1_000);
    }

    /// µs in seconds, as a double is written.
    pub(crate) fn seconds(self, us: u64) {
        decimal(self.0, us, 1_000_000);
    }

    /// An object within.
    pub(crate) fn object(self, fill: impl FnOnce(&mut Row<'_>)) {
        Row::write(self.0, fill);
    }

    /// A list of objects within.
    pub(crate) fn objects<T>(
        self,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Row<'_>, T),
    ) {
        self.0.push(b'[');
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                self.0.push(b',');
            }
            Row::write(self.0, |row| fill(row, item));
        }
        self.0.push(b']');
    }
}

fn as_it_is(into: &mut Vec<u8>, text: &str) {
    into.push(b'"');
    into.extend_from_slice(text.as_bytes());
    into.push(b'"');
}

fn quoted(into: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        as_it_is(into, text);
    } else {
        // A vector takes everything.
        let _ = serde_json::to_writer(into, text);
    }
}

/// `value / unit` as the shortest text of the double nearest to it: `unit` is a power of ten, and
/// numbers of up to fifteen digits are as exact as their double.
fn decimal(into: &mut Vec<u8>, value: u64, unit: u64) {
    let _ = write!(into, "{}.", value / unit);
    let mut rest = value % unit;
    loop {
        rest *= 10;
        into.push(b'0' + u8::try_from(rest / unit).unwrap_or(0));
        rest %= unit;
        if rest == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fill: impl FnOnce(&mut Row<'_>)) -> String {
        let mut text = Vec::new();
        Row::write(&mut text, fill);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_row_is_an_object_of_json() {
        let told = written(|row| {
            row.key("id").text("a \"b\"\n\u{1}");
            row.key("of").shown(7);
            row.key("is").plain(true);
            row.key("list").objects([1, 2], |row, item| row.key("n").plain(item));
            row.key("none").object(|_| {});
            row.key("raw").raw(b"[]");
        });
        assert_eq!(
            told,
            "{\"id\":\"a \\\"b\\\"\\n\\u0001\",\"of\":\"7\",\"is\":true,\
             \"list\":[{\"n\":1},{\"n\":2}],\"none\":{},\"raw\":[]}"
        );
    }

    #[test]
    fn numbers_are_written_as_doubles_are() {
        let same = |value: u64, unit: u64| {
            let mut text = Vec::new();
            decimal(&mut text, value, unit);
            #[allow(clippy::cast_precision_loss)] // As exact as they must be.
            let double = serde_json::to_string(&(value as f64 / unit as f64)).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), double, "{value} of {unit}");
        };
        for milli in (0..3_000).chain([10_000, 12_345, 128_000, 1 << 50, (1 << 50) - 1]) {
            same(milli, 1_000);
        }
        let moment = 1_764_394_667_000_000;
        for us in [0, 10, 100, 1_000, 999_999, 1_000_000, moment, moment + 1, moment + 123_450] {
            same(us, 1_000_000);
        }
        let mut us = moment;
        for _ in 0..10_000 {
            us += 7_919;
            same(us, 1_000_000);
        }
    }
}
