//! The IO thread: one executor for every connection, and between its tasks the outputs of the core.

use std::future::Future;
use std::rc::Rc;
use std::task::Poll;

use smol::LocalExecutor;

use crate::alarm;
use crate::bell::Bell;
use crate::disk_thread::ToDisk;
use crate::passage::{FromCore, IN_STOP, OfCore, ToCore};
use crate::port::Port;
use mesita_core::time::Time;
use mesita_core::wire::BodyRef;

/// Outputs that are handled before tasks get their turn.
const BATCH: u32 = 512;

/// The IO side of a seat: what becomes of its outputs.
pub(crate) trait Node {
    /// The way to its seat.
    fn port(&self) -> &Port;
    /// Takes one output with the bodies it names.
    fn output(&self, output: &[u8], bodies: &[BodyRef]);
    /// Until when this process leads its set, if its seat is the election's.
    fn lease(&self, _until: Time) {}
}

/// Runs tasks of this thread. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tasks(Rc<LocalExecutor<'static>>);

impl Tasks {
    pub(crate) fn new() -> Self {
        Self(Rc::new(LocalExecutor::new()))
    }

    /// Runs a task for as long as it takes, or until the returned handle is dropped.
    pub(crate) fn spawn<T: 'static>(
        &self,
        future: impl Future<Output = T> + 'static,
    ) -> smol::Task<T> {
        self.0.spawn(future)
    }

    /// Runs a task to its end, whoever forgets about it.
    pub(crate) fn go(&self, future: impl Future<Output = ()> + 'static) {
        self.0.spawn(future).detach();
    }
}

/// What the IO thread has of the other two.
pub(crate) struct Io {
    pub(crate) tasks: Tasks,
    /// The ways to the core thread; the first one takes its end.
    pub(crate) to_core: Vec<Rc<ToCore>>,
    pub(crate) of_core: OfCore,
    pub(crate) to_disk: Rc<ToDisk>,
    pub(crate) bell: &'static Bell,
}

impl Io {
    /// Runs `main` and everything that was spawned; when `main` is done, ends the core thread,
    /// handles its last outputs, and returns what came of `main`.
    pub(crate) fn run<T>(&self, nodes: &[Rc<dyn Node>], main: impl Future<Output = T>) -> T {
        alarm::block_on(async {
            let all = async {
                let pump = async {
                    self.pump(nodes).await;
                    // The core thread never ends before it is told to.
                    std::future::pending().await
                };
                let result = futures_lite::future::or(main, pump).await;
                self.to_core.iter().take(1).for_each(|first| first.push(0, IN_STOP, &[]));
                self.pump(nodes).await;
                result
            };
            self.tasks.0.run(all).await
        })
    }

    /// Handles the core's outputs as they come, until it ended.
    async fn pump(&self, nodes: &[Rc<dyn Node>]) {
        std::future::poll_fn(|cx| {
            self.bell.answered_by(cx.waker().clone());
            self.bell.wake();
            loop {
                self.to_core.iter().for_each(|to| to.flush());
                match self.drain(nodes) {
                    Drained::Stopped => return Poll::Ready(()),
                    Drained::Batch => {
                        // Tasks first, then the rest.
                        self.ring();
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Drained::Some => self.ring(),
                    Drained::Nothing => {}
                }
                if self.bell.doze(|| self.has_work()) {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    fn has_work(&self) -> bool {
        let waits = self.to_core.iter().any(|to| to.can_flush());
        (!self.of_core.is_empty() && self.to_disk.has_room()) || waits
    }

    /// The core thread may have room to go on.
    fn ring(&self) {
        self.to_core.iter().take(1).for_each(|first| first.ring());
    }

    fn drain(&self, nodes: &[Rc<dyn Node>]) -> Drained {
        let mut consumer = self.of_core.consumer.borrow_mut();
        let mut buffer = self.of_core.buffer.borrow_mut();
        for handled in 0..BATCH {
            // An output may be a write, and what waits for the disk is bounded.
            let record = if self.to_disk.has_room() { consumer.pop(&mut buffer) } else { None };
            let Some(record) = record else {
                return if handled > 0 { Drained::Some } else { Drained::Nothing };
            };
            let Some((seat, record)) = FromCore::parse(record) else {
                mesita_core::stop(line!(), "a record of the core that cannot be read");
            };
            if record == FromCore::Stopped {
                return Drained::Stopped;
            }
            let Some(node) = nodes.get(usize::from(seat)) else { continue };
            match record {
                FromCore::Output(bodies, output) => node.output(output, &bodies),
                FromCore::Done(result) => node.port().done(result),
                FromCore::Gauges(gauges) => node.port().told_gauges(gauges),
                FromCore::Answer(answer) => node.port().answered(answer),
                FromCore::Lease(until) => node.lease(until),
                FromCore::Stopped => {}
            }
        }
        Drained::Batch
    }
}

enum Drained {
    Nothing,
    Some,
    Batch,
    Stopped,
}
