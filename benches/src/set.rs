//! Three masters, and agents, as real processes in a directory of their own, ended with this value.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{free_ports, get};

pub(crate) const MASTERS: usize = 3;
pub(crate) const AGENTS: usize = 10;
/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Masters and agents.
pub(crate) struct Set {
    binary: PathBuf,
    dir: PathBuf,
    flags: Vec<String>,
    /// Of the masters.
    pub(crate) ports: Vec<u16>,
    masters: Vec<Option<Child>>,
    agents: Vec<Child>,
}

impl Set {
    /// Starts all, the masters with more flags, and waits until one leads that has every agent.
    pub(crate) fn start(binary: &Path, agents: usize, flags: &[&str]) -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("mesita-set-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let mut ports = free_ports(MASTERS + agents)?;
        let agent_ports = ports.split_off(MASTERS);
        ports.sort_unstable();
        let mut set = Self {
            binary: binary.to_owned(),
            dir,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ports,
            masters: (0..MASTERS).map(|_| None).collect(),
            agents: Vec::new(),
        };
        for at in 0..MASTERS {
            set.begin(at, true)?;
        }
        for port in agent_ports {
            let list = set.list();
            let more = ["--master", &list, "--resources", "cpus:4;mem:1024"];
            let agent = set.daemon("agent", port, &more)?;
            set.agents.push(agent);
        }
        set.settled()?;
        Ok(set)
    }

    /// Where they write.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The processes of the masters that run.
    pub(crate) fn masters(&self) -> Vec<u32> {
        self.masters.iter().flatten().map(Child::id).collect()
    }

    /// Those of the agents.
    pub(crate) fn agents(&self) -> Vec<u32> {
        self.agents.iter().map(Child::id).collect()
    }

    fn list(&self) -> String {
        let addresses: Vec<String> =
            self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        addresses.join(",")
    }

    fn daemon(&self, kind: &str, port: u16, more: &[&str]) -> io::Result<Child> {
        let name = format!("{kind}-{port}");
        Command::new(&self.binary)
            .args([kind, "--port", &port.to_string(), "--work-dir"])
            .arg(self.dir.join(&name))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.dir.join(format!("{name}.log")))?)
            .spawn()
    }

    /// Starts one of the masters.
    pub(crate) fn begin(&mut self, at: usize, first: bool) -> io::Result<()> {
        let list = self.list();
        let mut more = vec!["--masters", &list];
        more.extend(self.flags.iter().map(String::as_str));
        more.extend(first.then_some("--bootstrap"));
        let master = self.daemon("master", self.ports[at], &more)?;
        self.masters[at] = Some(master);
        Ok(())
    }

    /// `kill -9` of one of the masters.
    pub(crate) fn kill(&mut self, at: usize) -> io::Result<()> {
        let Some(mut master) = self.masters[at].take() else { return Ok(()) };
        master.kill()?;
        master.wait().map(drop)
    }

    /// Waits until one leads and all others know it; which it is.
    pub(crate) fn leader(&self) -> io::Result<usize> {
        self.leader_that(|_| true)
    }

    /// Waits until one leads, all others know it, and it has every agent; which it is.
    pub(crate) fn settled(&self) -> io::Result<usize> {
        let all = format!("\nmesita_master_agents {}\n", self.agents.len());
        self.leader_that(|port| get(port, "/metrics").is_ok_and(|text| text.contains(&all)))
    }

    fn leader_that(&self, is_ready: impl Fn(u16) -> bool) -> io::Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health: Vec<String> =
                self.ports.iter().map(|port| get(*port, "/health").unwrap_or_default()).collect();
            let leader = health.iter().position(|text| text.contains("\"leading\":true"));
            let address = leader.map(|at| format!("\"leader\":\"127.0.0.1:{}\"", self.ports[at]));
            let known =
                address.is_some_and(|address| health.iter().all(|text| text.contains(&address)));
            if let Some(at) = leader.filter(|at| known && is_ready(self.ports[*at])) {
                return Ok(at);
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("no leader with all agents after 30 s"));
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let agents = self.agents.iter_mut().map(|agent| (agent, Signal::USR1));
        let masters = self.masters.iter_mut().flatten().map(|master| (master, Signal::TERM));
        for (child, signal) in agents.chain(masters) {
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process(pid, signal);
            }
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
