//! The way to a leader that this agent does not reach itself: by way of a master that it does reach.
//!
//! Where a cable or a route is gone nobody says so. The straight way is always tried, and what comes
//! about first is used; it lasts until the connection ends or another one leads, and then the straight
//! way is tried again.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use super::AgentNode;
use crate::alarm;
use crate::conn::dial::{Way, connect};
use crate::conn::{Pipe, splice};

/// How long a way may take before the next one is tried beside it, in µs: a first packet that was lost
/// is sent again after 1 s. The agent's session has ended by then after 0.75 A without an answer, and
/// its master waits for all of A: with the default of 10 s it is back before it is missed.
const NEXT_US: u64 = 1_500_000;
/// How long it may take until another master has joined this agent to the leader, in µs.
const AROUND_US: u64 = 10_000_000;

type Dialling<'w> = Pin<Box<dyn Future<Output = io::Result<Pipe>> + 'w>>;

impl AgentNode {
    /// Connects to a master: straight, and beside that, when it takes too long, by way of those who say
    /// that it leads. The error is that of the way that failed first.
    pub(super) async fn reach(
        &self,
        way: &Way,
        attempt: usize,
        leader: Option<&str>,
    ) -> io::Result<Pipe> {
        let Way::To(..) = way else { return way.dial(attempt, leader).await };
        let over = &self.transport.borrow().clone();
        let address = way.shown(attempt, leader);
        let (address, own) = (address.as_str(), self.own.borrow().clone());
        let around = |by: String| {
            let own = own.clone();
            async move {
                let around = splice::around(&by, address, over, &own, &self.port.bodies);
                let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "joins nobody to it"));
                let pipe = alarm::within(AROUND_US, around).await.unwrap_or_else(late);
                match &pipe {
                    Ok(_) => log::info!("the master at {address} is reached by way of {by}"),
                    Err(error) => log::debug!("no way to {address} by way of {by}: {error}"),
                }
                pipe
            }
        };
        let mut ways: Vec<Dialling<'_>> = vec![Box::pin(connect(address, over))];
        let (mut tried, mut why) = (Vec::new(), None);
        let mut next = alarm::after(NEXT_US);
        poll_fn(|cx| {
            loop {
                let mut at = 0;
                while let Some(way) = ways.get_mut(at) {
                    match way.as_mut().poll(cx) {
                        Poll::Ready(Ok(pipe)) => return Poll::Ready(Ok(pipe)),
                        Poll::Ready(Err(error)) => {
                            why.get_or_insert(error);
                            drop(ways.remove(at));
                        }
                        Poll::Pending => at += 1,
                    }
                }
                let by = self.news.around(address, &tried);
                if by.is_none() && ways.is_empty() {
                    let none = || io::Error::from(io::ErrorKind::AddrNotAvailable);
                    return Poll::Ready(Err(why.take().unwrap_or_else(none)));
                }
                ready!(Pin::new(&mut next).poll(cx));
                next = alarm::after(NEXT_US);
                if let Some(by) = by {
                    tried.push(by.clone());
                    ways.push(Box::pin(around(by)));
                }
            }
        })
        .await
    }
}
