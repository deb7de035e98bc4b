//! `exec:/path`: an isolator from outside, a program that is called when a container is prepared, when
//! its process exists, and when it is gone.
//!
//! It is called as `/path prepare`, `/path isolate` and `/path cleanup`, with one JSON object on its
//! standard input: `container`, `inside` (the container around it, or null), `cpus`, `mem_bytes`,
//! `cgroups` (its directories) and, for `isolate`, `pid`. It has [`CALL_US`] to answer with status 0 and
//! at most [`ANSWER_MAX`] bytes: nothing, or a JSON object, whose `error` says why the container cannot
//! be had. The process waits for all answers before it becomes the program. `cleanup` is called as well for
//! what an agent that died may have prepared, and the program of a call that was not over then is killed. It has
//! no environment, and a process group of its own, which is killed when the call is over; what it has started
//! itself outlives an agent that dies.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

use super::{Additions, Container, Error, Isolator, TaskLimits, Unusable};
use crate::sys::{self, Failure, Linux, Sys, boottime_us};

/// What such names begin with.
pub(crate) const PREFIX: &str = "exec:";
/// How long a call may take, in µs.
pub const CALL_US: u64 = 10_000_000;
/// From its last word to its end, in ms.
const END_MS: u32 = 1000;
/// Bytes of an answer.
pub const ANSWER_MAX: usize = 64 * 1024;

#[derive(Debug)]
struct Program {
    path: PathBuf,
    call_us: u64,
}

/// The isolator that a name such as `exec:/path` stands for.
pub(crate) fn make(name: &str) -> Result<Box<dyn Isolator>, Unusable> {
    let path = PathBuf::from(name.strip_prefix(PREFIX).unwrap_or(name));
    trusted(&path).map_err(Unusable::Flag)?;
    Ok(Box::new(Program { path, call_us: CALL_US }))
}

/// Nobody but root and ourselves may change what runs with our rights.
fn trusted(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(format!("{shown} is not an absolute path"));
    }
    let own = rustix::process::geteuid().as_raw();
    for at in path.ancestors() {
        let of = fs::metadata(at).map_err(|error| format!("{}: {error}", at.display()))?;
        // A directory such as /tmp lets nobody rename what is not theirs.
        let open = of.mode() & 0o022 != 0 && (at == path || of.mode() & 0o1000 == 0);
        if open || ![0, own].contains(&of.uid()) {
            return Err(format!("{} can be changed by others", at.display()));
        }
    }
    Ok(())
}

impl Program {
    fn call(&self, what: &'static str, request: &Value) -> Result<(), Error> {
        let failed = |why: String| Error::Outside(what, why);
        let mut command = Command::new(&self.path);
        // Whoever comes after an agent that died asks for `cleanup`, and nothing is set up after that.
        sys::ends_with_its_thread(&mut command);
        let started = command
            .arg(what)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = started.map_err(|error| Failure::io("execute", &self.path, &error))?;
        let answer = self.converse(&mut child, request);
        let status = end(&mut child, answer.is_ok());
        let answer = answer.map_err(failed)?;
        if !status.success() {
            return Err(failed(status.to_string()));
        }
        if answer.trim_ascii().is_empty() {
            return Ok(());
        }
        let answer: Value =
            serde_json::from_slice(&answer).map_err(|why| failed(why.to_string()))?;
        let Value::Object(answer) = answer else {
            return Err(failed(format!("it answers {answer}, which is no object")));
        };
        match answer.get("error") {
            None | Some(Value::Null) => Ok(()),
            Some(why) => Err(failed(why.as_str().map_or_else(|| why.to_string(), str::to_owned))),
        }
    }

    /// Tells it what is asked, and takes what it says until it says no more.
    fn converse(&self, child: &mut Child, request: &Value) -> Result<Vec<u8>, String> {
        let until_us = boottime_us().saturating_add(self.call_us);
        if let Some(mut input) = child.stdin.take() {
            // A pipe has room for all of it; who does not read it misses it.
            let _ = input.write_all(request.to_string().as_bytes());
        }
        let mut output = child.stdout.take().ok_or("it has no output")?;
        let (mut answer, mut block) = (Vec::new(), [0; 4096]);
        loop {
            let left_us = until_us.saturating_sub(boottime_us());
            let left = sys::timeout(u32::try_from(left_us / 1000).unwrap_or(u32::MAX));
            let ready = poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&left));
            if left_us == 0 || ready == Ok(0) {
                return Err("it takes too long".to_owned());
            }
            match output.read(&mut block).map_err(|error| error.to_string())? {
                0 => return Ok(answer),
                some => answer.extend_from_slice(&block[..some]),
            }
            if answer.len() > ANSWER_MAX {
                return Err(format!("it says more than {ANSWER_MAX} bytes"));
            }
        }
    }

    fn request(container: &Container<'_>, limits: Option<&TaskLimits>, pid: Option<u32>) -> Value {
        let inside = container.at.inside.map(|around| around.to_string());
        let cgroups: Vec<String> = container
            .cgroups
            .of(container.at)
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let mut request =
            json!({"container": container.at.id.to_string(), "inside": inside, "cgroups": cgroups});
        if let Some(limits) = limits {
            let milli = u32::try_from(limits.cpus_milli).unwrap_or(u32::MAX);
            request["cpus"] = (f64::from(milli) / 1000.0).into();
            request["mem_bytes"] = limits.mem_bytes.into();
        }
        if let Some(pid) = pid {
            request["pid"] = pid.into();
        }
        request
    }
}

/// Waits for who has said all that it had to say, a moment, and ends it and what it left.
fn end(child: &mut Child, waits: bool) -> std::process::ExitStatus {
    use std::os::unix::process::ExitStatusExt;
    let group = i32::try_from(child.id()).unwrap_or(0);
    if waits {
        Linux.wait(&[child.id()], END_MS);
    }
    if let Ok(Some(status)) = child.try_wait() {
        // Its number is that of the group until that is empty.
        let _ = sys::kill(-group, libc::SIGKILL);
        return status;
    }
    let _ = sys::kill(-group, libc::SIGKILL);
    child.wait().unwrap_or_else(|_| std::process::ExitStatus::from_raw(libc::SIGKILL))
}

impl Isolator for Program {
    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        _: &mut Additions,
    ) -> Result<(), Error> {
        self.call("prepare", &Self::request(container, Some(limits), None))
    }

    fn isolate(&self, container: &Container<'_>, pid: u32) -> Result<(), Error> {
        self.call("isolate", &Self::request(container, None, Some(pid)))
    }

    fn cleanup(&self, container: &Container<'_>) -> Result<(), Error> {
        self.call("cleanup", &Self::request(container, None, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, options};
    use crate::sys::fake::Fake;
    use crate::testing::Directory;
    use std::os::unix::fs::PermissionsExt;

    fn script(directory: &Directory, lines: &str) -> PathBuf {
        let path = directory.path().join("isolator");
        fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn isolation<'s>(sys: &'s Fake, path: &Path) -> Isolation<'s> {
        let name = format!("{PREFIX}{}", path.display());
        Isolation::new(&options(Some(&[&name])), sys).unwrap().0
    }

    #[test]
    fn it_is_called_for_what_an_agent_that_died_had_prepared() {
        let (sys, directory) = (Fake::hybrid(), Directory::new("exec-unknown"));
        let log = directory.path().join("log").display().to_string();
        let path = script(&directory, &format!("echo $1 >>{log}"));
        let names = ["cgroups/pids".to_owned(), format!("{PREFIX}{}", path.display())];
        let names = names.each_ref().map(String::as_str);
        let options = crate::Options { ..options(Some(&names)) };
        let before = Isolation::new(&options, &sys).unwrap().0;
        before.prepare(CONTAINER, &TaskLimits::default()).unwrap();
        let (after, _) = Isolation::new(&options, &sys).unwrap();
        after.recover(&[CONTAINER]).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "prepare\n");
        let recovered = after.recover(&[]).unwrap();
        assert_eq!((recovered.removed.len(), recovered.stuck.len()), (1, 0));
        assert_eq!(fs::read_to_string(&log).unwrap(), "prepare\ncleanup\n");
    }

    #[test]
    fn it_is_called_three_times_with_what_it_needs() {
        let (sys, directory) = (Fake::bare(), Directory::new("exec"));
        let log = directory.path().join("log").display().to_string();
        let path = script(&directory, &format!("echo \"$1 $(cat)\" >>{log}; echo {{}}"));
        let isolation = isolation(&sys, &path);
        let limits = TaskLimits { cpus_milli: 500, mem_bytes: 7, ..TaskLimits::default() };
        isolation.prepare(CONTAINER, &limits).unwrap();
        isolation.isolate(CONTAINER, 4242).unwrap();
        isolation.cleanup(CONTAINER).unwrap();
        let log = fs::read_to_string(log).unwrap();
        let lines: Vec<(&str, Value)> = log
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(what, json)| (what, serde_json::from_str(json).unwrap()))
            .collect();
        assert_eq!(lines[0].0, "prepare");
        let expected = json!({"container": "1-1", "inside": null, "cgroups": [], "cpus": 0.5,
                              "mem_bytes": 7});
        assert_eq!(lines[0].1, expected);
        assert_eq!((lines[1].0, &lines[1].1["pid"]), ("isolate", &json!(4242)));
        assert_eq!((lines[2].0, &lines[2].1["container"]), ("cleanup", &json!("1-1")));
    }

    #[test]
    fn what_it_says_against_a_container_is_told_and_so_is_what_makes_no_sense() {
        let (sys, directory) = (Fake::bare(), Directory::new("exec-errors"));
        for (lines, expected) in [
            ("echo '{\"error\": \"no room\"}'", "no room"),
            ("exit 3", "exit status: 3"),
            ("echo nonsense", "expected"),
            ("echo '[{\"error\": \"no\"}]'", "no object"),
            ("echo '\"no\"'", "no object"),
            ("echo 5", "no object"),
            ("yes", "more than 65536"),
        ] {
            let path = script(&directory, &format!("[ $1 = cleanup ] && exit 0; {lines}"));
            let refused = isolation(&sys, &path).prepare(CONTAINER, &TaskLimits::default());
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("prepare") && refused.contains(expected), "{refused}");
        }
    }

    #[test]
    fn one_that_takes_too_long_is_ended_with_all_that_it_started() {
        let directory = Directory::new("exec-slow");
        let path = script(&directory, "sleep 600 & sleep 600");
        let slow = Program { path, call_us: 300_000 };
        let began = boottime_us();
        let refused = slow.call("prepare", &json!({})).unwrap_err().to_string();
        assert!(refused.contains("too long"), "{refused}");
        assert!(boottime_us() - began < 10_000_000);
    }

    #[test]
    fn one_that_is_asked_by_who_dies_ends_before_it_has_set_up_anything() {
        let directory = Directory::new("exec-orphan");
        let (begun, done) = (directory.path().join("begun"), directory.path().join("done"));
        let lines = format!("echo $$ >{}; sleep 1; touch {}", begun.display(), done.display());
        let path = script(&directory, &lines);
        let asked = std::thread::spawn(move || {
            // A thread's end is an agent's to whoever it has started.
            let mut command = Command::new(&path);
            sys::ends_with_its_thread(&mut command);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            while !fs::read_to_string(&begun).is_ok_and(|text| text.ends_with('\n')) {
                std::thread::yield_now();
            }
            child
        });
        asked.join().unwrap().wait().unwrap();
        assert!(!done.exists());
    }

    #[test]
    fn a_program_that_others_can_change_is_not_run_with_our_rights() {
        let directory = Directory::new("exec-open");
        let path = script(&directory, "exit 0");
        assert_eq!(trusted(&path), Ok(()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(trusted(&path).unwrap_err().contains("can be changed by others"));
        assert!(trusted(Path::new("relative")).is_err());
        assert!(trusted(&directory.path().join("none")).is_err());
    }
}
