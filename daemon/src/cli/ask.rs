//! What subcommands ask of the leader, over a connection that only asks.

use std::process::ExitCode;

use mesita_core::Refusal;
use mesita_core::wire::Head;
use mesita_core::wire::operator::{OperatorCall, OperatorVerb};
use mesita_core::wire::svc::{CloseReason, Stream, Svc};
use serde_json::Value;

use super::{Failure, find, print};
use crate::client::asker::Asker;
use crate::conn::streams::Closed;
use crate::flags::Where;
use crate::{alarm, clock, random};

/// The rows of a stream of JSON lines.
pub(super) async fn rows(at: &Where, kind: Stream<'_>) -> Result<Vec<Value>, Failure> {
    let text = all(at, kind).await?;
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let rows: Result<Vec<Value>, _> = lines.map(serde_json::from_slice).collect();
    rows.map_err(Failure::plain)
}

/// Everything of a stream that comes to an end.
pub(super) async fn all(at: &Where, kind: Stream<'_>) -> Result<Vec<u8>, Failure> {
    read(at, kind).await?.map_err(|closed| Failure::plain(closed.message))
}

/// The same; none when there is no such thing.
pub(super) async fn found(at: &Where, kind: Stream<'_>) -> Result<Option<Vec<u8>>, Failure> {
    match read(at, kind).await? {
        Ok(text) => Ok(Some(text)),
        Err(closed) if closed.reason == CloseReason::NotFound => Ok(None),
        Err(closed) => Err(Failure::plain(closed.message)),
    }
}

/// Everything of a stream, or how it ended before.
async fn read(at: &Where, kind: Stream<'_>) -> Result<Result<Vec<u8>, Closed>, Failure> {
    let asker = find::ask(at).await?;
    understands(&asker, &Head::Svc(Svc::Open { stream: 0, kind, window: 0 }))?;
    let Some(handle) = asker.open(kind) else {
        return Err(Failure::plain("the master serves no more streams"));
    };
    let reading = async {
        let mut text = Vec::new();
        loop {
            match handle.read().await {
                Ok(chunk) => text.extend_from_slice(&chunk),
                Err(closed) if closed.reason == CloseReason::Done => return Ok(text),
                Err(closed) => return Err(closed),
            }
        }
    };
    asker.during(reading).await.map_err(Failure::plain)
}

/// Prints the rows of a stream, as lines of JSON or as a table.
pub(super) fn list(
    at: &Where,
    json: bool,
    kind: Stream<'_>,
    table: impl FnOnce(&[Value]) -> String,
) -> Result<ExitCode, Failure> {
    let rows = alarm::block_on(rows(at, kind))?;
    let lines = || rows.iter().map(|row| format!("{row}\n")).collect();
    print(if json { lines() } else { table(&rows) });
    Ok(ExitCode::SUCCESS)
}

/// Asks for something that only operators may. It has a name, so that it is done once however often
/// it is asked for: again and again while nobody knows whether it was done, because the leader ended
/// meanwhile.
pub(super) async fn operate(at: &Where, verb: OperatorVerb<'_>) -> Result<(), Failure> {
    // Our own types have no way to fail.
    let verb = postcard::to_allocvec(&verb).unwrap_or_default();
    let once = OperatorVerb::Once { id: random::bytes(), verb: &verb };
    let call = OperatorCall { ticket: 1, verb: once };
    let until = clock::now().after(AGAIN_US);
    let mut asked = false;
    loop {
        let failure = match attempt(at, call, &mut asked).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err((Refusal::OutcomeUnknown, message))) => Failure::plain(message),
            Ok(Err((_, message))) => return Err(Failure::plain(message)),
            Err(failure) => failure,
        };
        if !asked || clock::now() > until {
            return Err(failure);
        }
        log::info!("{}; asking again", failure.message);
        alarm::after(PAUSE_US).await;
    }
}

/// How long something is asked for again, in µs.
const AGAIN_US: u64 = 30_000_000;
/// And how often, in µs.
const PAUSE_US: u64 = 200_000;

/// Asks once. `asked`: somebody may have heard it.
async fn attempt(
    at: &Where,
    call: OperatorCall<'_>,
    asked: &mut bool,
) -> Result<Result<(), (Refusal, String)>, Failure> {
    let asker = find::ask(at).await?;
    understands(&asker, &Head::OperatorCall(call))?;
    *asked = true;
    asker.during(asker.call(call)).await.map_err(Failure::plain)
}

/// An older master would not know what it is asked.
fn understands(asker: &Asker, head: &Head<'_>) -> Result<(), Failure> {
    if asker.version() >= head.since() {
        return Ok(());
    }
    Err(Failure::plain("the master is of an older release, which does not know this"))
}
