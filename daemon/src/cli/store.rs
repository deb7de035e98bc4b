//! `mesita store`

use std::io::{Read, Write};
use std::process::ExitCode;

use mesita_core::limits::STORED_MAX;
use mesita_core::wire::svc::{Keep, Stream};
use serde_json::Value;

use super::ps::{columns, text};
use super::{Failure, USAGE, ask};
use crate::alarm;
use crate::flags::{Store, StoreKey, StorePut};

pub(super) fn main(flags: &Store) -> Result<ExitCode, Failure> {
    super::log_warnings();
    match flags {
        Store::Ls(flags) => {
            let owner = &flags.of.owner;
            let kind = Stream::Store { owner, key: "", verb: Keep::List };
            return ask::list(&flags.of.at, flags.json, kind, table);
        }
        Store::Get(flags) => {
            let answer = asked(flags, Keep::Get)?;
            // A reader that has seen enough is no error.
            let _ = std::io::stdout().write_all(answer.get(VERSION..).unwrap_or_default());
        }
        Store::Put(flags) => put(flags)?,
        Store::Rm(flags) => {
            asked(&flags.named, Keep::Remove { expected: flags.if_version })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Bytes of the version that an answer begins with.
const VERSION: usize = 8;

fn put(flags: &StorePut) -> Result<(), Failure> {
    let value = match &flags.value {
        Some(value) => value.clone().into_bytes(),
        None => {
            let mut value = Vec::new();
            let mut stdin = std::io::stdin().take(STORED_MAX as u64 + 1);
            stdin.read_to_end(&mut value).map_err(Failure::plain)?;
            value
        }
    };
    if value.len() > STORED_MAX {
        let message = format!("a value has at most {STORED_MAX} bytes");
        return Err(Failure::new(USAGE, message));
    }
    let answer = asked(&flags.named, Keep::Put { value: &value, expected: flags.if_version })?;
    let version = answer.first_chunk::<VERSION>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    outln!("{version}");
    Ok(())
}

fn asked(flags: &StoreKey, verb: Keep<'_>) -> Result<Vec<u8>, Failure> {
    let (owner, key) = (flags.of.owner.as_str(), flags.key.as_str());
    alarm::block_on(ask::all(&flags.of.at, Stream::Store { owner, key, verb }))
}

fn table(rows: &[Value]) -> String {
    let head = ["KEY", "VERSION", "BYTES"].map(str::to_owned).to_vec();
    let of = |row: &Value| ["key", "version", "bytes"].map(|name| text(&row[name])).to_vec();
    columns(&[head].into_iter().chain(rows.iter().map(of)).collect::<Vec<_>>())
}
