//! What peers say to a master, on its way to the core.

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use mesita_core::Refusal;
use mesita_core::master::Input;
use mesita_core::table::Id as ConnId;
use mesita_core::wire::agent::AgentCall;
use mesita_core::wire::call::{Call, Subscribe, Verb};
use mesita_core::wire::event::Event;
use mesita_core::wire::hello::Role;
use mesita_core::wire::link::{Link, Parting};
use mesita_core::wire::operator::{OperatorCall, OperatorEvent};
use mesita_core::wire::svc::Stream;
use mesita_core::wire::task::{Reason, Source, Status};
use mesita_core::wire::{BodyRef, Head, Session};

use super::MasterNode;
use super::counted::Awaited;
use super::schedulers::unlike;
use super::verdicts::Verdicts;
use crate::access::Shown;
use crate::bodies::Bodies;
use crate::clock;
use crate::conn::Conn;
use crate::conn::talk::Talk;
use crate::port::with_refs;

impl Talk for MasterNode {
    fn bodies(&self) -> &RefCell<Bodies> {
        &self.port.bodies
    }

    fn room(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(self.port.room())
    }

    fn link(&self, conn: &Rc<Conn>, link: Link<'_>) {
        if let Link::Prove { principal, proof } = link {
            let nonces = [conn.peer.nonce, conn.nonce.get()];
            let shown = Shown { principal, proof, nonces, role: conn.peer.role };
            // Nobody asked: one that is wrong is none.
            *conn.proven.borrow_mut() = self.options.access.prover(&shown);
        }
        if let Link::Splice { .. } = link {
            conn.part(Parting::NoLeader, "this master leads: there is nobody to be joined to");
        }
        let Link::Ping { stamp, session } = link else { return };
        // A ping of a session that the master has ended, or not opened, gets no answer.
        let ours = session == conn.session.get() || session == Session::default();
        if ours {
            conn.heard.set(clock::now());
            conn.say(&Head::Link(Link::Pong { stamp, session }));
        }
    }

    fn open(&self, conn: &Rc<Conn>, stream: u32, kind: Stream<'_>, window: u32) {
        self.open_stream(conn, stream, kind, window);
    }

    fn head(
        &self,
        conn: &Rc<Conn>,
        head: &Head<'_>,
        bytes: &[u8],
        bodies: Vec<BodyRef>,
    ) -> Result<(), &'static str> {
        let fits = match conn.peer.role {
            Role::Agent => matches!(head, Head::AgentCall(_)),
            Role::Framework => matches!(head, Head::Call(_)),
            Role::Client => matches!(head, Head::OperatorCall(_)),
            Role::Master | Role::Executor => false,
        };
        if !fits {
            self.port.drop_bodies(&bodies);
            return Err("a message that has no place on this connection");
        }
        if let Head::AgentCall(AgentCall::Register(register)) = head
            && register.key != conn.peer.key
        {
            self.port.drop_bodies(&bodies);
            return Err("an agent registers under the key that it said hello with");
        }
        if conn.peer.role == Role::Client && !self.introduce_operator(conn) {
            self.port.drop_bodies(&bodies);
            return Err("no room for another caller: see --size on the master");
        }
        if let Head::OperatorCall(call) = head
            && (self.does_once(conn, call)
                || self.denies(conn, call)
                || self.changes_masters(conn, call)
                || self.refuses(conn, call))
        {
            self.port.drop_bodies(&bodies);
            return Ok(());
        }
        self.counted.said(head);
        if matches!(head, Head::Call(_)) {
            let rates = self.options.access.rates();
            conn.not_before.set(rates.next(conn.caller.principal(), clock::now()));
        }
        if let Head::Call(call) = head {
            self.tallies.said(call);
        }
        if let Head::AgentCall(call) = head {
            self.operation_once(conn, call);
        }
        let claimed = self.claimed(conn, head);
        let bytes = match claimed {
            Ok(None) => Cow::Borrowed(bytes),
            Ok(Some(filled)) => Cow::Owned(filled),
            Err(message) => {
                self.port.drop_bodies(&bodies);
                if let Some((what, of)) = self.begins_or_ends(head) {
                    self.audit.note(&conn.caller, what, &of, Some(&message));
                }
                conn.say(&Head::Event(Event::Error { message: &message }));
                return Ok(());
            }
        };
        let verdicts = if let Head::Call(call) = head
            && let Some(accept) = call.verb.accepted()
        {
            let store = self.port.bodies.borrow();
            let may_run = self.may_run(call.framework);
            let may_operate = self.may_operate(call.framework);
            let on = Verdicts::on(
                accept,
                Vec::new(),
                self.options.agent_timeout_us,
                |body| store.bytes(body.of(&bodies)),
                may_run,
                may_operate,
            );
            self.note_denied(&conn.caller.name, &on);
            on
        } else {
            Verdicts::none()
        };
        self.pass(conn, head, &bytes, bodies, &verdicts);
        Ok(())
    }
}

impl MasterNode {
    /// True when an operator was told that its call is not allowed.
    fn denies(&self, conn: &Conn, call: &OperatorCall<'_>) -> bool {
        let Err(message) = self.allowed(&conn.caller, &call.verb) else { return false };
        let (ticket, result) = (call.ticket, Err(Refusal::Denied));
        let message = &message;
        conn.say(&Head::OperatorEvent(OperatorEvent::Reply { ticket, result, message }));
        true
    }

    /// What is told of a framework that begins or ends, and of which.
    fn begins_or_ends(&self, head: &Head<'_>) -> Option<(&'static str, String)> {
        let Head::Call(call) = head else { return None };
        if let Verb::Subscribe(of) = &call.verb {
            return Some(("subscribe", of.name.to_owned()));
        }
        let id = || call.framework.shown(self.cluster()).to_string();
        matches!(call.verb, Verb::Teardown).then(|| ("teardown", id()))
    }

    /// A framework does with resources what it may not. It may do so as often as it is offered something.
    pub(super) fn note_denied(&self, who: &str, verdicts: &Verdicts) {
        if let Some(why) = verdicts.denied() {
            self.audit.note_seldom(who, "accept", "", Some(why));
        }
    }

    /// A framework launches what it may not: so it is told, whoever has found that out.
    pub(super) fn note_launch(&self, conn: ConnId, status: &Status<'_>) {
        let detail = status.detail();
        let reasons = [Reason::TaskUnauthorized, Reason::TaskGroupUnauthorized];
        let denied = detail.reason.is_some_and(|reason| reasons.contains(&reason));
        if !denied || status.source != Source::Master {
            return;
        }
        let native = || self.conns.get(conn).map(|conn| conn.caller.name.clone());
        let who = self.schedulers.caller_of(conn).or_else(native);
        let who = who.as_deref().unwrap_or("nobody");
        self.audit.note_seldom(who, "launch", status.task, Some(detail.message));
    }

    /// Tells the core of a client when it first operates the cluster: most only read.
    fn introduce_operator(&self, conn: &Rc<Conn>) -> bool {
        if self.operators.borrow().contains(&conn.id) {
            return true;
        }
        let Some(caller) = self.number_of(&conn.caller) else { return false };
        let (role, version) = (conn.peer.role, conn.peer.version);
        let head_max = conn.peer.head_max;
        self.operators.borrow_mut().insert(conn.id);
        self.port.put(&Input::Opened { conn: conn.id, role, version, caller, head_max });
        true
    }

    /// A framework has the principal that it has proved: its call with that filled in, if it names
    /// none; else why it may not name another, or may not use its roles.
    fn claimed(&self, conn: &Conn, head: &Head<'_>) -> Result<Option<Vec<u8>>, String> {
        let Head::Call(call) = head else { return Ok(None) };
        let (Verb::Subscribe(of) | Verb::UpdateFramework(of)) = call.verb else { return Ok(None) };
        let principal = conn.caller.principal().unwrap_or(of.principal);
        if of.principal != principal && !of.principal.is_empty() {
            return Err(unlike(principal, of.principal));
        }
        self.may_use_roles(principal, of.roles.iter())?;
        if of.principal == principal {
            return Ok(None);
        }
        let of = Subscribe { principal, ..of };
        let first = matches!(call.verb, Verb::Subscribe(_));
        let verb = if first { Verb::Subscribe(of) } else { Verb::UpdateFramework(of) };
        // Our own types have no way to fail.
        Ok(Some(postcard::to_allocvec(&Head::Call(Call { verb, ..*call })).unwrap_or_default()))
    }

    fn pass(
        &self,
        conn: &Rc<Conn>,
        said: &Head<'_>,
        head: &[u8],
        bodies: Vec<BodyRef>,
        verdicts: &Verdicts,
    ) {
        let (awaited, noted) = (Awaited::of(said), self.begins_or_ends(said));
        let caller = conn.caller.clone();
        let peer = conn.ends.peer();
        let me = self.me.clone();
        with_refs(&bodies, |refs| {
            let verdicts = verdicts.list();
            let input = Input::Frame { conn: conn.id, head, bodies: refs, verdicts };
            self.port.put_then(&input, bodies.clone(), move |result| {
                if let Some(me) = me.upgrade() {
                    awaited.into_iter().for_each(|one| me.counted.came_of(one, result.is_ok()));
                    let why = result.err().map(Refusal::sentence);
                    noted.iter().for_each(|(what, of)| me.audit.note(&caller, what, of, why));
                }
                if let Err(refusal) = result {
                    log::info!("{peer}: refused: {refusal}");
                }
            });
        });
    }
}
