//! Everything that two Mesita processes say to each other.
//!
//! A [`frame`] carries one head and the bodies it names. The head is postcard, decoded without a
//! copy and checked field by field before anyone acts on it; bodies are opaque here. Read
//! [`head`] for the families, then the file of a conversation:
//!
//! | file | between |
//! |---|---|
//! | [`hello`], [`link`] | any two ends of a connection |
//! | [`call`], [`event`] | framework → master, master → framework |
//! | [`agent`] | agent → master, master → agent |
//! | [`executor`] | executor → agent, agent → executor |
//! | [`operator`] | an operator's program → master, master → that |
//! | [`gossip`] | master ↔ master |
//! | [`svc`] | byte streams beside all that: logs, rows, later HTTP and terminals |
//!
//! # How it may change
//! postcard numbers variants by position and knows no field names. So variants are only appended,
//! a released message never changes its fields, and a message that needs one more becomes a new
//! variant, sent only to peers whose hello says that they know it ([`Head::since`]). The golden
//! bytes in `core/tests/golden/` hold every release to that.

pub mod agent;
pub mod call;
mod check;
pub mod event;
pub mod executor;
pub mod frame;
pub mod gossip;
pub mod head;
pub mod hello;
pub mod ids;
pub mod link;
pub mod operator;
pub mod resource;
pub mod seq;
pub mod svc;
pub mod task;

pub(crate) use check::id as check_id;
pub use check::{Check, Fault, Malformed, role as check_role};
pub use head::Head;
pub use ids::{
    AgentId, Body, BodyRef, ContainerId, Fence, FrameworkId, Generation, OfferId, Session, Uuid,
};
pub use seq::{Items, List, Scratch, Seq};

use serde::{Deserialize, Serialize};

/// Reads one value from exactly `bytes` and checks every field of it, nested lists included.
///
/// O(bytes), no copy. Refuses with the field and the fault: bytes that end early or go on, a
/// variant this version does not have, text that is not UTF-8, anything beyond its limit.
pub fn decode<'a, T: Deserialize<'a> + Check>(bytes: &'a [u8]) -> Result<T, Malformed> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(check::of_postcard)?;
    if !rest.is_empty() {
        return Err(Malformed { field: "head", fault: Fault::TrailingBytes });
    }
    value.check()?;
    Ok(value)
}

/// Writes one value to the front of `into` and returns those bytes.
///
/// [`Full`](crate::table::Full) when `into` is too small; what it holds then is of no use.
pub fn encode<'b, T: Serialize + ?Sized>(
    value: &T,
    into: &'b mut [u8],
) -> Result<&'b [u8], crate::table::Full> {
    match postcard::to_slice(value, into) {
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(crate::table::Full),
    }
}
