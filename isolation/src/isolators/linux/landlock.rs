//! `linux/landlock`: a task writes where it works, in its volumes, and where `--writable` says, and
//! nowhere else, whoever it runs as and whatever is mounted.
//!
//! Reading and executing are not restricted. From Linux 6.12 on it cannot connect to abstract sockets
//! of others either. Where it has mounts of its own, `host` says the same of calls that Landlock does not
//! know. What is beside a task, as in `mesita exec`, may write in the same places, and in
//! volumes of others as far as they let its user.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::wall::Wall;

/// What it does.
pub(crate) const ABOUT: &str =
    "writes where it works, in its volumes and below --writable, and nowhere else";

/// Where everybody may write, unless a flag says otherwise.
pub const WRITABLE: [&str; 4] = ["/tmp", "/var/tmp", "/dev", "/proc"];

#[derive(Debug)]
struct Landlock {
    /// `--writable`.
    everywhere: Vec<CString>,
    /// Where volumes are, whosever.
    volumes: Vec<PathBuf>,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    ground.require_walls()?;
    if !ground.sys.can_restrict_writing() {
        return Err(Unusable::Kernel(
            "Landlock that is new enough: it takes Linux 5.19, with \
                                     `lsm=landlock,...` on its command line where it is off",
        ));
    }
    let options = ground.options;
    let volumes = options.work_dir.iter().map(|work_dir| work_dir.join("volumes/roles"));
    let volumes = volumes.collect();
    Ok(Box::new(Landlock { everywhere: texts(&options.writable), volumes }))
}

fn texts(paths: &[PathBuf]) -> Vec<CString> {
    // A path with a NUL is none.
    paths.iter().filter_map(|path| CString::new(path.as_os_str().as_bytes()).ok()).collect()
}

impl Landlock {
    fn wall(&self, own: &[PathBuf]) -> Wall {
        let mut writable = vec![c".".to_owned()];
        writable.extend(self.everywhere.iter().cloned());
        writable.extend(texts(own));
        Wall::Landlock { writable }
    }
}

impl Isolator for Landlock {
    fn prepare(
        &self,
        _: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        let mut own = limits.writable.clone();
        // Of an image everything is its own, and nothing else is there.
        own.extend(limits.stands.iter().map(|_| PathBuf::from("/")));
        additions.walls.push(self.wall(&own));
        Ok(())
    }

    fn beside(&self, _: &TaskLimits, additions: &mut Additions) -> Result<(), Error> {
        additions.walls.push(self.wall(&self.volumes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::{CONTAINER, isolation};
    use crate::sys::fake::Fake;

    #[test]
    fn a_task_writes_where_it_works_where_all_may_and_in_its_volumes() {
        let sys = Fake::bare();
        let isolation = isolation(&sys, &["linux/landlock"]);
        let limits = TaskLimits { writable: vec!["/volume".into()], ..TaskLimits::default() };
        let prepared = isolation.prepare(CONTAINER, &limits).unwrap();
        let [Wall::Landlock { writable }] = &prepared.additions.walls[..] else { panic!() };
        let expected = [c".", c"/tmp", c"/var/tmp", c"/dev", c"/proc", c"/volume"];
        assert!(writable.iter().map(CString::as_c_str).eq(expected), "{writable:?}");
        assert_eq!(isolation.beside(CONTAINER, &limits).unwrap().additions.walls.len(), 1);
    }
}
