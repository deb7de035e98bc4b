//! Whether each master takes an agent with these flags, and why not.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::Path;

use mesita_core::wire::hello::{Mismatch, Role};
use mesita_core::wire::link::{Link, Parting};
use mesita_core::wire::{Head, Session, decode};

use super::{Finding, State};
use crate::bodies::Bodies;
use crate::cli::agent::{known_by, reach};
use crate::client::REDIRECTS_MAX;
use crate::conn::frames::Broken;
use crate::conn::hello::{self, Own, Refused};
use crate::conn::listen::ONLY_TLS;
use crate::conn::{Pipe, dial};
use crate::flags::Agent;
use crate::identity;
use crate::ledger;
use crate::master::joining::{REVOKED, UNPROVED};
use crate::tls::{NoTls, Transport};
use crate::{alarm, random};

/// What to do about a work directory of another cluster.
const OTHER: &str =
    "name the masters of the cluster that --work-dir belongs to, or give another --work-dir";
/// How long a master may take to say something, in µs.
const HELLO_US: u64 = 5_000_000;

pub(super) fn all(flags: &Agent, work_dir: &Path) -> Vec<Finding> {
    let credential = match crate::cli::credential(flags.access.credential.as_deref()) {
        Ok(credential) => credential,
        Err(failure) => return vec![Finding::new("credential", State::Fails, failure.message)],
    };
    if flags.master.is_empty() {
        let sentence = "nobody was asked; --master names one, without which no agent starts";
        return vec![Finding::new("master", State::Skipped, sentence)];
    }
    let meta = work_dir.join("meta");
    // Reading it makes it, where there is none.
    let own = meta.join("key").exists().then(|| identity::own(&meta).ok()).flatten();
    let proof = own.as_ref().and_then(|own| own.proof.as_ref());
    let known = known_by(flags, work_dir)
        .and_then(|(join, pin)| Ok((join.is_some(), reach(flags, pin, proof)?)));
    let (joins, (addresses, over)) = match known {
        Ok(known) => known,
        Err(failure) => return vec![Finding::new("master", State::Fails, failure.message)],
    };
    let key = own.as_ref().map_or_else(random::bytes, |own| own.key);
    let credential = credential.filter(|_| !joins);
    // One that has joined already is let in by its key, or is not.
    let joins = joins && !meta.join("joined").exists();
    let cluster = ledger::cluster(&meta).unwrap_or_default();
    let own = Own { key, credential, cluster, ..Own::new(Role::Agent) };
    addresses.iter().map(|address| asked(address, &over, &own, joins)).collect()
}

/// `joins`: by a token, which is not used up here.
fn asked(address: &str, over: &Transport, own: &Own, joins: bool) -> Finding {
    let of = format!("master {address}");
    match alarm::block_on(greeted(address, over, own)) {
        Ok(()) => Finding::on(of, "the leader answers, and takes this agent"),
        Err(Refused::Bye(Parting::Denied, _)) if joins => {
            let sentence = "the leader answers, and has the key that the token says; whether it lets \
                            this node in by it was not tried, for that would use it";
            Finding::on(of, sentence)
        }
        Err(refused) => {
            let sentence = format!("{refused}; {}", remedy(&refused));
            Finding::new(of, State::Fails, sentence)
        }
    }
}

/// Says hello to one, whoever leads.
pub(super) fn asked_once(address: &str, over: &Transport, own: &Own) -> Result<(), Refused> {
    alarm::block_on(hello_to(address, over, own))
}

/// Says hello as the agent would, and waits whether it is turned away; nothing is registered.
async fn greeted(address: &str, over: &Transport, own: &Own) -> Result<(), Refused> {
    let mut address = address.to_owned();
    for _ in 0..REDIRECTS_MAX {
        match hello_to(&address, over, own).await {
            Err(Refused::Redirect(leader)) => address = leader,
            told => return told,
        }
    }
    Err(Refused::Redirect(address))
}

async fn hello_to(address: &str, over: &Transport, own: &Own) -> Result<(), Refused> {
    let dialled = dial::connect(address, over).await;
    let Pipe { reading, mut writing, .. } =
        dialled.map_err(|error| Refused::Broken(Broken::Io(error)))?;
    let store = RefCell::new(Bodies::new(0));
    let greeting = hello::dial(reading, &mut writing, own, &store);
    let (mut frames, _) = alarm::within(HELLO_US, greeting).await.ok_or(Refused::NoHello)??;
    // Whoever is let in is answered, and whoever is to prove something first is turned away.
    let ping = Head::Link(Link::Ping { stamp: 0, session: Session::default() });
    hello::say(&mut writing, &ping).await?;
    let no_leader =
        || Refused::Bye(Parting::NoLeader, "the master knows of none that leads".to_owned());
    loop {
        let more = alarm::within(HELLO_US, frames.next(&store)).await.ok_or_else(no_leader)?;
        match decode(more?.head) {
            Ok(Head::Link(Link::Bye { reason, message })) => {
                return Err(Refused::Bye(reason, message.to_owned()));
            }
            Ok(Head::Link(Link::Redirect { address, .. })) => {
                return Err(Refused::Redirect(address.to_owned()));
            }
            Ok(Head::Link(Link::Pong { .. })) => return Ok(()),
            // Told to whoever is there, by one that does not lead as well.
            Ok(_) => {}
            Err(malformed) => return Err(Broken::Malformed(malformed).into()),
        }
    }
}

/// What to do about a master that is not reached.
pub(super) fn remedy(refused: &Refused) -> &'static str {
    match refused {
        Refused::Broken(Broken::Io(error)) => {
            let tls = error.get_ref().and_then(|why| why.downcast_ref::<NoTls>());
            tls.map_or_else(|| of_io(error.kind()), |tls| tls.fix)
        }
        Refused::Broken(_) | Refused::NoHello => {
            "another program listens there: is it a master of Mesita, and that its --port?"
        }
        Refused::Mismatch(Mismatch::OtherCluster(_)) => OTHER,
        Refused::Mismatch(_) => "install releases on both that are at most one apart",
        Refused::Bye(Parting::Mismatch, why) if why.contains("belongs to cluster") => OTHER,
        Refused::Bye(Parting::NoLeader, _) => {
            "see `/health` of each master: a majority must be there"
        }
        Refused::Bye(_, why) if why == ONLY_TLS || why == UNPROVED => {
            "say https://HOST:PORT in --master"
        }
        Refused::Bye(_, why) if why == REVOKED => {
            "`mesita token create` makes a token, by which it joins with an empty --work-dir"
        }
        Refused::Auth | Refused::Bye(..) => "see --credential, and the master's log",
        Refused::Redirect(_) => "the masters do not agree on who leads: see `/health` of each",
    }
}

/// What to do about a connection that does not come about.
fn of_io(kind: ErrorKind) -> &'static str {
    let away = [ErrorKind::TimedOut, ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable];
    let ended = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof];
    if kind == ErrorKind::ConnectionRefused {
        "nobody listens there: start `mesita master`, or look at its --ip and --port"
    } else if away.contains(&kind) {
        "look at the cable, the route and at firewalls in between: `ip route get ADDRESS`"
    } else if ended.contains(&kind) {
        "what listens there ended the connection: is it a master of Mesita?"
    } else {
        "is the name right? `getent hosts NAME` looks it up; an address needs no name"
    }
}
