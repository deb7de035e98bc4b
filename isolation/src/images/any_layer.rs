//! A layer of a stranger, whatever it is: it is unpacked or refused, within its bounds, and nothing outside
//! of its directory is touched.
//!
//! [`layer`] takes bytes, and panics if that is not so. Unit tests give it what it begins from, and
//! `fuzz/` looks for what is like none of that, by what code it reaches, in `ci/fuzz`.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{Mode, OFlags, open};
use tar::{Builder, EntryType, Header};

use super::unpack::unpack;
use super::{Bounds, Error};
use crate::tree;

/// Small, so that they are reached.
const BOUNDS: Bounds = Bounds {
    store_bytes: 1 << 20,
    blob_bytes: 1 << 20,
    layer_bytes: 1 << 20,
    entries: 64,
    ratio: 100,
    depth: 8,
};
/// What a file outside says, and goes on to say.
const KEPT: &[u8] = b"kept";
const BLOCK: usize = 512;

/// A directory with one for a layer, and a file beside that.
struct Ground {
    around: PathBuf,
    layer: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let around = std::env::temp_dir().join(format!("mesita-layer-{}", std::process::id()));
        let _ = tree::remove(&around);
        let layer = around.join("layer");
        fs::create_dir_all(&layer).expect("a directory");
        fs::write(around.join("kept"), KEPT).expect("a file");
        Self { around, layer }
    }

    fn is_untouched(&self) -> bool {
        let names = fs::read_dir(&self.around).map(Iterator::count).unwrap_or_default();
        let kept = self.around.join("kept");
        let of = fs::symlink_metadata(&kept);
        let same =
            of.is_ok_and(|of| of.is_file() && of.nlink() == 1 && of.mode() & 0o7777 == 0o644);
        names == 2 && same && fs::read(&kept).is_ok_and(|text| text == KEPT)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = tree::remove(&self.around);
    }
}

/// Unpacks a layer. The first byte says whether the sums of its headers are put right before, so that what is
/// behind them is reached.
pub fn layer(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if kind % 2 == 1 {
        put_sums_right(&mut bytes);
    }
    let _ = unpacked(&bytes);
}

/// The same; what came of it. The file outside has modes of its own: the umask is not asked.
fn unpacked(bytes: &[u8]) -> Result<u64, Error> {
    let ground = Ground::new();
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(ground.around.join("kept"), mode).expect("its mode");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(&ground.layer, flags, Mode::empty()).expect("the directory of the layer");
    let done = unpack(&mut &*bytes, directory.as_fd(), &BOUNDS);
    assert!(ground.is_untouched(), "something outside of the layer was touched");
    let mut count = 0;
    look(&ground.layer, 0, &mut count);
    let (_, _, taken) = done?;
    assert!(taken <= BOUNDS.layer_bytes, "{taken} bytes of files");
    Ok(taken)
}

/// What is there is what a layer may bring.
fn look(at: &Path, depth: u64, count: &mut u64) {
    assert!(depth <= BOUNDS.depth, "{} is too deep", at.display());
    // What cannot be listed was closed by its entry.
    for entry in fs::read_dir(at).into_iter().flatten().flatten() {
        let Ok(of) = fs::symlink_metadata(entry.path()) else { continue };
        *count += 1;
        // An entry brings what is above it, too.
        assert!(*count <= BOUNDS.entries * (BOUNDS.depth + 1), "too many files");
        let kind = of.file_type();
        let is_removal = kind.is_char_device() && of.rdev() == 0;
        assert!(kind.is_dir() || kind.is_file() || kind.is_symlink() || is_removal, "{kind:?}");
        assert!(kind.is_symlink() || kind.is_dir() || of.mode() & 0o6000 == 0, "{:o}", of.mode());
        if kind.is_dir() {
            look(&entry.path(), depth + 1, count);
        }
    }
}

/// Has every header of an archive say the sum that it has.
fn put_sums_right(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= BLOCK {
        let (header, behind) = rest.split_at_mut(BLOCK);
        // So an archive ends.
        if header.iter().all(|byte| *byte == 0) {
            rest = behind;
            continue;
        }
        let mut own = Header::new_old();
        own.as_mut_bytes().copy_from_slice(header);
        own.set_cksum();
        header.copy_from_slice(own.as_bytes());
        let size = usize::try_from(own.entry_size().unwrap_or(0)).unwrap_or(usize::MAX);
        let skipped = size.div_ceil(BLOCK).saturating_mul(BLOCK).min(behind.len());
        rest = &mut behind[skipped..];
    }
}

/// What [`layer`] begins from: layers as they are, and as they should not be.
pub fn seeds() -> Vec<Vec<u8>> {
    use EntryType as Is;
    let long = "x".repeat(200);
    let deep = "d/".repeat(20);
    let all: [&[(EntryType, &str, &[u8])]; 12] = [
        &[(Is::Directory, "a", b""), (Is::Regular, "a/b", b"text"), (Is::Symlink, "a/c", b"b")],
        &[(Is::Regular, "a", b"text"), (Is::Link, "b", b"a")],
        &[(Is::Directory, "a", b""), (Is::Regular, "a/.wh..wh..opq", b"")],
        &[(Is::Regular, "a/.wh.b", b""), (Is::Regular, ".wh.c", b"")],
        &[(Is::Regular, "../up", b"x")],
        &[(Is::Regular, "/etc/passwd", b"x")],
        &[(Is::Symlink, "a", b"/"), (Is::Regular, "a/b", b"x")],
        &[(Is::Symlink, "a", b".."), (Is::Link, "b", b"a/kept"), (Is::Link, "c", b"../kept")],
        &[(Is::Char, "null", b""), (Is::Block, "disk", b""), (Is::Fifo, "pipe", b"")],
        &[(Is::Regular, &long, b"x"), (Is::Regular, &deep, b"x")],
        &[(Is::Regular, "a", b"x"), (Is::Directory, "a", b""), (Is::Regular, "a", b"y")],
        &[(Is::Regular, ".wh..wh..", b""), (Is::Regular, ".wh.", b""), (Is::Regular, ".", b"")],
    ];
    let mut seeds = Vec::new();
    for rows in all {
        let plain = archive(rows);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let packed = gzip.write_all(&plain).and_then(|()| gzip.finish());
        seeds.extend([
            [&[1][..], &plain].concat(),
            [&[0][..], &packed.unwrap_or_default()].concat(),
        ]);
        seeds.push([&[0][..], &plain[..plain.len() / 2]].concat());
    }
    seeds
}

fn archive(rows: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, path, rest) in rows {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o4755 });
        let link = kind.is_symlink() || kind.is_hard_link();
        let contents: &[u8] = if link { b"" } else { rest };
        let old = header.as_old_mut();
        // What is longer than a header takes is cut: that is for the fuzzer to mend.
        let (name, to) = (path.as_bytes(), &mut old.name);
        let len = name.len().min(to.len());
        to[..len].copy_from_slice(&name[..len]);
        if link {
            old.linkname[..rest.len()].copy_from_slice(rest);
        }
        header.set_size(contents.len() as u64);
        header.set_cksum();
        builder.append(&header, contents).expect("memory takes everything");
    }
    builder.into_inner().expect("memory takes everything")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_layer_is_fuzzed_from_is_what_it_may_be_and_what_it_may_not() {
        let all = seeds();
        all.iter().for_each(|seed| layer(seed));
        let taken = all.iter().filter(|seed| unpacked(&seed[1..]).is_ok()).count();
        assert!((8..all.len() - 8).contains(&taken), "{taken} of {}", all.len());
        let mut bent = all[0].clone();
        bent[1 + 148] ^= 1;
        assert!(unpacked(&bent[1..]).is_err());
        put_sums_right(&mut bent[1..]);
        assert_eq!(unpacked(&bent[1..]).ok(), Some(4));
    }
}
