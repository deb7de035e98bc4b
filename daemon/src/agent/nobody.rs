//! Connections of checks to servers on this machine, in its own network or in a container's. They are made
//! as nobody: whoever asks the kernel whose they are, the agent and a master among them, is not to take what
//! a task asked for for what the agent's user asks for.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use rustix::process::{Gid, Uid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use smol::Async;
use smol::net::TcpStream;

/// The user that nothing belongs to, by its number everywhere.
const NOBODY: u32 = 65_534;
/// Bytes of the stack of a thread that makes a socket.
const STACK: usize = 64 * 1024;

/// The network of a container.
pub(super) type Network = Arc<File>;

/// The network of a process, where that is not this one's own.
pub(super) fn network_of(pid: u32) -> io::Result<Option<Network>> {
    let open = |of: &str| {
        let file = File::open(format!("/proc/{of}/ns/net"))?;
        let is = file.metadata()?;
        io::Result::Ok((file, (is.dev(), is.ino())))
    };
    let ((its, one), (_, own)) = (open(&pid.to_string())?, open("self")?);
    Ok((one != own).then(|| Arc::new(its)))
}

/// Connects; as nobody if this process is root's, else as its user.
pub(super) async fn connect(server: SocketAddr, network: Option<Network>) -> io::Result<TcpStream> {
    if !rustix::process::geteuid().is_root() {
        return match network {
            None => TcpStream::connect(server).await,
            Some(_) => Err(io::Error::other(
                "it is in a network of its task's own, where only an agent that is root connects",
            )),
        };
    }
    let socket = smol::unblock(move || socket_of_nobody(server.is_ipv6(), network)).await?;
    let socket = Async::new_nonblocking(std::net::TcpStream::from(socket))?;
    match rustix::net::connect(&socket, &server) {
        Ok(()) => {}
        Err(rustix::io::Errno::INPROGRESS) => socket.writable().await?,
        Err(error) => return Err(error.into()),
    }
    if let Some(error) = socket.get_ref().take_error()? {
        return Err(error);
    }
    Ok(TcpStream::from(socket))
}

/// A socket belongs to whom the thread was that made it, and a thread does not come back from being
/// nobody: it ends with that.
fn socket_of_nobody(of_v6: bool, network: Option<Network>) -> io::Result<OwnedFd> {
    let as_nobody = move || {
        if let Some(network) = network {
            // A socket stays in the network that it was made in, too.
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        }
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        let family = if of_v6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
    };
    let thread = std::thread::Builder::new().name("mesita-nobody".to_owned()).stack_size(STACK);
    let made = thread.spawn(as_nobody)?.join();
    let made = made.map_err(|_| io::Error::other("the thread that makes sockets ended"))?;
    Ok(made?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_nobodys_and_this_thread_is_who_it_was() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let stream = smol::block_on(connect(server, None)).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&stream);
        let owner = std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().uid();
        let own = rustix::process::geteuid();
        assert_eq!(owner, if own.is_root() { NOBODY } else { own.as_raw() });
        drop(listener);
        assert!(smol::block_on(connect(server, None)).is_err());
        assert!(network_of(std::process::id()).unwrap().is_none());
        assert!(network_of(u32::MAX).is_err());
    }
}
