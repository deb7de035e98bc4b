//! The framework's own small values, which the masters keep: a majority of them has what was
//! answered, and a new leader has it, too.

use mesita_core::limits::{NAME_MAX, STORED_MAX};
use mesita_core::wire::svc::{CloseReason, Keep, Stream};

use super::{Driver, Error, Event};
use crate::conn::streams::{Closed, Handle};

/// What came of something that was asked of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The key that it was about.
    pub key: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// See [`Stored`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value, and its version.
    Value {
        /// Another one, and a later one, with each write.
        version: u64,
        /// Up to 4 KiB.
        value: Vec<u8>,
    },
    /// There is no such key.
    Absent,
    /// The value is stored, under this version.
    Written {
        /// As the next [`Driver::store_put`] may expect it.
        version: u64,
    },
    /// There is no such key any more.
    Removed,
    /// It has another version than expected: nothing has changed. Why, in a sentence.
    Conflict(String),
    /// It is not allowed, or there is no room: nothing has changed. Why, in a sentence.
    Refused(String),
    /// The connection broke before the answer: it may or may not have happened. Read the key when
    /// the framework is subscribed again, or ask again with the same expected version.
    Unknown(String),
}

impl Driver {
    /// Asks for a value: an [`Event::Stored`] answers.
    pub fn store_get(&self, key: &str) {
        self.ask_store(key, Keep::Get);
    }

    /// Stores a value, if the key has the expected version: 0 = if there is none, none = in any case.
    /// An [`Event::Stored`] answers. `Invalid` for a key of no or more than 255 bytes, or a value of
    /// more than 4 KiB.
    pub fn store_put(&self, key: &str, value: &[u8], expected: Option<u64>) -> Result<(), Error> {
        if key.is_empty() || key.len() > NAME_MAX || value.len() > STORED_MAX {
            let message = format!(
                "a key has 1 to {NAME_MAX} bytes and a value up to {STORED_MAX}, not {} and {}",
                key.len(),
                value.len()
            );
            return Err(Error::Invalid(message));
        }
        self.ask_store(key, Keep::Put { value, expected });
        Ok(())
    }

    /// Removes a value, if the key has the expected version: an [`Event::Stored`] answers.
    pub fn store_remove(&self, key: &str, expected: Option<u64>) {
        self.ask_store(key, Keep::Remove { expected });
    }

    fn ask_store(&self, key: &str, verb: Keep<'_>) {
        let kind = Stream::Store { owner: "", key, verb };
        let handle = self.client.upgrade().and_then(|client| client.open(kind));
        let (key, asked) = (key.to_owned(), Asked::of(&verb));
        let tell = self.tell.clone();
        self.tasks.go(async move {
            let outcome = match handle {
                Some(handle) => read(handle, asked).await,
                None => Outcome::Unknown("not connected to a master".to_owned()),
            };
            if let Some(tell) = tell.upgrade() {
                tell(Event::Stored(Stored { key, outcome }));
            }
        });
    }
}

/// What an answer is to.
#[derive(Clone, Copy)]
enum Asked {
    Get,
    Put,
    Remove,
}

impl Asked {
    fn of(verb: &Keep<'_>) -> Self {
        match verb {
            Keep::Get | Keep::List => Self::Get,
            Keep::Put { .. } => Self::Put,
            Keep::Remove { .. } => Self::Remove,
        }
    }
}

async fn read(handle: Handle, asked: Asked) -> Outcome {
    let mut bytes = Vec::new();
    let closed = loop {
        match handle.read().await {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(closed) => break closed,
        }
    };
    let Closed { reason, message } = closed;
    let version = bytes.first_chunk::<8>().map(|version| u64::from_le_bytes(*version));
    match (reason, asked, version) {
        (CloseReason::Done, Asked::Remove, _) => Outcome::Removed,
        (CloseReason::Done, Asked::Put, Some(version)) => Outcome::Written { version },
        (CloseReason::Done, Asked::Get, Some(version)) => {
            Outcome::Value { version, value: bytes.split_off(8) }
        }
        (CloseReason::NotFound, _, _) => Outcome::Absent,
        (CloseReason::Conflict, _, _) => Outcome::Conflict(message),
        (CloseReason::Gone | CloseReason::Done, _, _) => Outcome::Unknown(message),
        (
            CloseReason::Denied
            | CloseReason::Unsupported
            | CloseReason::Overloaded
            | CloseReason::Failed,
            _,
            _,
        ) => Outcome::Refused(message),
    }
}
