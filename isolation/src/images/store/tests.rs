//! Images as they come, whole and malformed.

use super::*;
use crate::images::packing::tests::{gzip, zstd};
use crate::testing::Directory;
use proptest::prelude::*;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use tar::{Builder, EntryType, Header};

/// One entry of an archive: its type, path, what its link says or its contents.
type Row<'r> = (EntryType, &'r str, &'r [u8]);

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const SYM: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

/// A tar with whatever is in the rows, sensible or not.
fn tar_of(rows: &[Row<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, path, rest) in rows {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == DIR { 0o755 } else { 0o4755 });
        let link = matches!(*kind, SYM | HARD);
        let contents: &[u8] = if link { b"" } else { rest };
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        if link {
            header.as_old_mut().linkname[..rest.len()].copy_from_slice(rest);
        }
        header.set_size(contents.len() as u64);
        header.set_cksum();
        builder.append(&header, contents).unwrap();
    }
    builder.into_inner().unwrap()
}

fn configuration_of(layers: &[&[u8]]) -> String {
    let digests: Vec<String> =
        layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let own = Platform::own().architecture;
    format!(
        r#"{{"architecture":"{own}","os":"linux","config":{{"Entrypoint":["/bin/run"],"Env":["A=b"],
        "WorkingDir":"/w","User":"me"}},"rootfs":{{"diff_ids":[{}]}}}}"#,
        digests.join(",")
    )
}

/// `docker save` as it was for long: a directory for each layer.
fn saved_of(name: &str, layers: &[&[u8]]) -> Vec<u8> {
    let configuration = configuration_of(layers);
    let path = format!("{}.json", Digest::of(configuration.as_bytes()).hex());
    let places: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let quoted: Vec<String> = places.iter().map(|place| format!("\"{place}\"")).collect();
    let manifest =
        format!(r#"[{{"Config":"{path}","RepoTags":["{name}"],"Layers":[{}]}}]"#, quoted.join(","));
    let mut rows: Vec<Row<'_>> =
        places.iter().zip(layers).map(|(place, layer)| (FILE, &**place, *layer)).collect();
    rows.push((FILE, &path, configuration.as_bytes()));
    rows.push((FILE, "manifest.json", manifest.as_bytes()));
    tar_of(&rows)
}

/// Files of an OCI layout whose layers are packed as they are given.
fn layout_of(name: &str, plain: &[&[u8]], packed: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    let configuration = configuration_of(plain).into_bytes();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let described =
        |bytes: &[u8]| format!(r#"{{"digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len());
    let layers: Vec<String> = packed.iter().map(|layer| described(layer)).collect();
    let manifest =
        format!(r#"{{"config":{},"layers":[{}]}}"#, described(&configuration), layers.join(","));
    let index = format!(
        r#"{{"manifests":[{{"digest":"{}","annotations":
        {{"org.opencontainers.image.ref.name":"{name}"}}}}]}}"#,
        Digest::of(manifest.as_bytes())
    );
    let mut files = vec![
        ("index.json".to_owned(), index.into_bytes()),
        (blob(manifest.as_bytes()), manifest.into_bytes()),
        (blob(&configuration), configuration),
    ];
    files.extend(packed.iter().map(|layer| (blob(layer), layer.clone())));
    files
}

fn nobody() -> BTreeSet<Digest> {
    BTreeSet::new()
}

/// A store, and what comes into it.
struct Place {
    directory: Directory,
    store: Store,
}

impl Place {
    fn new(bounds: Bounds) -> Self {
        let directory = Directory::new("images");
        let store = Store::open(&directory.path().join("store"), bounds).unwrap();
        Self { directory, store }
    }

    fn add_archive(&self, name: &str, archive: &[u8]) -> Result<Image, Error> {
        let path = self.directory.path().join("image.tar");
        fs::write(&path, archive).unwrap();
        self.store.add(&Name::parse(name).unwrap(), Source::open(&path, None)?, &nobody)
    }

    fn add_layout(&self, name: &str, files: &[(String, Vec<u8>)]) -> Result<Image, Error> {
        let path = self.directory.path().join("layout");
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        for (name, bytes) in files {
            fs::write(path.join(name), bytes).unwrap();
        }
        self.store.add(&Name::parse(name).unwrap(), Source::open(&path, None)?, &nobody)
    }

    /// One layer, as an image.
    fn add_layer(&self, layer: &[u8]) -> Result<Image, Error> {
        self.add_archive("x", &saved_of("x:latest", &[layer]))
    }

    /// Where a layer is.
    fn layer(&self, image: &Image, number: usize) -> PathBuf {
        self.store.layers_directory().join(image.layers[number].digest.hex())
    }

    /// Why a layer is refused; nothing is left of it, and nothing is outside of the store.
    fn refused(&self, layer: &[u8]) -> String {
        let refused = self.add_layer(layer).unwrap_err().to_string();
        self.is_clean();
        assert_eq!(self.store.usage().layers, 0);
        refused
    }

    fn is_clean(&self) {
        let tmp = self.directory.path().join("store/tmp");
        assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0, "nothing is left in {}", tmp.display());
        let names = fs::read_dir(self.directory.path()).unwrap().flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        names.retain(|name| !["store", "image.tar", "layout"].contains(&name.to_str().unwrap()));
        assert!(names.is_empty(), "{names:?}");
    }
}

/// Layers have owners and whiteouts, which only root makes.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: needs root");
    }
    root
}

#[test]
fn an_image_is_the_same_in_whichever_form_and_packing_it_comes() {
    if !is_root() {
        return;
    }
    let lower = tar_of(&[
        (DIR, "./", b""),
        (DIR, "bin/", b""),
        (FILE, "bin/run", b"run"),
        (HARD, "bin/same", b"bin/run"),
        (SYM, "bin/abs", b"/etc/passwd"),
        (FILE, "deep/er/file", b"deep"),
    ]);
    let upper = tar_of(&[(FILE, "bin/.wh.run", b""), (FILE, "deep/.wh..wh..opq", b"")]);
    let layers = [&lower[..], &upper[..]];
    let place = Place::new(Bounds::default());
    let saved = place.add_archive("a/b:v1", &saved_of("a/b:v1", &layers)).unwrap();
    assert_eq!(saved.config.entrypoint, ["/bin/run"]);
    assert_eq!((&*saved.config.working_dir, &*saved.config.user), ("/w", "me"));
    type Pack = fn(&[u8]) -> Vec<u8>;
    let packings: [Pack; 3] = [gzip, zstd, <[u8]>::to_vec];
    for pack in packings {
        let packed = layers.map(pack);
        let files = layout_of("v1", &layers, &packed);
        let fresh = Place::new(Bounds::default());
        let image = fresh.add_layout("a/b:v1", &files).unwrap();
        assert_eq!((image.id, &image.layers), (saved.id, &saved.layers));
        // The same in one file, packed once more.
        let rows: Vec<Row<'_>> =
            files.iter().map(|(name, bytes)| (FILE, &**name, &**bytes)).collect();
        let fresh = Place::new(Bounds::default());
        let image = fresh.add_archive("a/b:v1", &gzip(&tar_of(&rows))).unwrap();
        assert_eq!((image.id, image.layers.len()), (saved.id, 2));
        fresh.is_clean();
    }
    let at = place.layer(&saved, 0);
    let run = fs::metadata(at.join("bin/run")).unwrap();
    assert_eq!((run.mode() & 0o7777, run.nlink()), (0o755, 2), "no set-user-id");
    assert_eq!(fs::read_link(at.join("bin/abs")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read(at.join("deep/er/file")).unwrap(), b"deep");
    let at = place.layer(&saved, 1);
    let removed = fs::symlink_metadata(at.join("bin/run")).unwrap();
    assert!(removed.file_type().is_char_device() && removed.rdev() == 0);
    let mut opaque = [0; 4];
    let len =
        rustix::fs::lgetxattr(at.join("deep"), super::super::unpack::OPAQUE_ATTRIBUTE, &mut opaque);
    assert_eq!(len, Ok(1));
    let store = fs::metadata(place.directory.path().join("store")).unwrap();
    assert_eq!(store.mode() & 0o777, 0o700, "nobody else's");
}

#[test]
fn what_leads_out_of_a_layer_is_refused_by_name() {
    if !is_root() {
        return;
    }
    let place = Place::new(Bounds::default());
    let outside = place.directory.path().join("outside");
    let rows: [(&[Row<'_>], &str); 16] = [
        (&[(FILE, "../../outside", b"x")], "leads upwards"),
        (&[(FILE, "a/../../../outside", b"x")], "leads upwards"),
        (&[(SYM, "up", b"../../.."), (FILE, "up/outside", b"x")], "through a symbolic link"),
        (&[(SYM, "up", b"/tmp"), (DIR, "up/outside", b"")], "through a symbolic link"),
        (&[(SYM, "a", b"b"), (SYM, "b", b"a"), (FILE, "a/x", b"")], "through a symbolic link"),
        (&[(FILE, "f", b"x"), (FILE, "f/x", b"")], "no directory"),
        (&[(HARD, "passwd", b"/etc/passwd")], "not there"),
        (&[(HARD, "passwd", b"../../../etc/passwd")], "leads upwards"),
        (&[(SYM, "e", b"/etc"), (HARD, "passwd", b"e/passwd")], "through a symbolic link"),
        (&[(DIR, "d", b""), (HARD, "e", b"d")], "no file"),
        (&[(EntryType::Char, "null", b"")], "device"),
        (&[(EntryType::Block, "sda", b"")], "device"),
        (&[(EntryType::Fifo, "pipe", b"")], "neither file"),
        (&[(FILE, "d/.wh...", b"")], "nothing that has a name"),
        (&[(FILE, "d/.wh.", b"")], "nothing that has a name"),
        (&[(SYM, ".wh.x", b"/etc")], "no empty file"),
    ];
    for (rows, expected) in rows {
        let why = place.refused(&tar_of(rows));
        assert!(why.contains(expected), "{rows:?}: {why}");
    }
    assert!(!outside.exists());
    // An absolute path is one of the layer's.
    let image = place.add_layer(&tar_of(&[(FILE, "/etc/motd", b"hi")])).unwrap();
    assert_eq!(fs::read(place.layer(&image, 0).join("etc/motd")).unwrap(), b"hi");
}

#[test]
fn a_layer_that_brings_what_it_removes_brings_it_anew() {
    if !is_root() {
        return;
    }
    let rows: [Row<'_>; 6] = [
        (FILE, ".wh.file", b""),
        (FILE, "file", b"new"),
        (FILE, ".wh.before", b""),
        (DIR, "before", b""),
        (DIR, "after", b""),
        (FILE, ".wh.after", b""),
    ];
    let place = Place::new(Bounds::default());
    let image = place.add_layer(&tar_of(&rows)).unwrap();
    let at = place.layer(&image, 0);
    assert_eq!(fs::read(at.join("file")).unwrap(), b"new");
    for name in ["before", "after"] {
        let opaque = super::super::unpack::OPAQUE_ATTRIBUTE;
        assert!(at.join(name).is_dir());
        assert_eq!(rustix::fs::lgetxattr(at.join(name), opaque, &mut [0; 4]), Ok(1), "{name}");
    }
}

#[test]
fn what_is_too_much_is_refused_by_its_flag() {
    if !is_root() {
        return;
    }
    let place = Place::new(Bounds { layer_bytes: 19 << 20, ..Bounds::default() });
    // Of those that say nothing of a layer, so that the time goes into counting.
    let many: Vec<String> = (0..100_000).map(|n| format!(".wh..wh.{n}")).collect();
    let rows: Vec<Row<'_>> = many.iter().map(|name| (FILE, &**name, &b""[..])).collect();
    let refused = Place::new(Bounds::default()).refused(&tar_of(&rows));
    assert!(refused.contains("--image-entries-max"), "{refused}");
    let small = Place::new(Bounds { layer_bytes: 1 << 20, ..Bounds::default() });
    let huge = tar_of(&[(FILE, "huge", &vec![1; 2 << 20])]);
    assert!(small.refused(&huge).contains("--image-layer-max"));
    let deep = "d/".repeat(49);
    let shallow = Place::new(Bounds { depth: 40, ..Bounds::default() });
    assert!(shallow.refused(&tar_of(&[(DIR, &deep, b"")])).contains("--image-depth-max"));
    let bomb = tar_of(&[(FILE, "zeros", &vec![0; 18 << 20])]);
    let packed = layout_of("latest", &[&bomb], &[gzip(&bomb)]);
    let why = place.add_layout("x", &packed).unwrap_err().to_string();
    assert!(why.contains("--image-ratio-max"), "{why}");
    place.is_clean();
    // A size that is not there: nothing is reserved for it.
    let mut lies = tar_of(&[(FILE, "f", b"")]);
    let mut header = Header::from_byte_slice(&lies[..512]).clone();
    header.set_size(1 << 50);
    header.set_cksum();
    lies[..512].copy_from_slice(header.as_bytes());
    assert!(place.refused(&lies).contains("cut off"));
    let full = Place::new(Bounds { store_bytes: 3, ..Bounds::default() });
    let why = full.refused(&tar_of(&[(FILE, "f", b"four")]));
    assert!(why.contains("--image-store-max"), "{why}");
}

#[test]
fn what_was_changed_or_cut_off_is_refused() {
    if !is_root() {
        return;
    }
    let layer = tar_of(&[(FILE, "file", b"contents")]);
    let place = Place::new(Bounds::default());
    let files = layout_of("latest", &[&layer], &[gzip(&layer)]);
    for changed in 1..files.len() {
        let mut files = files.clone();
        let last = files[changed].1.len() - 1;
        files[changed].1[last] ^= 1;
        let why = place.add_layout("x", &files).unwrap_err().to_string();
        assert!(why.contains("it was changed") || why.contains("cannot be read"), "{why}");
        files[changed].1.truncate(last / 2);
        assert!(place.add_layout("x", &files).is_err());
        files.remove(changed);
        let why = place.add_layout("x", &files).unwrap_err().to_string();
        assert!(why.contains("in the image"), "{why}");
    }
    let other = tar_of(&[(FILE, "file", b"other")]);
    let lies = layout_of("latest", &[&layer], &[gzip(&other)]);
    assert!(matches!(place.add_layout("x", &lies), Err(Error::Digest { .. })));
    let whole = saved_of("x:latest", &[&layer]);
    // What marks the end of an archive may be missing: all that counts is there.
    for len in (0..whole.len() - 1024).step_by(512) {
        let _ = place.add_archive("x", &whole[..len]).map(|_| panic!("{len} of {}", whole.len()));
    }
    place.is_clean();
    assert_eq!(place.store.usage(), Usage { bytes_max: 8 << 30, ..Usage::default() });
}

#[test]
fn layers_are_shared_kept_through_a_restart_and_go_with_their_last_user() {
    if !is_root() {
        return;
    }
    let (base, one, two) = (
        tar_of(&[(FILE, "base", b"12345678")]),
        tar_of(&[(FILE, "one", b"1")]),
        tar_of(&[(FILE, "two", b"22")]),
    );
    let mut place = Place::new(Bounds { store_bytes: 11, ..Bounds::default() });
    let first = place.add_archive("one", &saved_of("one:latest", &[&base, &one])).unwrap();
    let second = place.add_archive("two", &saved_of("two:latest", &[&base, &two])).unwrap();
    let usage = Usage { images: 2, layers: 3, bytes: 11, bytes_max: 11 };
    assert_eq!(place.store.usage(), usage);
    let directory = place.directory.path().join("store");
    assert!(matches!(Store::open(&directory, Bounds::default()), Err(Error::Taken(_))));
    // The agent is killed in the middle of something.
    let room = place.store.room().unwrap();
    fs::write(room.join("half"), "").unwrap();
    fs::create_dir(place.store.layers_directory().join("not a layer")).unwrap();
    let bounds = *place.store.bounds();
    place.store = {
        let elsewhere = Place::new(bounds);
        drop(std::mem::replace(&mut place.store, elsewhere.store));
        Store::open(&directory, bounds).unwrap()
    };
    place.is_clean();
    assert_eq!(place.store.usage(), usage);
    assert_eq!(place.store.find(&Name::parse("one").unwrap()), Some(first.clone()));
    // There is no room for a third: who is longest unused goes, and what is in use stays.
    place.store.hold(&first, || Ok(())).unwrap();
    let large = saved_of("three:latest", &[&base, &two, &tar_of(&[(FILE, "three", b"333")])]);
    let why = place.add_archive("three", &large).unwrap_err().to_string();
    assert!(why.contains("--image-store-max"), "{why}");
    assert_eq!(place.store.names(), ["one", "two"], "nobody goes in vain");
    let small = saved_of("small:latest", &[&base, &tar_of(&[(FILE, "three", b"33")])]);
    let third = place.add_archive("small", &small).unwrap();
    assert_eq!(place.store.names(), ["one", "small"]);
    assert!(place.store.hold(&second, || Ok(())).is_err());
    let in_use = || first.layers.iter().map(|layer| layer.digest).collect();
    let pruned = place.store.prune(&|_| false, &in_use).unwrap();
    assert_eq!(pruned, Pruned { images: 1, layers: 1, bytes: 2 });
    assert_eq!(place.store.names(), ["one"]);
    assert_eq!(place.store.prune(&|name| name == "one", &nobody).unwrap(), Pruned::default());
    assert!(place.layer(&first, 0).exists() && !place.layer(&third, 1).exists());
    let pruned = place.store.prune(&|_| false, &nobody).unwrap();
    assert_eq!(pruned, Pruned { images: 1, layers: 2, bytes: 9 });
    place.is_clean();
}

#[test]
fn an_archive_has_the_image_that_is_asked_for() {
    if !is_root() {
        return;
    }
    let place = Place::new(Bounds::default());
    let layer = tar_of(&[(FILE, "f", b"")]);
    let saved = saved_of("a/b:v1", &[&layer]);
    let why = place.add_archive("a/b:v2", &saved).unwrap_err().to_string();
    assert_eq!(why, "there is no image a/b:v2 in the archive");
    // Old docker has links for layers that it has elsewhere in the archive.
    let linked = saved_of("x:latest", &[&layer, &layer]);
    assert_eq!(place.add_archive("x", &linked).unwrap().layers.len(), 2);
    assert_eq!(place.store.usage().layers, 1);
    let path = place.directory.path().join("image.tar");
    let name = Name::parse(path.to_str().unwrap()).unwrap();
    let add = || place.store.add(&name, Source::open(&path, None).unwrap(), &nobody);
    assert_eq!(add().unwrap(), add().unwrap());
    fs::write(&path, &saved).unwrap();
    assert!(add().is_ok(), "the only one of an archive needs no name");
    assert!(Source::open(Path::new("/dev/null"), None).is_err());
    assert!(Source::open(&path.with_extension("no"), None).is_err());
}

/// A path that may lead anywhere.
fn any_path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("a"),
        Just("b"),
        Just(".."),
        Just("."),
        Just(""),
        Just(".wh.a"),
        Just(".wh..wh..opq"),
        Just(".wh..."),
        Just("outside")
    ];
    proptest::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_is_in_an_archive_nothing_outside_changes(
        rows in proptest::collection::vec((0u8..8, any_path(), any_path()), 1..12),
        damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        if rustix::process::geteuid().is_root() {
            let kinds = [FILE, DIR, SYM, HARD, EntryType::Char, EntryType::Fifo, FILE, SYM];
            let rows: Vec<Row<'_>> = rows
                .iter()
                .map(|(kind, path, rest)| (kinds[usize::from(*kind)], &**path, rest.as_bytes()))
                .collect();
            let mut layer = tar_of(&rows);
            let place = Place::new(Bounds::default());
            let secret = place.directory.path().join("layout");
            fs::create_dir(&secret).unwrap();
            fs::write(secret.join("a"), "secret").unwrap();
            if let Some((at, byte)) = damage {
                let at = at.index(layer.len());
                layer[at] ^= byte;
            }
            let _ = place.add_layer(&layer);
            place.is_clean();
            prop_assert_eq!(fs::read(secret.join("a")).unwrap(), b"secret");
            prop_assert_eq!(fs::metadata(secret.join("a")).unwrap().nlink(), 1);
            prop_assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
        }
    }
}

#[test]
fn an_image_goes_from_store_to_store_by_digests_alone() {
    let layers = [tar_of(&[(FILE, "one", b"1")]), tar_of(&[(FILE, "two", b"22")])];
    let saved = saved_of("app:v1", &[&layers[0], &layers[1]]);
    let name = Name::parse("app:v1").unwrap();
    let (first, second) = (Place::new(Bounds::default()), Place::new(Bounds::default()));
    let path = first.directory.path().join("app.tar");
    fs::write(&path, &saved).unwrap();
    let index = first.store.pack(&name, Source::open(&path, None).unwrap()).unwrap();
    let (mut rounds, mut brought) = (0, 0);
    let here = loop {
        let missing = match second.store.lacks(&name, index).unwrap() {
            Lacks::Nothing(here) => break here,
            Lacks::These(missing) => missing,
        };
        rounds += 1;
        for digest in missing {
            let (mut from, _) = first.store.blobs().read(digest).unwrap();
            let mut to = second.store.blobs().part(digest).unwrap();
            std::io::copy(&mut from, &mut to).unwrap();
            second.store.blobs().finish(digest).unwrap();
            brought += 1;
        }
    };
    assert_eq!((rounds, brought), (4, 5), "index, manifest, configuration, both layers");
    let image = second.store.add_packed(&name, index, &here, &nobody).unwrap();
    assert_eq!(second.store.find(&name), Some(image.clone()));
    assert_eq!(image.layers.len(), 2);
    second.is_clean();
    // A layer that is kept unpacked is not missing, and what is packed goes with what is pruned.
    second.store.blobs().clear().unwrap();
    for digest in here.iter().chain([&index]) {
        if let Some((from, len)) = first.store.blobs().read(*digest)
            && len < 1024
        {
            second.store.blobs().put(from).unwrap();
        }
    }
    assert!(
        matches!(second.store.lacks(&name, index), Ok(Lacks::Nothing(here)) if here.len() == 2)
    );
    first.store.prune(&|_| false, &nobody).unwrap();
    assert_eq!(first.store.blobs().bytes(), 0);
}

#[test]
fn an_image_that_is_never_kept_is_refused_by_its_manifest() {
    let layers = [tar_of(&[(FILE, "one", b"1")]), tar_of(&[(FILE, "two", b"22")])];
    let name = Name::parse("app:v1").unwrap();
    let first = Place::new(Bounds::default());
    let small = Place::new(Bounds { blob_bytes: 3000, ..Bounds::default() });
    let path = first.directory.path().join("app.tar");
    fs::write(&path, saved_of("app:v1", &[&layers[0], &layers[1]])).unwrap();
    let index = first.store.pack(&name, Source::open(&path, None).unwrap()).unwrap();
    let refused = loop {
        let missing = match small.store.lacks(&name, index) {
            Ok(Lacks::These(missing)) => missing,
            Ok(Lacks::Nothing(here)) => panic!("{here:?}"),
            Err(refused) => break refused.to_string(),
        };
        for digest in missing {
            let (from, len) = first.store.blobs().read(digest).unwrap();
            assert!(len < 1000, "no layer is asked for");
            small.store.blobs().put(from).unwrap();
        }
    };
    assert!(refused.contains("--image-blobs-max"), "{refused}");
}
