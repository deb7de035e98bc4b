//! Long answers that lie whole in memory until they are read: all of them together have a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::StatusCode;
use hyper::body::Bytes;

use super::{Early, early};

/// Bytes of all of them. One that is longer is alone.
pub(crate) const LONG_MAX: usize = 64 * 1024 * 1024;
/// What is shorter is none.
const SHORT: usize = 64 * 1024;

/// Those that wait for their readers.
#[derive(Default)]
pub(crate) struct Long(Arc<AtomicUsize>);

/// One of them: what it takes is given back when the last of it was sent.
struct Kept {
    bytes: Vec<u8>,
    all: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl Long {
    /// An answer; refused when so many wait that there is no room for it. Who only reads has half of the
    /// room, so that it keeps nobody out who operates the cluster.
    pub(crate) fn keep(&self, bytes: Vec<u8>, operates: bool) -> Result<Bytes, Early> {
        if bytes.len() < SHORT {
            return Ok(bytes.into());
        }
        let waiting = self.bytes();
        let max = if operates { LONG_MAX } else { LONG_MAX / 2 };
        if waiting > 0 && waiting + bytes.len() > max {
            let message = format!(
                "answers of {waiting} bytes wait for their readers, and there is no room for another: \
                 read them, and try again"
            );
            return Err(early(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        Ok(Bytes::from_owner(Kept { bytes, all: Arc::clone(&self.0) }))
    }

    /// Bytes of those that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_answers_have_room_for_all_of_them_together() {
        let long = Long::default();
        assert_eq!(long.keep(vec![1; SHORT - 1], false).ok().unwrap().len(), SHORT - 1);
        assert_eq!(long.bytes(), 0);
        let half = long.keep(vec![2; LONG_MAX / 2 + 1], true).ok().unwrap();
        let refused = long.keep(vec![3; LONG_MAX / 2], true).err().unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(long.keep(vec![3; SHORT], false).is_err(), "half is for who operates");
        assert!(long.keep(vec![3; SHORT], true).is_ok());
        // What is sent in parts is there until the last of them.
        let part = half.slice(..10);
        drop(half);
        assert_eq!(long.bytes(), LONG_MAX / 2 + 1);
        drop(part);
        assert_eq!(long.bytes(), 0);
        // One that is longer than all may be is told when it is alone.
        assert!(long.keep(vec![4; LONG_MAX + 1], false).is_ok());
    }
}
