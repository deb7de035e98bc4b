//! One master and one agent as real processes in a directory of their own, ended with this value.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a daemon may take to answer.
const START: Duration = Duration::from_secs(20);

/// A master and an agent.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    dir: PathBuf,
    master: Child,
    agent: Child,
    port: u16,
    agent_port: u16,
    /// What `mesita init` has made, where the cluster is closed.
    made: Option<PathBuf>,
}

impl Cluster {
    /// Starts both, and waits until the agent is registered.
    pub fn start(binary: &Path) -> io::Result<Self> {
        Self::begin(binary, false)
    }

    /// The same of a cluster that `mesita init` makes: all of it speaks TLS and shows credentials.
    pub fn closed(binary: &Path) -> io::Result<Self> {
        Self::begin(binary, true)
    }

    fn begin(binary: &Path, closed: bool) -> io::Result<Self> {
        let name = format!("mesita-benches-{}-{closed}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir)?;
        let ports = free_ports(2)?;
        let (port, agent_port) = (ports[0], ports[1]);
        let made = closed.then(|| dir.join("made"));
        let daemon = |kind: &str, port: u16, more: &[&str]| {
            let mut command = Command::new(binary);
            command.args([kind, "--port", &port.to_string(), "--work-dir"]).arg(dir.join(kind));
            if let Some(made) = &made {
                command.arg("--config").arg(made.join(format!("{kind}.toml")));
            }
            let log = std::fs::File::create(dir.join(format!("{kind}.log")))?;
            command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
        };
        if let Some(made) = &made {
            crate::tls::init(binary, made, port)?;
            // Its first tokens are in the work directory that it has made.
            std::fs::rename(made.join("master"), dir.join("master"))?;
        }
        let address = format!("127.0.0.1:{port}");
        // Its work directory is not where `mesita init` has put it.
        let audit = format!("--audit-log={}", dir.join("audit.log").display());
        let own = [&*audit];
        let master = daemon("master", port, if closed { &own[..] } else { &[] })?;
        let resources = ["--resources", "cpus:1000;mem:1000000;disk:1000000"];
        let plain = ["--master", &address];
        let way = if closed { &[][..] } else { &plain[..] };
        let agent = daemon("agent", agent_port, &[way, &resources].concat())?;
        let cluster =
            Self { binary: binary.to_owned(), dir, master, agent, port, agent_port, made };
        let deadline = Instant::now() + START;
        let registered = || {
            let log = std::fs::read_to_string(cluster.dir.join("agent.log")).unwrap_or_default();
            log.contains("registered with the master")
        };
        while !registered() {
            if Instant::now() > deadline {
                return Err(io::Error::other("no agent is registered after 20 s"));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(cluster)
    }

    /// The certificate of the authority of a closed cluster.
    pub(crate) fn authority(&self) -> PathBuf {
        self.made.as_ref().map_or_else(PathBuf::new, |made| made.join("ca.pem"))
    }

    /// The file with the operator's credential, of a closed cluster.
    pub(crate) fn operator(&self) -> Option<PathBuf> {
        self.made.as_ref().map(|made| made.join("operator"))
    }

    /// The processes with their names: both daemons, and the keeper of the agent.
    pub fn processes(&self) -> io::Result<Vec<(&'static str, u32)>> {
        let mut all = vec![("master", self.master.id()), ("agent", self.agent.id())];
        all.extend(keepers(&self.dir)?.into_iter().map(|pid| ("keeper", pid)));
        Ok(all)
    }

    /// The directory in which both write.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A `mesita` command that speaks with this master.
    pub fn command(&self, kind: &str) -> Command {
        let mut command = Command::new(&self.binary);
        let scheme = if self.made.is_some() { "https://" } else { "" };
        command.args([kind, "--master", &format!("{scheme}127.0.0.1:{}", self.port)]);
        if let Some(made) = &self.made {
            command.arg("--credential").arg(made.join("operator"));
            command.arg("--tls-ca-file").arg(self.authority());
        }
        command
    }

    /// Ports of the master and of the agent.
    pub fn ports(&self) -> [u16; 2] {
        [self.port, self.agent_port]
    }

    /// What a daemon answers to a GET.
    pub fn get(&self, port: u16, path: &str) -> io::Result<String> {
        get(port, path)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGUSR1 ends the agent's tasks and its keeper, too.
        for (child, signal) in [(&mut self.agent, Signal::USR1), (&mut self.master, Signal::TERM)] {
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process(pid, signal);
            }
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// So many ports that nobody listens at.
pub(crate) fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held: io::Result<Vec<TcpListener>> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    held?.iter().map(|one| Ok(one.local_addr()?.port())).collect()
}

/// What a daemon answers to a GET.
pub(crate) fn get(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Keepers whose arguments, which are those of their agents, name this directory.
pub(crate) fn keepers(dir: &Path) -> io::Result<Vec<u32>> {
    let dir = dir.to_string_lossy();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended meanwhile, and then it is none of ours.
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let of_us = String::from_utf8_lossy(&read("cmdline")).contains(&*dir);
        if of_us && read("comm") == b"mesita-keeper\n" {
            found.push(pid);
        }
    }
    Ok(found)
}
