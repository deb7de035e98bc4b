//! Bytes → frames: what reads for [`Assembly`], and has its bodies stored.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;

use futures_lite::AsyncReadExt;
use mesita_core::wire::frame::Limits;
use mesita_core::wire::{BodyRef, Malformed};

use super::Reading;
use crate::bodies::Bodies;
use crate::machines::assembly::{Assembly, Bad, Whole};

/// Reads frames.
pub(crate) struct Frames {
    reading: Reading,
    assembly: Assembly,
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

impl From<Bad> for Broken {
    fn from(bad: Bad) -> Self {
        match bad {
            Bad::Malformed(malformed) => Self::Malformed(malformed),
            Bad::Body => Self::Body,
        }
    }
}

impl Frames {
    /// A reader that takes frames within these limits.
    pub(crate) fn new(reading: Reading, limits: Limits) -> Self {
        Self { reading, assembly: Assembly::new(limits) }
    }

    /// Takes frames within other limits from now on, between two of them.
    pub(crate) fn widen(&mut self, limits: Limits) {
        self.assembly.limit(limits);
    }

    /// What comes after the last frame that was read: nothing of it has been.
    pub(crate) fn into_rest(self) -> Reading {
        self.reading
    }

    /// Reads the next frame. Nothing of it is kept when it is bad.
    pub(crate) async fn next(&mut self, store: &RefCell<Bodies>) -> Result<Received<'_>, Broken> {
        // Given back whatever happens, and if this future is dropped.
        let mut arriving = Arriving { store, reserved: None, bodies: Vec::new() };
        loop {
            match self.assembly.take()? {
                Some(Whole::Envelope(bytes)) => arriving.reserve(bytes)?,
                Some(Whole::Body(bytes, hash)) => arriving.store(Arc::from(bytes), hash),
                Some(Whole::Frame) => break,
                None => match self.reading.read(self.assembly.room()).await? {
                    0 => return Err(Broken::Closed),
                    bytes => self.assembly.came(bytes),
                },
            }
        }
        let bodies = std::mem::take(&mut arriving.bodies);
        Ok(Received { head: self.assembly.head(), bodies })
    }
}

struct Arriving<'s> {
    store: &'s RefCell<Bodies>,
    reserved: Option<crate::bodies::Reserved>,
    bodies: Vec<BodyRef>,
}

impl Arriving<'_> {
    /// Sets room for all bodies aside, before the first byte of them is read.
    fn reserve(&mut self, bytes: u64) -> Result<(), Broken> {
        let reserved = self.store.borrow_mut().reserve(bytes);
        self.reserved = Some(reserved.ok_or(Broken::BodiesFull(bytes))?);
        Ok(())
    }

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
