//! Requests that change something are told of where they come in, unless what they ask for is told in words
//! of its own: so no path and no call of a later release is forgotten.

use std::rc::Rc;

use hyper::StatusCode;

use super::{Reply, Site, Visit, origin};
use crate::audit::Heed;
use crate::conn::Ends;
use crate::doors::Caller;

/// What somebody asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) caller: &'a Caller,
    /// The connection that it came on.
    pub(crate) ends: &'a Ends,
    pub(crate) what: &'a str,
    /// Of which thing.
    pub(crate) of: &'a str,
    /// Why it was not done.
    pub(crate) denied: Option<&'a str>,
}

/// Told of who went before the answer came: whether it was done is not known here.
const LEFT: &str = "whoever asked did not wait for the answer";

/// A request that may change something, until it is told of: when it is answered, or whoever asked is gone.
pub(super) struct Noted<S: Site> {
    site: Rc<S>,
    caller: Caller,
    ends: Ends,
    /// Its method and path.
    line: String,
    /// Why it was not done; empty: it was.
    why: String,
    /// Nothing is there that could be asked for it.
    nothing: bool,
}

impl<S: Site> Noted<S> {
    /// None: it only reads.
    pub(super) fn of(visit: &mut Visit, site: &Rc<S>) -> Option<Self> {
        // What was told of another one on this connection is not told of this one.
        visit.caller.heed = Heed::default();
        let (method, uri) = (visit.request.method(), visit.request.uri());
        origin::changes(method, uri).then(|| Self {
            site: Rc::clone(site),
            caller: visit.caller.clone(),
            ends: visit.ends,
            line: format!("{method} {}", uri.path()),
            why: LEFT.to_owned(),
            nothing: false,
        })
    }

    /// It has its answer.
    pub(super) fn answered(mut self, reply: &Reply) {
        let status = reply.status();
        self.nothing = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status);
        self.why = match reply.body().words() {
            _ if status.is_success() => String::new(),
            "" => status.to_string(),
            words => words.to_owned(),
        };
    }
}

impl<S: Site> Drop for Noted<S> {
    fn drop(&mut self) {
        let heed = &self.caller.heed;
        let asked = heed.asked();
        if !heed.is_due() || (asked.is_none() && self.nothing) {
            return;
        }
        let (what, of) = asked.unwrap_or_else(|| (self.line.clone(), String::new()));
        let denied = Some(&*self.why).filter(|why| !why.is_empty());
        let (caller, ends) = (&self.caller, &self.ends);
        self.site.note(&Asked { caller, ends, what: &what, of: &of, denied });
    }
}
