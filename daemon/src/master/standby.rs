//! What a master answers that does not lead: where the leader is, or that none is known.

use futures_lite::AsyncWriteExt;
use hyper::StatusCode;
use hyper::header::{HeaderValue, LOCATION, RETRY_AFTER};
use mesita_core::wire::Head;
use mesita_core::wire::hello::Role;
use mesita_core::wire::link::{Link, Parting};

use super::MasterNode;
use super::site::without_process;
use crate::alarm;
use crate::conn::frames::Frames;
use crate::conn::hello::{self, Peer};
use crate::conn::{Ends, Writing};
use crate::http::{Early, Reply, Visit, early, status};
use crate::set::standing::Leader;

/// How long somebody waits here for a leader to be known, in µs.
const WAIT_US: u64 = 5_000_000;

impl MasterNode {
    /// True while it may answer for the cluster.
    pub(super) fn leads(&self) -> bool {
        let standing = &self.options.standing;
        self.catalog.borrow().now.leading.is_some() && standing.lease.is_held()
    }

    /// An answer unless this master leads.
    pub(super) fn leads_or_not(&self) -> Result<(), Early> {
        if self.leads() {
            return Ok(());
        }
        let message = match self.options.standing.in_set {
            true => "No leading master is known now",
            false => "Master has not finished recovery",
        };
        let mut reply = early(StatusCode::SERVICE_UNAVAILABLE, message);
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        Err(reply)
    }

    /// The leader, if another one is known to be it.
    fn another_leads(&self) -> Option<Leader> {
        if self.leads() {
            return None;
        }
        let own = &self.options.standing.advertised;
        let leader = self.options.standing.leader()?;
        let itself = own
            .as_ref()
            .is_some_and(|(host, port)| crate::set::begin::together(host, *port) == leader.address);
        // It was elected, and its core is about to lead.
        (!itself).then_some(leader)
    }

    /// The answer to a request that the leader is to be asked; none: it is answered here.
    pub(super) fn elsewhere(&self, visit: &Visit) -> Option<Reply> {
        let leader = self.another_leads()?;
        let uri = visit.request.uri();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        match without_process(uri.path()) {
            // What is asked of this very process.
            "/flags" | "/masters" | "/metrics/snapshot" => None,
            "/redirect" => Some(see(&format!("//{}", leader.address))),
            _ => Some(see(&format!("//{}{path}", leader.address))),
        }
    }

    /// Speaks with whoever has said hello to a master that does not lead: shows the way, now or
    /// when there is one. Agents are told each time that it changes.
    pub(super) async fn show_the_way(&self, frames: Frames, mut writing: Writing, peer: &Peer) {
        let standing = &self.options.standing;
        if peer.role == Role::Agent {
            return self.keep_told(frames, writing, peer).await;
        }
        let known = alarm::within(WAIT_US, standing.another(None)).await;
        let said = match &known {
            Some(leader) => hello::say(&mut writing, &redirect(leader)).await,
            None => {
                let message = "no leading master is known now; retry";
                let bye = Link::Bye { reason: Parting::NoLeader, message };
                hello::say(&mut writing, &Head::Link(bye)).await
            }
        };
        if said.is_ok() {
            // The peer's end of the stream comes when it has read it, or not at all.
            let _ = writing.close().await;
        }
    }

    async fn keep_told(&self, mut frames: Frames, mut writing: Writing, peer: &Peer) {
        let own = self.own.borrow().clone();
        let telling = async {
            if hello::welcome(&mut writing, &own).await.is_err() {
                return;
            }
            let standing = &self.options.standing;
            let (mut last, mut masters) = (None, String::new());
            loop {
                let elsewhere = async { Err(standing.moved(&masters).await) };
                let leads = async { Ok(standing.another(last.as_ref()).await) };
                match futures_lite::future::or(leads, elsewhere).await {
                    Ok(leader) => {
                        if hello::say(&mut writing, &redirect(&leader)).await.is_err() {
                            return;
                        }
                        last = Some(leader);
                    }
                    Err(moved) => {
                        let head = Head::Link(Link::Masters { addresses: &moved });
                        let knows = peer.version >= head.since();
                        if knows && hello::say(&mut writing, &head).await.is_err() {
                            return;
                        }
                        masters = moved;
                    }
                }
            }
        };
        // Whatever an agent says to a standby is for nobody; that it goes is.
        let gone = async {
            while let Ok(received) = frames.next(&self.port.bodies).await {
                self.port.drop_bodies(&received.bodies);
            }
        };
        futures_lite::future::or(telling, gone).await;
    }

    /// The host and port that others are to use: what is advertised, or where they have connected.
    pub(super) fn advertised(&self, ends: &Ends) -> (String, u16) {
        match (&self.options.standing.advertised, ends) {
            (Some((host, port)), _) => (host.clone(), *port),
            (None, Ends::Memory) => ("127.0.0.1".to_owned(), 0),
            (None, Ends::Tcp { local, .. }) => {
                (local.ip().to_canonical().to_string(), local.port())
            }
        }
    }
}

/// What shows the way.
fn redirect(leader: &Leader) -> Head<'_> {
    Head::Link(Link::Redirect {
        fence: leader.fence,
        leader: leader.id.into(),
        address: &leader.address,
    })
}

fn see(location: &str) -> Reply {
    let mut reply = status(StatusCode::TEMPORARY_REDIRECT);
    if let Ok(location) = HeaderValue::from_str(location) {
        reply.headers_mut().insert(LOCATION, location);
    }
    reply
}
