//! What a master answers that does not lead: where the leader is, or that none is known. Agents that
//! do not reach the leader are joined to it.

use std::cell::RefCell;

use event_listener::Event;
use futures_lite::AsyncWriteExt;
use hyper::StatusCode;
use hyper::header::{HeaderValue, LOCATION, RETRY_AFTER};
use mesita_core::table::Id;
use mesita_core::wire::hello::Role;
use mesita_core::wire::link::{Link, Parting};
use mesita_core::wire::{Head, decode};

use super::MasterNode;
use super::guests::Whose;
use super::site::without_process;
use crate::access::Shown;
use crate::alarm;
use crate::conn::frames::Frames;
use crate::conn::hello::{self, Peer};
use crate::conn::listen::say;
use crate::conn::{Ends, Pipe, Writing, splice};
use crate::http::{Early, Reply, Visit, early, status};
use crate::set::standing::Leader;

/// How long somebody waits here for a leader to be known, in µs.
const WAIT_US: u64 = 5_000_000;

/// One in so many connections may be of agents that a standby joins to the leader.
const JOINED_PART: u32 = 2;

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
            "/redirect" => Some(see(&format!("//{}", leader.shown()))),
            _ => Some(see(&format!("//{}{path}", leader.shown()))),
        }
    }

    /// Speaks with whoever has said hello to a master that does not lead: shows the way, now or
    /// when there is one. Agents are told each time that it changes.
    pub(super) async fn show_the_way(
        &self,
        frames: Frames,
        mut writing: Writing,
        arrived: &Arrived<'_>,
    ) {
        let standing = &self.options.standing;
        if arrived.peer.role == Role::Agent {
            // Who they are matters to nobody before they ask for more: they stay, as many as there is
            // room for.
            let place = self.guests.place();
            let told = self.keep_told(frames, writing, arrived);
            return futures_lite::future::or(told, place.is_lost()).await;
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

    async fn keep_told(&self, mut frames: Frames, mut writing: Writing, arrived: &Arrived<'_>) {
        let own = self.own.borrow().clone();
        let Ok(nonce) = hello::welcome(&mut writing, &own).await else { return };
        let asked = Asked::default();
        let proof = RefCell::new(None);
        // Whatever else an agent says to a standby is for nobody; that it goes is.
        let listening = async {
            while let Ok(received) = frames.next(&self.port.bodies).await {
                self.port.drop_bodies(&received.bodies);
                match decode(received.head) {
                    Ok(Head::Link(Link::Prove { principal, proof: shown })) => {
                        proof.replace(Some((principal.to_owned(), shown)));
                    }
                    Ok(Head::Link(Link::Splice { address })) => {
                        // What follows is not for this master.
                        asked.ask(address);
                        std::future::pending::<()>().await;
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            None
        };
        let Arrived { ends, proved, peer } = *arrived;
        let telling = self.tell_who_leads(&mut writing, peer, &asked);
        if let Some(leader) = futures_lite::future::or(telling, listening).await {
            let proof = proof.into_inner();
            let shown = proof.as_ref().map(|(principal, proof)| Shown {
                principal,
                proof: *proof,
                nonces: [peer.nonce, nonce],
                role: peer.role,
            });
            let from = self.guest(ends, proved, peer, shown.as_ref()).await;
            if from.is_none() {
                say(log::Level::Info, ends, NO_GUEST);
            }
            self.join_to(&leader, from, frames, writing).await;
        }
    }

    /// Tells an agent who leads and where the masters are, until it asks for more than that, or goes.
    async fn tell_who_leads(
        &self,
        writing: &mut Writing,
        peer: &Peer,
        asked: &Asked,
    ) -> Option<String> {
        let standing = &self.options.standing;
        let (mut last, mut masters) = (None, String::new());
        loop {
            let elsewhere = async { Told::Masters(standing.moved(&masters).await) };
            let leads = async { Told::Leader(standing.another(last.as_ref()).await) };
            let asks = async { Told::Asked(asked.is().await) };
            // No frame is left half written when it asks.
            let news = futures_lite::future::or(leads, elsewhere);
            match futures_lite::future::or(asks, news).await {
                Told::Asked(leader) => return Some(leader),
                Told::Leader(leader) => {
                    hello::say(writing, &redirect(&leader)).await.ok()?;
                    last = Some(leader);
                }
                Told::Masters(moved) => {
                    let head = Head::Link(Link::Masters { addresses: &moved });
                    if peer.version >= head.since() {
                        hello::say(writing, &head).await.ok()?;
                    }
                    masters = moved;
                }
            }
        }
    }

    /// Passes an agent's bytes on to the leader, and the leader's to it: it does not reach that itself.
    async fn join_to(
        &self,
        address: &str,
        from: Option<Whose>,
        frames: Frames,
        mut writing: Writing,
    ) {
        let (reason, message) = match self.way_to(address, from).await {
            Ok((far, _seat)) => {
                let splice = Head::Link(Link::Splice { address });
                if hello::say(&mut writing, &splice).await.is_ok() {
                    log::info!("an agent is joined to the leader at {address}");
                    splice::pass((frames.into_rest(), writing), far).await;
                    log::info!("an agent is joined to the leader at {address} no more");
                }
                return;
            }
            Err(why) => why,
        };
        if hello::say(&mut writing, &Head::Link(Link::Bye { reason, message: &message }))
            .await
            .is_ok()
        {
            let _ = writing.close().await;
        }
    }

    /// A connection to the leader for somebody else, and the seat that it takes here.
    async fn way_to(
        &self,
        address: &str,
        from: Option<Whose>,
    ) -> Result<(Pipe, Seat<'_>), (Parting, String)> {
        let from = from.ok_or((Parting::Denied, NO_GUEST.to_owned()))?;
        let known = self.another_leads().filter(|leader| leader.address == address);
        let Some(leader) = known else {
            let message = format!("{address} is not known to lead");
            return Err((Parting::NoLeader, message));
        };
        let full =
            || (Parting::Overloaded, "too many connections: see --size on the master".into());
        let max = self.options.conns_max.div_ceil(JOINED_PART);
        if !self.joined_here.begin(&from, max) {
            return Err(full());
        }
        let Some(id) = self.conns.begin() else {
            self.joined_here.end(&from);
            return Err(full());
        };
        let seat = Seat { node: self, id, from };
        let far = splice::onward(&leader.address).await;
        let far =
            far.map_err(|error| (Parting::NoLeader, format!("no way to {address}: {error}")))?;
        Ok((far, seat))
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

/// Who has said hello, and what is known of it.
pub(super) struct Arrived<'a> {
    pub(super) ends: &'a Ends,
    /// The key that it has proved to have.
    pub(super) proved: Option<&'a [u8; 32]>,
    pub(super) peer: &'a Peer,
}

/// Said to who would be joined to the leader, and is nobody that may be an agent.
const NO_GUEST: &str = "only nodes that have joined, and those who show a credential or a token, are joined \
                        to the leader";

/// What an agent is told next, or wants.
enum Told {
    Leader(Leader),
    Masters(String),
    Asked(String),
}

/// The leader that an agent wants to be joined to.
#[derive(Default)]
struct Asked {
    leader: RefCell<Option<String>>,
    changed: Event,
}

impl Asked {
    fn ask(&self, leader: &str) {
        *self.leader.borrow_mut() = Some(leader.to_owned());
        self.changed.notify(usize::MAX);
    }

    async fn is(&self) -> String {
        loop {
            let listener = self.changed.listen();
            if let Some(leader) = self.leader.borrow_mut().take() {
                return leader;
            }
            listener.await;
        }
    }
}

/// One of the connections that this master may have, as long as it lasts.
struct Seat<'m> {
    node: &'m MasterNode,
    id: Id,
    from: Whose,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.node.conns.end(self.id);
        self.node.joined_here.end(&self.from);
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
