//! Where an agent would be: its work directory, the file system of that, its port.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mesita_isolation::own;
use rustix::fs::{FallocateFlags, fallocate, statfs};

use super::{Finding, State};
use crate::agent::prepare;
use crate::cli::{AGENTS_OWN, MASTERS_OWN, find, refuse_other};
use crate::conn::listen::bind;
use crate::flags::Agent;
use crate::{clock, identity};

/// File systems by the number that the kernel gives them, and whether the tests have run on them.
const FILE_SYSTEMS: [(u64, &str, bool); 14] = [
    (0xef53, "ext2, ext3 or ext4", true),
    (0x0102_1994, "tmpfs", true),
    (0x794c_7630, "overlayfs", false),
    (0x8584_58f6, "ramfs, of which nothing is left after a reboot", false),
    (0x5846_5342, "xfs", false),
    (0x9123_683e, "btrfs", false),
    (0xf2f5_2010, "f2fs", false),
    (0x2405_1905, "ubifs", false),
    (0x4d44, "fat", false),
    (0x2011_bab0, "exfat", false),
    (0x6969, "nfs", false),
    (0xff53_4d42, "cifs", false),
    (0x6573_5546, "a file system of a program (fuse)", false),
    (0x0102_1997, "9p", false),
];

pub(super) fn all(flags: &Agent, work_dir: &Path) -> Vec<Finding> {
    let work_dir = std::path::absolute(work_dir).unwrap_or_else(|_| work_dir.to_owned());
    let running = is_used(&work_dir);
    let place = if running {
        Finding::on("work dir", format!("an agent uses {}", work_dir.display()))
    } else {
        let own = || own::check(&work_dir).map_err(|error| error.to_string());
        let says = writable(&work_dir).and_then(|says| own().map(|()| says));
        let says = says.and_then(|says| of_its_kind(&work_dir, "a master", &MASTERS_OWN, says));
        Finding::of_result("work dir", says.and_then(|says| keyed(&work_dir, says)))
    };
    let open = prepare::open_to_others(&work_dir).or_else(|| prepare::closed_to_users(&work_dir));
    let place = match open {
        Some(trouble) if place.state == State::On => {
            Finding::new("work dir", State::Degraded, trouble)
        }
        _ => place,
    };
    let mut found = vec![place, file_system(&nearest(&work_dir))];
    let address = SocketAddr::new(flags.listen.ip, flags.port);
    found.push(port(address, running.then_some("agent")));
    found
}

/// The place of a master that says within `t_us` that it is there: it writes before it speaks.
pub(super) fn of_master(work_dir: &Path, running: bool, t_us: u64) -> Vec<Finding> {
    let of = "work dir";
    let work_dir = std::path::absolute(work_dir).unwrap_or_else(|_| work_dir.to_owned());
    let place = if running {
        Finding::on(of, format!("a master uses {}", work_dir.display()))
    } else {
        let own = || own::check(&work_dir).map_err(|error| error.to_string());
        let says = writable(&work_dir).and_then(|says| own().map(|()| says));
        let says = says.and_then(|says| of_its_kind(&work_dir, "an agent", &AGENTS_OWN, says));
        Finding::of_result(of, says)
    };
    let place = match prepare::open_to_others(&work_dir) {
        Some(trouble) if place.state == State::On => Finding::new(of, State::Degraded, trouble),
        _ => place,
    };
    let can = place.state != State::Fails;
    let there = nearest(&work_dir);
    let mut found = vec![place, tested(&there).1];
    if can {
        found.push(synced(&there, t_us));
    }
    found
}

/// How often a disk is asked how fast it is.
const SYNCS: usize = 5;

/// How long it takes until something is on the disk.
fn synced(directory: &Path, t_us: u64) -> Finding {
    let of = "disk";
    let path = directory.join(format!(".mesita-doctor-{}", std::process::id()));
    let tried = fs::File::create_new(&path).and_then(|mut file| {
        // It goes by itself with its last descriptor.
        fs::remove_file(&path)?;
        let mut worst = 0;
        for _ in 0..SYNCS {
            let began = clock::now();
            file.write_all(&TRIED[..4096])?;
            file.sync_data()?;
            worst = clock::now().since(began).max(worst);
        }
        Ok(worst)
    });
    match tried {
        Ok(worst) => as_fast_as(worst, t_us),
        Err(error) => Finding::new(of, State::Fails, not_writable(directory, &error)),
    }
}

/// A leader that is not done writing when others miss it is followed by another one.
fn as_fast_as(worst: u64, t_us: u64) -> Finding {
    let told = format!(
        "what is written is on the disk after {}.{} ms",
        worst / 1_000,
        worst % 1_000 / 100
    );
    if worst < t_us / 2 {
        return Finding::on("disk", told);
    }
    let sentence = format!(
        "{told}, and others miss a leader after {} ms; --timing slow or wan, when the set is made, or put \
         --work-dir on a disk that is faster",
        t_us / 1_000
    );
    Finding::new("disk", State::Degraded, sentence)
}

/// The directory itself, else the one that it would be made in.
pub(super) fn nearest(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|path| fs::symlink_metadata(path).is_ok());
    there.unwrap_or(Path::new("/")).to_owned()
}

/// True while a daemon has the lock of a work directory.
pub(super) fn is_used(work_dir: &Path) -> bool {
    let lock = work_dir.join("meta/lock");
    // Looking makes nothing.
    lock.exists() && matches!(prepare::lock(&lock), Err(prepare::Error::Taken(_)))
}

/// The directory of the other kind of daemon is no use to this one, which says so at its start.
fn of_its_kind(work_dir: &Path, of: &str, files: &[&str], says: String) -> Result<String, String> {
    let checked = refuse_other(work_dir, of, files);
    checked.map(|()| says).map_err(|failure| failure.message.replacen(": give", "; give", 1))
}

/// What an agent writes before its first task, as much as that may be.
const TRIED: [u8; 16 * 1024] = [0; 16 * 1024];

/// Makes something there that is on the disk, and takes it away again.
fn writable(work_dir: &Path) -> Result<String, String> {
    let there = nearest(work_dir);
    let trial = there.join(format!(".mesita-doctor-{}", std::process::id()));
    let made = fs::DirBuilder::new().mode(0o700).create(&trial).and_then(|()| {
        let file = trial.join("written");
        let write = || {
            let mut file = fs::File::create_new(&file)?;
            file.write_all(&TRIED)?;
            file.sync_all()
        };
        let written = write();
        let _ = fs::remove_file(&file);
        fs::remove_dir(&trial).and(written)
    });
    match made {
        Ok(()) if there == work_dir => Ok(format!("{} can be written", work_dir.display())),
        Ok(()) => Ok(format!("{} can be made", work_dir.display())),
        Err(error) => Err(not_writable(&there, &error)),
    }
}

/// Why nothing can be made in a directory, and what to do.
fn not_writable(directory: &Path, error: &io::Error) -> String {
    let shown = directory.display();
    let kind = error.kind();
    if kind == ErrorKind::ReadOnlyFilesystem {
        let at = mount_of(directory);
        let at = at.display();
        format!(
            "{shown} is on a file system that is mounted read-only, at {at}; \
             `mount -o remount,rw {at}`, or --work-dir elsewhere"
        )
    } else if kind == ErrorKind::PermissionDenied {
        let uid = rustix::process::geteuid().as_raw();
        format!(
            "{shown} cannot be written by user {uid}; `chown {uid} {shown}`, run as root, or \
             --work-dir elsewhere"
        )
    } else if kind == ErrorKind::NotADirectory {
        format!("{shown} is no directory; --work-dir elsewhere")
    } else if [ErrorKind::StorageFull, ErrorKind::QuotaExceeded].contains(&kind) {
        format!("{shown} is full; remove something there, or --work-dir elsewhere")
    } else {
        format!("{shown}: {error}; --work-dir elsewhere")
    }
}

/// Where the file system of a directory is mounted.
fn mount_of(directory: &Path) -> PathBuf {
    let device = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_dev).ok();
    let ours = device(directory);
    let same = directory.ancestors().take_while(|above| device(above) == ours);
    same.last().unwrap_or(directory).to_owned()
}

/// The key of an agent that was here before.
fn keyed(work_dir: &Path, says: String) -> Result<String, String> {
    match fs::metadata(work_dir.join("meta/key")) {
        // Reading it makes it, where there is none.
        Ok(_) => identity::own(&work_dir.join("meta"))
            .map(|_| format!("{says}; it is that of an agent"))
            .map_err(|error| error.to_string()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(not_writable(&work_dir.join("meta"), &error))
        }
        Err(_) => Ok(says),
    }
}

fn file_system(directory: &Path) -> Finding {
    let (name, found) = tested(directory);
    if found.state == State::On && !punches(directory) {
        let sentence = format!(
            "{name} gives no part of a file back, so logs of tasks are cut when they are full; \
             put --work-dir on ext4, which does"
        );
        return Finding::new("file system", State::Degraded, sentence);
    }
    found
}

/// The name of a file system, and whether it was tested.
fn tested(directory: &Path) -> (String, Finding) {
    let of = "file system";
    let number = match statfs(directory) {
        // Some machines have it with a sign.
        Ok(told) => u64::try_from(told.f_type).unwrap_or(0) & 0xffff_ffff,
        Err(errno) => {
            let found = Finding::new(of, State::Degraded, format!("unknown: {errno}"));
            return (String::new(), found);
        }
    };
    let known = FILE_SYSTEMS.iter().find(|(known, ..)| *known == number);
    let name =
        known.map_or_else(|| format!("of number {number:#x}"), |(_, name, _)| (*name).to_owned());
    let elsewhere = "put --work-dir on ext4, which is";
    if known.is_none_or(|(.., tested)| !tested) {
        let sentence = format!("{name} is not among those that were tested; {elsewhere}");
        return (name, Finding::new(of, State::Degraded, sentence));
    }
    (name.clone(), Finding::on(of, name))
}

/// True when the front of a file can be given back, or nothing can be made to find out.
fn punches(directory: &Path) -> bool {
    let path = directory.join(format!(".mesita-doctor-{}", std::process::id()));
    let Ok(file) = fs::File::options().write(true).create_new(true).open(&path) else {
        return true;
    };
    // It goes by itself with its last descriptor.
    let _ = fs::remove_file(&path);
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file.as_fd(), flags, 0, 4096).is_ok()
}

/// Whether the port is free, or has the daemon of this kind that runs here.
pub(super) fn port(address: SocketAddr, running: Option<&str>) -> Finding {
    let of = "port";
    match bind(address.ip(), address.port()) {
        Ok(_) => Finding::on(of, format!("{address} is free")),
        Err(error) if error.kind() != ErrorKind::AddrInUse => Finding::new(of, State::Fails, error),
        Err(_) => {
            if let Some(kind) = running {
                return Finding::on(of, format!("{address} has the {kind} that runs"));
            }
            let who = if find::answers(&address.to_string()) {
                "a Mesita daemon"
            } else {
                "another program"
            };
            let port = address.port();
            let sentence = format!(
                "{who} listens at {address}; end it (`ss -ltnp 'sport = :{port}'` names it), or \
                 choose another --port"
            );
            Finding::new(of, State::Fails, sentence)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_judged_by_what_it_would_be_made_in() {
        assert_eq!(nearest(Path::new("/proc/self/none/of/this")), Path::new("/proc/self"));
        assert_eq!(nearest(Path::new("/")), Path::new("/"));
        assert_eq!(mount_of(Path::new("/proc/self/fd")), Path::new("/proc"));
    }

    #[test]
    fn what_cannot_be_written_says_what_to_do() {
        let told = |kind: ErrorKind| not_writable(Path::new("/proc/self"), &kind.into());
        assert!(told(ErrorKind::ReadOnlyFilesystem).contains("mount -o remount,rw /proc`"));
        assert!(told(ErrorKind::PermissionDenied).contains("; `chown "));
        assert!(told(ErrorKind::StorageFull).contains("full; "));
        assert!(told(ErrorKind::NotADirectory).contains("; --work-dir"));
    }

    #[test]
    fn a_file_system_that_nobody_tested_is_told() {
        let proc = file_system(Path::new("/proc"));
        assert_eq!(proc.state, State::Degraded);
        assert!(proc.fix.contains("ext4"), "{proc:?}");
    }
}
