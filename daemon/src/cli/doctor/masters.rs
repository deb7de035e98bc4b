//! Whether each master answers, and why not.

use std::io::ErrorKind;
use std::rc::Rc;

use super::{Finding, State};
use crate::access::Credential;
use crate::alarm;
use crate::client::asker::Asker;
use crate::conn::frames::Broken;
use crate::conn::hello::Refused;
use crate::flags::Agent;
use crate::tls::{Transport, reached};

pub(super) fn all(flags: &Agent) -> Vec<Finding> {
    let credential = match crate::cli::credential(flags.access.credential.as_deref()) {
        Ok(credential) => credential,
        Err(failure) => return vec![Finding::new("credential", State::Fails, failure.message)],
    };
    if flags.master.is_empty() {
        let sentence = "nobody was asked; --master names one, without which no agent starts";
        return vec![Finding::new("master", State::Skipped, sentence)];
    }
    let (addresses, over) = match reached(&flags.master, flags.trusted.trust()) {
        Ok(reached) => reached,
        Err(why) => return vec![Finding::new("master", State::Fails, why)],
    };
    addresses.iter().map(|address| asked(address, &over, credential.clone())).collect()
}

fn asked(address: &str, over: &Transport, credential: Option<Rc<Credential>>) -> Finding {
    let of = format!("master {address}");
    let addresses = [address.to_owned()];
    match alarm::block_on(Asker::connect(&addresses, over, credential)) {
        Ok(_) => Finding::on(of, "the leader answers"),
        Err(refused) => {
            let sentence = format!("{refused}; {}", remedy(&refused));
            Finding::new(of, State::Fails, sentence)
        }
    }
}

/// What to do about a master that is not reached.
fn remedy(refused: &Refused) -> &'static str {
    match refused {
        Refused::Broken(Broken::Io(error)) => of_io(error.kind()),
        Refused::Broken(_) | Refused::NoHello => {
            "another program listens there: is it a master of Mesita, and that its --port?"
        }
        Refused::Mismatch(_) => "install releases on both that are at most one apart",
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
