//! How masters are reached: in the clear, or by TLS when their addresses say `https://`.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use super::{Identity, NoTls, Outside, Pin};
use crate::conn::Pipe;

/// How connections to masters are protected.
#[derive(Clone, Debug, Default)]
pub(crate) enum Transport {
    /// Not at all, and so only within this machine.
    #[default]
    Plain,
    /// Not at all, wherever they are: an operator wants that, or what goes there is protected already.
    Anywhere,
    /// By TLS with somebody whom authorities vouch for, or whose key is known.
    Tls(Outside),
}

/// By what masters are known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trust<'t> {
    /// The file of authorities; none = the machine's own.
    pub(crate) ca_file: Option<&'t Path>,
    /// The key itself, or that of whoever has signed it.
    pub(crate) pin: Option<Pin>,
    /// By what they know who dials; none: by nothing of TLS.
    pub(crate) node: Option<&'t Identity>,
    /// That they are spoken with in the clear on other machines, too.
    pub(crate) insecure: bool,
}

/// Addresses of masters, without what was before them, and how they are reached. All are reached in
/// one way: a leader that is named by one of them, too.
pub(crate) fn reached(
    said: impl IntoIterator<Item = impl AsRef<str>>,
    trust: Trust<'_>,
) -> Result<(Vec<String>, Transport), String> {
    let (mut addresses, mut secure, mut plain) = (Vec::new(), false, false);
    for one in said {
        let one = one.as_ref().trim().trim_end_matches('/');
        let bare = one.strip_prefix("https://");
        secure |= bare.is_some();
        plain |= bare.is_none();
        let bare = bare.or_else(|| one.strip_prefix("http://")).unwrap_or(one);
        addresses.push(bare.to_owned());
    }
    if secure && plain {
        return Err(
            "some of the masters are https:// and others are not: a cluster is reached in \
                    one way"
                .to_owned(),
        );
    }
    if !secure {
        if trust.pin.is_some() || trust.ca_file.is_some() {
            return Err("--tls-ca-file, --tls-pin and --join are for masters at https://HOST:PORT"
                .to_owned());
        }
        if trust.insecure {
            return Ok((addresses, Transport::Anywhere));
        }
        // A name says where it is when it is dialled.
        if let Some(far) = addresses.iter().find(|address| is_far(address)) {
            return Err(in_the_clear(far));
        }
        return Ok((addresses, Transport::Plain));
    }
    let outside = match trust.pin {
        Some(pin) => Outside::pinned(pin, trust.node),
        None => Outside::read(trust.ca_file, "--tls-ca-file", trust.node),
    };
    Ok((addresses, Transport::Tls(outside?)))
}

/// Why nobody is spoken with in the clear on another machine, and what to do.
fn in_the_clear(address: &str) -> String {
    format!(
        "{address} is on another machine, and on the way others could read and change all: say \
         https://{address}, or add --insecure to speak with it in the clear"
    )
}

/// True for `IP:PORT` of another machine: nobody here can have it.
fn is_far(address: &str) -> bool {
    let ip = address.parse().map(|address: SocketAddr| address.ip().to_canonical());
    ip.is_ok_and(|ip| !ip.is_loopback() && UdpSocket::bind((ip, 0)).is_err())
}

impl Transport {
    /// The same, for a node that has another key by now.
    pub(crate) fn shown_by(&self, node: &Identity) -> Self {
        match self {
            Self::Plain => Self::Plain,
            Self::Anywhere => Self::Anywhere,
            Self::Tls(outside) => Self::Tls(outside.shown_by(node)),
        }
    }

    /// Makes a new connection what it is to be. `address` is `host:port`, as it was dialled.
    pub(crate) async fn wrap(&self, pipe: Pipe, address: &str) -> io::Result<Pipe> {
        match self {
            Self::Plain if pipe.ends.are_here() => Ok(pipe),
            Self::Plain => {
                let fix = "say https://HOST:PORT in --master";
                Err(io::Error::other(NoTls { says: in_the_clear(address), fix }))
            }
            Self::Anywhere => Ok(pipe),
            Self::Tls(outside) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                outside.wrap(pipe, host).await.map_err(io::Error::other)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_reached_in_one_way() {
        let plain = reached(["a:1", " http://b:2/"], Trust::default()).unwrap();
        assert!(matches!(plain, (addresses, Transport::Plain) if addresses == ["a:1", "b:2"]));
        let why = reached(["https://a:1", "b:2"], Trust::default()).unwrap_err();
        assert!(why.contains("in one way"), "{why}");
        let ca_file = Some(Path::new("/x"));
        let why = reached(["a:1"], Trust { ca_file, ..Trust::default() }).unwrap_err();
        assert!(why.contains("https://HOST:PORT"), "{why}");
    }

    #[test]
    fn another_machine_is_spoken_with_in_the_clear_only_where_that_is_said() {
        let here = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        reached([here.to_string(), "[::1]:1".to_owned()], Trust::default()).unwrap();
        let far = "192.0.2.1:5050";
        let why = reached([far], Trust::default()).unwrap_err();
        assert!(why.contains("https://192.0.2.1:5050") && why.contains("--insecure"), "{why}");
        let insecure = Trust { insecure: true, ..Trust::default() };
        assert!(matches!(reached([far], insecure).unwrap().1, Transport::Anywhere));
        // What a name stands for is known once it was dialled.
        let wrapped = |peer: &str, over: &Transport| {
            let (pipe, _other) = Pipe::pair(8);
            let [local, peer] = ["192.0.2.7:1", peer].map(|at| at.parse().unwrap());
            let pipe = Pipe { ends: crate::conn::Ends::Tcp { local, peer }, ..pipe };
            crate::alarm::block_on(over.wrap(pipe, "a:1")).map(|_| ())
        };
        assert!(wrapped("192.0.2.7:2", &Transport::Plain).is_ok());
        let why = wrapped("192.0.2.8:2", &Transport::Plain).unwrap_err().to_string();
        assert!(why.contains("say https://a:1"), "{why}");
        assert!(wrapped("192.0.2.8:2", &Transport::Anywhere).is_ok());
    }
}
