//! Where the cluster is, when nobody says.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mesita_core::wire::frame::{PREFIX, Prefix};
use mesita_core::wire::hello::Role;
use mesita_core::wire::link::Link;
use mesita_core::wire::{Head, decode};

use super::{Failure, NO_MASTER, USAGE};
use crate::client::asker::Asker;
use crate::conn::hello::{Own, Refused};
use crate::flags::Where;
use crate::tls::{Transport, reached};

/// How long somebody on this host may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a master, and an agent that knows one, are by default.
pub(super) const DEFAULTS: [&str; 2] = ["127.0.0.1:5050", "127.0.0.1:5051"];

/// The addresses to try, and how: what was said, parted by commas, or this host's defaults.
pub(super) fn addresses(at: &Where) -> Result<(Vec<String>, Transport), Failure> {
    let Some(said) = at.master.as_deref() else {
        return Ok((DEFAULTS.map(str::to_owned).to_vec(), Transport::Plain));
    };
    let reached = reached(said.split(','), at.trust());
    reached.map_err(|why| Failure::new(USAGE, format!("--master: {why}")))
}

/// Connects to the leader to ask it something.
pub(super) async fn ask(at: &Where) -> Result<Asker, Failure> {
    let (said, credential) = (at.master.as_deref(), super::credential(at.credential.as_deref())?);
    let (addresses, over) = addresses(at)?;
    let connected = Asker::connect(&addresses, &over, credential).await;
    connected.map_err(|refused| no_master(said, &refused))
}

/// Why there is no master, and what to do.
pub(super) fn no_master(said: Option<&str>, refused: &Refused) -> Failure {
    let message = match said {
        Some(address) => format!("no master at {address}: {refused}"),
        None => format!(
            "no master on this host, at ports 5050 and 5051: {refused}; start one with \
             `mesita dev`, or give --master"
        ),
    };
    Failure::new(NO_MASTER, message)
}

/// True when a Mesita daemon answers at an address. It is asked without a thread: the keeper of an
/// embedded cluster has to come before the first one.
pub(super) fn answers(address: &str) -> bool {
    let Ok(address) = address.parse() else { return false };
    say_hello(address).unwrap_or(false)
}

fn say_hello(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&Own::new(Role::Client).bytes())?;
    let mut first = [0; PREFIX];
    stream.read_exact(&mut first)?;
    let Ok(prefix) = Prefix::parse(&first, Own::new(Role::Client).limits()) else {
        return Ok(false);
    };
    let mut rest = vec![0; prefix.rest()];
    stream.read_exact(&mut rest)?;
    Ok(match prefix.open(&rest).map(|frame| decode(frame.head)) {
        Ok(Ok(Head::Hello(hello))) => hello.role == Role::Master,
        Ok(Ok(Head::Link(Link::Redirect { .. }))) => true,
        _ => false,
    })
}
