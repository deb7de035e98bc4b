//! Unpacking what a task fetched, in its own sandbox and with its user's rights.
//!
//! An archive may be anybody's and say anything: nothing in it leads out of the sandbox, no device and
//! no owner is made, and neither its size nor the memory it takes to read it is unbounded.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};
use xz4rust::{DICT_SIZE_MIN, DICT_SIZE_PROFILE_9, XzDecoder, XzReader};
use zip::ZipArchive;

use super::budget::Budget;

/// Files in one archive.
const ENTRIES_MAX: u64 = 200_000;
/// Bytes of what stands for the name of a file in a tar.
const NAME_MAX: u64 = 1 << 20;
/// Bytes of the directory of a zip.
const DIRECTORY_MAX: u64 = 16 << 20;
/// Bytes of the target of a symbolic link.
const LINK_MAX: u64 = 4096;
/// The end of a zip: where its directory is, without its comment; the longest comment.
const END: usize = 22;
const COMMENT_MAX: u64 = 65_535;

/// How a file is packed, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tar(Packing),
    Gzip,
    Zip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Bzip2,
    Xz,
}

/// Mesos: `fetcher.cpp`.
const KINDS: [(&str, Kind); 9] = [
    (".tar", Kind::Tar(Packing::None)),
    (".tar.gz", Kind::Tar(Packing::Gzip)),
    (".tgz", Kind::Tar(Packing::Gzip)),
    (".tar.bz2", Kind::Tar(Packing::Bzip2)),
    (".tbz2", Kind::Tar(Packing::Bzip2)),
    (".tar.xz", Kind::Tar(Packing::Xz)),
    (".txz", Kind::Tar(Packing::Xz)),
    (".gz", Kind::Gzip),
    (".zip", Kind::Zip),
];

fn kind(file: &Path) -> Option<Kind> {
    let name = file.file_name()?.to_str()?;
    let of = |ending: &str| name.len() > ending.len() && name.ends_with(ending);
    KINDS.into_iter().find(|(ending, _)| of(ending)).map(|(_, kind)| kind)
}

/// Unpacks `file` into `directory`, if its name says how; false if it does not. Blocks.
pub(super) fn unpack(file: &Path, directory: &Path, budget: &Budget) -> io::Result<bool> {
    match kind(file) {
        None => return Ok(false),
        Some(Kind::Tar(packing)) => {
            look_through(reader(file, packing)?, budget)?;
            untar(reader(file, packing)?, directory, budget)?;
        }
        Some(Kind::Gzip) => gunzip(file, budget)?,
        Some(Kind::Zip) => unzip(File::open(file)?, directory, budget)?,
    }
    Ok(true)
}

fn reader(file: &Path, packing: Packing) -> io::Result<Box<dyn Read>> {
    let file = io::BufReader::with_capacity(64 * 1024, File::open(file)?);
    Ok(match packing {
        Packing::None => Box::new(file),
        Packing::Gzip => Box::new(MultiGzDecoder::new(file)),
        Packing::Bzip2 => Box::new(MultiBzDecoder::new(file)),
        Packing::Xz => {
            // As much memory as `xz -9` asks for, and no more.
            let decoder =
                XzDecoder::in_heap_with_alloc_dict_size(DICT_SIZE_MIN, DICT_SIZE_PROFILE_9);
            let buffer =
                std::num::NonZeroUsize::new(64 * 1024).unwrap_or(std::num::NonZeroUsize::MIN);
            Box::new(XzReader::new_with_buffer_size_and_decoder(file, buffer, decoder))
        }
    })
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// Reads a tar without writing anything: names are held in memory whole, so none may be too long; and
/// one that does not fit leaves nothing behind.
fn look_through(reader: Box<dyn Read>, budget: &Budget) -> io::Result<()> {
    let mut archive = Archive::new(reader);
    let (mut entries, mut bytes) = (0u64, 0u64);
    for entry in archive.entries()?.raw(true) {
        let entry = entry?;
        let size = entry.header().entry_size()?;
        let kind = entry.header().entry_type();
        let names = [
            EntryType::GNULongName,
            EntryType::GNULongLink,
            EntryType::XHeader,
            EntryType::XGlobalHeader,
        ];
        if names.contains(&kind) && size > NAME_MAX {
            return Err(bad("a name in it is longer than 1 MiB"));
        }
        entries += 1;
        bytes = bytes.saturating_add(size);
        budget.has(bytes)?;
        if entries > ENTRIES_MAX {
            return Err(bad(format!("it has more than {ENTRIES_MAX} files")));
        }
    }
    Ok(())
}

fn untar(reader: Box<dyn Read>, directory: &Path, budget: &Budget) -> io::Result<()> {
    let mut archive = Archive::new(budget.reader(reader));
    archive.set_overwrite(true);
    archive.set_preserve_permissions(false);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let file = kind.is_file() || kind.is_dir() || kind.is_contiguous() || kind.is_gnu_sparse();
        let link = kind.is_symlink() || kind.is_hard_link();
        let about = kind.is_pax_global_extensions() || kind.is_pax_local_extensions();
        if about {
            continue;
        }
        let shown = entry.path()?.display().to_string();
        if !file && !link {
            return Err(bad(format!("`{shown}` in it is neither file, directory nor link")));
        }
        if !entry.unpack_in(directory)? {
            return Err(bad(format!("`{shown}` in it leads out of the sandbox")));
        }
    }
    Ok(())
}

/// A file by itself: it goes beside, without its ending. Mesos: `gzip -dk`.
fn gunzip(file: &Path, budget: &Budget) -> io::Result<()> {
    let mut reader = budget.reader(reader(file, Packing::Gzip)?);
    io::copy(&mut reader, &mut create(&file.with_extension(""), 0o644)?)?;
    Ok(())
}

/// Opens a file to be written anew. What is there is replaced, and no link is followed.
pub(super) fn create(path: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    File::options().write(true).create_new(true).mode(mode).open(path)
}

fn unzip(mut file: File, directory: &Path, budget: &Budget) -> io::Result<()> {
    check_end(&mut file)?;
    let mut archive = ZipArchive::new(file).map_err(io::Error::other)?;
    let all = (0..archive.len()).try_fold(0u64, |all, place| {
        let entry = archive.by_index_raw(place).map_err(io::Error::other)?;
        Ok::<u64, io::Error>(all.saturating_add(entry.size()))
    })?;
    budget.has(all)?;
    let directory = fs::canonicalize(directory)?;
    let mut links = Vec::new();
    for place in 0..archive.len() {
        let mut entry = archive.by_index(place).map_err(io::Error::other)?;
        let shown = entry.name().map_or_else(|_| String::new(), |name| name.into_owned());
        let Some(name) = entry.enclosed_name() else {
            return Err(bad(format!("`{shown}` in it leads out of the sandbox")));
        };
        let path = directory.join(name);
        if entry.is_dir() {
            fs::create_dir_all(&path)?;
            continue;
        }
        let above = path.parent().unwrap_or(&directory);
        fs::create_dir_all(above)?;
        if !fs::canonicalize(above)?.starts_with(&directory) {
            return Err(bad(format!("`{shown}` in it leads out of the sandbox")));
        }
        if entry.is_symlink() {
            let mut target = String::new();
            budget.reader(&mut entry).take(LINK_MAX).read_to_string(&mut target)?;
            links.push((path, PathBuf::from(target)));
            continue;
        }
        let mode = entry.unix_mode().unwrap_or(0o644) & 0o777;
        let mut into = create(&path, mode)?;
        io::copy(&mut budget.reader(&mut entry), &mut into)?;
        // Whatever the mask of this process is.
        into.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    // Last, so that nothing in the archive is written through one of them.
    for (path, target) in links {
        create(&path, 0o600)?;
        fs::remove_file(&path)?;
        symlink(target, &path)?;
    }
    Ok(())
}

/// The directory of a zip is read into memory whole: how large it is stands at the end of the file.
fn check_end(file: &mut File) -> io::Result<()> {
    let len = file.seek(SeekFrom::End(0))?;
    let from = len.saturating_sub(COMMENT_MAX + END as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.by_ref().take(COMMENT_MAX + END as u64).read_to_end(&mut tail)?;
    let found = tail.windows(END).rposition(|end| end.starts_with(b"PK\x05\x06"));
    let end = found.and_then(|at| tail.get(at..at + END));
    let end = end.ok_or_else(|| bad("it is no zip file"))?;
    let size = u32::from_le_bytes([end[12], end[13], end[14], end[15]]);
    let count = u16::from_le_bytes([end[10], end[11]]);
    if count == u16::MAX || u64::from(size) > DIRECTORY_MAX {
        return Err(bad("a zip has at most 65,534 files here, with 16 MiB of names"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A directory of its own that goes away.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("mesita-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("in")).unwrap();
            Self(path)
        }

        fn unpack(&self, name: &str, bytes: &[u8], max: u64) -> io::Result<bool> {
            let file = self.0.join("in").join(name);
            fs::write(&file, bytes).unwrap();
            unpack(&file, &self.0.join("in"), &Budget::new(max))
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.0.join("in").join(name)).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A tar of one file with a path that is not looked at, and whatever else.
    fn tar_of(path: &str, more: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(5);
        header.set_mode(0o4755);
        header.set_cksum();
        builder.append(&header, &b"hello"[..]).unwrap();
        more(&mut builder);
        builder.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn names_say_how_a_file_is_packed() {
        assert_eq!(kind(Path::new("a/b.tar.gz")), Some(Kind::Tar(Packing::Gzip)));
        assert_eq!(kind(Path::new("b.gz")), Some(Kind::Gzip));
        assert_eq!((kind(Path::new(".gz")), kind(Path::new("b.jar"))), (None, None));
    }

    #[test]
    fn tars_are_unpacked_however_they_are_packed_without_privileges() {
        let place = Place::new("untar");
        let tar = tar_of("d/hello", |_| {});
        for (name, bytes) in
            [("a.tar", tar.clone()), ("a.tgz", gzip(&tar)), ("a.tar.bz2", bzip2(&tar))]
        {
            assert!(place.unpack(name, &bytes, 1 << 20).unwrap(), "{name}");
            assert_eq!(place.text("d/hello"), "hello");
            let mode = fs::metadata(place.0.join("in/d/hello")).unwrap().permissions().mode();
            assert_eq!(mode & 0o7000, 0, "no set-user-id");
            fs::remove_dir_all(place.0.join("in/d")).unwrap();
        }
        assert!(place.unpack("f.gz", &gzip(b"alone"), 1 << 20).unwrap());
        assert_eq!(place.text("f"), "alone");
        assert!(!place.unpack("f.jar", b"whatever", 1 << 20).unwrap());
    }

    #[test]
    fn nothing_in_a_tar_leads_out_of_the_sandbox() {
        let place = Place::new("tar-out");
        let out = place.0.join("hello");
        let why = place.unpack("a.tar", &tar_of("../hello", |_| {}), 1 << 20).unwrap_err();
        assert!(why.to_string().contains("leads out"), "{why}");
        let through = tar_of("first", |builder| {
            let mut link = tar::Header::new_gnu();
            link.set_entry_type(EntryType::Symlink);
            link.set_size(0);
            builder.append_link(&mut link, "up", "..").unwrap();
            let mut file = tar::Header::new_gnu();
            file.set_size(5);
            builder.append_data(&mut file, "up/hello", &b"hello"[..]).unwrap();
        });
        assert!(place.unpack("b.tar", &through, 1 << 20).is_err());
        assert!(!out.exists());
        let device = tar_of("first", |builder| {
            let mut device = tar::Header::new_gnu();
            device.set_entry_type(EntryType::Char);
            device.set_size(0);
            builder.append_data(&mut device, "null", io::empty()).unwrap();
        });
        let why = place.unpack("c.tar", &device, 1 << 20).unwrap_err();
        assert!(why.to_string().contains("neither file"), "{why}");
    }

    #[test]
    fn a_bomb_is_refused_before_anything_is_written() {
        let place = Place::new("bomb");
        let large = tar_of("first", |builder| {
            let mut header = tar::Header::new_gnu();
            header.set_size(8 << 20);
            builder.append_data(&mut header, "zeros", io::repeat(0).take(8 << 20)).unwrap();
        });
        let packed = gzip(&large);
        assert!(packed.len() < 100_000);
        let why = place.unpack("a.tgz", &packed, 4 << 20).unwrap_err();
        assert!(why.to_string().contains("--fetcher-max-size"), "{why}");
        assert!(!place.0.join("in/first").exists());
        assert!(place.unpack("f.gz", &gzip(&vec![0; 8 << 20]), 4 << 20).is_err());
    }

    fn zip_of(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
        use zip::write::SimpleFileOptions;
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, mode, bytes) in files {
            let options = SimpleFileOptions::default().unix_permissions(*mode);
            if *mode & 0o170_000 == 0o120_000 {
                let target = std::str::from_utf8(bytes).unwrap();
                writer.add_symlink(*name, target, options).unwrap();
            } else {
                writer.start_file(*name, options).unwrap();
                writer.write_all(bytes).unwrap();
            }
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn zips_are_unpacked_with_their_modes_and_links_and_stay_inside() {
        let place = Place::new("unzip");
        let zip = zip_of(&[("d/run", 0o755, b"hello"), ("link", 0o120_777, b"d/run")]);
        assert!(place.unpack("a.zip", &zip, 1 << 20).unwrap());
        assert_eq!((place.text("d/run"), place.text("link")), ("hello".into(), "hello".into()));
        let mode = fs::metadata(place.0.join("in/d/run")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        let why = place.unpack("b.zip", &zip_of(&[("../out", 0o644, b"x")]), 1 << 20).unwrap_err();
        assert!(why.to_string().contains("leads out"), "{why}");
        // Twice, over what is there.
        assert!(place.unpack("a.zip", &zip, 1 << 20).unwrap());
        assert!(place.unpack("c.zip", &zip, 4).is_err());
        assert!(place.unpack("d.zip", b"no zip", 1 << 20).is_err());
    }
}
