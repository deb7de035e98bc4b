//! Connections that this node begins.

use std::io;
use std::net::SocketAddr;

use smol::net::{TcpStream, resolve};

use super::Pipe;
use crate::alarm;
use crate::tls::Transport;

/// How long a connection may take to come about, in µs.
const CONNECT_US: u64 = 5_000_000;

/// Connects to `host:port`. A name is looked up now, every time: addresses change.
pub(crate) async fn connect(address: &str, over: &Transport) -> io::Result<Pipe> {
    let connecting = async {
        let dialled = address;
        let addresses = match address.parse::<SocketAddr>() {
            Ok(address) => vec![address],
            Err(_) => resolve(address).await?,
        };
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return over.wrap(Pipe::tcp(stream)?, dialled).await,
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s"));
    alarm::within(CONNECT_US, connecting).await.unwrap_or_else(late)
}

/// Where a node's masters are.
pub(crate) enum Way {
    /// At these addresses, of which any will do; all reached in this way.
    To(Vec<String>, Transport),
    /// In this process: each call gives our end of a new connection.
    Here(Box<dyn Fn() -> Pipe>),
}

impl Way {
    /// Dials, each time the next address, or where the leader was said to be.
    pub(crate) async fn dial(&self, attempt: usize, leader: Option<&str>) -> io::Result<Pipe> {
        match self {
            Self::To(_, over) => connect(&self.shown(attempt, leader), over).await,
            Self::Here(pipe) => Ok(pipe()),
        }
    }

    /// The address that is dialled.
    pub(crate) fn shown(&self, attempt: usize, leader: Option<&str>) -> String {
        match (self, leader) {
            (Self::Here(_), _) => "this process".to_owned(),
            (Self::To(..), Some(leader)) => leader.to_owned(),
            (Self::To(addresses, _), None) => {
                addresses.get(attempt % addresses.len().max(1)).cloned().unwrap_or_default()
            }
        }
    }
}
