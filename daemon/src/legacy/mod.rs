//! Mesos' read endpoints as they were before its v1 API: what dashboards, exporters and command
//! lines ask. Everything is read from the catalog, and told in pieces.
//!
//! | file | concern |
//! |---|---|
//! | `pieces` | an answer that is written while it is read |
//! | `moments` | how many of them are read from moments of their own at once |
//! | `amounts` | resources as these endpoints tell them |
//! | `ink` | JSON written by hand |
//! | `rows` | agents, frameworks, executors and offers as they tell them |
//! | `tasks` | tasks as they tell them |
//! | `held` | what tasks, executors and offers hold, and whose they are |
//! | `roles` | what roles have |
//! | `master` | what a master has under which path |
//! | `metrics` | `/metrics/snapshot` |

mod amounts;
mod held;
mod ink;
pub(crate) mod master;
pub(crate) mod metrics;
pub(crate) mod moments;
pub(crate) mod pieces;
pub(crate) mod roles;
mod rows;
mod tasks;

pub(crate) use amounts::Sum;
pub(crate) use held::Held;
pub(crate) use rows::{AGENT_CAPABILITIES, address, attributes, full_by_role, labels, message};
pub(crate) use tasks::{Contained, TaskParts};

use std::collections::BTreeMap;

/// What stands behind the `?` of a path, decoded.
pub(crate) fn query(text: Option<&str>) -> BTreeMap<String, String> {
    let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    });
    pairs.collect()
}

/// Percent-encoding (RFC 3986 §2.1) undone, and `+` as a space, as forms have it.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let code = match (first, rest) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        match code {
            Some(code) => {
                bytes.push(code);
                rest = rest.get(2..).unwrap_or_default();
            }
            None if first == b'+' => bytes.push(b' '),
            None => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A name in a path or a query, percent-encoded.
pub(crate) fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let each = name.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_in_queries() {
        assert_eq!(encoded("a b&c=é"), "a%20b%26c%3D%C3%A9");
    }

    #[test]
    fn a_query_is_decoded_whatever_it_holds() {
        let query = query(Some("path=%2Ftmp%2Fa+b&limit=10&x&y=%zz%"));
        assert_eq!(query["path"], "/tmp/a b");
        assert_eq!(query["limit"], "10");
        assert_eq!((query["x"].as_str(), query["y"].as_str()), ("", "%zz%"));
    }
}
