//! TLS in a build without it.

use std::path::Path;

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

    /// There is nobody to ask.
    pub(crate) async fn wrap(&self, _: Pipe, _: &str) -> Result<Pipe, String> {
        match *self {}
    }
}
