//! What a task writes, followed over restarts of its agent and of masters.

use std::io;

use mesita_core::time::Time;
use mesita_core::wire::svc::{CloseReason, LogsOf, Output, Stream};
use mesita_core::wire::{AgentId, FrameworkId};

use super::{Failure, find};
use crate::flags::Where;
use crate::{alarm, clock};

/// Between two attempts to go on, in µs.
const AGAIN_US: u64 = 500_000;
/// How long whoever was lost may be unknown, in µs: agents come back to a new leader by then.
const UNKNOWN_US: u64 = 60_000_000;
/// Bytes before those of a piece.
const HEAD: usize = 12;

/// What is followed.
pub(super) struct Followed<'f> {
    pub(super) at: &'f Where,
    /// Whose; none = the newest of that name.
    pub(super) framework: FrameworkId,
    pub(super) task: &'f str,
    pub(super) which: Output,
    /// From this byte on; negative counts from the end, and beyond it is the end.
    pub(super) offset: i64,
    /// How long it may have no output at first, in µs: a task that was launched just now has none.
    pub(super) patience_us: u64,
}

/// Why a stream ended before the output did.
enum Lost {
    /// It will be there again.
    Gone(String),
    /// It may be.
    Unknown(Failure),
    /// It will not.
    Over(Failure),
}

/// Prints what a task writes until it ends. What was lost is looked for again, and nothing of it is
/// printed twice.
pub(super) async fn follow(
    mut of: Followed<'_>,
    print: fn(&[u8]) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut since: Option<Time> = None;
    let mut begun = false;
    loop {
        let before = of.offset;
        let lost = match follow_once(&mut of, &mut begun, print).await {
            Ok(()) => return Ok(()),
            Err(lost) => lost,
        };
        if of.offset != before {
            since = None;
        }
        let now = clock::now();
        let told = since.is_some() || !begun;
        let first = *since.get_or_insert(now);
        let patience_us = if begun { UNKNOWN_US } else { of.patience_us };
        let why = match lost {
            Lost::Gone(why) if begun => why,
            Lost::Unknown(failure) if now < first.after(patience_us) => failure.message,
            Lost::Gone(why) => return Err(Failure::plain(why)),
            Lost::Unknown(failure) | Lost::Over(failure) => return Err(failure),
        };
        if !told {
            eprintln!("mesita: {why}; waiting for `{}`", of.task);
        }
        alarm::after(AGAIN_US).await;
    }
}

async fn follow_once(
    of: &mut Followed<'_>,
    begun: &mut bool,
    print: fn(&[u8]) -> io::Result<()>,
) -> Result<(), Lost> {
    let asker = find::ask(of.at).await.map_err(Lost::Unknown)?;
    let stream = Stream::Follow {
        agent: AgentId::NONE,
        of: LogsOf::Task { framework: of.framework, task: of.task },
        which: of.which,
        offset: of.offset,
    };
    let handle = asker.open(stream);
    let handle =
        handle.ok_or_else(|| Lost::Over(Failure::plain("the master serves no more streams")))?;
    let reading = async {
        let mut pending = Vec::new();
        loop {
            match handle.read().await {
                Ok(chunk) => pending.extend_from_slice(&chunk),
                Err(closed) => return ended(closed.reason, closed.message),
            }
            while let Some((at, bytes)) = taken(&mut pending) {
                *begun = true;
                of.offset = i64::try_from(at + bytes.len() as u64).unwrap_or(i64::MAX);
                match blocking::unblock(move || print(&bytes)).await {
                    // The reader has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    printed => printed.map_err(|error| Lost::Over(Failure::plain(error)))?,
                }
            }
        }
    };
    let during = asker.during(reading).await;
    during.unwrap_or_else(|ending| Err(Lost::Unknown(Failure::plain(ending))))
}

fn ended(reason: CloseReason, message: String) -> Result<(), Lost> {
    match reason {
        CloseReason::Done => Ok(()),
        CloseReason::Gone => Err(Lost::Gone(message)),
        CloseReason::NotFound => Err(Lost::Unknown(Failure::plain(message))),
        CloseReason::Denied
        | CloseReason::Unsupported
        | CloseReason::Overloaded
        | CloseReason::Failed
        | CloseReason::Conflict => Err(Lost::Over(Failure::plain(message))),
    }
}

/// The next piece that came whole, and where it is: see [`Stream::Follow`].
fn taken(pending: &mut Vec<u8>) -> Option<(u64, Vec<u8>)> {
    let (at, rest) = pending.split_first_chunk()?;
    let (at, (len, _)) = (u64::from_le_bytes(*at), rest.split_first_chunk()?);
    let end = HEAD + u32::from_le_bytes(*len) as usize;
    if pending.len() < end {
        return None;
    }
    let rest = pending.split_off(end);
    let bytes = std::mem::replace(pending, rest).split_off(HEAD);
    Some((at, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_put_together_however_they_come() {
        let whole =
            [&7u64.to_le_bytes()[..], &2u32.to_le_bytes(), b"ab", &9u64.to_le_bytes(), &[0; 4]];
        let whole = whole.concat();
        for cut in 0..whole.len() {
            let mut pending = whole[..cut].to_vec();
            let mut all: Vec<_> = std::iter::from_fn(|| taken(&mut pending)).collect();
            pending.extend_from_slice(&whole[cut..]);
            all.extend(std::iter::from_fn(|| taken(&mut pending)));
            assert_eq!(all, [(7, b"ab".to_vec()), (9, vec![])], "{cut}");
            assert!(pending.is_empty());
        }
    }
}
