//! The IO side of one seat: inputs on their way in, with the bodies they hold meanwhile.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use mesita_core::Refusal;
use mesita_core::wire::{BodyRef, Scratch, Seq};
use serde::Serialize;

use crate::bodies::Bodies;
use crate::passage::{BODY_REF, IN_ASK, IN_GAUGES, IN_INPUT, IN_TOLD, ToCore};

/// Called when an input was applied, or refused.
type Then = Box<dyn FnOnce(Result<(), Refusal>)>;

/// A seat as the IO thread sees it.
pub(crate) struct Port {
    seat: u8,
    to_core: Rc<ToCore>,
    /// The bodies that its heads name.
    pub(crate) bodies: RefCell<Bodies>,
    told: RefCell<VecDeque<Told>>,
    asked: RefCell<VecDeque<async_channel::Sender<Vec<u8>>>>,
    questions: RefCell<VecDeque<async_channel::Sender<Vec<u8>>>>,
}

/// An input whose end will be told: what it holds until then, and what happens then.
struct Told {
    bodies: Vec<BodyRef>,
    then: Option<Then>,
}

impl Port {
    pub(crate) fn new(seat: u8, to_core: Rc<ToCore>, bodies: Bodies) -> Self {
        Self {
            seat,
            to_core,
            bodies: RefCell::new(bodies),
            told: RefCell::default(),
            asked: RefCell::default(),
            questions: RefCell::default(),
        }
    }

    /// Which seat.
    pub(crate) fn seat(&self) -> u8 {
        self.seat
    }

    /// Passes an input on.
    pub(crate) fn put<T: Serialize>(&self, input: &T) {
        self.push(IN_INPUT, input);
    }

    /// Passes an input on that holds these bodies until it was applied.
    pub(crate) fn put_with<T: Serialize>(&self, input: &T, bodies: Vec<BodyRef>) {
        if bodies.is_empty() {
            return self.put(input);
        }
        self.told.borrow_mut().push_back(Told { bodies, then: None });
        self.push(IN_TOLD, input);
    }

    /// Passes an input on, and calls `then` with what became of it.
    pub(crate) fn put_then<T: Serialize>(
        &self,
        input: &T,
        bodies: Vec<BodyRef>,
        then: impl FnOnce(Result<(), Refusal>) + 'static,
    ) {
        self.told.borrow_mut().push_back(Told { bodies, then: Some(Box::new(then)) });
        self.push(IN_TOLD, input);
    }

    fn push<T: Serialize>(&self, kind: u8, input: &T) {
        // Our own types have no way to fail.
        let bytes = postcard::to_allocvec(input).unwrap_or_default();
        self.to_core.push(self.seat, kind, &bytes);
    }

    /// Waits until an input can be passed on without waiting beside the ring.
    pub(crate) async fn room(&self) {
        self.to_core.room().await;
    }

    /// The oldest input that was to be told of is done.
    pub(crate) fn done(&self, result: Result<(), Refusal>) {
        let Some(told) = self.told.borrow_mut().pop_front() else { return };
        self.drop_bodies(&told.bodies);
        if let Some(then) = told.then {
            then(result);
        }
    }

    /// Stores bodies with one holder each; none when there is no room for all of them.
    pub(crate) fn store(&self, bodies: &[Vec<u8>]) -> Option<Vec<BodyRef>> {
        let mut store = self.bodies.borrow_mut();
        let bytes = bodies.iter().map(|body| body.len() as u64).sum();
        let mut reserved = store.reserve(bytes)?;
        let stored = bodies.iter().map(|body| {
            let hash = mesita_core::digest::of_body(body);
            store.store(&mut reserved, body.as_slice().into(), hash)
        });
        Some(stored.collect())
    }

    /// Bodies lose a holder.
    pub(crate) fn drop_bodies(&self, bodies: &[BodyRef]) {
        let mut store = self.bodies.borrow_mut();
        bodies.iter().for_each(|&body| store.drop(body));
    }

    /// Asks the core thread what is in use; the answer is read by
    /// [`gauges`](crate::passage::gauges).
    pub(crate) async fn gauges(&self) -> Vec<u8> {
        let (sender, receiver) = async_channel::bounded(1);
        self.asked.borrow_mut().push_back(sender);
        self.to_core.push(self.seat, IN_GAUGES, &[]);
        receiver.recv().await.unwrap_or_default()
    }

    /// The answer to the oldest such question.
    pub(crate) fn told_gauges(&self, gauges: &[u8]) {
        if let Some(asker) = self.asked.borrow_mut().pop_front() {
            // Who asked may be gone.
            let _ = asker.try_send(gauges.to_vec());
        }
    }

    /// Asks the core thread a question about its decisions; what comes back is a part of the answer,
    /// as [`Gauged::ask`](crate::seats::Gauged::ask) writes it.
    pub(crate) async fn ask<T: Serialize>(&self, question: &T) -> Vec<u8> {
        let (sender, receiver) = async_channel::bounded(1);
        self.questions.borrow_mut().push_back(sender);
        self.push(IN_ASK, question);
        receiver.recv().await.unwrap_or_default()
    }

    /// The answer to the oldest such question.
    pub(crate) fn answered(&self, answer: &[u8]) {
        if let Some(asker) = self.questions.borrow_mut().pop_front() {
            // Who asked may be gone.
            let _ = asker.try_send(answer.to_vec());
        }
    }

    /// Inputs of which will be told that they were applied, or refused, and was not yet.
    pub(crate) fn waiting(&self) -> u64 {
        self.told.borrow().len() as u64
    }

    /// Bytes of inputs that wait beside the ring.
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.to_core.backlog_bytes()
    }
}

/// References as the list that an input takes.
pub(crate) fn with_refs<R>(refs: &[BodyRef], take: impl FnOnce(Seq<'_, BodyRef>) -> R) -> R {
    // At most its fixed size, and a byte more for each of its three numbers.
    let mut memory = vec![0; refs.len() * (BODY_REF + 3)];
    match Scratch::new(&mut memory).seq::<BodyRef>(refs.iter().copied()) {
        Ok(list) => take(list),
        Err(_) => mesita_core::stop(line!(), "references that do not fit their memory"),
    }
}
