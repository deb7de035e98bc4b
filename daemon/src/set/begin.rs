//! From flags and a work directory to a master that may start, or a sentence why it may not.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use mesita_core::election;
use mesita_core::limits::{MASTERS_MAX, MASTERS_TEXT_MAX};
use mesita_core::registry::body::Shape;
use mesita_core::registry::store::Facts;

use super::bootstrap::{Identity, Maker, Refused};
use super::early::Early;
use super::join::Joiner;
use super::origin::Origin;
use super::roster::REMOVED;
use super::sealed::{Keys, may_come_later};
use super::store::{DAMAGED, SetStore};
use crate::access::tokens::FIRST_TOKENS;
use crate::conn::listen::with_hint;
use crate::disk_thread::Store;
use crate::seats::Blueprint;
use crate::{clock, identity, times};

/// Set in a process that began again by itself: the word of its operator was done before.
pub(crate) const AGAIN: &str = "MESITA_BEGAN_AGAIN";
/// Masters of a set that is meant to stay as it is.
pub(super) const SIZES: [usize; 5] = [1, 2, 3, 5, 7];

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Wanted<'w> {
    pub(crate) meta: &'w Path,
    /// All masters of the set; empty: this one is the only one.
    pub(crate) masters: &'w [String],
    pub(crate) bootstrap: bool,
    /// It follows a set that is there, if it does not belong to one yet.
    pub(crate) join: bool,
    pub(crate) witness: bool,
    pub(crate) key_files: &'w [PathBuf],
    /// Where it listens.
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    /// Host and port for others.
    pub(crate) advertised: (String, u16),
    /// Agents, frameworks and roles that fit.
    pub(crate) rows: [u32; 3],
    pub(crate) t_us: u32,
    pub(crate) seed: u64,
}

/// A master that may start: what goes to the threads.
pub(crate) struct Plan {
    pub(crate) seat: (Blueprint, Store, u64),
    /// T in µs: that of the set, whatever the flags say.
    pub(crate) t_us: u32,
}

/// And what stays on the IO side.
pub(crate) struct Begun {
    pub(crate) meta: PathBuf,
    /// How it is heard by the others; none when there are no others.
    pub(crate) socket: Option<UdpSocket>,
    pub(crate) keys: Keys,
    pub(crate) key: [u8; 32],
    pub(crate) identity: Identity,
    pub(crate) shape: Shape,
    pub(crate) address: String,
    pub(crate) facts: Facts,
    pub(crate) edits: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Refuses what could never begin, and touches nothing.
pub(crate) fn judge(wanted: &Wanted<'_>) -> Result<(), Refused> {
    let identity = Identity::read(wanted.meta)?;
    if let Some(identity) = &identity {
        refuse_other(wanted, identity)?;
    }
    if wanted.masters.is_empty() {
        return Ok(());
    }
    let masters = sorted(wanted.masters)?;
    keys(wanted, &masters)?;
    if identity.is_none_or(|identity| !identity.formed) && !wanted.join {
        place_in(wanted, &masters)?;
    }
    Ok(())
}

/// Finds out what this master is, or makes it one of a set, or the only one. `early`: where it will be
/// reached.
pub(crate) fn begin(wanted: &Wanted<'_>, early: Early<'_>) -> Result<(Plan, Begun), Refused> {
    let sentence = |text: String| Err(Refused::Sentence(text));
    let alone = wanted.masters.is_empty();
    let (masters, keys, socket) = if alone {
        (Vec::new(), Keys::of_loopback(), None)
    } else {
        let masters = sorted(wanted.masters)?;
        let keys = keys(wanted, &masters)?;
        (masters, keys, Some(bind(wanted.ip, wanted.port)?))
    };
    let own = identity::own(wanted.meta);
    let key = own.map_err(|error| Refused::Sentence(error.to_string()))?.key;
    let identity = Identity::read(wanted.meta)?;
    if let Some(identity) = &identity {
        refuse_other(wanted, identity)?;
    }
    let rows = wanted.rows;
    let shape = Shape::new(rows[0], rows[1], rows[2]);
    let opens = clock::now();
    let store = SetStore::open(wanted.meta, shape);
    times::fetched(clock::now().since(opens));
    let store = store.map_err(|error| Refused::Sentence(error.to_string()))?;
    let facts = store.facts().clone();
    let again = std::env::var_os(AGAIN).is_some();
    let identity = match (facts.formed, identity) {
        (true, Some(mut identity)) => {
            refuse_formed(wanted, &facts, &key, identity.given_up, again)?;
            let members = facts.meta.roster.members.len();
            if !alone && masters.len() != members {
                log::warn!(
                    "--masters names {}, and this set has {members}: the list says where they may be found; \
                     who they are is changed by `mesita masters add`, `remove` and `replace`",
                    masters.len()
                );
            }
            identity.masters = masters;
            identity
        }
        (true, None) => {
            let path = wanted.meta.join("set");
            return sentence(format!("{} is gone: this master is to be replaced", path.display()));
        }
        (false, Some(Identity { formed: true, .. })) => return sentence(DAMAGED.to_owned()),
        (false, known) => match &socket {
            Some(socket) if wanted.join => join(wanted, early, masters, socket, &keys, key)?,
            Some(socket) => make(wanted, early, masters, known, socket, &keys, key)?,
            None => make_alone(wanted, known, key)?,
        },
    };
    let (host, port) = &wanted.advertised;
    let begun = Begun {
        meta: wanted.meta.to_owned(),
        socket,
        keys,
        key,
        shape,
        address: together(host, *port),
        facts,
        edits: store.edits().to_vec(),
        body: store.body().to_vec(),
        identity,
    };
    let t_us = if begun.facts.formed { begun.facts.meta.t_us } else { begun.identity.t_us };
    let config = election::Config {
        // Another one on each master, even where an operator gave all the same.
        seed: wanted.seed ^ u64::from(begun.identity.id).rotate_right(8),
        can_lead: !wanted.witness,
        mutant: mesita_core::mutant::Mutant::default(),
    };
    let blueprint = Blueprint::Election { shape, config };
    let plan = Plan { seat: (blueprint, Store::Set(Box::new(store)), 0), t_us };
    Ok((plan, begun))
}

/// What keeps a master from being another one than it was made.
fn refuse_other(wanted: &Wanted<'_>, identity: &Identity) -> Result<(), Refused> {
    let rows = identity.rows;
    let sentence = if wanted.masters.is_empty() && !identity.is_alone() {
        "this work directory is that of a master of a set: give --masters, or another --work-dir"
            .to_owned()
    } else if identity.is_alone()
        && !wanted.masters.is_empty()
        && (wanted.bootstrap || wanted.join || !identity.formed)
    {
        OF_SINGLE.to_owned()
    } else if rows != wanted.rows {
        format!(
            "the registry was made for {} agents, {} frameworks and {} roles: give the --size and \
             --capacity that make so many",
            rows[0], rows[1], rows[2]
        )
    } else {
        return Ok(());
    };
    Err(Refused::Sentence(sentence))
}

/// Said to a master that was the only one and is to be one of several.
const OF_SINGLE: &str = "this work directory is that of a single master: start it without --bootstrap and --join; with \
     --masters that names it, others can ask it to follow";

/// What keeps a master that was one of a set from being it.
fn refuse_formed(
    wanted: &Wanted<'_>,
    facts: &Facts,
    key: &[u8; 32],
    given_up: bool,
    again: bool,
) -> Result<(), Refused> {
    let sentence = if facts.quarantined {
        if given_up { GIVEN_UP } else { QUARANTINED }.to_owned()
    } else if wanted.masters.is_empty() && facts.held != facts.accepted {
        DAMAGED.to_owned()
    } else if wanted.bootstrap && !again {
        format!(
            "this work directory belongs to a set already, that of cluster {:016x}: start it \
             without --bootstrap",
            facts.cluster
        )
    } else if !facts.meta.roster.has(facts.me) {
        REMOVED.to_owned()
    } else if wanted.masters.is_empty() && facts.meta.roster.members.len() > 1 {
        "this master is one of several by now: give --masters".to_owned()
    } else if !facts.meta.roster.members.iter().any(|of| of.id == facts.me && of.key == *key) {
        "meta/key is not the key that the other masters know: put back the one that was there, or \
         replace this master"
            .to_owned()
    } else {
        return Ok(());
    };
    Err(Refused::Sentence(sentence))
}

/// Said of a master whose id is over.
pub(crate) const QUARANTINED: &str = "the other masters or the agents remember more of this one than its disk, or there are two of it: \
     an older copy of its work directory was put back, or one runs twice. Its id is over, so that nothing \
     is decided twice; the others go on. Remove it from the set and add a new one with an empty work \
     directory. If it is the only one: put back its newest work directory, or give its registry to a new \
     one by `mesita registry export` and `mesita registry import --new-generation --i-lost-quorum`";

/// Said of a master whose set was given up.
pub(crate) const GIVEN_UP: &str = "an operator has given this set of masters up: its registry was imported elsewhere with \
     --new-generation, and agents of this cluster follow that one. Nobody leads here again. To have this \
     machine among the new masters, start it on an empty work directory with --join";

/// Makes a cluster whose only master this is. What was drawn stays drawn.
fn make_alone(
    wanted: &Wanted<'_>,
    known: Option<Identity>,
    key: [u8; 32],
) -> Result<Identity, Refused> {
    let identity = match (known, Origin::read(wanted.meta)?) {
        (Some(known), _) => known,
        (None, Some(origin)) => {
            origin.fits(Shape::new(wanted.rows[0], wanted.rows[1], wanted.rows[2]))?;
            Identity::alone(wanted.rows, origin.t_us, key).going_on(origin.past()?)
        }
        (None, None) => Identity::alone(wanted.rows, wanted.t_us, key),
    };
    identity.write(wanted.meta)?;
    Ok(identity)
}

/// Comes to follow a set that is there.
fn join(
    wanted: &Wanted<'_>,
    early: Early<'_>,
    masters: Vec<String>,
    socket: &UdpSocket,
    keys: &Keys,
    key: [u8; 32],
) -> Result<Identity, Refused> {
    let (host, port) = &wanted.advertised;
    let address = together(host, *port);
    Joiner {
        socket,
        keys,
        meta: wanted.meta,
        key,
        rows: wanted.rows,
        address: &address,
        masters,
        early,
    }
    .join()
}

/// Makes a set together with the others.
fn make(
    wanted: &Wanted<'_>,
    early: Early<'_>,
    masters: Vec<String>,
    known: Option<Identity>,
    socket: &UdpSocket,
    keys: &Keys,
    key: [u8; 32],
) -> Result<Identity, Refused> {
    let at = place_in(wanted, &masters)?;
    let id = u8::try_from(at + 1).unwrap_or(u8::MAX);
    let fresh = Identity::new(masters, id, wanted.rows, wanted.t_us);
    // What was drawn stays drawn, as long as the operator says the same.
    let identity = match known {
        Some(mut known) if known.masters == fresh.masters && known.id == id => {
            known.t_us = wanted.t_us;
            known
        }
        _ => fresh,
    };
    Maker { socket, keys, meta: wanted.meta, key, identity, early }.make()
}

/// Which of the masters this one is in a set that is to be made, or what keeps it from being one.
fn place_in(wanted: &Wanted<'_>, masters: &[String]) -> Result<usize, Refused> {
    // `mesita init` has said that it is the first one.
    let is_first = wanted.meta.join(FIRST_TOKENS).exists() && masters.len() == 1;
    if !wanted.bootstrap && !is_first {
        let text = "this work directory belongs to no set yet: to make one, start every master of \
                    the list once with --bootstrap; a master of a set that is already there is \
                    started with the work directory that it had; a new one of it with --join";
        return Err(Refused::Sentence(text.to_owned()));
    }
    if Origin::read(wanted.meta)?.is_some() {
        let text = "a registry was imported into this work directory, for a single master: start it \
                    without --masters";
        return Err(Refused::Sentence(text.to_owned()));
    }
    let count = masters.len();
    if !SIZES.contains(&count) {
        let text = format!("--masters: a set has 1, 2, 3, 5 or 7 masters, not {count}");
        return Err(Refused::Sentence(text));
    }
    let (host, port) = &wanted.advertised;
    let me = together(host, *port);
    masters.iter().position(|master| *master == me).ok_or_else(|| {
        Refused::Sentence(format!(
            "none of --masters {} is this one, {me}: say which it is by --advertise-ip and \
             --advertise-port",
            masters.join(",")
        ))
    })
}

/// The list in the order that all masters have it in.
fn sorted(masters: &[String]) -> Result<Vec<String>, Refused> {
    let mut list: Vec<String> = masters.iter().map(|master| master.trim().to_owned()).collect();
    list.sort_unstable();
    let count = list.len();
    list.dedup();
    let bad = |why: String| Err(Refused::Sentence(format!("--masters: {why}")));
    if list.len() < count {
        return bad("one is named twice".to_owned());
    }
    if count > MASTERS_MAX {
        return bad(format!("a set has up to 7 masters, not {count}"));
    }
    if list.join(",").len() > MASTERS_TEXT_MAX {
        return bad(format!("longer than {MASTERS_TEXT_MAX} bytes: use shorter names"));
    }
    let with_port = |master: &&String| {
        master.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    };
    match list.iter().find(|master| !with_port(master)) {
        Some(master) => bad(format!("expected HOST:PORT, not `{master}`")),
        None => Ok(list),
    }
}

/// The keys that were given; those on one machine may do without.
fn keys(wanted: &Wanted<'_>, masters: &[String]) -> Result<Keys, Refused> {
    if !wanted.key_files.is_empty() {
        let later = |path: &&PathBuf| may_come_later(wanted.key_files, path) && !path.exists();
        for later in wanted.key_files.iter().filter(later) {
            log::info!("--gossip-key-file {}: not there yet; SIGHUP looks again", later.display());
        }
        let keys = Keys::read(wanted.key_files);
        return keys.map_err(|bad| Refused::Sentence(format!("--gossip-key-file {bad}")));
    }
    if masters.iter().all(|master| on_loopback(master)) && wanted.ip.is_loopback() {
        log::info!("all masters are on this machine: they speak with a key that is no secret");
        return Ok(Keys::of_loopback());
    }
    let text = "masters on several machines need a key that only they have: make one with `head -c \
                32 /dev/urandom`, and give it to each by --gossip-key-file";
    Err(Refused::Sentence(text.to_owned()))
}

/// An address of this machine's own, or its name (RFC 6761, 6.3).
fn on_loopback(master: &str) -> bool {
    let is_named = master.rsplit_once(':').is_some_and(|(host, _)| host == "localhost");
    is_named || master.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
}

fn bind(ip: IpAddr, port: u16) -> Result<UdpSocket, Refused> {
    let address = SocketAddr::new(ip, port);
    let bound = UdpSocket::bind(address).map_err(|error| with_hint(address, &error));
    bound.map_err(|error| Refused::Sentence(error.to_string()))
}

/// `host:port`, with brackets where the host has colons.
pub(crate) fn together(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(masters: &[&str]) -> Result<Vec<String>, String> {
        let masters: Vec<String> = masters.iter().map(|one| (*one).to_owned()).collect();
        sorted(&masters).map_err(|refused| refused.to_string())
    }

    #[test]
    fn masters_of_one_machine_are_known_by_its_addresses_and_its_name() {
        for own in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"] {
            assert!(on_loopback(own), "{own}");
        }
        for other in ["10.0.0.1:1", "localhost.example:1", "a:1", "[fe80::1]:1"] {
            assert!(!on_loopback(other), "{other}");
        }
    }

    #[test]
    fn places_in_the_list_do_not_depend_on_how_it_was_said() {
        assert_eq!(list(&["b:2", " a:1", "c:3"]), list(&["c:3", "b:2", "a:1"]));
        assert!(list(&["a:1", "a:1", "b:2"]).unwrap_err().contains("twice"));
        assert!(list(&["a:1"; 9]).is_err());
        assert!(list(&["a", "b:1", "c:1"]).unwrap_err().contains("`a`"));
    }
}
