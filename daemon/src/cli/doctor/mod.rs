//! `mesita doctor`: what an agent with these flags would find on this machine, and what to change; `mesita
//! doctor master` tells the same of a master.
//!
//! It does what the agent does at its start and leaves nothing of it: isolators are made by the
//! isolation crate over a keeper of a temporary work directory, the port is bound, the masters are
//! asked. Sentences say what is wrong, then after `; ` what to do, as those of the agent itself do.

mod engine;
mod machine;
mod masters;
mod of_master;
mod place;
mod secrets;

use std::path::Path;
use std::process::ExitCode;

use mesita_isolation::isolators::{Entry, REGISTRY, Unusable};
use mesita_isolation::keeper::{self, KeeperOptions};
use mesita_isolation::sys::Linux;
use mesita_isolation::{Isolation, NotHere, Options};
use serde_json::json;

use super::agent::access;
use super::{FAILED, Failure, door, print};
use crate::agent::prepare;
use crate::doors::Doors;
use crate::flags::{Agent, Doctor, DoctorMaster};
use crate::tls::Signer;

/// The agent would run, with something off or worse than it could be.
const DEGRADED: u8 = 5;

/// How something is. The worst of all is the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// As it should be.
    On,
    /// Not looked at, for the flags name nothing.
    Skipped,
    /// It works, and could be better.
    Degraded,
    /// It is not there, and the agent runs without it.
    Off,
    /// The agent would not start, or not reach its master.
    Fails,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Skipped => "-",
            Self::Degraded => "degraded",
            Self::Off => "off",
            Self::Fails => "FAILS",
        }
    }
}

/// What was found about one thing.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    of: String,
    state: State,
    /// What is so.
    says: String,
    /// What to do about it; empty = nothing.
    fix: String,
}

impl Finding {
    /// Out of a sentence that says what is so, and after the first `; ` what to do.
    fn new(of: impl Into<String>, state: State, sentence: impl ToString) -> Self {
        let sentence = sentence.to_string();
        let (says, fix) = sentence.split_once("; ").unwrap_or((&sentence, ""));
        Self { of: of.into(), state, says: says.to_owned(), fix: fix.to_owned() }
    }

    fn on(of: impl Into<String>, sentence: impl ToString) -> Self {
        Self::new(of, State::On, sentence)
    }

    /// What came of something without which no agent starts.
    fn of_result<T: ToString, E: ToString>(of: &str, result: Result<T, E>) -> Self {
        match result {
            Ok(says) => Self { fix: String::new(), ..Self::on(of, says) },
            Err(error) => Self::new(of, State::Fails, error),
        }
    }

    fn json(&self) -> String {
        let state = self.state.name().to_lowercase();
        let (of, says, fix) = (&self.of, &self.says, &self.fix);
        json!({"check": of, "state": state, "says": says, "fix": fix}).to_string()
    }
}

pub(super) fn main(flags: &Doctor) -> Result<ExitCode, Failure> {
    super::log_to_stderr(log::LevelFilter::Error);
    let found = examine(&flags.agent)?;
    Ok(tell(&found, flags.json, "an agent"))
}

/// The same of a master.
pub(super) fn of_master(flags: &DoctorMaster) -> Result<ExitCode, Failure> {
    super::log_to_stderr(log::LevelFilter::Error);
    let found = of_master::examine(&flags.master)?;
    Ok(tell(&found, flags.json, "a master"))
}

fn tell(found: &[Finding], json: bool, whom: &str) -> ExitCode {
    print(if json {
        found.iter().map(|finding| finding.json() + "\n").collect()
    } else {
        table(found) + &summary(found, whom)
    });
    ExitCode::from(status(found))
}

/// Everything. A keeper is made before the first thread, so the masters come last.
fn examine(flags: &Agent) -> Result<Vec<Finding>, Failure> {
    let work_dir = match &flags.work_dir {
        Some(work_dir) => work_dir.clone(),
        None => super::default_work_dir("agent")?,
    };
    let mut found = isolators(flags, &place::nearest(&work_dir));
    found.extend(machine::all(&flags.holds));
    found.push(resources(flags, &work_dir));
    found.push(engine::examined(&flags.holds.docker));
    found.extend(place::all(flags, &work_dir));
    found.extend(secrets::all(flags, &work_dir));
    found.push(doors(flags));
    found.extend(masters::all(flags, &work_dir));
    Ok(found)
}

/// What each isolator would be, found out by making it, for sandboxes below `there`.
fn isolators(flags: &Agent, there: &Path) -> Vec<Finding> {
    match survey(flags, there) {
        Ok(found) => found,
        Err(sentence) => vec![Finding::new("isolators", State::Fails, sentence)],
    }
}

fn survey(flags: &Agent, there: &Path) -> Result<Vec<Finding>, String> {
    let work_dir = super::run::temporary().map_err(|failure| failure.message)?;
    let keeper = keeper::start(&KeeperOptions {
        ends_with_client: true,
        temporary: true,
        ..KeeperOptions::new(&work_dir)
    });
    let keeper = keeper.map_err(|error| format!("keeper: {error}"))?;
    let mut options = prepare::options(&flags.holds, crate::random::bytes(), keeper.welcome())
        .map_err(|error| error.to_string())?;
    // What holds for its file system holds for what is made there.
    options.work_dir = Some(there.to_owned());
    // Each of them is looked at, whichever are named; who named one cannot do without it.
    let named = std::mem::take(&mut options.isolators);
    let meant = meant(&options, named.as_deref()).map_err(|error| error.to_string())?;
    // Those that are on by name alone, too, where a look changes nothing of the machine's cgroups. One
    // that gives a network and one that takes it away are not looked at together.
    let by_name = |entry: &&Entry| {
        entry.named && (entry.controllers.is_empty() || meant.contains(&entry.name))
    };
    let none = "network/none";
    let (with, apart): (Vec<&str>, Vec<&str>) =
        REGISTRY.iter().filter(by_name).map(|entry| entry.name).partition(|name| {
            meant.contains(name)
                || (*name != none && !(meant.contains(&none) && name.starts_with("namespaces/net")))
        });
    let rates = options.ingress_rate.or(options.egress_rate).is_some();
    for (given, name) in
        [(rates, "network/bandwidth"), (options.container_network.is_some(), "namespaces/net")]
    {
        if given && !meant.contains(&name) {
            return Err(format!(
                "isolator {name}: there are flags for it, and --isolation does not name it; \
                 --isolation=all,{name}"
            ));
        }
    }
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    options.isolators = names(&[&["all"], &with[..]].concat());
    let mut told = Isolation::survey(&options, &Linux).map_err(|error| error.to_string())?;
    options.isolators = names(&apart);
    (options.container_network, options.ingress_rate, options.egress_rate) = (None, None, None);
    told.extend(Isolation::survey(&options, &Linux).map_err(|error| error.to_string())?);
    Ok(told.into_iter().map(|(name, why)| isolator(name, why, named.is_some(), &meant)).collect())
}

/// The isolators that the flag names.
fn meant(options: &Options, named: Option<&[String]>) -> Result<Vec<&'static str>, NotHere> {
    Ok(match named {
        None => REGISTRY.iter().filter(|entry| !entry.named).map(|entry| entry.name).collect(),
        Some(_) => {
            let options = Options { isolators: named.map(<[String]>::to_vec), ..options.clone() };
            options.meant()?
        }
    })
}

fn isolator(name: &'static str, why: Option<Unusable>, named: bool, meant: &[&str]) -> Finding {
    let entry = REGISTRY.iter().find(|entry| entry.name == name);
    let about = entry.map_or("", |entry| entry.about);
    let by_name = entry.is_some_and(|entry| entry.named);
    match why {
        None if !meant.contains(&name) && by_name => Finding::new(
            name,
            State::Skipped,
            format!("would work, and is on only where it is named; --isolation=all,{name}"),
        ),
        // What it says is what to do, as of every other one.
        Some(why) if !meant.contains(&name) && by_name => Finding::new(
            name,
            State::Skipped,
            format!("is on only where it is named, and would not work here: {why}"),
        ),
        None if !meant.contains(&name) => {
            Finding::new(name, State::Skipped, "would work; --isolation leaves it out")
        }
        Some(_) if !meant.contains(&name) => {
            Finding::new(name, State::Skipped, "--isolation leaves it out")
        }
        // What it does may be told in two parts.
        None => Finding { says: about.to_owned(), ..Finding::on(name, "") },
        Some(why) if named || matches!(why, Unusable::Flag(_)) => {
            Finding::new(name, State::Fails, why)
        }
        Some(why) => Finding::new(name, State::Off, why),
    }
}

/// What would be offered.
fn resources(flags: &Agent, work_dir: &Path) -> Finding {
    let told = prepare::offered(&flags.holds, &place::nearest(work_dir));
    Finding::of_result("resources", told.map(|text| text.replace(';', " ")))
}

/// The address, and who may come in.
fn doors(flags: &Agent) -> Finding {
    let door = door(&flags.listen, Signer::OfWhomever).map_err(|failure| failure.message);
    let read = door.and_then(|_| access(flags).map(|_| ()).map_err(|failure| failure.message));
    match Doors::new(false).trouble() {
        Some(trouble) if read.is_ok() => Finding::new("doors", State::Degraded, trouble),
        _ => Finding::of_result("doors", read.map(|_| "credentials and rules can be read")),
    }
}

fn table(found: &[Finding]) -> String {
    let lines = found.iter().flat_map(|finding| {
        let cells = [finding.state.name(), &finding.of, &finding.says];
        let fix = (!finding.fix.is_empty())
            .then(|| ["", "", &format!("-> {}", finding.fix)].map(str::to_owned));
        [cells.map(str::to_owned)].into_iter().chain(fix)
    });
    super::ps::columns(&lines.map(|line| line.to_vec()).collect::<Vec<_>>())
}

fn summary(found: &[Finding], whom: &str) -> String {
    let count = |state: State| found.iter().filter(|finding| finding.state == state).count();
    let (fails, off, degraded) = (count(State::Fails), count(State::Off), count(State::Degraded));
    match (fails, off + degraded) {
        (0, 0) => format!("{whom} with these flags has all that it can have here\n"),
        (0, _) => format!("{whom} with these flags runs, {off} off and {degraded} degraded\n"),
        _ => format!("{whom} with these flags does not start here, or finds no master\n"),
    }
}

fn status(found: &[Finding]) -> u8 {
    match found.iter().map(|finding| finding.state).max() {
        Some(State::Fails) => FAILED,
        Some(State::Degraded | State::Off) => DEGRADED,
        Some(State::On | State::Skipped) | None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_parted_into_what_is_so_and_what_to_do() {
        let finding = Finding::new("x", State::Off, "it is gone; buy one; or two");
        assert_eq!((&*finding.says, &*finding.fix), ("it is gone", "buy one; or two"));
        assert_eq!(Finding::on("x", "well").fix, "");
        assert_eq!(
            table(&[finding, Finding::on("long", "well")]),
            "off  x     it is gone\n           -> buy one; or two\non   long  well\n"
        );
    }

    #[test]
    fn the_status_is_that_of_the_worst() {
        let one = |state| Finding::new("x", state, "");
        assert_eq!(status(&[one(State::On), one(State::Skipped)]), 0);
        assert_eq!(status(&[one(State::Off), one(State::On)]), DEGRADED);
        assert_eq!(status(&[one(State::Degraded), one(State::Fails)]), FAILED);
    }

    #[test]
    fn what_is_named_may_not_be_missing_and_what_is_not_is_left_out() {
        let why = || Some(Unusable::Namespaces(None));
        let state =
            |why, named, meant: &[&str]| isolator("namespaces/pid", why, named, meant).state;
        assert_eq!(state(why(), true, &["namespaces/pid"]), State::Fails);
        assert_eq!(state(why(), false, &["namespaces/pid"]), State::Off);
        assert_eq!(state(why(), true, &[]), State::Skipped);
        assert_eq!(state(None, true, &[]), State::Skipped);
        assert_eq!(state(None, false, &["namespaces/pid"]), State::On);
    }
}
