//! A token on a command line, and what a master is given that joins by one.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;

use mesita_core::wire::hello::Role;
use mesita_core::wire::link::Parting;
use mesita_core::wire::svc::{CloseReason, Stream};

use super::{Failure, USAGE};
use crate::access::tokens::Join;
use crate::alarm;
use crate::client::asker::Asker;
use crate::conn::frames::Broken;
use crate::conn::hello::{Own, Refused};
use crate::flags::Master;
use crate::identity;
use crate::secrets;
use crate::set::charter::{CHARTER_MAX, Charter, Given};
use crate::set::early::Early;
use crate::tls::{Transport, Trust, reached};

/// How often somebody is asked again who is not there, or knows no leader, in µs.
const AGAIN_US: u64 = 1_000_000;

/// The token of a flag, which may be told by the file of `--config`, or of the file that it names.
pub(super) fn token(told: &str, config: Option<&Path>) -> Result<Join, Failure> {
    let bad = |why: String| Failure::new(USAGE, format!("--join: {why}"));
    // No token has a slash, and none is the name of a file that is there.
    let path = Path::new(told);
    if !told.contains('/') && !path.is_file() {
        let join = told.parse().map_err(bad)?;
        if let Some(config) = config.filter(|config| tells(config, told)) {
            let shown = config.display();
            secrets::check(config).map_err(|why| {
                let why = format!("--config {shown}: the token of `join` is in it, and {why}");
                Failure::new(USAGE, why)
            })?;
        }
        return Ok(join);
    }
    let of_file = |why: String| bad(format!("{told}: {why}"));
    secrets::check(path).map_err(of_file)?;
    let text = std::fs::read_to_string(path).map_err(|error| of_file(error.to_string()))?;
    text.parse().map_err(bad)
}

/// True when the text of a token is in a file of flags, which is one of secrets by that.
pub(super) fn tells(config: &Path, token: &str) -> bool {
    std::fs::read_to_string(config).is_ok_and(|text| text.contains(token))
}

/// How a master of these flags comes to follow a set that is there.
pub(super) enum Joins {
    /// It does not.
    Not,
    /// An operator lets it, who is shown its key.
    Named,
    /// By a token.
    By(Join),
}

impl Joins {
    /// What the flags say.
    pub(super) fn of(flags: &Master) -> Result<Self, Failure> {
        // A file of flags says `join = true`.
        match flags.set.join.as_deref() {
            None | Some("false") => Ok(Self::Not),
            Some("true") => Ok(Self::Named),
            Some(told) => token(told, flags.common.config.as_deref()).map(Self::By),
        }
    }
}

/// Asks the masters that the flags name for what they have in common, until it is there.
pub(super) fn asked(
    flags: &Master,
    token: &Join,
    me: &str,
    own: &identity::Own,
    early: Early<'_>,
) -> Result<Charter, Failure> {
    if own.proof.is_none() {
        let why = "this work directory has a key that proves nothing, of a build without TLS: a node \
                   joins with an empty one";
        return Err(Failure::new(USAGE, format!("--join: {why}")));
    }
    let others = flags.set.masters.iter().filter(|master| *master != me);
    let others: Vec<String> = others.map(|master| format!("https://{master}")).collect();
    if others.is_empty() {
        let why = format!("--masters names {me} alone, which is this one: name one that is there");
        return Err(Failure::new(USAGE, why));
    }
    let trust = Trust { pin: Some(token.pin), node: own.proof.as_ref(), ..Trust::default() };
    let (addresses, over) = reached(&others, trust).map_err(|why| Failure::new(USAGE, why))?;
    let credential = Some(Rc::new(token.credential()));
    let own = Own { key: own.key, credential, ..Own::new(Role::Master) };
    let mut told = BTreeSet::new();
    loop {
        let why = match alarm::block_on(charter(&addresses, &over, &own)) {
            Ok(bytes) => return Charter::parse(&bytes).map_err(Failure::plain),
            Err(Trouble::ForGood(why)) => return Err(Failure::plain(why)),
            Err(Trouble::ForNow(why)) => why,
        };
        early.tell(&format!("this master asks to join others: {why}"));
        if told.insert(why.clone()) {
            log::info!("asking {} to join: {why}; trying again", addresses.join(", "));
        }
        alarm::block_on(alarm::after(AGAIN_US));
    }
}

/// Why nothing was given.
enum Trouble {
    /// It may be otherwise in a moment.
    ForNow(String),
    /// It will be no better.
    ForGood(String),
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        let why = refused.to_string();
        match refused {
            // What TLS does not like has no kind of the system's.
            Refused::Broken(Broken::Io(error)) if error.kind() == ErrorKind::Other => {
                Self::ForGood(why)
            }
            Refused::Bye(Parting::Denied | Parting::Malformed | Parting::Mismatch, _)
            | Refused::Mismatch(_)
            | Refused::Auth => Self::ForGood(why),
            Refused::Broken(_) | Refused::Bye(..) | Refused::NoHello | Refused::Redirect(_) => {
                Self::ForNow(why)
            }
        }
    }
}

async fn charter(addresses: &[String], over: &Transport, own: &Own) -> Result<Vec<u8>, Trouble> {
    let asker = Asker::connect_as(own, addresses, over).await?;
    let later = |why: &dyn std::fmt::Display| Trouble::ForNow(why.to_string());
    let handle = asker.open(Stream::Charter).ok_or_else(|| later(&"no stream can be opened"))?;
    let reading = async {
        let mut text = Vec::new();
        loop {
            match handle.read().await {
                Ok(piece) if text.len() + piece.len() > CHARTER_MAX => {
                    let why = format!("the masters say more than {CHARTER_MAX} bytes");
                    return Err(Trouble::ForGood(why));
                }
                Ok(piece) => text.extend_from_slice(&piece),
                Err(closed) if closed.reason == CloseReason::Done => return Ok(text),
                Err(closed) if closed.reason == CloseReason::Gone => {
                    return Err(Trouble::ForNow(closed.message));
                }
                Err(closed) => return Err(Trouble::ForGood(closed.message)),
            }
        }
    };
    match asker.during(reading).await {
        Ok(done) => done,
        Err(crate::conn::talk::Ending::Bye(Parting::Denied, why)) => Err(Trouble::ForGood(why)),
        Err(ending) => Err(later(&ending)),
    }
}

/// What the flags do not say, a master that has joined by a token takes from what it was given.
pub(super) fn fill(flags: &mut Master, given: &Given) {
    if !given.is_there() {
        return;
    }
    let text = |path: std::path::PathBuf| path.display().to_string();
    if flags.listen.shown.tls_cert_file.is_none()
        && let Some([certificate, key]) = given.certificate()
    {
        flags.listen.shown.tls_cert_file = Some(certificate);
        flags.listen.shown.tls_key_file = Some(key);
        flags.set.tls_ca_key_file = given.authority_key();
    }
    if flags.set.gossip_key_file.is_empty() {
        flags.set.gossip_key_file = given.gossip();
    }
    if flags.set.masters.is_empty() {
        flags.set.masters = given.masters();
    }
    let access = &mut flags.access;
    access.audit_log = access.audit_log.take().or_else(|| given.audit_log());
    access.credentials = access.credentials.take().or_else(|| given.credentials());
    // Whoever is let in, the cluster asks for as much as its other masters do.
    let asks = given.asks();
    access.authenticate_http_readonly |= asks.readonly;
    access.authenticate_http_readwrite |= asks.readwrite;
    access.authenticate_http_frameworks |= asks.frameworks;
    access.authenticate_agents |= asks.agents;
    access.acls = access.acls.take().or_else(|| given.acls().map(text));
    access.rate_limits = access.rate_limits.take().or_else(|| given.rates().map(text));
}

/// The same as flags that whoever asks this master is shown: the command line has none of them.
pub(super) fn filled(flags: &Master) -> Vec<(&'static str, String)> {
    let (shown, access, set) = (&flags.listen.shown, &flags.access, &flags.set);
    let paths = [
        ("tls_cert_file", shown.tls_cert_file.as_deref()),
        ("tls_key_file", shown.tls_key_file.as_deref()),
        ("tls_ca_key_file", set.tls_ca_key_file.as_deref()),
        ("credentials", access.credentials.as_deref()),
        ("audit_log", access.audit_log.as_deref()),
    ];
    let paths =
        paths.into_iter().filter_map(|(name, path)| Some((name, path?.display().to_string())));
    let rules = [("acls", &access.acls), ("rate_limits", &access.rate_limits)];
    let rules = rules.into_iter().filter_map(|(name, text)| Some((name, text.clone()?)));
    let asks = [
        ("authenticate_http_readonly", access.authenticate_http_readonly),
        ("authenticate_http_readwrite", access.authenticate_http_readwrite),
        ("authenticate_http_frameworks", access.authenticate_http_frameworks),
        ("authenticate_agents", access.authenticate_agents),
    ];
    let asks = asks.map(|(name, is)| (name, is.to_string()));
    let keys: Vec<String> =
        set.gossip_key_file.iter().map(|key| key.display().to_string()).collect();
    let lists = [("gossip_key_file", keys.join(",")), ("masters", set.masters.join(","))];
    let lists = lists.into_iter().filter(|(_, text)| !text.is_empty());
    paths.chain(rules).chain(asks).chain(lists).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Cli, Command};
    use clap::Parser;

    fn master(words: &[&str]) -> Master {
        let words = ["mesita", "master"].iter().chain(words);
        let Command::Master(master) = Cli::try_parse_from(words).unwrap().command else {
            unreachable!()
        };
        *master
    }

    #[test]
    fn a_master_with_credentials_of_its_own_asks_for_what_the_others_ask_for() {
        let meta = std::env::temp_dir().join(format!("mesita-fill-{}", std::process::id()));
        let given = Given::of(&meta);
        std::fs::create_dir_all(meta.join("given")).unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(meta.join("given").join(name), text).unwrap();
        };
        write("pin", "");
        write("credentials", "{}");
        let asks = crate::access::Asks { agents: true, readwrite: true, ..Default::default() };
        write("asks", &serde_json::to_string(&asks).unwrap());
        for (words, own) in [(&["--credentials", "/own"][..], true), (&[], false)] {
            let mut flags = master(words);
            fill(&mut flags, &given);
            let access = &flags.access;
            let is_own = access.credentials.as_deref() == Some(Path::new("/own"));
            assert_eq!((is_own, access.credentials.is_some()), (own, true));
            assert!(access.authenticate_agents && access.authenticate_http_readwrite, "{words:?}");
            assert!(!access.authenticate_http_readonly && !access.authenticate_http_frameworks);
        }
        std::fs::remove_dir_all(meta).unwrap();
    }
}
