//! Connections that others begin: one port for frames, HTTP and TLS, told apart by the first bytes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use futures_lite::{AsyncReadExt, AsyncWriteExt, StreamExt};
use mesita_core::wire::Head;
use mesita_core::wire::link::{Link, Parting};
use smol::net::{TcpListener, TcpStream};

use super::outbox::Packet;
use super::{Ends, Pipe};
use crate::io_thread::Tasks;
use crate::seldom::Seldom;
use crate::tls::Served;
use crate::{alarm, clock};

/// How long a stranger may take to say what it is, in µs.
pub(crate) const STRANGER_US: u64 = 10_000_000;
/// Strangers at once; of those who come from where the most do, the one that has been silent longest makes
/// room for the next.
pub(crate) const STRANGERS_MAX: usize = 256;
/// How long nothing is accepted when the process has no descriptor left, in µs.
const PAUSE_US: u64 = 100_000;
/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1_024;

/// What a connection turned out to be.
pub(crate) enum Arrival {
    /// Frames.
    Native(Pipe),
    /// HTTP.
    Http(Pipe),
}

/// Who takes connections in. A stranger becomes known by saying something that makes sense.
pub(crate) trait Welcome {
    /// Takes a connection in, and calls `stranger.known()` when it is no stranger any more.
    fn arrived(
        self: Rc<Self>,
        arrival: Arrival,
        stranger: Stranger,
    ) -> impl Future<Output = ()> + 'static;
}

/// What is spoken at a port.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// What who speaks TLS is shown; none: nobody may.
    pub(crate) tls: Option<Served>,
    /// Other machines must speak it.
    pub(crate) tls_only: bool,
}

impl Door {
    /// True when somebody at the other end of this may speak without TLS. Who has this machine's own
    /// address is on this machine: the kernel takes no packet of that kind from a wire.
    fn lets_in_the_clear(&self, ends: &Ends) -> bool {
        !self.tls_only || ends.are_here()
    }
}

/// Connections that have not said what they are.
#[derive(Default)]
struct Strangers {
    tasks: RefCell<BTreeMap<u64, (IpAddr, smol::Task<()>)>>,
    next: Cell<u64>,
    dropped: Cell<u64>,
}

impl Strangers {
    /// Ends one of them. Dropping a task ends it, and closes its connection.
    fn make_room(&self) {
        let mut tasks = self.tasks.borrow_mut();
        let goes = goes(tasks.iter().map(|(number, (from, _))| (*number, *from)));
        if goes.and_then(|number| tasks.remove(&number)).is_some() {
            self.dropped.set(self.dropped.get() + 1);
        }
    }
}

/// The first of those of a place that the most are of: whoever fills all places has only its own to lose.
fn goes(all: impl Iterator<Item = (u64, IpAddr)>) -> Option<u64> {
    let mut of_places: BTreeMap<IpAddr, (usize, u64)> = BTreeMap::new();
    for (number, from) in all {
        let (count, _first) = of_places.entry(from).or_insert((0, number));
        *count += 1;
    }
    let most = of_places.into_values().max_by_key(|(count, first)| (*count, u64::MAX - first));
    most.map(|(_, first)| first)
}

/// Where somebody is: a machine has 64 bits of an address of IPv6 to itself (RFC 4291 §2.5.1).
fn place(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// One of them.
pub(crate) struct Stranger {
    strangers: Rc<Strangers>,
    number: u64,
}

impl Stranger {
    /// It is no stranger any more: nobody makes room by ending it.
    pub(crate) fn known(self) {
        if let Some((_, task)) = self.strangers.tasks.borrow_mut().remove(&self.number) {
            task.detach();
        }
    }
}

/// Binds a listener, without a thread. The error says what to do when the port is taken.
pub(crate) fn bind(ip: IpAddr, port: u16) -> io::Result<std::net::TcpListener> {
    let address = SocketAddr::new(ip, port);
    let listener = std::net::TcpListener::bind(address).and_then(|listener| {
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(listener)
    });
    listener.map_err(|error| with_hint(address, &error))
}

/// Why nothing can be heard at an address, and what to do.
pub(crate) fn with_hint(address: SocketAddr, error: &io::Error) -> io::Error {
    let hints = [
        (io::ErrorKind::AddrInUse, "; another program has it: choose another --port"),
        (io::ErrorKind::PermissionDenied, "; ports below 1024 are root's: choose another --port"),
        (io::ErrorKind::AddrNotAvailable, "; this machine has no such address: see --ip"),
    ];
    let hint = hints.iter().find(|(kind, _)| *kind == error.kind()).map_or("", |(_, hint)| hint);
    io::Error::new(error.kind(), format!("cannot listen at {address}: {error}{hint}"))
}

/// Takes connections in, for ever.
pub(crate) async fn accept<W: Welcome + 'static>(
    listener: std::net::TcpListener,
    door: Rc<Door>,
    tasks: Tasks,
    welcome: Rc<W>,
) {
    let listener = match TcpListener::try_from(listener) {
        Ok(listener) => listener,
        Err(error) => return log::error!("cannot accept connections: {error}"),
    };
    let strangers = Rc::new(Strangers::default());
    let mut incoming = listener.incoming();
    while let Some(accepted) = incoming.next().await {
        match accepted {
            Ok(stream) => {
                if strangers.tasks.borrow().len() >= STRANGERS_MAX {
                    // Those who have said something already are heard first.
                    futures_lite::future::yield_now().await;
                }
                if strangers.tasks.borrow().len() >= STRANGERS_MAX {
                    strangers.make_room();
                }
                // Who is gone already is nowhere, and is soon found to be.
                let from = stream.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |of| of.ip());
                let number = strangers.next.get();
                strangers.next.set(number + 1);
                let stranger = Stranger { strangers: Rc::clone(&strangers), number };
                let task =
                    tasks.spawn(meet(stream, stranger, Rc::clone(&door), Rc::clone(&welcome)));
                strangers.tasks.borrow_mut().insert(number, (place(from), task));
            }
            Err(error) => {
                log::warn!("cannot accept a connection: {error}");
                alarm::after(PAUSE_US).await;
            }
        }
    }
}

async fn meet<W: Welcome>(stream: TcpStream, stranger: Stranger, door: Rc<Door>, welcome: Rc<W>) {
    let strangers = Rc::clone(&stranger.strangers);
    let number = stranger.number;
    if let Some(Ok(Some(arrival))) = alarm::within(STRANGER_US, recognise(stream, &door)).await {
        welcome.arrived(arrival, stranger).await;
    }
    // Its own entry: it ends anyway.
    if let Some((_, task)) = strangers.tasks.borrow_mut().remove(&number) {
        task.detach();
    }
}

/// Reads as much as tells what it is; none: who came was turned away.
async fn recognise(stream: TcpStream, door: &Door) -> io::Result<Option<Arrival>> {
    let (pipe, first) = begin(Pipe::tcp(stream)?).await?;
    let ends = pipe.ends;
    if is_tls(first) {
        let Some(tls) = &door.tls else {
            say(
                log::Level::Info,
                &ends,
                "speaks TLS, which this port does not: see --tls-cert-file",
            );
            return turned_away(pipe, &NO_TLS).await;
        };
        let (pipe, first) = match tls.accept(pipe).await {
            Ok(pipe) => begin(pipe).await?,
            Err(error) => {
                say(log::Level::Info, &ends, &format!("no TLS came about: {error}"));
                return Err(error);
            }
        };
        return Ok(Some(arrival(pipe, first)));
    }
    if door.lets_in_the_clear(&ends) {
        return Ok(Some(arrival(pipe, first)));
    }
    say(log::Level::Info, &ends, "does not speak TLS");
    if is_text(first) {
        let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Connection: close\r\nContent-Length:";
        let answer = format!("{head} {}\r\n\r\n{ONLY_TLS}", ONLY_TLS.len());
        return turned_away(pipe, answer.as_bytes()).await;
    }
    let bye = Link::Bye { reason: Parting::Denied, message: ONLY_TLS };
    turned_away(pipe, &Packet::of(&Head::Link(bye)).into_parts().0).await
}

/// Says what is wrong with who has come, once in a minute: whoever likes may come, as often as it likes.
pub(crate) fn say(level: log::Level, ends: &Ends, sentence: &str) {
    match SAID.with(|said| said.says(clock::now(), sentence)) {
        None => {}
        Some(0) => log::log!(level, "{}: {sentence}", ends.peer()),
        Some(left_out) => {
            let more = format!("(and {left_out} times more since it was said last)");
            log::log!(level, "{}: {sentence} {more}", ends.peer());
        }
    }
}

thread_local! {
    /// Of the thread that takes connections in.
    static SAID: Seldom = Seldom::default();
}

/// What is answered to who does not speak TLS where that has to be.
pub(crate) const ONLY_TLS: &str = "other machines speak TLS with this port: say https://HOST:PORT";
/// What is answered to who speaks TLS where nobody does: a fatal alert, handshake_failure (RFC 8446
/// §6).
const NO_TLS: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
/// Bytes that are read of who is turned away, so that the answer is read.
const LAST_WORDS_MAX: u64 = 64 * 1024;

/// Says why, and waits for the other end to have read it.
async fn turned_away(mut pipe: Pipe, answer: &[u8]) -> io::Result<Option<Arrival>> {
    pipe.writing.write_all(answer).await?;
    pipe.writing.close().await?;
    futures_lite::io::copy(pipe.reading.take(LAST_WORDS_MAX), futures_lite::io::sink()).await?;
    Ok(None)
}

/// Reads the first bytes, and puts them back.
async fn begin(mut pipe: Pipe) -> io::Result<(Pipe, [u8; 4])> {
    let mut first = [0; 4];
    pipe.reading.read_exact(&mut first).await?;
    let rest = std::mem::replace(&mut pipe.reading, Box::new(futures_lite::io::empty()));
    pipe.reading = Box::new(AsyncReadExt::chain(io_cursor(first), rest));
    Ok((pipe, first))
}

fn arrival(pipe: Pipe, first: [u8; 4]) -> Arrival {
    if is_text(first) { Arrival::Http(pipe) } else { Arrival::Native(pipe) }
}

/// True for the begin of a record with a ClientHello (RFC 8446 §5.1). As a frame's length that would
/// be above 66,000 bytes, which no hello has.
fn is_tls(first: [u8; 4]) -> bool {
    first[0] == 22 && first[1] == 3 && matches!(first[2], 1..=3)
}

/// True for the begin of a request. A frame's begin is its length, whose fourth byte is below that
/// of any text in every frame that is not too long; one that is too long is told so as a frame.
pub(crate) fn is_text(first: [u8; 4]) -> bool {
    first.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b' '..=b'~'))
}

fn io_cursor(first: [u8; 4]) -> futures_lite::io::Cursor<[u8; 4]> {
    futures_lite::io::Cursor::new(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fills_all_places_makes_room_out_of_its_own() {
        let at = |text: &str| place(text.parse().unwrap());
        let mut all: Vec<(u64, IpAddr)> = vec![(0, at("10.0.0.1")), (1, at("10.0.0.2"))];
        all.extend((2..250).map(|number| (number, at("10.0.0.9"))));
        all.push((250, at("10.0.0.2")));
        assert_eq!(goes(all.iter().copied()), Some(2));
        // Of many that have one each, the first.
        assert_eq!(goes(all[..2].iter().copied()), Some(0));
        assert_eq!(goes([].into_iter()), None);
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"), "one machine");
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }
}
