//! A ledger as a file: what it does not tell, and what is read of it whatever happened to it.

use std::os::unix::fs::PermissionsExt;

use mesita_core::wire::frame::{BodyRow, overhead, seal as framed};

use super::*;

const SECRET: &[u8] = b"planted-secret";

/// A directory of its own.
struct Meta(PathBuf);

impl Meta {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesita-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Meta {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A frame with one body, but for that.
fn frame_of(head: &[u8]) -> Vec<u8> {
    let rows = [BodyRow { len: SECRET.len().try_into().unwrap(), hash: of_body(SECRET) }];
    let mut into = vec![0; overhead(1) + head.len()];
    framed(head, rows.into_iter(), &mut into).unwrap().to_vec()
}

fn append(ledger: &mut Ledger, turn: Turn, head: &[u8]) {
    ledger.append(turn, &frame_of(head), &[Arc::from(SECRET)]).unwrap();
}

fn heads(entries: &[Entry]) -> Vec<&[u8]> {
    assert!(entries.iter().all(|entry| *entry.bodies[0].0 == *SECRET));
    entries.iter().map(|entry| &*entry.record).collect()
}

fn tells(path: &Path) -> bool {
    fs::read(path).unwrap().windows(SECRET.len()).any(|bytes| bytes == SECRET)
}

#[test]
fn what_is_in_a_ledger_is_told_by_neither_its_file_nor_a_new_one() {
    let meta = Meta::new("ledger-secret");
    let (mut ledger, entries) = Ledger::open(&meta.0).unwrap();
    assert_eq!(entries, []);
    append(&mut ledger, Turn::Append, b"one");
    append(&mut ledger, Turn::Begins, b"two");
    for name in ["ledger", "ledger.new", "ledger.key"] {
        let path = meta.0.join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        assert!(!tells(&path), "{name}");
    }
    drop(ledger);
    let (mut ledger, entries) = Ledger::open(&meta.0).unwrap();
    assert_eq!(heads(&entries), [b"one", b"two"]);
    append(&mut ledger, Turn::Append, b"six");
    let (_, entries) = Ledger::open(&meta.0).unwrap();
    assert_eq!(heads(&entries), [b"one", b"two", b"six"]);
}

/// What is told to be on disk after a batch is, in whichever of the two files it went.
#[test]
fn what_was_written_before_a_new_file_begins_is_on_disk_by_then() {
    let meta = Meta::new("ledger-begins");
    let (mut ledger, _) = Ledger::open(&meta.0).unwrap();
    append(&mut ledger, Turn::Append, b"end");
    append(&mut ledger, Turn::Begins, b"new");
    ledger.sync().unwrap();
    let unsynced = |part: &Part| part.unsynced;
    assert_eq!(
        (unsynced(&ledger.current), ledger.new.as_ref().map(unsynced)),
        (false, Some(false))
    );
}

#[test]
fn a_torn_end_is_cut_off_and_a_damaged_middle_or_a_lost_key_is_refused() {
    let meta = Meta::new("ledger-damage");
    let (mut ledger, _) = Ledger::open(&meta.0).unwrap();
    append(&mut ledger, Turn::Append, b"one");
    append(&mut ledger, Turn::Append, b"two");
    drop(ledger);
    let (path, key) = (meta.0.join("ledger"), meta.0.join("ledger.key"));
    let whole = fs::read(&path).unwrap();
    for torn in 1..40 {
        fs::write(&path, [&whole[..], &whole[8..8 + torn]].concat()).unwrap();
        assert_eq!(heads(&Ledger::open(&meta.0).unwrap().1), [b"one", b"two"], "{torn}");
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    // One bit, wherever it is: nothing that was promised is taken for torn.
    let second = 8 + (whole.len() - 8) / 2;
    for at in 8..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        let begins = if at < second { 8 } else { second as u64 };
        let found = Ledger::open(&meta.0);
        assert!(matches!(found, Err(Error::Damaged(_, of)) if of == begins), "{at}: {found:?}");
    }
    fs::write(&path, &whole).unwrap();
    let right = fs::read(&key).unwrap();
    for at in 0..right.len() {
        let mut damaged = right.clone();
        damaged[at] ^= 0x10;
        fs::write(&key, damaged).unwrap();
        let found = Ledger::open(&meta.0);
        assert!(matches!(found, Err(Error::Keyless(ref path)) if *path == key), "{at}: {found:?}");
    }
    fs::write(&key, right).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    fs::write(&path, &whole).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let why = Ledger::open(&meta.0).unwrap_err().to_string();
    assert!(why.contains("ledger.key: others can read or write it: chmod o= it"), "{why}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(heads(&Ledger::open(&meta.0).unwrap().1), [b"one", b"two"]);
    fs::remove_file(&key).unwrap();
    assert!(matches!(Ledger::open(&meta.0), Err(Error::Keyless(_))));
    fs::remove_file(&path).unwrap();
    assert_eq!(Ledger::open(&meta.0).unwrap().1, []);
}

/// Pages reach a disk in any order before they are synced.
#[test]
fn what_the_power_took_is_cut_off_with_what_lies_behind_it() {
    let meta = Meta::new("ledger-power");
    let path = meta.0.join("ledger");
    let mut ledger = Ledger::open(&meta.0).unwrap().0;
    let head = |number: usize| format!("{number:0300}").into_bytes();
    let heads_of = |count| (0..count).map(head).collect::<Vec<_>>();
    (0..40).for_each(|number| append(&mut ledger, Turn::Append, &head(number)));
    drop(ledger);
    let whole = fs::read(&path).unwrap();
    let begins: Vec<usize> = {
        let (seal, mut rest) = (Seal::of(&meta.0, true).unwrap(), &whole[8..]);
        std::iter::from_fn(|| {
            let at = whole.len() - rest.len();
            rest = seal.open(rest)?.1;
            Some(at)
        })
        .collect()
    };
    assert_eq!(begins.len(), 40);
    for (page, more) in [(4_096, 0), (8_192, 0), (4_096, 512), (8_192, 3_584)] {
        let mut holed = whole.clone();
        let lost = page + more..(page + 4_096).min(whole.len());
        holed[lost.clone()].fill(0);
        fs::write(&path, holed).unwrap();
        let before = begins.iter().filter(|at| **at < lost.start).count() - 1;
        let (_, found) = Ledger::open(&meta.0).unwrap();
        assert_eq!(heads(&found), heads_of(before), "{lost:?}");
        // It goes on from there.
        assert_eq!(fs::metadata(&path).unwrap().len(), begins[before] as u64);
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(heads(&Ledger::open(&meta.0).unwrap().1).len(), 40);
}

#[test]
fn a_ledger_of_an_earlier_build_is_sealed_before_it_is_read() {
    let meta = Meta::new("ledger-plain");
    let path = meta.0.join("ledger");
    let plain = |heads: &[&[u8]]| {
        let frames = heads.iter().flat_map(|head| [frame_of(head), SECRET.to_vec()]);
        frames.fold(MAGIC.to_vec(), |bytes, more| [bytes, more].concat())
    };
    let mut torn = plain(&[b"one", b"two"]);
    torn.extend_from_slice(b"torn");
    fs::write(&path, torn).unwrap();
    for _ in 0..2 {
        assert_eq!(heads(&Ledger::open(&meta.0).unwrap().1), [b"one", b"two"]);
        assert!(!tells(&path));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let mut damaged = plain(&[b"one", b"two"]);
    damaged[20] ^= 1;
    fs::write(&path, damaged).unwrap();
    assert!(matches!(Ledger::open(&meta.0), Err(Error::Damaged(_, 8))));
}
