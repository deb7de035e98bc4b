//! The way to a leader by way of a master that does not lead: its bytes are passed on.
//!
//! An agent that cannot reach the leader asks for this on a connection on which it was told who that
//! is. What follows there belongs to the two ends: hellos, proofs and TLS are the leader's and the
//! agent's, as if nobody was between them; whoever passes bytes on vouches for nothing.

use std::cell::RefCell;
use std::io;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use mesita_core::wire::hello::Role;
use mesita_core::wire::link::Link;
use mesita_core::wire::{Head, decode};

use super::dial::connect;
use super::hello::{self, Own};
use super::{Pipe, Reading, Writing};
use crate::bodies::Bodies;
use crate::tls::Transport;

/// Bytes that wait in each direction, beside what the kernel holds.
const ROOM: usize = 16 * 1024;

/// Connects to the leader by way of the master at `by`.
pub(crate) async fn around(
    by: &str,
    leader: &str,
    over: &Transport,
    own: &Own,
    store: &RefCell<Bodies>,
) -> io::Result<Pipe> {
    let other = |why: &dyn std::fmt::Display| io::Error::other(format!("{by}: {why}"));
    if matches!(over, Transport::Plain) {
        return Err(other(&"what is said in the clear stays within this machine"));
    }
    let Pipe { reading, mut writing, ends, .. } = connect(by, over).await?;
    let greeted = hello::dial(reading, &mut writing, own, store).await;
    let (mut frames, peer) = greeted.map_err(|refused| other(&refused))?;
    let ask = Head::Link(Link::Splice { address: leader });
    if peer.role != Role::Master || peer.version < ask.since() {
        return Err(other(&"passes nothing on"));
    }
    hello::say(&mut writing, &ask).await.map_err(|refused| other(&refused))?;
    loop {
        let received = frames.next(store).await.map_err(|broken| other(&broken))?;
        received.bodies.iter().for_each(|&body| store.borrow_mut().drop(body));
        match decode(received.head) {
            Ok(Head::Link(Link::Splice { .. })) => break,
            Ok(Head::Link(Link::Bye { message, .. })) => return Err(other(&message)),
            Err(malformed) => return Err(other(&malformed)),
            // Where the leader is, and the masters: it was asked while it said so.
            Ok(_) => {}
        }
    }
    let pipe = Pipe { reading: frames.into_rest(), writing, ends, proved: None };
    over.wrap(pipe, leader).await
}

/// Connects to the leader for somebody else, whose TLS with it goes through as it is.
///
/// Refused where that would be a connection within this machine: it would be taken for one of the
/// user that this process runs as.
pub(crate) async fn onward(leader: &str) -> io::Result<Pipe> {
    let pipe = connect(leader, &Transport::Anywhere).await?;
    if pipe.ends.are_here() {
        return Err(io::Error::other("it is on the machine of the master that was asked"));
    }
    Ok(pipe)
}

/// Passes bytes on in both directions until either end has none any more.
pub(crate) async fn pass(near: (Reading, Writing), far: Pipe) {
    let (near_reading, near_writing) = near;
    let forth = pour(near_reading, far.writing);
    let back = pour(far.reading, near_writing);
    futures_lite::future::or(forth, back).await;
}

/// Pours one into the other: nothing more is read while what was read is not taken.
async fn pour(mut from: Reading, mut to: Writing) {
    let mut buffer = vec![0; ROOM];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..len]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    // The last words were written: whoever reads them should have the time to.
    let _ = to.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm::block_on;

    #[test]
    fn bytes_go_both_ways_and_the_end_with_them() {
        let (agent, near) = Pipe::pair(8);
        let (far, leader) = Pipe::pair(8);
        let Pipe { reading: mut agent_reads, writing: mut agent_writes, .. } = agent;
        let Pipe { reading: mut leader_reads, writing: mut leader_writes, .. } = leader;
        let passing = pass((near.reading, near.writing), far);
        let speaking = async {
            // More than there is room for anywhere.
            let said = vec![7; 3 * ROOM];
            let asks = async { agent_writes.write_all(&said).await.unwrap() };
            let hears = async {
                let mut heard = vec![0; said.len()];
                leader_reads.read_exact(&mut heard).await.unwrap();
                heard
            };
            let ((), heard) = futures_lite::future::zip(asks, hears).await;
            assert_eq!(heard, said);
            leader_writes.write_all(b"bye").await.unwrap();
            leader_writes.close().await.unwrap();
            let mut last = Vec::new();
            agent_reads.read_to_end(&mut last).await.unwrap();
            assert_eq!(last, b"bye");
        };
        block_on(futures_lite::future::zip(passing, speaking));
    }

    #[test]
    fn a_leader_on_the_same_machine_is_not_reached_for_others() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let why = block_on(onward(&address)).err().unwrap().to_string();
        assert!(why.contains("on the machine of the master"), "{why}");
    }
}
