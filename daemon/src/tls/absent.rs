//! TLS in a build without it.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use super::{ABSENT, NoTls, Signer};
use crate::conn::Pipe;

/// Authorities that vouch for servers of others: there are none in this build.
#[derive(Clone, Debug)]
pub(crate) enum Outside {}

impl Outside {
    /// Refuses, with what this build lacks.
    pub(crate) fn read(_: Option<&Path>, _: &str, _: Option<&Identity>) -> Result<Self, String> {
        Err(format!("it {ABSENT}"))
    }

    /// The same.
    pub(crate) fn pinned(pin: Pin, _: Option<&Identity>) -> Result<Self, String> {
        match pin {}
    }

    /// Refuses, with what this build lacks.
    pub(crate) fn anybody() -> Result<Self, String> {
        Err(format!("it {ABSENT}"))
    }

    /// The same.
    pub(crate) fn shown_by(&self, _: &Identity) -> Self {
        match *self {}
    }

    /// There is nobody to ask.
    pub(crate) async fn wrap(&self, _: Pipe, _: &str) -> Result<Pipe, NoTls> {
        match *self {}
    }
}

/// The key of a node, by which it proves who it is: none does in this build.
#[derive(Clone, Debug)]
pub(crate) enum Identity {}

impl Identity {
    /// Refuses, with what this build lacks.
    pub(crate) fn of(_: &[u8; 32]) -> Result<Self, String> {
        Err(format!("it {ABSENT}"))
    }

    /// There is none.
    pub(crate) fn key(&self) -> [u8; 32] {
        match *self {}
    }
}

/// A key of a server: there are none in this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pin {}

impl Pin {
    /// There is none.
    pub(crate) fn is_in(self, _: &Path) -> Result<bool, String> {
        match self {}
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(_: &str) -> Result<Self, String> {
        Err(format!("it {ABSENT}"))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// What a daemon shows clients of the outside: nothing in this build.
#[derive(Debug)]
pub(crate) enum Served {}

impl Served {
    /// Refuses, with what this build lacks.
    pub(crate) fn read(_: &Path, _: &Path, _: Signer) -> Result<Self, String> {
        Err(format!("--tls-cert-file {ABSENT}"))
    }

    /// The same.
    pub(crate) fn anchor(&self) -> Pin {
        match *self {}
    }

    /// There is nobody to answer.
    pub(crate) async fn accept(&self, _: Pipe) -> io::Result<Pipe> {
        match *self {}
    }
}

/// What an authority signs: nothing in this build.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Refuses, with what this build lacks.
pub(crate) fn sign(_: &str, _: &str, _: &[String]) -> Result<Signed, String> {
    Err(format!("a certificate for a master {ABSENT}"))
}

/// The same of the key of an authority.
pub(crate) fn judge_authority(_: &str, _: &str) -> Result<(), String> {
    Err(format!("an authority {ABSENT}"))
}
