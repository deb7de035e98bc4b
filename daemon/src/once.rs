//! How something that is asked for again is known to be the same.

use std::cell::Cell;
use std::rc::Rc;

use hyper::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};

use crate::http::{Early, early};

/// What a call is named by.
pub(crate) type RequestId = [u8; 16];

/// The header that names a request (draft-ietf-httpapi-idempotency-key-header).
const HEADER: &str = "idempotency-key";
/// Bytes of it.
const HEADER_MAX: usize = 255;

/// The calls that somebody makes, one after the other, for one request that may be made again. No
/// part of who they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Again(Option<(RequestId, Rc<Cell<u32>>)>);

impl PartialEq for Again {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Again {}

impl Again {
    /// The calls of a request of this name.
    pub(crate) fn named(id: RequestId) -> Self {
        Self(Some((id, Rc::default())))
    }

    /// Those of a request that an HTTP client may have named. Others may choose the same name.
    pub(crate) fn of_header(headers: &HeaderMap, caller: &str) -> Result<Self, Early> {
        let Some(key) = headers.get(HEADER) else { return Ok(Self::default()) };
        if key.is_empty() || key.len() > HEADER_MAX {
            let message = format!("Idempotency-Key has 1 to {HEADER_MAX} bytes");
            return Err(early(StatusCode::BAD_REQUEST, message));
        }
        Ok(Self::named(hashed(&[b"http", caller.as_bytes(), &[0], key.as_bytes()])))
    }

    /// The request's name.
    pub(crate) fn id(&self) -> Option<RequestId> {
        self.0.as_ref().map(|(id, _)| *id)
    }

    /// The name of the next call: the same one whenever the request is made.
    pub(crate) fn next(&self) -> Option<RequestId> {
        let (id, count) = self.0.as_ref()?;
        let number = count.replace(count.get() + 1);
        if number == 0 {
            return Some(*id);
        }
        Some(hashed(&[id, &number.to_le_bytes()]))
    }

    /// The names of all calls that were made.
    pub(crate) fn made(&self) -> Vec<RequestId> {
        let Some((id, count)) = &self.0 else { return Vec::new() };
        let again = Self::named(*id);
        (0..count.get()).filter_map(|_| again.next()).collect()
    }
}

fn hashed(parts: &[&[u8]]) -> RequestId {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let all: [u8; 32] = hash.finalize().into();
    all.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_of_a_request_has_a_name_that_it_always_has() {
        let names = |again: Again| (0..3).filter_map(|_| again.next()).collect::<Vec<_>>();
        let again = Again::named([9; 16]);
        let all = names(again.clone());
        assert_eq!(all.first(), Some(&[9; 16]));
        assert_eq!(all, names(Again::named([9; 16])));
        assert_eq!(again.made(), all);
        let mut apart = all.clone();
        apart.dedup();
        assert_eq!(apart.len(), 3);
        assert_eq!(Again::default().next(), None);
    }
}
