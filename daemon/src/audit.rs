//! Who asked a master to change what, and whether they were allowed to: the newest of it in memory,
//! and where `--audit-log` names a file, in that, too.
//!
//! A line is JSON. What comes of a call that was allowed is said to its caller, and by the cluster's
//! state; here is who asked. Secrets are in no call that is told of, and in no line.
//!
//! | file | concern |
//! |---|---|
//! | `heed` | that every request is told of that changes something, once |
//! | `calls` | calls of Mesos' operator APIs by what they change |
//! | `tail` | what an earlier life wrote to the file |

pub(crate) mod calls;
mod heed;
mod tail;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mesita_core::doors::{ANYONE, Rights};
use mesita_core::wire::AgentId;
use mesita_core::wire::call::Operation;
use mesita_core::wire::operator::OperatorVerb;
use serde_json::{Value, json};

use crate::clock;
use crate::doors::Caller;
use crate::http::Asked;
use crate::seldom::Seldom;
pub(crate) use heed::Heed;

/// Bytes of the names in a line: all of a principal and of a role, the beginning of anything longer.
const NAME_SHOWN: usize = 255;

/// Its file in a node's work directory, of a cluster with doors.
pub(crate) const AUDIT_LOG: &str = "audit.log";

/// What an operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// `--audit-max`: lines in memory.
    pub(crate) lines_max: usize,
    /// `--audit-log`.
    pub(crate) path: Option<PathBuf>,
    /// `--audit-log-max`: bytes of the file, of which the older half is in a second one.
    pub(crate) bytes_max: u64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { lines_max: 1_000, path: None, bytes_max: 0 }
    }
}

/// The newest lines.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    lines: RefCell<VecDeque<Value>>,
    /// Since when all of it is known, in µs of the wall clock.
    since_us: Cell<u64>,
    wanted: Wanted,
    file: RefCell<Option<Log>>,
    total: Cell<u64>,
    /// Lines that could not be written to the file.
    lost: Cell<u64>,
    /// Who was refused lately, and asks again by itself.
    refused: Seldom,
    /// Those that nobody knows were refused so often, and last like this: one line, which takes the place
    /// of no other.
    strangers: RefCell<Option<(u64, Value)>>,
    strangers_told: Seldom,
    /// Lines that came after that one. No clock says so: it may be set.
    since_strangers: Cell<usize>,
}

/// A line that is one of those that were written, with when that was.
fn moment(line: &Value) -> Option<u64> {
    line["time_us"].as_u64()
}

/// A file that begins anew when half of what it may have is in it; what was before stays beside it.
#[derive(Debug)]
struct Log {
    file: File,
    bytes: u64,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::options().create(true).append(true).mode(0o600).open(path)?;
        if tail::is_torn(path) {
            // What comes next is a line of its own.
            file.write_all(b"\n")?;
        }
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }
}

impl Audit {
    /// Opens the file, if there is to be one, and reads the newest of what is in it. Blocks.
    pub(crate) fn open(wanted: &Wanted) -> Result<Self, String> {
        let path = wanted.path.as_deref();
        let bad =
            |path: &Path, error: &io::Error| format!("--audit-log: {}: {error}", path.display());
        let log =
            path.map(|path| Log::open(path).map_err(|error| bad(path, &error))).transpose()?;
        let known = path.map(|path| tail::read(path, wanted.lines_max.max(1)));
        let known = known.unwrap_or_default();
        let since_us = known.front().and_then(moment).unwrap_or_else(clock::wall_us);
        Ok(Self {
            wanted: wanted.clone(),
            file: RefCell::new(log),
            since_us: Cell::new(since_us),
            lines: RefCell::new(known),
            ..Self::default()
        })
    }

    /// Takes note of what a caller asked for: `what` by its name, `of` to which thing.
    pub(crate) fn note(&self, caller: &Caller, what: &str, of: &str, denied: Option<&str>) {
        caller.heed.done();
        self.note_of(&caller.name, what, of, denied);
    }

    /// The same of who is known by a name alone.
    pub(crate) fn note_of(&self, who: &str, what: &str, of: &str, denied: Option<&str>) {
        let told = denied.map_or("allowed", |why| why.lines().next().unwrap_or("denied"));
        let line = line(who, what, of, told);
        self.to_file(&line);
        let mut lines = self.lines.borrow_mut();
        while lines.len() >= self.wanted.lines_max.max(1) {
            lines.pop_front();
            lines.front().and_then(moment).into_iter().for_each(|first| self.since_us.set(first));
        }
        lines.push_back(line);
        self.since_strangers.set(self.since_strangers.get().saturating_add(1));
    }

    fn to_file(&self, line: &Value) {
        self.total.set(self.total.get() + 1);
        if let Err(error) = self.write(&line.to_string()) {
            if self.lost.get() == 0 {
                log::error!("--audit-log: {error}; lines are lost from now on: see /metrics");
            }
            self.lost.set(self.lost.get() + 1);
        }
    }

    /// The same of what a program asks for again by itself, as often as it likes: while it is refused for
    /// the same reason, a line in a minute tells of all of it.
    pub(crate) fn note_seldom(&self, who: &str, what: &str, of: &str, denied: Option<&str>) {
        match denied {
            None => self.note_of(who, what, of, None),
            Some(why) => match self.refused.says(clock::now(), &format!("{who} {what} {why}")) {
                None => {}
                Some(0) => self.note_of(who, what, of, Some(why)),
                Some(left_out) => {
                    let why = format!("{why} ({left_out} times more since the line before)");
                    self.note_of(who, what, of, Some(&why));
                }
            },
        }
    }

    /// Somebody was refused something whom the cluster does not know: whoever reaches it may be that, under
    /// as many names as it likes.
    pub(crate) fn note_stranger(&self, who: &str, what: &str, why: &str) {
        let times = self.strangers.borrow().as_ref().map_or(1, |(times, _)| times + 1);
        let told = match times {
            1 => why.to_owned(),
            _ => format!("{why} (and {} times more, of anybody unknown)", times - 1),
        };
        let line = line(who, what, "", &told);
        if self.strangers_told.says(clock::now(), "strangers").is_some() {
            self.to_file(&line);
        }
        *self.strangers.borrow_mut() = Some((times, line));
        self.since_strangers.set(0);
    }

    /// Takes note of what nobody has told of in words of their own.
    pub(crate) fn note_asked(&self, asked: &Asked<'_>) {
        let Asked { caller, what, of, denied, .. } = *asked;
        let is_stranger = caller.name == ANYONE && !caller.rights.has(Rights::OPERATE);
        match denied {
            Some(why) if is_stranger => self.note_stranger(&caller.name, what, why),
            denied => self.note_seldom(&caller.name, what, of, denied),
        }
    }

    /// A line of a few hundred bytes, written at once: whoever writes rarely waits for nobody.
    fn write(&self, line: &str) -> io::Result<()> {
        let (mut file, Some(path)) = (self.file.borrow_mut(), &self.wanted.path) else {
            return Ok(());
        };
        if file.as_ref().is_some_and(|log| log.bytes >= self.wanted.bytes_max / 2) {
            *file = None;
            fs::rename(path, path.with_added_extension("1"))?;
        }
        let log = match &mut *file {
            Some(log) => log,
            none => none.insert(Log::open(path)?),
        };
        log.file.write_all(format!("{line}\n").as_bytes())?;
        log.bytes += line.len() as u64 + 1;
        Ok(())
    }

    /// The newest lines, the oldest of them first, and among them the newest one of all those that
    /// nobody knows.
    pub(crate) fn rows(&self) -> Vec<Value> {
        let strangers = self.strangers.borrow().as_ref().map(|(_, line)| line.clone());
        let mut all: Vec<Value> = self.lines.borrow().iter().cloned().collect();
        let behind = all.len().saturating_sub(self.since_strangers.get());
        all.splice(behind..behind, strangers);
        all
    }

    /// A line before all others: since when this master knows, and where it keeps more. A command of an
    /// older release shows it as one of them.
    pub(crate) fn begin(&self, master: &str) -> Value {
        let mut line = line(master, "begin", "", "known since then");
        line["time_us"] = self.since_us.get().into();
        line["since_us"] = self.since_us.get().into();
        line["log"] = json!(self.wanted.path);
        line
    }

    /// Lines in memory, the most of them, all there were, and those that a file did not take.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 4] {
        [
            ("audit_lines", self.lines.borrow().len() as u64),
            ("audit_lines_max", self.wanted.lines_max as u64),
            ("audit_total", self.total.get()),
            ("audit_lost_total", self.lost.get()),
        ]
    }
}

fn line(who: &str, what: &str, of: &str, told: &str) -> Value {
    json!({
        "time_us": clock::wall_us(),
        "who": shown(who),
        "what": what,
        "of": shown(of),
        "told": shown(told),
    })
}

fn shown(text: &str) -> &str {
    let end = (0..=text.len().min(NAME_SHOWN)).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// What an operator asks for, by its name, and to which thing.
pub(crate) fn told(verb: &OperatorVerb<'_>, cluster: u64) -> (&'static str, String) {
    let of_agent = |agent: AgentId| agent.shown(cluster).to_string();
    match *verb {
        OperatorVerb::SetQuota { role, .. } => ("set quota", role.to_owned()),
        OperatorVerb::SetWeight { role, weight } => ("set weight", format!("{role} {weight}/1000")),
        OperatorVerb::Deactivate { agent, deactivated: true } => ("deactivate", of_agent(agent)),
        OperatorVerb::Deactivate { agent, .. } => ("reactivate", of_agent(agent)),
        OperatorVerb::Whitelist { .. } => ("set whitelist", String::new()),
        // What is in it is noted when it is looked at.
        OperatorVerb::Once { .. } => ("call", String::new()),
        OperatorVerb::Schedule { machines } => {
            ("schedule maintenance", format!("{} machines", machines.iter().count()))
        }
        OperatorVerb::Operate { agent, operation } => {
            (operation.iter().next().as_ref().map_or("operate", kind), of_agent(agent))
        }
        OperatorVerb::Teardown { framework } => ("teardown", framework.shown(cluster).to_string()),
        OperatorVerb::Down { machines, down } => {
            let what = if down { "machines down" } else { "machines up" };
            (what, format!("{} machines", machines.iter().count()))
        }
        OperatorVerb::Drain { agent, gone: true, .. } => ("drain and mark gone", of_agent(agent)),
        OperatorVerb::Drain { agent, .. } => ("drain", of_agent(agent)),
        OperatorVerb::MarkGone { agent } => ("mark gone", of_agent(agent)),
        OperatorVerb::Masters { remove: 0, add, .. } => ("add master", add.to_owned()),
        OperatorVerb::Masters { remove, add: "", .. } => ("remove master", remove.to_string()),
        OperatorVerb::Masters { remove, add, .. } => {
            ("replace master", format!("{remove} by {add}"))
        }
    }
}

/// An operation on resources.
fn kind(operation: &Operation<'_>) -> &'static str {
    match operation {
        Operation::Reserve(_) | Operation::Move { .. } => "reserve",
        Operation::Unreserve(_) => "unreserve",
        Operation::Create(_) => "create volumes",
        Operation::Destroy(_) => "destroy volumes",
        Operation::Grow { .. } => "grow volume",
        Operation::Shrink { .. } => "shrink volume",
        Operation::Launch { .. } | Operation::LaunchGroup { .. } => "launch",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(lines_max: usize, path: Option<PathBuf>, bytes_max: u64) -> Audit {
        Audit::open(&Wanted { lines_max, path, bytes_max }).unwrap()
    }

    #[test]
    fn the_newest_lines_are_kept_and_names_begin_no_line() {
        let audit = audit(2, None, 0);
        for what in ["one", "two", "three"] {
            audit.note_of("principal:a\n{", what, &"x".repeat(1000), Some("403 no.\nmore"));
        }
        let lines = audit.rows();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["what"], "two");
        assert_eq!(lines[1]["who"], "principal:a\n{");
        assert_eq!(lines[1]["of"].as_str().unwrap().len(), 255);
        assert_eq!(lines[1]["told"], "403 no.");
        assert_eq!(audit.gauges()[2].1, 3);
    }

    #[test]
    fn who_is_refused_again_and_again_has_one_line() {
        let audit = audit(100, None, 0);
        for _ in 0..1_000 {
            audit.note_seldom("node:one", "change key", "", Some("no"));
        }
        audit.note_seldom("node:other", "change key", "", Some("no"));
        assert_eq!(audit.rows().len(), 2);
        audit.note_seldom("node:one", "change key", "", Some("another reason"));
        assert_eq!(audit.rows().len(), 3);
    }

    #[test]
    fn who_is_known_to_nobody_takes_the_place_of_no_line() {
        let path = std::env::temp_dir().join(format!("mesita-strangers-{}", std::process::id()));
        let audit = audit(3, Some(path.clone()), 1_000_000);
        audit.note_of("local:root", "drain", "an agent", None);
        for number in 0..1_000 {
            audit.note_stranger(&format!("node:{number}"), "join", "no such token");
        }
        let rows = audit.rows();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0]["what"], "drain");
        assert_eq!(rows[1]["who"], "node:999");
        assert!(rows[1]["told"].as_str().unwrap().contains("999 times more"), "{rows:?}");
        let file = fs::read_to_string(&path).unwrap();
        assert_eq!(file.lines().count(), 2, "{file}");
        // What comes after it is behind it, for as long as there is something before it.
        let of = || {
            let rows = audit.rows();
            rows.iter().map(|row| row["what"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        for (noted, seen) in [
            ("b", &["drain", "join", "b"][..]),
            ("c", &["drain", "join", "b", "c"]),
            ("d", &["join", "b", "c", "d"]),
            ("e", &["join", "c", "d", "e"]),
        ] {
            audit.note_of("local:root", noted, "", None);
            assert_eq!(of(), seen);
        }
        audit.note_stranger("node:late", "join", "no such token");
        assert_eq!(of(), ["c", "d", "e", "join"]);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_has_its_bound_and_what_is_in_it_stays_over_a_restart() {
        let path = std::env::temp_dir().join(format!("mesita-audit-{}", std::process::id()));
        let older = path.with_added_extension("1");
        for round in 0..2 {
            let audit = audit(10, Some(path.clone()), 2_000);
            for number in 0..20 {
                audit.note_of("local:root", "drain", &format!("{round} {number}"), None);
            }
            assert_eq!(audit.gauges()[3].1, 0);
        }
        let (new, old) = (fs::read_to_string(&path).unwrap(), fs::read_to_string(&older).unwrap());
        fs::remove_file(&path).unwrap();
        fs::remove_file(&older).unwrap();
        assert!(new.len() + old.len() <= 2_300, "{} {}", new.len(), old.len());
        assert!(new.lines().last().unwrap().contains("1 19"), "{new}");
    }

    #[test]
    fn what_was_written_before_a_restart_is_known_after_it() {
        let path = std::env::temp_dir().join(format!("mesita-again-{}", std::process::id()));
        let older = path.with_added_extension("1");
        let note =
            |audit: &Audit, number: u32| audit.note_of("a", "drain", &number.to_string(), None);
        let of = |audit: &Audit| -> Vec<String> {
            audit.rows().iter().map(|row| row["of"].as_str().unwrap().to_owned()).collect()
        };
        let first = audit(3, Some(path.clone()), 1_000_000);
        for number in 0..5 {
            note(&first, number);
        }
        assert_eq!(of(&first), ["2", "3", "4"]);
        let begin = first.begin("m")["since_us"].as_u64();
        assert_eq!(begin, first.rows()[0]["time_us"].as_u64(), "what is not there is not known");
        // A power cut leaves a part of a line, and whoever reads the file may write to it.
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"no line\n{\"time_us\":1,\"who\":\"b").unwrap();
        let second = audit(3, Some(path.clone()), 1_000_000);
        assert_eq!(of(&second), ["2", "3", "4"]);
        assert_eq!(second.begin("m")["since_us"], second.rows()[0]["time_us"]);
        note(&second, 5);
        assert_eq!(of(&audit(9, Some(path.clone()), 1_000_000)), ["0", "1", "2", "3", "4", "5"]);
        // Also when the file has just begun anew.
        fs::rename(&path, &older).unwrap();
        assert_eq!(of(&audit(2, Some(path.clone()), 1_000_000)), ["4", "5"]);
        fs::remove_file(&path).unwrap();
        fs::remove_file(&older).unwrap();
    }
}
