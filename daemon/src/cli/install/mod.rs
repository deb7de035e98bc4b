//! `mesita install`: a master or an agent as a service of a machine, and all of that away again.
//!
//! The flags of the daemon are in a file of /etc/mesita that its service names; the service is a
//! link from where the init system looks at boot, so that an image can be made of a directory.

mod services;
mod uninstall;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::services::Service;
use super::{Failure, USAGE, WORK_DIRS, agent, master};
use crate::flags::{Command, Daemon, Init, Install, file};

/// Where a package puts the program, and where this does where there is none.
const PROGRAMS: [&str; 2] = ["/usr/bin/mesita", "/usr/local/bin/mesita"];
/// Where both daemons have their flags.
const FILES: &str = "/etc/mesita";
/// There while the second of the programs is one that this has not brought.
const NOTE: &str = "/etc/mesita/program";

/// Below the root of a machine: of this one, or of one that will be.
struct Place<'f> {
    root: &'f Path,
    daemon: Daemon,
}

impl Place<'_> {
    /// A path of that machine, here.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// It is this machine.
    fn is_here(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The file with the daemon's flags.
    fn config(&self) -> String {
        format!("{FILES}/{}.toml", self.daemon.name())
    }

    /// The services of a daemon that are there.
    fn services(&self, daemon: Daemon) -> Vec<Service> {
        let all = [Init::Systemd, Init::Openrc].map(|init| Service { init, daemon });
        all.into_iter().filter(|one| self.at(&one.file()).exists()).collect()
    }
}

pub(super) fn main(flags: &Install) -> Result<ExitCode, Failure> {
    let root = std::path::absolute(&flags.root);
    let root = root.map_err(|error| failed(&flags.root, &error))?;
    if !root.is_dir() {
        let message = format!("--root: {} is no directory", root.display());
        return Err(Failure::new(USAGE, message));
    }
    let place = Place { root: &root, daemon: flags.daemon };
    if flags.uninstall {
        uninstall::all(&place, flags.purge)?;
    } else {
        install(&place, flags)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything is checked before anything is written.
fn install(place: &Place<'_>, flags: &Install) -> Result<(), Failure> {
    let init = flags.init.map_or_else(|| services::found(place), Ok)?;
    let config = config(place, flags)?;
    let program = program(place)?;
    if let Some(config) = config {
        // A token may be in it, and others need not know where the rest is.
        write(&place.at(&place.config()), &config, 0o600)?;
    }
    let service = Service { init, daemon: place.daemon };
    let file = place.at(&service.file());
    write(&file, &service.text(program, &place.config()), service.mode())?;
    enable(&place.at(&service.link()), &service.file())?;
    outln!("mesita: {} begins with the machine", service.name());
    if place.is_here() && !flags.no_start {
        service.restart()?;
    }
    Ok(())
}

/// The file of flags that is to be written; none = the one that is there stays.
fn config(place: &Place<'_>, flags: &Install) -> Result<Option<String>, Failure> {
    let given = file::given(place.daemon.name(), &flags.flags);
    let given = given.map_err(|error| Failure::new(USAGE, error))?;
    let there = place.at(&place.config()).exists();
    if given.is_empty() && there {
        return Ok(None);
    }
    if place.daemon == Daemon::Agent && !given.iter().any(|(name, _)| name == "master") {
        let message = "an agent needs a master: `mesita install agent -- --master HOST:PORT`";
        return Err(Failure::new(USAGE, message));
    }
    judge(place, &given)?;
    Ok(Some(file::text(&given)))
}

/// Refuses what the daemon would refuse when it begins. Of an image, files may come later: then the flags
/// are judged alone.
fn judge(place: &Place<'_>, given: &[(String, String)]) -> Result<(), Failure> {
    let meant = file::meant(place.daemon.name(), given, place.root);
    let (command, all_there) = meant.map_err(|error| Failure::new(USAGE, error))?;
    let work_dir = |told: &Option<PathBuf>| {
        let default = || place.at(WORK_DIRS).join(place.daemon.name());
        told.clone().unwrap_or_else(default)
    };
    let is_read = place.is_here() || all_there;
    if let Command::Master(flags) = command {
        let work_dir = work_dir(&flags.work_dir);
        if is_read { master::judge(*flags, &work_dir) } else { master::judge_unread(&flags) }
    } else if let Command::Agent(flags) = command {
        let work_dir = work_dir(&flags.work_dir);
        if is_read { agent::judge(&flags, &work_dir) } else { agent::judge_unread(&flags) }
    } else {
        Ok(())
    }
}

/// The program of that machine: the one of its package, else this one, which is copied.
fn program(place: &Place<'_>) -> Result<&'static str, Failure> {
    let [packaged, ours] = PROGRAMS;
    let to = place.at(ours);
    let begins = [Daemon::Master, Daemon::Agent].map(|daemon| place.services(daemon).is_empty());
    if to.exists() && begins == [true, true] {
        let note = format!("{ours} was here before: `mesita install --uninstall` leaves it\n");
        write(&place.at(NOTE), &note, 0o644)?;
    }
    if place.at(packaged).exists() {
        return Ok(packaged);
    }
    let this = Path::new("/proc/self/exe");
    let same =
        fs::canonicalize(this).ok().is_some_and(|this| Some(this) == fs::canonicalize(&to).ok());
    if !same {
        let new = to.with_extension("new");
        parent(&to)?;
        // One that runs cannot be written to, and can be replaced.
        let copied = fs::copy(this, &new)
            .and_then(|_| fs::set_permissions(&new, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::rename(&new, &to));
        copied.map_err(|error| failed(&to, &error))?;
        outln!("mesita: wrote {}", to.display());
    }
    Ok(ours)
}

/// Writes a file, all of it or nothing.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    parent(path)?;
    let new = path.with_extension("new");
    let open =
        || fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new);
    // One that was left over has the mode that it had.
    let written = fs::remove_file(&new)
        .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
        .and_then(|()| open()?.write_all(text.as_bytes()))
        .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&new, path));
    written.map_err(|error| failed(path, &error))?;
    outln!("mesita: wrote {}", path.display());
    Ok(())
}

fn parent(path: &Path) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|error| failed(parent, &error))
}

/// Lets the init system find it at boot.
fn enable(link: &Path, to: &str) -> Result<(), Failure> {
    parent(link)?;
    if fs::read_link(link).is_ok_and(|there| there == Path::new(to)) {
        return Ok(());
    }
    let _ = fs::remove_file(link);
    symlink(to, link).map_err(|error| failed(link, &error))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let denied = error.kind() == ErrorKind::PermissionDenied;
    let hint = if denied { "; run it as root" } else { "" };
    Failure::plain(format!("{}: {error}{hint}", path.display()))
}
