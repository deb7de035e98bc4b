//! How the masters of a list become a set: once, by an operator's word to each of them.
//!
//! Each one draws a number, durably, and says list, place, number, key and sizes until it has heard
//! all the others. Then it keeps what it has heard, and says a digest of it, until all say the same:
//! so everybody knows the same numbers and keys, and knows that everybody does. The cluster's id is
//! made of all numbers. A master that has got that far goes on to answer those that have not.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesita_core::digest::Digest;
use mesita_core::registry::meta::Roster;
use mesita_core::time::Time;
use mesita_core::wire::gossip::{Bootstrap, Gossip};
use mesita_core::wire::{Generation, Head, decode};
use serde::{Deserialize, Serialize};

use super::early::Early;
use super::origin::Past;
use super::sealed::{DATAGRAM_MAX, Dropped, Keys, STRANGER};
use crate::clock;

/// How often a master says who it will be, in µs.
const EVERY_US: u64 = 200_000;
/// How often it says for whom it waits, in µs.
const TOLD_EVERY_US: u64 = 10_000_000;
/// How often it says of one reason that what it hears is of no use, in µs.
const STRANGE_EVERY_US: u64 = 60_000_000;
/// The version of the file.
const VERSION: u32 = 1;

/// A master of a set, as all others know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// What it drew.
    pub(crate) draw: u64,
    /// What it proves itself with.
    pub(crate) key: [u8; 32],
}

/// What a master of a set knows of how the set was made: `meta/set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    version: u32,
    /// The list, sorted.
    pub(crate) masters: Vec<String>,
    /// This one's place in it, from 1.
    pub(crate) id: u8,
    /// What it drew.
    draw: u64,
    /// Rows of the registry's tables of agents, frameworks and roles.
    pub(crate) rows: [u32; 3],
    /// T in µs.
    pub(crate) t_us: u32,
    /// All of them, by id, once they were heard.
    pub(crate) members: Vec<Member>,
    /// Its registry belongs to the set: from now on one that does not has forgotten.
    #[serde(default)]
    pub(crate) formed: bool,
    /// The history that it goes on from, of a registry that was imported.
    #[serde(default)]
    past: Option<Past>,
    /// The masters, when it came to a set that was there.
    #[serde(default)]
    roster: Option<Roster>,
    /// Where the masters were heard last, so that it finds them again whatever its flags say.
    #[serde(default)]
    pub(crate) known: Vec<String>,
    /// Its set was given up: it was shown a later history.
    #[serde(default)]
    pub(crate) given_up: bool,
}

impl Identity {
    /// That of a master that begins to make a set.
    pub(crate) fn new(masters: Vec<String>, id: u8, rows: [u32; 3], t_us: u32) -> Self {
        let draw = crate::random::number();
        let members = Vec::new();
        let (formed, past, roster) = (false, None, None);
        let (known, given_up) = (Vec::new(), false);
        Self {
            version: VERSION,
            masters,
            id,
            draw,
            rows,
            t_us,
            members,
            formed,
            past,
            roster,
            known,
            given_up,
        }
    }

    /// That of the only master of a new cluster.
    pub(crate) fn alone(rows: [u32; 3], t_us: u32, key: [u8; 32]) -> Self {
        let mut identity = Self::new(Vec::new(), 1, rows, t_us);
        identity.members = vec![Member { draw: identity.draw, key }];
        identity
    }

    /// The same, of a set that is there.
    pub(crate) fn among(self, roster: Roster) -> Self {
        Self { roster: Some(roster), ..self }
    }

    /// The masters of its first start: those of the list, or those it was told of.
    pub(crate) fn first_roster(&self) -> Roster {
        let keys = || self.members.iter().map(|member| member.key).collect::<Vec<_>>();
        self.roster.clone().unwrap_or_else(|| Roster::first(&keys()))
    }

    /// The same, going on from another registry.
    pub(crate) fn going_on(self, past: Past) -> Self {
        Self { past: Some(past), ..self }
    }

    /// The history of its cluster so far: its generation and newest epoch.
    pub(crate) fn goes_on_from(&self) -> (Generation, u32) {
        self.past.map_or_else(Default::default, |past| (past.generation, past.epoch))
    }

    /// True for a cluster that has no other master, and gets none.
    pub(crate) fn is_alone(&self) -> bool {
        self.masters.is_empty()
    }

    /// Reads it; none if this work directory has none.
    pub(crate) fn read(meta: &Path) -> Result<Option<Self>, Refused> {
        let path = meta.join("set");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Refused::Io(path, error)),
        };
        let bad = |why: String| Refused::Sentence(format!("{}: {why}", path.display()));
        let version = serde_json::from_slice::<serde_json::Value>(&text);
        let damaged = |error: serde_json::Error| {
            bad(format!("damaged, so this master is to be replaced: {error}"))
        };
        let version = version.map_err(damaged)?["version"].as_u64();
        if version.is_some_and(|version| version > VERSION.into()) {
            return Err(bad("written by a later release; use that one".to_owned()));
        }
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }

    /// Makes it durable.
    pub(crate) fn write(&self, meta: &Path) -> Result<(), Refused> {
        use std::io::Write;
        let path = meta.join("set");
        let new = meta.join("set.new");
        let write = || {
            let text = serde_json::to_vec(self).map_err(io::Error::other)?;
            let mut file = std::fs::File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            std::fs::File::open(meta)?.sync_all()
        };
        write().map_err(|error| Refused::Io(path.clone(), error))
    }

    /// The cluster's id, made of what all have drawn.
    pub(crate) fn cluster(&self) -> u64 {
        if let Some(past) = self.past {
            return past.cluster;
        }
        let mut digest = Digest::new();
        digest.bytes(self.list().as_bytes());
        self.members.iter().for_each(|member| digest.value(&member.draw));
        digest.finish().max(1)
    }

    /// The list as it is compared.
    fn list(&self) -> String {
        self.masters.join(",")
    }

    /// A digest of all members; 0 before they are known.
    fn agreed(&self) -> u64 {
        if self.members.is_empty() {
            return 0;
        }
        let mut digest = Digest::new();
        self.members.iter().for_each(|member| digest.value(member));
        digest.finish().max(1)
    }

    /// What it says of itself.
    fn said<'s>(&self, list: &'s str, key: [u8; 32], made: bool) -> Head<'s> {
        Head::Gossip(Gossip::Bootstrap(Bootstrap {
            masters: list,
            id: self.id,
            draw: self.draw,
            key,
            rows: self.rows,
            t_us: self.t_us,
            agreed: self.agreed(),
            made,
        }))
    }

    /// What a master of the set that was made answers one that still makes it, or another one.
    pub(crate) fn answer(&self, asks: &Bootstrap<'_>, key: [u8; 32]) -> Vec<u8> {
        let known = usize::from(asks.id).checked_sub(1).and_then(|at| self.members.get(at));
        let same = known == Some(&Member { draw: asks.draw, key: asks.key });
        let list = self.list();
        let head = if same && self.differs(asks).is_none() {
            self.said(&list, key, true)
        } else {
            Head::Gossip(Gossip::Turned { message: MADE })
        };
        postcard::to_allocvec(&head).unwrap_or_default()
    }

    /// What another one was told otherwise.
    fn differs(&self, other: &Bootstrap<'_>) -> Option<String> {
        let list = self.list();
        if other.masters != list {
            return Some(format!(
                "was told --masters {}, and this one {list}: give all of them the same list",
                other.masters
            ));
        }
        if other.rows != self.rows {
            return Some("has another --size or --capacity: give all the same".to_owned());
        }
        (other.t_us != self.t_us).then(|| "has another --timing: give all the same".to_owned())
    }
}

/// Said to one that would make a set that was made.
const MADE: &str = "its set was made before, and does not know this work directory: a master is \
                    started again without --bootstrap, on the directory that it had; one whose \
                    directory is lost is replaced, not made again";

/// Why there will be no set.
#[derive(Debug)]
pub(crate) enum Refused {
    /// A file.
    Io(PathBuf, io::Error),
    /// The socket.
    Socket(io::Error),
    /// In a sentence.
    Sentence(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Socket(error) => write!(f, "cannot speak with the other masters: {error}"),
            Self::Sentence(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for Refused {}

/// A master that makes a set.
pub(crate) struct Maker<'m> {
    pub(crate) socket: &'m UdpSocket,
    pub(crate) keys: &'m Keys,
    pub(crate) meta: &'m Path,
    pub(crate) key: [u8; 32],
    pub(crate) identity: Identity,
    pub(crate) early: Early<'m>,
}

/// What is heard and of no use, by the reason: told at times, however much of it comes.
#[derive(Default)]
struct Strange(BTreeMap<Dropped, (Option<Time>, u64)>);

impl Strange {
    /// One more; how many there were since people were told last, if they are to be told now.
    fn came(&mut self, why: Dropped, now: Time) -> Option<u64> {
        let (told, count) = self.0.entry(why).or_default();
        *count += 1;
        if told.is_some_and(|told| now < told.after(STRANGE_EVERY_US)) {
            return None;
        }
        *told = Some(now);
        Some(std::mem::take(count))
    }
}

/// What was heard of another one.
type Heard = (Member, u64);

impl Maker<'_> {
    /// Speaks with the others until all agree.
    pub(crate) fn make(mut self) -> Result<Identity, Refused> {
        self.identity.write(self.meta)?;
        let mut heard: Vec<Option<Heard>> = vec![None; self.identity.masters.len()];
        // A list of one is whole already.
        self.keep(&heard)?;
        let (mut say_at, mut tell_at) = (clock::now(), clock::now());
        let mut strange = Strange::default();
        loop {
            let now = clock::now();
            if now >= say_at {
                self.say();
                say_at = now.after(EVERY_US);
            }
            if now >= tell_at {
                self.tell(&heard);
                tell_at = now.after(TOLD_EVERY_US);
            }
            self.early.tell(&self.waits_for(&heard));
            if let Some((id, one)) = self.hear(&mut strange)?
                && let Some(place) = heard.get_mut(id)
                && *place != Some(one)
            {
                *place = Some(one);
                self.keep(&heard)?;
                // Whoever hears it does not wait for the next time that it is said.
                self.say();
            }
            let agreed = self.identity.agreed();
            let is_me = |id: usize| id + 1 == usize::from(self.identity.id);
            let all = heard
                .iter()
                .enumerate()
                .all(|(id, one)| is_me(id) || one.is_some_and(|(_, digest)| digest == agreed));
            if agreed != 0 && all {
                self.say();
                return Ok(self.identity);
            }
        }
    }

    fn say(&self) {
        let list = self.identity.list();
        let head = self.identity.said(&list, self.key, false);
        let bytes = postcard::to_allocvec(&head).unwrap_or_default();
        let datagram = self.keys.seal(STRANGER, &[0; 32], &bytes);
        for (at, master) in self.identity.masters.iter().enumerate() {
            if at + 1 == usize::from(self.identity.id) {
                continue;
            }
            // Who is not there yet is told again.
            let addresses = master.to_socket_addrs().into_iter().flatten();
            addresses.for_each(|address| drop(self.socket.send_to(&datagram, address)));
        }
    }

    /// What those are told who come meanwhile.
    fn waits_for(&self, heard: &[Option<Heard>]) -> String {
        let missing = self.missing(heard);
        let waits = if missing.is_empty() {
            "all of them are there, and agree in a moment".to_owned()
        } else {
            format!("it waits for {}, each started with --bootstrap", missing.join(", "))
        };
        format!("the set of this master is not made yet: {waits}")
    }

    /// Says for whom it waits.
    fn tell(&self, heard: &[Option<Heard>]) {
        let missing = self.missing(heard);
        if !missing.is_empty() {
            log::info!("waiting for {}, each started with --bootstrap", missing.join(", "));
        }
    }

    /// Those that were not heard.
    fn missing(&self, heard: &[Option<Heard>]) -> Vec<&str> {
        let missing = self.identity.masters.iter().zip(heard).enumerate();
        missing
            .filter(|(at, (_, one))| one.is_none() && at + 1 != usize::from(self.identity.id))
            .map(|(_, (master, _))| master.as_str())
            .collect()
    }

    /// What comes within a moment: the place of another master, and what it said.
    fn hear(&self, strange: &mut Strange) -> Result<Option<(usize, Heard)>, Refused> {
        let mut datagram = [0; DATAGRAM_MAX];
        self.socket
            .set_read_timeout(Some(Duration::from_micros(EVERY_US / 2)))
            .map_err(Refused::Socket)?;
        let Ok((len, from)) = self.socket.recv_from(&mut datagram) else { return Ok(None) };
        let stranger = |sender| (sender == STRANGER).then_some([0; 32]);
        let opened = self.keys.open(&mut datagram[..len], stranger);
        let head = match opened.map(|(_, head)| decode(head)) {
            Ok(Ok(Head::Gossip(gossip))) => gossip,
            Err(dropped) => {
                if let Some(count) = strange.came(dropped, clock::now()) {
                    let why = dropped.why();
                    log::warn!("{count} times something of no use, last from {from}: {why}");
                }
                return Ok(None);
            }
            _ => return Ok(None),
        };
        match head {
            Gossip::Bootstrap(other) => self.judge(&other, from),
            Gossip::Turned { message } => Err(Refused::Sentence(format!("{from}: {message}"))),
            Gossip::Digest(_)
            | Gossip::Replica(_)
            | Gossip::Envelope(_)
            | Gossip::Called { .. }
            | Gossip::Part { .. }
            | Gossip::Join(_)
            | Gossip::Joined(_) => Ok(None),
        }
    }

    fn judge(
        &self,
        other: &Bootstrap<'_>,
        from: SocketAddr,
    ) -> Result<Option<(usize, Heard)>, Refused> {
        if let Some(difference) = self.identity.differs(other) {
            // It is told, too.
            self.say();
            return Err(Refused::Sentence(format!("{from} {difference}")));
        }
        let one = Member { draw: other.draw, key: other.key };
        if other.id == self.identity.id {
            let itself = one == Member { draw: self.identity.draw, key: self.key };
            let why = format!("{from} is the same of --masters as this one: see --advertise-ip");
            return if itself { Ok(None) } else { Err(Refused::Sentence(why)) };
        }
        Ok(Some((usize::from(other.id).saturating_sub(1), (one, other.agreed))))
    }

    /// Once all were heard they are kept, before anybody is told.
    fn keep(&mut self, heard: &[Option<Heard>]) -> Result<(), Refused> {
        let me = Member { draw: self.identity.draw, key: self.key };
        let is_me = |at: usize| at + 1 == usize::from(self.identity.id);
        let of = |(at, one): (usize, &Option<Heard>)| {
            if is_me(at) { Some(me) } else { one.map(|(member, _)| member) }
        };
        let Some(members) = heard.iter().enumerate().map(of).collect::<Option<Vec<_>>>() else {
            return Ok(());
        };
        if members != self.identity.members {
            self.identity.members = members;
            self.identity.write(self.meta)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Identity {
        let masters = ["a:1", "b:1"].map(str::to_owned).to_vec();
        let mut identity = Identity::new(masters, 1, [1, 2, 3], 500_000);
        let member = |draw| Member { draw, key: [7; 32] };
        identity.members = vec![member(identity.draw), member(9)];
        identity
    }

    #[test]
    fn a_set_that_was_made_answers_its_own_and_turns_others_away() {
        let identity = made();
        let asks = |draw, masters| Bootstrap {
            masters,
            id: 2,
            draw,
            key: [7; 32],
            rows: [1, 2, 3],
            t_us: 500_000,
            agreed: 0,
            made: false,
        };
        let answered = |asks: Bootstrap<'_>| {
            let bytes = identity.answer(&asks, [7; 32]);
            matches!(decode(&bytes), Ok(Head::Gossip(Gossip::Bootstrap(_))))
        };
        assert!(answered(asks(9, "a:1,b:1")));
        assert!(!answered(asks(8, "a:1,b:1")), "a directory that is not the one it had");
        assert!(!answered(asks(9, "a:1,c:1")));
    }

    #[test]
    fn what_is_of_no_use_is_told_once_a_minute_for_each_reason() {
        let mut strange = Strange::default();
        let began = Time(7);
        assert_eq!(strange.came(Dropped::Foreign, began), Some(1));
        for _ in 0..20_000 {
            assert_eq!(strange.came(Dropped::Foreign, began.after(59_999_999)), None);
        }
        assert_eq!(strange.came(Dropped::Forged, began.after(1)), Some(1), "another reason");
        assert_eq!(strange.came(Dropped::Foreign, began.after(60_000_000)), Some(20_001));
        assert_eq!(strange.came(Dropped::Foreign, began.after(60_000_001)), None);
    }

    #[test]
    fn the_cluster_is_made_of_what_all_have_drawn() {
        let (one, mut other) = (made(), made());
        other.members.clone_from(&one.members);
        assert_eq!(one.cluster(), other.cluster());
        other.members[1].draw += 1;
        assert_ne!(one.cluster(), other.cluster());
    }
}
