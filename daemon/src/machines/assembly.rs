//! Bytes, however they are cut → frames. Asks for no byte beyond the frame it is at, so that what
//! follows may be anybody's.

use std::ops::Range;

use mesita_core::digest::of_body;
use mesita_core::mutant::{Mutant, planted};
use mesita_core::wire::Malformed;
use mesita_core::wire::frame::{BODY_ROW, BodyRow, Limits, PREFIX, Prefix};

/// Memory of a connection between two frames; a larger head takes more until it was read.
const BUFFER: usize = 1024;

/// A frame that is being put together.
#[derive(Debug)]
pub(crate) struct Assembly {
    limits: Limits,
    part: Part,
    /// Bytes of the part that are there.
    filled: usize,
    first: [u8; PREFIX],
    /// Body table, head and trailer.
    buffer: Vec<u8>,
    head: Range<usize>,
    rows: Vec<BodyRow>,
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Prefix,
    Rest(Prefix),
    /// Of the row with that number.
    Body(usize),
}

/// What is whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// Everything up to the bodies, of so many bytes: room for all of them is to be set aside before
    /// the first byte of them is read.
    Envelope(u64),
    /// The next body, with its hash.
    Body(Vec<u8>, u64),
    /// The frame; [`Assembly::head`] is its head.
    Frame,
}

/// Why what came is no frame. Nothing can be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Its envelope.
    Malformed(Malformed),
    /// A body is not what its hash says.
    Body,
}

impl Assembly {
    /// Takes frames within these limits.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            part: Part::Prefix,
            filled: 0,
            first: [0; PREFIX],
            buffer: Vec::new(),
            head: 0..0,
            rows: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Other limits for what comes from now on.
    pub(crate) fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Where the next bytes go: at least one, if [`Assembly::take`] has nothing.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let filled = self.filled;
        match self.part {
            Part::Prefix => &mut self.first[filled..],
            Part::Rest(_) => &mut self.buffer[filled..],
            Part::Body(_) => {
                let len = self.wanted();
                self.body.resize(len, 0);
                &mut self.body[filled..]
            }
        }
    }

    /// So many bytes were put there.
    pub(crate) fn came(&mut self, bytes: usize) {
        let ends_cut = self.filled > 0 && self.filled + bytes == self.wanted();
        if planted(Mutant::LosesCutEnds) && ends_cut {
            return;
        }
        self.filled += bytes;
    }

    /// What is whole by now; none until more bytes came.
    pub(crate) fn take(&mut self) -> Result<Option<Whole>, Bad> {
        loop {
            if self.filled < self.wanted() {
                return Ok(None);
            }
            match self.part {
                Part::Prefix => self.prefix()?,
                Part::Rest(prefix) => return self.rest(prefix).map(Some),
                Part::Body(number) if number == self.rows.len() => {
                    (self.part, self.filled) = (Part::Prefix, 0);
                    return Ok(Some(Whole::Frame));
                }
                Part::Body(number) => return self.body(number).map(Some),
            }
        }
    }

    /// The head of the frame that was whole last, until more bytes come.
    pub(crate) fn head(&self) -> &[u8] {
        &self.buffer[self.head.clone()]
    }

    fn wanted(&self) -> usize {
        match self.part {
            Part::Prefix => PREFIX,
            Part::Rest(prefix) => prefix.rest(),
            Part::Body(number) => self.rows.get(number).map_or(0, |row| row.len as usize),
        }
    }

    fn prefix(&mut self) -> Result<(), Bad> {
        let prefix = Prefix::parse(&self.first, self.limits).map_err(Bad::Malformed)?;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER);
        self.buffer.resize(prefix.rest(), 0);
        (self.part, self.filled) = (Part::Rest(prefix), 0);
        Ok(())
    }

    fn rest(&mut self, prefix: Prefix) -> Result<Whole, Bad> {
        let frame = prefix.open(&self.buffer).map_err(Bad::Malformed)?;
        self.rows.clear();
        self.rows.extend(frame.bodies());
        let begins = BODY_ROW * self.rows.len();
        self.head = begins..begins + frame.head.len();
        (self.part, self.filled) = (Part::Body(0), 0);
        Ok(Whole::Envelope(self.rows.iter().map(|row| u64::from(row.len)).sum()))
    }

    fn body(&mut self, number: usize) -> Result<Whole, Bad> {
        let bytes = std::mem::take(&mut self.body);
        let hash = self.rows[number].hash;
        if of_body(&bytes) != hash {
            return Err(Bad::Body);
        }
        (self.part, self.filled) = (Part::Body(number + 1), 0);
        Ok(Whole::Body(bytes, hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesita_core::wire::frame::{overhead, seal};

    const LIMITS: Limits = Limits { frame_max: 1000, head_max: 100 };

    fn framed(head: &[u8], bodies: &[&[u8]]) -> Vec<u8> {
        let rows = bodies
            .iter()
            .map(|body| BodyRow { len: u32::try_from(body.len()).unwrap(), hash: of_body(body) });
        let mut bytes = vec![0; overhead(bodies.len()) + head.len()];
        seal(head, rows, &mut bytes).unwrap();
        bytes.extend(bodies.concat());
        bytes
    }

    /// A head, and its bodies.
    type Read = (Vec<u8>, Vec<Vec<u8>>);

    /// What is read of bytes that come in these pieces.
    fn read<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Vec<Read>, Bad> {
        let (mut assembly, mut bodies, mut all) = (Assembly::new(LIMITS), vec![], vec![]);
        for mut piece in pieces {
            while !piece.is_empty() {
                let room = assembly.room();
                let n = room.len().min(piece.len());
                let (now, later) = piece.split_at(n);
                room[..n].copy_from_slice(now);
                piece = later;
                assembly.came(n);
                while let Some(whole) = assembly.take()? {
                    match whole {
                        Whole::Envelope(_) => {}
                        Whole::Body(body, _) => bodies.push(body),
                        Whole::Frame => {
                            all.push((assembly.head().to_vec(), std::mem::take(&mut bodies)));
                        }
                    }
                }
            }
        }
        Ok(all)
    }

    #[test]
    fn frames_are_put_together_however_they_are_cut() {
        let expected = vec![
            (b"one".to_vec(), vec![]),
            (b"two".to_vec(), vec![b"body".to_vec(), vec![], b"x".to_vec()]),
            (b"three".to_vec(), vec![vec![]]),
        ];
        let mut bytes = framed(b"one", &[]);
        bytes.extend(framed(b"two", &[b"body", b"", b"x"]));
        bytes.extend(framed(b"three", &[b""]));
        for cut in 0..bytes.len() {
            for size in [1, 2, 7, 1000] {
                let (before, after) = bytes.split_at(cut);
                let pieces = before.chunks(size).chain([after]);
                assert_eq!(read(pieces).as_ref(), Ok(&expected), "{cut} {size}");
            }
        }
    }

    #[test]
    fn a_frame_beyond_the_limits_is_refused_with_its_first_bytes() {
        let large = framed(&[7; 101], &[]);
        let mut assembly = Assembly::new(LIMITS);
        assembly.room().copy_from_slice(&large[..PREFIX]);
        assembly.came(PREFIX);
        assert!(matches!(assembly.take(), Err(Bad::Malformed(_))));
    }

    #[test]
    fn a_body_that_is_not_what_its_hash_says_is_refused() {
        let mut bytes = framed(b"head", &[b"body"]);
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(read([&bytes[..]]), Err(Bad::Body));
    }

    #[test]
    fn room_for_bodies_is_told_before_any_of_it_is_taken() {
        let bytes = framed(b"head", &[b"body", b"more"]);
        let mut assembly = Assembly::new(LIMITS);
        let (mut at, end) = (0, bytes.len() - 8);
        while at < end {
            assert_eq!(assembly.take(), Ok(None));
            let room = assembly.room();
            let n = room.len();
            room.copy_from_slice(&bytes[at..at + n]);
            assembly.came(n);
            at += n;
        }
        assert_eq!((assembly.take(), at), (Ok(Some(Whole::Envelope(8))), end));
    }
}
