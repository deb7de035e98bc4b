//! TLS in a build without it.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use super::ABSENT;
use crate::conn::Pipe;

/// Authorities that vouch for servers of others: there are none in this build.
#[derive(Clone, Debug)]
pub(crate) enum Outside {}

impl Outside {
    /// Refuses, with what this build lacks.
    pub(crate) fn read(_: Option<&Path>, _: &str) -> Result<Self, String> {
        Err(format!("it {ABSENT}"))
    }

    /// The same.
    pub(crate) fn pinned(pin: Pin) -> Result<Self, String> {
        match pin {}
    }

    /// There is nobody to ask.
    pub(crate) async fn wrap(&self, _: Pipe, _: &str) -> Result<Pipe, String> {
        match *self {}
    }
}

/// A key of a server: there are none in this build.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pin {}

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
    pub(crate) fn read(_: &Path, _: &Path) -> Result<Self, String> {
        Err(format!("--tls-cert-file {ABSENT}"))
    }

    /// There is nobody to answer.
    pub(crate) async fn accept(&self, _: Pipe) -> io::Result<Pipe> {
        match *self {}
    }
}
