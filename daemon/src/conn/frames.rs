//! Bytes → frames.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;

use futures_lite::AsyncReadExt;
use mesita_core::digest::of_body;
use mesita_core::wire::frame::{BodyRow, Limits, PREFIX, Prefix};
use mesita_core::wire::{BodyRef, Malformed};

use super::Reading;
use crate::bodies::Bodies;

/// Memory of a connection between two frames; a larger head takes more until it was read.
const BUFFER: usize = 1024;

/// Reads frames.
pub(crate) struct Frames {
    reading: Reading,
    limits: Limits,
    buffer: Vec<u8>,
}

/// A frame: the head's bytes, and its bodies in the store, each with one holder.
pub(crate) struct Received<'f> {
    pub(crate) head: &'f [u8],
    pub(crate) bodies: Vec<BodyRef>,
}

/// Why no frame came.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The peer is gone.
    Closed,
    /// The connection failed.
    Io(io::Error),
    /// What came is no frame.
    Malformed(Malformed),
    /// A body is not what its hash says.
    Body,
    /// There is no room for its bodies.
    BodiesFull(u64),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::Io(error) => error.fmt(f),
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Body => f.write_str("a body that is not what its hash says"),
            Self::BodiesFull(bytes) => {
                write!(f, "no room for bodies of {bytes} bytes; see --max-body-bytes")
            }
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let gone = matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe);
        if gone { Self::Closed } else { Self::Io(error) }
    }
}

impl Frames {
    /// A reader that takes frames within these limits.
    pub(crate) fn new(reading: Reading, limits: Limits) -> Self {
        Self { reading, limits, buffer: Vec::new() }
    }

    /// What comes after the last frame that was read: nothing of it has been.
    pub(crate) fn into_rest(self) -> Reading {
        self.reading
    }

    /// Reads the next frame. Nothing of it is kept when it is bad.
    pub(crate) async fn next(&mut self, store: &RefCell<Bodies>) -> Result<Received<'_>, Broken> {
        let mut first = [0; PREFIX];
        self.reading.read_exact(&mut first).await?;
        let prefix = Prefix::parse(&first, self.limits).map_err(Broken::Malformed)?;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER);
        self.buffer.resize(prefix.rest(), 0);
        self.reading.read_exact(&mut self.buffer).await?;
        let frame = prefix.open(&self.buffer).map_err(Broken::Malformed)?;
        let rows: Vec<BodyRow> = frame.bodies().collect();
        let bodies = read_bodies(&mut self.reading, &rows, store).await?;
        Ok(Received { head: frame.head, bodies })
    }
}

/// Reads bodies into the store. Room for all of them is set aside before the first byte.
async fn read_bodies(
    reading: &mut Reading,
    rows: &[BodyRow],
    store: &RefCell<Bodies>,
) -> Result<Vec<BodyRef>, Broken> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let total = rows.iter().map(|row| u64::from(row.len)).sum();
    let reserved = store.borrow_mut().reserve(total).ok_or(Broken::BodiesFull(total))?;
    // Given back whatever happens, and if this future is dropped.
    let mut arriving = Arriving { store, reserved: Some(reserved), bodies: Vec::new() };
    for row in rows {
        let mut bytes = vec![0; row.len as usize];
        reading.read_exact(&mut bytes).await?;
        if of_body(&bytes) != row.hash {
            return Err(Broken::Body);
        }
        arriving.store(Arc::from(bytes), row.hash);
    }
    Ok(std::mem::take(&mut arriving.bodies))
}

struct Arriving<'s> {
    store: &'s RefCell<Bodies>,
    reserved: Option<crate::bodies::Reserved>,
    bodies: Vec<BodyRef>,
}

impl Arriving<'_> {
    fn store(&mut self, bytes: Arc<[u8]>, hash: u64) {
        if let Some(reserved) = &mut self.reserved {
            self.bodies.push(self.store.borrow_mut().store(reserved, bytes, hash));
        }
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        let mut store = self.store.borrow_mut();
        self.bodies.iter().for_each(|&body| store.drop(body));
        if let Some(reserved) = self.reserved.take() {
            store.release(reserved);
        }
    }
}
