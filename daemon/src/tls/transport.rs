//! How masters are reached: in the clear, or by TLS when their addresses say `https://`.

use std::io;
use std::path::Path;

use super::{Identity, Outside, Pin};
use crate::conn::Pipe;

/// How connections to masters are protected.
#[derive(Clone, Debug, Default)]
pub(crate) enum Transport {
    /// Not at all: on loopback, or where an operator wants that.
    #[default]
    Plain,
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
        return Ok((addresses, Transport::Plain));
    }
    let outside = match trust.pin {
        Some(pin) => Outside::pinned(pin, trust.node),
        None => Outside::read(trust.ca_file, "--tls-ca-file", trust.node),
    };
    Ok((addresses, Transport::Tls(outside?)))
}

impl Transport {
    /// The same, for a node that has another key by now.
    pub(crate) fn shown_by(&self, node: &Identity) -> Self {
        match self {
            Self::Plain => Self::Plain,
            Self::Tls(outside) => Self::Tls(outside.shown_by(node)),
        }
    }

    /// Makes a new connection what it is to be. `address` is `host:port`, as it was dialled.
    pub(crate) async fn wrap(&self, pipe: Pipe, address: &str) -> io::Result<Pipe> {
        match self {
            Self::Plain => Ok(pipe),
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
}
