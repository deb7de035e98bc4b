//! What comes from outside, whatever it is: it is read or refused, never stumbled over. Four of five
//! published holes of Mesos were a request that ended the master.
//!
//! Each function here takes bytes of a stranger, and panics if we do. `torn` tears samples for them at
//! random, a million times in `ci/any_input`; `fuzz/` looks for what is not like any sample, by what
//! code it reaches, in `ci/fuzz`.

mod samples;
#[cfg(test)]
mod torn;

use std::convert::Infallible;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use mesita_core::limits::{FRAME_MAX, HEAD_MAX};
use mesita_core::wire::frame::{Limits, PREFIX, Prefix};
use mesita_core::wire::{FrameworkId, Head, decode};
use prost::{Message, Name};
use smol_hyper::rt::FuturesIo;

use crate::agent::judge;
use crate::conn::{Ends, Pipe};
use crate::http::media::Media;
use crate::http::request;
use crate::http::transcode::{from_json, from_protobuf, to_json};
use crate::machines::recordio::{Pieces, framed};
use crate::pb::mesos::v1 as pb;
use crate::v1::{calls, executors};

/// Reads JSON; whatever was understood is understood again, from either form.
fn read<M: Message + Name + Default>(bytes: &[u8]) -> Option<M> {
    let read: M = from_json(bytes).ok()?;
    // JSON tells defaults, too, so that it is JSON that is compared.
    let told = to_json(&read);
    let again: M = from_json(&told).expect("our own JSON is understood");
    let [first, second] = [&told, &to_json(&again)].map(|text| serde_json::from_slice(text));
    let same = alike(&first.expect("JSON"), &second.expect("JSON"));
    assert!(same, "JSON lost something: {}", String::from_utf8_lossy(&told));
    let written = read.encode_to_vec();
    let again: M = from_protobuf(&written).expect("our own protobuf is understood");
    assert!(again.encode_to_vec() == written, "protobuf lost something: {written:?}");
    Some(read)
}

/// True for the same JSON. A number of 17 digits may be read to the last bit but one: amounts are
/// thousandths, and times µs.
fn alike(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (one, other) {
        (Number(a), Number(b)) => {
            let [x, y] = [a, b].map(|number| number.as_f64().unwrap_or_default());
            a == b || (x - y).abs() <= x.abs() * 4.0 * f64::EPSILON
        }
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Object(a), Object(b)) => {
            let same = |(name, value): (&String, _)| b.get(name).is_some_and(|of| alike(value, of));
            a.len() == b.len() && a.iter().all(same)
        }
        _ => one == other,
    }
}

fn scheduler_call(call: &pb::scheduler::Call) {
    if calls::validate(call).is_ok()
        && let Ok(said) = calls::to_wire(call, FRAMEWORK, 0xa1)
    {
        // Whatever it is, the core refuses it or takes it.
        let _ = decode::<Head<'_>>(&said.head);
    }
}

fn executor_call(call: &pb::executor::Call) {
    if executors::validate(call).is_ok() {
        for said in executors::to_wire(call, FRAMEWORK).into_iter().flatten() {
            let _ = decode::<Head<'_>>(&said.head);
        }
    }
}

/// A target of `fuzz/`, with input that it begins from.
pub type Seed = (&'static str, Vec<u8>);

/// Where [`write_seeds`] writes to.
const CORPUS: &str = "MESITA_FUZZ_CORPUS";

/// Writes what every target begins from, each below its own name in the directory that
/// `MESITA_FUZZ_CORPUS` names, and ends the process; without that variable it does nothing.
pub fn write_seeds() {
    let Some(corpus) = std::env::var_os(CORPUS) else { return };
    let write = |(number, (target, bytes)): (usize, Seed)| {
        let of = std::path::Path::new(&corpus).join(target);
        std::fs::create_dir_all(&of)?;
        std::fs::write(of.join(format!("seed-{number}")), bytes)
    };
    let written: std::io::Result<()> = seeds().into_iter().enumerate().try_for_each(write);
    std::process::exit(i32::from(written.is_err()));
}

/// What [`json`], [`protobuf`], [`records`], [`frames`] and [`http`] begin from: real calls.
pub fn seeds() -> Vec<Seed> {
    let mut all = Vec::new();
    let mut put = |kind: u8, sample: &serde_json::Value, encoded: Vec<u8>| {
        let text = sample.to_string().into_bytes();
        all.push(("records", [&[kind, 9][..], &framed(&text)].concat()));
        all.push(("http", posted("application/json", &text)));
        all.push(("http", posted("application/x-protobuf", &encoded)));
        all.push(("json", [&[kind][..], &text].concat()));
        all.push(("protobuf", [&[kind][..], &encoded].concat()));
    };
    for sample in samples::scheduler_calls() {
        put(0, &sample, encoded::<pb::scheduler::Call>(&sample));
    }
    for sample in samples::executor_calls() {
        put(1, &sample, encoded::<pb::executor::Call>(&sample));
    }
    for sample in samples::operator_calls() {
        put(2, &sample, encoded::<pb::master::Call>(&sample));
    }
    for sample in samples::container_calls() {
        put(3, &sample, encoded::<pb::agent::Call>(&sample));
    }
    for sample in samples::scheduler_calls() {
        let call = from_json::<pb::scheduler::Call>(sample.to_string().as_bytes());
        let said = call.map(|call| calls::to_wire(&call, FRAMEWORK, 0xa1));
        if let Ok(Ok(said)) = said {
            all.push(("frames", [&[0][..], &said.head].concat()));
        }
    }
    all
}

const FRAMEWORK: FrameworkId = FrameworkId { epoch: 1, number: 1 };

fn posted(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /api/v1/scheduler?a=b HTTP/1.1\r\nHost: x\r\nAccept: {kind}\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A message of this kind as protobuf.
fn encoded<M: Message + Name + Default>(value: &serde_json::Value) -> Vec<u8> {
    from_json::<M>(value.to_string().as_bytes()).expect("a sample is right").encode_to_vec()
}

/// A call of one of the four APIs, which the first byte chooses, as JSON.
pub fn json(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => drop(read::<pb::scheduler::Call>(bytes).inspect(scheduler_call)),
        1 => drop(read::<pb::executor::Call>(bytes).inspect(executor_call)),
        2 => drop(read::<pb::master::Call>(bytes)),
        _ => drop(read::<pb::agent::Call>(bytes).inspect(|call| drop(judge(call)))),
    }
}

/// The same as protobuf: whatever is understood can be told as JSON, and is understood again.
pub fn protobuf(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => drop(told::<pb::scheduler::Call>(bytes).inspect(scheduler_call)),
        1 => drop(told::<pb::executor::Call>(bytes).inspect(executor_call)),
        2 => drop(told::<pb::master::Call>(bytes)),
        _ => drop(told::<pb::agent::Call>(bytes).inspect(|call| drop(judge(call)))),
    }
}

/// Reads protobuf, and what was understood as JSON.
fn told<M: Message + Name + Default>(bytes: &[u8]) -> Option<M> {
    let message: M = from_protobuf(bytes).ok()?;
    // What JSON cannot say, such as a name that is none, is refused there.
    read::<M>(&to_json(&message));
    Some(message)
}

/// A stream of records, which comes in pieces of as many bytes as the second byte says.
pub fn records(bytes: &[u8]) {
    let [_, piece, bytes @ ..] = bytes else { return };
    let mut pieces = Pieces::new(4096);
    for piece in bytes.chunks(usize::from(*piece) + 1) {
        let Ok(records) = pieces.take(piece) else { return };
        assert!(records.iter().all(|record| record.len() <= 4096), "a record beyond the bound");
    }
}

/// What another node sends: whole frames, or, to get past the checksum, a frame made of this head.
pub fn frames(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind % 4 != 0 {
        return head(bytes);
    }
    let (frame_max, head_max) = (FRAME_MAX as u64, HEAD_MAX as u64);
    let [Ok(frame_max), Ok(head_max)] = [frame_max, head_max].map(u32::try_from) else { return };
    let Some((first, rest)) = bytes.split_first_chunk::<PREFIX>() else { return };
    if let Ok(prefix) = Prefix::parse(first, Limits { frame_max, head_max })
        && let Some(rest) = rest.get(..prefix.rest())
        && let Ok(frame) = prefix.open(rest)
    {
        head(frame.head);
    }
}

/// A head is refused, or it is the same after it was written and read again.
fn head(bytes: &[u8]) {
    let Ok(head) = decode::<Head<'_>>(bytes) else { return };
    let mut into = vec![0; 2 * bytes.len() + 64];
    let written = mesita_core::wire::encode(&head, &mut into).expect("there is room");
    assert!(decode::<Head<'_>>(written) == Ok(head), "a head is not what it was: {head:?}");
}

/// Everything that comes on a connection, as a master's or agent's port takes it.
pub fn http(bytes: &[u8]) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let (path, query) = (request.uri().path().to_owned(), request.uri().query());
        let _ = (crate::access::realm("master", &path), crate::legacy::query(query));
        let _ = Media::asked(request.headers());
        let bodies = std::cell::RefCell::new(crate::bodies::Bodies::new(1 << 24));
        let reply = match request::message::<pb::scheduler::Call>(&bodies, request).await {
            Ok((call, _)) => {
                scheduler_call(&call);
                Response::new(crate::http::body::Body::of(to_json(&call)))
            }
            Err(reply) => *reply,
        };
        Ok::<_, Infallible>(reply)
    });
    let reading = futures_lite::io::Cursor::new(bytes.to_vec());
    let (reading, writing) = (Box::new(reading), Box::new(futures_lite::io::sink()));
    let pipe = Pipe { reading, writing, ends: Ends::Memory, proved: None };
    let served = http1::Builder::new().serve_connection(FuturesIo::new(pipe.join()), service);
    // What makes no sense ends the connection, and nothing else.
    let _ = crate::alarm::block_on(served);
}
