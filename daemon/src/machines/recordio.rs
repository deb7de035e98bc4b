//! RecordIO: a record's length in decimal, a newline, that many bytes.

use mesita_core::mutant::{Mutant, planted};

/// Digits of a record's length that are read.
const LENGTH_MAX: usize = 20;

/// A record as it lies in a stream.
pub(crate) fn framed(record: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(record.len() + 12);
    framed.extend_from_slice(record.len().to_string().as_bytes());
    framed.push(b'\n');
    framed.extend_from_slice(record);
    framed
}

/// Records out of the pieces that they come in.
#[derive(Debug)]
pub(crate) struct Pieces {
    pending: Vec<u8>,
    /// Bytes of one record.
    max: usize,
}

impl Pieces {
    /// Takes records of at most so many bytes.
    pub(crate) const fn new(max: usize) -> Self {
        Self { pending: Vec::new(), max }
    }

    /// The records that are whole with this piece; why it is none of a stream of records.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        self.pending.extend_from_slice(bytes);
        let mut records = Vec::new();
        while let Some(at) = self.pending.iter().position(|byte| *byte == b'\n') {
            let len = std::str::from_utf8(&self.pending[..at]).ok();
            let len: usize =
                len.and_then(|text| text.parse().ok()).ok_or("no stream of records")?;
            if len > self.max {
                return Err(format!("a record of {len} bytes; at most {} may be", self.max));
            }
            if self.pending.len() < at + 1 + len {
                return Ok(records);
            }
            let rest = self.pending.split_off(at + 1 + len);
            records.push(self.pending.split_off(at + 1));
            self.pending = if planted(Mutant::LosesCutRecords) { Vec::new() } else { rest };
        }
        if self.pending.len() > LENGTH_MAX {
            return Err("no stream of records".to_owned());
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_put_together_however_they_are_cut() {
        let whole = b"2\n{}14\n{\"type\":\"a\"} \n3\n[1]";
        for cut in 1..whole.len() {
            let mut records = Pieces::new(100);
            let mut all = records.take(&whole[..cut]).unwrap();
            all.extend(records.take(&whole[cut..]).unwrap());
            assert_eq!(all, [&b"{}"[..], b"{\"type\":\"a\"} \n", b"[1]"], "{cut}");
        }
        for bad in [&b"x\n"[..], b"-1\n", b"101\n", &[b'1'; 100]] {
            assert!(Pieces::new(100).take(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_was_framed_is_found() {
        let bytes = [framed(b""), framed(b"one\n"), framed(&[b'x'; 99])].concat();
        let all = Pieces::new(99).take(&bytes).unwrap();
        assert_eq!(all, [&b""[..], b"one\n", &[b'x'; 99]]);
    }
}
