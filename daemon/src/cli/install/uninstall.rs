//! Taking a service away: the daemon, its tasks, its files.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesita_core::wire::Session;
use mesita_isolation::keeper;
use mesita_isolation::keeper::protocol::{Held, Reply, Request};
use mesita_isolation::tree;

use super::{FILES, NOTE, PROGRAMS, Place, failed};
use crate::cli::Failure;
use crate::flags::Daemon;

/// How long tasks may take to be gone once they are killed.
const KILL: Duration = Duration::from_secs(20);

/// Removes all that `install` wrote; that something is not there is what was wanted.
pub(super) fn all(place: &Place<'_>, purge: bool) -> Result<(), Failure> {
    let (work_dir, token) = (work_dir(place), token(place));
    let there = place.services(place.daemon);
    let had_some = !there.is_empty();
    if place.is_here() {
        there.iter().for_each(|service| service.stop());
        if place.daemon == Daemon::Agent {
            end_tasks(&work_dir)?;
        }
    }
    for service in there {
        let log = service.log();
        for path in [Some(service.link()), Some(service.file()), log].into_iter().flatten() {
            remove(&place.at(&path))?;
        }
        if place.is_here() {
            service.forget();
        }
    }
    remove(&place.at(&place.config()))?;
    token.map_or(Ok(()), |token| remove(&token))?;
    program(place, had_some)?;
    data(&work_dir, purge)
}

/// The program, with the last of what needs it, unless it was there before. `had_some`: what is gone was
/// there until now.
fn program(place: &Place<'_>, had_some: bool) -> Result<(), Failure> {
    let (files, note, program) = (place.at(FILES), place.at(NOTE), place.at(PROGRAMS[1]));
    let is_last = match fs::read_dir(&files) {
        // What else is there is the other daemon's, or an operator's.
        Ok(mut left) => left.all(|file| file.is_ok_and(|file| file.path() == note)),
        Err(_) => had_some,
    };
    if !is_last {
        return Ok(());
    }
    if note.exists() {
        outln!("mesita: left {}, which was there before", program.display());
    } else {
        remove(&program)?;
    }
    remove(&note)?;
    let _ = fs::remove_dir(files);
    Ok(())
}

/// The work directory, which nobody can make again.
fn data(work_dir: &Path, purge: bool) -> Result<(), Failure> {
    if !work_dir.exists() {
        return Ok(());
    }
    if !purge {
        outln!("mesita: kept {}; --purge removes it, too", work_dir.display());
        return Ok(());
    }
    tree::remove(work_dir)
        .map_err(|error| failed(work_dir, &std::io::Error::from_raw_os_error(error.errno)))?;
    outln!("mesita: removed {}", work_dir.display());
    // The one around it, unless there is more in it.
    let _ = work_dir.parent().map(fs::remove_dir);
    Ok(())
}

/// What the file of flags says.
fn flags(place: &Place<'_>) -> toml::Table {
    let text = fs::read_to_string(place.at(&place.config())).unwrap_or_default();
    text.parse().unwrap_or_default()
}

/// The file with the token that the node has joined by, if it is among ours.
fn token(place: &Place<'_>) -> Option<PathBuf> {
    let table = flags(place);
    let path = table.get("join")?.as_str()?;
    let is_ours = Path::new(path).parent() == Some(Path::new(FILES));
    is_ours.then(|| place.at(path))
}

/// The work directory that the file of flags names, or that a service has without.
fn work_dir(place: &Place<'_>) -> PathBuf {
    let table = flags(place);
    let told = table.get("work-dir").or_else(|| table.get("work_dir"));
    let usual = || format!("/var/lib/mesita/{}", place.daemon.name());
    place.at(&told.and_then(|told| told.as_str()).map_or_else(usual, str::to_owned))
}

/// Ends the tasks of an agent that is gone, and its keeper with them.
fn end_tasks(work_dir: &Path) -> Result<(), Failure> {
    let found = keeper::connect(work_dir, Session::default()).map_err(Failure::plain)?;
    let Some(mut keeper) = found else { return Ok(()) };
    let held: Vec<_> = keeper.held().iter().map(Held::container).collect();
    keeper.send(&Request::EndAll).map_err(Failure::plain)?;
    loop {
        match keeper.receive(KILL).map_err(Failure::plain)? {
            Some(Reply::AllEnded) => break,
            Some(_) => {}
            None => return Err(Failure::plain("tasks do not end, though they were killed")),
        }
    }
    outln!("mesita: ended {} tasks", held.len());
    let forgotten =
        held.into_iter().try_for_each(|container| keeper.send(&Request::Forget { container }));
    // A keeper that has nothing to keep ends with its last client.
    forgotten.map_err(Failure::plain)
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Ok(()) => {
            outln!("mesita: removed {}", path.display());
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path, &error)),
    }
}
