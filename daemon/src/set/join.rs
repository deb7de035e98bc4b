//! How a new master comes to follow a set that is there: it says its key until an operator has named
//! it, and is told then who the others are.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::time::Duration;

use mesita_core::registry::meta::Roster;
use mesita_core::wire::gossip::{Gossip, Join, Joined};
use mesita_core::wire::{Head, decode};
use sha2::{Digest, Sha256};

use super::bootstrap::{Identity, Refused};
use super::early::Early;
use super::origin::Past;
use super::sealed::{DATAGRAM_MAX, Keys, STRANGER};
use crate::clock;

/// How often it says that it would follow, in µs.
pub(super) const EVERY_US: u64 = 500_000;
/// How often it says for whom it waits, in µs.
const TOLD_EVERY_US: u64 = 30_000_000;

/// What people know a key by, and no more of it: SHA-256, in hexadecimal.
pub(crate) fn fingerprint(key: &[u8; 32]) -> String {
    Sha256::digest(key).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// As much of it as people are shown of a node.
pub(crate) fn shown(key: &[u8; 32]) -> String {
    fingerprint(key)[..SHOWN].to_owned()
}

/// Whose key nobody has: it asks to follow to be turned away, and is no news.
pub(super) const NOBODY: [u8; 32] = [0; 32];
/// How often a master is asked whether datagrams reach it, and how long each answer is waited for, in µs.
const ASKED: usize = 3;
const ANSWER_US: u64 = 400_000;

/// Which of these masters hear a datagram from here that is sealed with these keys, and are heard: each that
/// is one of a set turns away who would follow with tables of another size. Blocks for a second or so.
pub(crate) fn heard_by(
    socket: &UdpSocket,
    keys: &Keys,
    masters: &[String],
) -> io::Result<Vec<bool>> {
    let of = |master: &String| master.to_socket_addrs().into_iter().flatten().collect::<Vec<_>>();
    let places: Vec<Vec<SocketAddr>> = masters.iter().map(of).collect();
    let me = socket.local_addr()?.to_string();
    let join = Join { key: NOBODY, rows: [0; 3], address: &me };
    let head = postcard::to_allocvec(&Head::Gossip(Gossip::Join(join))).unwrap_or_default();
    let mut heard = vec![false; masters.len()];
    let stranger = |sender| (sender == STRANGER).then_some([0; 32]);
    for _ in 0..ASKED {
        for (place, _) in places.iter().zip(&heard).filter(|(_, heard)| !**heard) {
            let sealed = keys.seal(STRANGER, &[0; 32], &head);
            // Who is not there does not answer.
            place.iter().for_each(|address| drop(socket.send_to(&sealed, address)));
        }
        let until = clock::now().after(ANSWER_US);
        while clock::now() < until && heard.contains(&false) {
            let left = until.since(clock::now()).max(1_000);
            socket.set_read_timeout(Some(Duration::from_micros(left)))?;
            let mut datagram = [0; DATAGRAM_MAX];
            let Ok((len, from)) = socket.recv_from(&mut datagram) else { continue };
            let answers = keys.open(&mut datagram[..len], stranger).is_ok_and(|(_, head)| {
                matches!(decode(head), Ok(Head::Gossip(Gossip::Turned { .. })))
            });
            for (place, heard) in places.iter().zip(&mut heard).filter(|_| answers) {
                *heard |= place.contains(&from);
            }
        }
    }
    Ok(heard)
}

/// A master that would follow a set.
pub(super) struct Joiner<'j> {
    pub(super) socket: &'j UdpSocket,
    pub(super) keys: &'j Keys,
    pub(super) meta: &'j Path,
    pub(super) key: [u8; 32],
    pub(super) rows: [u32; 3],
    /// `host:port` at which others will reach it.
    pub(super) address: &'j str,
    /// Masters of the set, as they were told.
    pub(super) masters: Vec<String>,
    pub(super) early: Early<'j>,
}

impl Joiner<'_> {
    /// Speaks with the masters until they have it in their roster.
    pub(super) fn join(self) -> Result<Identity, Refused> {
        let name = fingerprint(&self.key);
        let (mut say_at, mut tell_at) = (clock::now(), clock::now());
        let mut heard = String::new();
        loop {
            let now = clock::now();
            if now >= say_at {
                self.say();
                say_at = now.after(EVERY_US);
            }
            if now >= tell_at {
                log::info!(
                    "asking {} to follow; an operator lets it by `mesita masters add {}`, or \
                     `mesita masters replace ID {}` for one that is gone",
                    self.masters.join(", "),
                    &name[..SHOWN],
                    &name[..SHOWN]
                );
                tell_at = now.after(TOLD_EVERY_US);
            }
            self.early.tell(&format!(
                "this master asks to follow a set; an operator lets it by `mesita masters add {}`",
                &name[..SHOWN]
            ));
            match self.hear()? {
                Some(Answer::Joined(identity)) => {
                    identity.write(self.meta)?;
                    return Ok(*identity);
                }
                Some(Answer::Turned(message)) if message != heard => {
                    log::info!("{message}");
                    heard = message;
                }
                Some(Answer::Turned(_)) | None => {}
            }
        }
    }

    fn say(&self) {
        let join = Join { key: self.key, rows: self.rows, address: self.address };
        let head = postcard::to_allocvec(&Head::Gossip(Gossip::Join(join))).unwrap_or_default();
        let datagram = self.keys.seal(STRANGER, &[0; 32], &head);
        for master in self.masters.iter().filter(|master| *master != self.address) {
            // Who is not there yet is told again.
            let addresses = master.to_socket_addrs().into_iter().flatten();
            addresses.for_each(|address| drop(self.socket.send_to(&datagram, address)));
        }
    }

    /// What comes within a moment.
    fn hear(&self) -> Result<Option<Answer>, Refused> {
        let mut datagram = [0; DATAGRAM_MAX];
        let moment = Some(Duration::from_micros(EVERY_US / 2));
        self.socket.set_read_timeout(moment).map_err(Refused::Socket)?;
        let (len, from) = match self.socket.recv_from(&mut datagram) {
            Ok(came) => came,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            Err(_) => return Ok(None),
        };
        let stranger = |sender| (sender == STRANGER).then_some([0; 32]);
        match self.keys.open(&mut datagram[..len], stranger).map(|(_, head)| decode(head)) {
            Ok(Ok(Head::Gossip(Gossip::Joined(joined)))) => self.told(&joined),
            Ok(Ok(Head::Gossip(Gossip::Turned { message }))) => {
                Ok(Some(Answer::Turned(format!("{from}: {message}"))))
            }
            _ => Ok(None),
        }
    }

    /// What it is told is kept before it says anything as one of them.
    fn told(&self, joined: &Joined<'_>) -> Result<Option<Answer>, Refused> {
        let Ok(roster) = postcard::from_bytes::<Roster>(joined.roster) else { return Ok(None) };
        let mine = |id: u8| roster.members.iter().any(|of| of.id == id && of.key == self.key);
        if joined.key != self.key || !mine(joined.id) {
            return Ok(None);
        }
        let mut masters = self.masters.clone();
        masters.extend(joined.masters.split(',').map(str::to_owned));
        masters.retain(|master| !master.is_empty());
        masters.sort_unstable();
        masters.dedup();
        let past =
            Past { cluster: joined.cluster, generation: joined.generation, epoch: joined.epoch };
        log::info!("master {} of cluster {:016x} from now on", joined.id, joined.cluster);
        let mut identity = Identity::new(masters.clone(), joined.id, self.rows, joined.t_us);
        identity.known = masters;
        Ok(Some(Answer::Joined(Box::new(identity.going_on(past).among(roster)))))
    }
}

/// Digits of a fingerprint that people are shown, and give back.
pub(super) const SHOWN: usize = 32;

/// What another master says to one that would follow.
enum Answer {
    Joined(Box<Identity>),
    /// Not yet, or never: why.
    Turned(String),
}

/// Where a datagram of somebody who would follow came from, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) key: [u8; 32],
    pub(super) rows: [u32; 3],
    pub(super) address: String,
    pub(super) from: SocketAddr,
}
