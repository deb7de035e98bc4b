//! How layers are packed: gzip, zstd, or not at all. What comes out has bounds.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, errors::FrameDecoderError, errors::ReadFrameHeaderError,
};

use super::{Bounds, Error};

/// Bytes that zstd may look back: what `zstd -19` asks for. More would be memory of a small machine.
const WINDOW_MAX: u64 = 8 << 20;
/// Bytes that may come out before their ratio is looked at: zeros of a small file are no bomb.
const RATIO_FROM: u64 = 16 << 20;

/// A packed stream, bounded at both ends.
pub(super) struct Unpacked<'r> {
    inner: Packing<Counted<'r>>,
    bounds: Bounds,
    out: u64,
}

enum Packing<R: Read> {
    None(BufReader<R>),
    Gzip(MultiGzDecoder<BufReader<R>>),
    Zstd(Box<Zstd<BufReader<R>>>),
}

/// What is read from the packed side.
struct Counted<'r> {
    inner: &'r mut dyn Read,
    max: u64,
    read: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(into)?;
        self.read += len as u64;
        if self.read > self.max { Err(too_large(self.max).into()) } else { Ok(len) }
    }
}

fn too_large(max: u64) -> Error {
    Error::Over { what: "a layer takes bytes,", flag: "--image-layer-max", max }
}

impl<'r> Unpacked<'r> {
    /// Looks how a stream is packed, by its first bytes.
    pub(super) fn new(packed: &'r mut dyn Read, bounds: &Bounds) -> Result<Self, Error> {
        let counted = Counted { inner: packed, max: bounds.layer_bytes, read: 0 };
        let mut reader = BufReader::with_capacity(64 * 1024, counted);
        let inner = match reader.fill_buf()? {
            [0x1f, 0x8b, ..] => Packing::Gzip(MultiGzDecoder::new(reader)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Packing::Zstd(Box::new(Zstd::new(reader)))
            }
            _ => Packing::None(reader),
        };
        Ok(Self { inner, bounds: *bounds, out: 0 })
    }

    fn read_so_far(&self) -> u64 {
        match &self.inner {
            Packing::None(reader) => reader.get_ref().read,
            Packing::Gzip(reader) => reader.get_ref().get_ref().read,
            Packing::Zstd(reader) => reader.source.get_ref().read,
        }
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = match &mut self.inner {
            Packing::None(reader) => reader.read(into),
            Packing::Gzip(reader) => reader.read(into),
            Packing::Zstd(reader) => reader.read(into),
        }?;
        self.out += len as u64;
        if self.out > self.bounds.layer_bytes {
            return Err(too_large(self.bounds.layer_bytes).into());
        }
        let most = self.read_so_far().saturating_mul(self.bounds.ratio).max(RATIO_FROM);
        if self.out > most {
            let (flag, max) = ("--image-ratio-max", self.bounds.ratio);
            let what = "a layer becomes larger by being unpacked by a factor of";
            return Err(Error::Over { what, flag, max }.into());
        }
        Ok(len)
    }
}

/// All frames of a stream, one after the other.
struct Zstd<R: BufRead> {
    source: R,
    decoder: FrameDecoder,
    /// In the middle of a frame.
    within: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_MAX);
        Self { source, decoder, within: false }
    }

    /// Begins the next frame; false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.within = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.within && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let decoded = self
                    .decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(io::Error::other)?;
            }
            let len = self.decoder.read(into)?;
            if len > 0 {
                return Ok(len);
            }
            self.within = false;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
        use ruzstd::encoding::{CompressionLevel, compress_to_vec};
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn unpacked(packed: &[u8], bounds: &Bounds) -> Result<Vec<u8>, Error> {
        let (mut packed, mut all) = (packed, Vec::new());
        Unpacked::new(&mut packed, bounds)?.read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn either_packing_gives_what_was_packed_also_in_several_pieces() {
        let text: Vec<u8> = (0..300_000u32).flat_map(|n| (n % 251).to_le_bytes()).collect();
        let bounds = Bounds::default();
        for packed in [text.clone(), gzip(&text), zstd(&text)] {
            assert!(unpacked(&packed, &bounds).unwrap() == text);
        }
        let (half, rest) = text.split_at(text.len() / 2);
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3].to_vec();
        assert!(unpacked(&[gzip(half), gzip(rest)].concat(), &bounds).unwrap() == text);
        let frames = [skipped.clone(), zstd(half), skipped, zstd(rest)].concat();
        assert!(unpacked(&frames, &bounds).unwrap() == text);
    }

    #[test]
    fn a_bomb_is_refused_by_its_ratio_and_by_its_size() {
        let zeros = vec![0; 20 << 20];
        for packed in [gzip(&zeros), zstd(&zeros)] {
            let refused = unpacked(&packed, &Bounds { ratio: 50, ..Bounds::default() });
            let why = refused.unwrap_err().to_string();
            assert!(why.contains("--image-ratio-max"), "{why}");
            let refused = unpacked(&packed, &Bounds { layer_bytes: 1 << 20, ..Bounds::default() });
            let why = refused.unwrap_err().to_string();
            assert!(why.contains("--image-layer-max"), "{why}");
        }
        assert!(unpacked(&zeros, &Bounds::default()).is_ok(), "not packed, it is no bomb");
    }

    #[test]
    fn what_is_cut_off_is_an_error_and_so_is_a_window_that_takes_all_memory() {
        let text = vec![7; 100_000];
        for packed in [gzip(&text), zstd(&text)] {
            assert!(unpacked(&packed[..packed.len() / 2], &Bounds::default()).is_err());
        }
        // A frame without a size whose window is 128 MiB.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, (27 - 10) << 3, 1, 0, 0];
        assert!(unpacked(&frame, &Bounds::default()).is_err());
    }
}
