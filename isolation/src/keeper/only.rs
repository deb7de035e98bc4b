//! Of agents with the same key one alone has a keeper on a machine: a copied work directory has the key of its
//! original, and whoever starts there would end the original's tasks as tasks that nobody knows.
//!
//! A keeper holds a name in the abstract namespace of unix sockets until it ends. Whoever finds it held by
//! somebody of its own user lets go; a name that somebody else holds says nothing of keepers.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};

use super::{BACKLOG, Error};
use crate::sys::{Failure, Linux, Sys};

/// How often one that is about to end is looked at again, 10 ms apart.
const LOOKS: usize = 100;

/// The name of the one keeper of a key, as long as it is held, and answered to by [`answer`]; one of the
/// kernel's choice where there is no key, or where somebody else's process holds the name.
///
/// `Error::Copied` where a keeper of this user holds it.
pub(super) fn claim(key: Option<&[u8; 32]>) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| Error::Os(Failure::plain("bind", errno.raw_os_error()));
    let any = || hold(&SocketAddrUnix::new_unnamed()).map_err(failed);
    let Some(key) = key else { return any() };
    let digits: String = key[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let address = SocketAddrUnix::new_abstract_name(format!("mesita-keeper-{digits}").as_bytes());
    let address = address.map_err(failed)?;
    let mut looks = 0..LOOKS;
    loop {
        match hold(&address) {
            Err(Errno::ADDRINUSE) => {}
            result => return result.map_err(failed),
        }
        match holder_of(&address) {
            None => return any(),
            Some(pid) if looks.next().is_none() => return Err(Error::Copied(pid)),
            Some(_) => Linux.wait(&[], 10),
        }
    }
}

/// Whoever asked whose name it is has seen that by now.
pub(super) fn answer(name: &OwnedFd) {
    while accept_with(name, SocketFlags::CLOEXEC).is_ok() {}
}

fn hold(address: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    let name = socket()?;
    bind(&name, address)?;
    listen(&name, BACKLOG)?;
    Ok(name)
}

/// The process of our user that holds a name.
fn holder_of(address: &SocketAddrUnix) -> Option<i32> {
    let asking = socket().ok()?;
    connect(&asking, address).ok()?;
    let holder = socket_peercred(&asking).ok()?;
    let ours = holder.uid == rustix::process::geteuid();
    ours.then(|| holder.pid.as_raw_nonzero().get())
}

fn socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}
