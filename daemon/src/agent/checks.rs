//! Checks and health checks of the tasks that the agent runs: each looks again and again for as long
//! as its task runs, and tells the core what is worth telling.
//!
//! Mesos: `checks/{checker_process,health_checker}.cpp`. What was found before a restart of the agent
//! is forgotten with it: grace and failures are counted anew.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use mesita_core::agent::Input;
use mesita_core::wire::ContainerId;
use mesita_core::wire::task::Exit;
use prost::Message;
use smol_hyper::rt::FuturesIo;

use super::AgentNode;
use super::containers::Container;
use super::docker::By;
use super::nobody::{self, Network};
use crate::alarm;
use crate::clock;
use crate::command::{Command, variables_of};
use crate::conn::Pipe;
use crate::pb::mesita::{TaskPrivate, TaskPublic};
use crate::pb::mesos::v1::{CheckInfo, CheckStatusInfo, ContainerStatus, HealthCheck, TaskStatus};
use crate::tls::Outside;
use crate::v1::checks::{Check, Health, Http, Look, Rhythm, found};
use crate::v1::events::{network_info, own_address};

/// Answers that lead elsewhere on the same server, one after the other.
const REDIRECTS_MAX: usize = 5;
/// Bytes of the head of an answer.
const ANSWER_MAX: usize = 64 * 1024;

impl AgentNode {
    /// The checks of a task, with what is secret in them.
    fn checks_of(&self, id: ContainerId) -> (Option<CheckInfo>, Option<HealthCheck>) {
        // What cannot be read has no checks: it was read when the task was accepted.
        let public = TaskPublic::decode(&*self.tally.public_of(id)).unwrap_or_default();
        let private = TaskPrivate::decode(&*self.tally.private_of(id)).unwrap_or_default();
        (private.check.or(public.check), private.health_check.or(public.health_check))
    }

    /// Before a task is told to run: its updates say from now on which process it is, and that it has a
    /// check.
    pub(super) fn introduce(&self, id: ContainerId) {
        if self.containers.names(id).task.is_empty() {
            // An executor: its tasks' updates are its own.
            return;
        }
        let check = self.checks_of(id).0.and_then(|check| Check::of(&check).ok());
        self.tell_checked(id, check.map(|check| found(check.kind, None)));
    }

    /// A task runs: begins to look after it, if it asks for that.
    pub(super) fn begin_checks(&self, id: ContainerId, container: &Rc<Container>) {
        let (check, health_check) = self.checks_of(id);
        let Some(me) = self.me.upgrade() else { return };
        if let Some(check) = check.and_then(|check| Check::of(&check).ok()) {
            let (me, container) = (Rc::clone(&me), Rc::clone(container));
            self.tasks.go(async move { while_runs(&container, me.check(id, check)).await });
        }
        if let Some(health) = health_check.and_then(|check| Health::of(&check).ok()) {
            let container = Rc::clone(container);
            self.tasks.go(async move { while_runs(&container, me.check_health(id, health)).await });
        }
    }

    /// Reports what a check finds whenever that changes.
    async fn check(&self, id: ContainerId, check: Check) {
        let mut last = found(check.kind, None);
        alarm::after(check.rhythm.delay_us).await;
        loop {
            let result = self.look(id, &check.look, check.rhythm, By::Check).await;
            if let Err(why) = &result {
                log::debug!("check in container {id}: {why}");
            }
            let now = found(check.kind, result.ok());
            if now != last {
                self.tell_checked(id, Some(now));
                last = now;
            }
            alarm::after(check.rhythm.interval_us).await;
        }
    }

    /// What the updates of a task carry from now on: its process, what its check found, and what is known
    /// of its container beyond what is known of all.
    fn tell_checked(&self, id: ContainerId, check_status: Option<CheckStatusInfo>) {
        let container = self.containers.get(id);
        let known = container.as_ref().and_then(|one| one.docker());
        let known = known.map(|of| of.carried()).unwrap_or_default();
        let executor_pid = self.containers.pid(id);
        let mut status = known.container_status.unwrap_or_default();
        if status.network_infos.is_empty() {
            status.network_infos.extend(self.address_of(id).map(network_info));
        }
        let container_status = Some(ContainerStatus { executor_pid, ..status });
        let carried = TaskStatus { check_status, container_status, ..known };
        let refs = self.port.store(&[carried.encode_to_vec()]);
        if let Some(container) = container {
            *container.carried.borrow_mut() = carried;
        }
        let Some(refs) = refs else {
            log::error!("no room for what a check found; see --max-body-bytes");
            return;
        };
        if let Some(&status) = refs.first() {
            self.port.put_with(&Input::Checked { container: id, status }, refs);
        }
    }

    /// Tells the first success, the first after failures, and every failure that counts.
    async fn check_health(&self, id: ContainerId, health: Health) {
        let began = clock::now();
        let (mut was_healthy, mut failures) = (false, 0u32);
        alarm::after(health.rhythm.delay_us).await;
        loop {
            let result = self.look(id, &health.look, health.rhythm, By::Health).await;
            match result.and_then(|found| is_healthy(&health.look, found)) {
                Ok(()) => {
                    if !was_healthy || failures > 0 {
                        self.port.put(&Input::Health { container: id, healthy: true, kill: false });
                    }
                    (was_healthy, failures) = (true, 0);
                }
                Err(why) if !was_healthy && clock::now().since(began) <= health.grace_us => {
                    log::debug!("health check in container {id}, within its grace: {why}");
                }
                Err(why) => {
                    failures = failures.saturating_add(1);
                    log::info!("health check in container {id}: failure {failures}: {why}");
                    let kill = failures >= health.failures_max;
                    self.port.put(&Input::Health { container: id, healthy: false, kill });
                }
            }
            alarm::after(health.rhythm.interval_us).await;
        }
    }

    /// Looks once: an exit status, a status code, or 1 for a connection and 0 for none.
    async fn look(
        &self,
        id: ContainerId,
        look: &Look,
        rhythm: Rhythm,
        by: By,
    ) -> Result<i32, String> {
        let looked = async {
            match look {
                Look::Command(command) => match self.run_in(id, command, by).await? {
                    Exit::Code(code) => Ok(i32::from(code)),
                    Exit::Signal(signal) => Err(format!("the command ended by signal {signal}")),
                    Exit::Unseen => Err("nobody saw how the command ended".to_owned()),
                },
                Look::Http(http) => {
                    let (address, network) = self.place_of(id, http.address)?;
                    if network.is_none() {
                        self.is_no_daemons(SocketAddr::new(address, http.port))?;
                    }
                    ask(&Http { address, ..http.clone() }, network).await
                }
                Look::Tcp(address, port) => {
                    let (address, network) = self.place_of(id, *address)?;
                    let server = SocketAddr::new(address, *port);
                    Ok(nobody::connect(server, network).await.is_ok().into())
                }
            }
        };
        let Some(us) = rhythm.timeout_us else { return looked.await };
        let late = || format!("it took longer than {} ms", us / 1000);
        alarm::within(us, looked).await.unwrap_or_else(|| Err(late()))
    }
}

impl AgentNode {
    /// Where a task listens: at the loopback address of the network that it is in, unless its container has
    /// an address of its own.
    fn place_of(
        &self,
        id: ContainerId,
        loopback: IpAddr,
    ) -> Result<(IpAddr, Option<Network>), String> {
        if let Some(address) = self.address_of(id) {
            return Ok((address, None));
        }
        let of_docker = self.containers.get(id).is_some_and(|one| one.docker().is_some());
        let parted = || self.containers.isolation().names().contains(&"network/none");
        let pid = self.containers.pid(id).filter(|_| of_docker || parted());
        let Some(pid) = pid else { return Ok((loopback, None)) };
        let network = nobody::network_of(pid);
        let network = network.map_err(|error| format!("the network of process {pid}: {error}"))?;
        Ok((loopback, network))
    }

    /// The address of its own that a container has while it runs; none = its agent's.
    pub(super) fn address_of(&self, id: ContainerId) -> Option<IpAddr> {
        match self.containers.get(id).as_ref().and_then(|one| one.docker()) {
            Some(of) => of.address(),
            None => self.containers.isolation().address(self.containers.at(id)).map(IpAddr::V4),
        }
    }

    /// Refuses what this agent answers itself, or its master on this machine: where this process is not
    /// root's, they would take a task's question for that of their own user.
    fn is_no_daemons(&self, server: SocketAddr) -> Result<(), String> {
        let of_master = |leader: &String| {
            let at: Option<SocketAddr> = leader.parse().ok();
            at.is_some_and(|at| at.ip().is_loopback() && at.port() == server.port())
        };
        let own = own_address(&self.options.address).map(|(_, port)| port);
        let is_own = own == Some(i32::from(server.port()));
        if server.ip().is_loopback()
            && (is_own || self.leader.borrow().as_ref().is_some_and(of_master))
        {
            return Err(format!(
                "port {} is no task's: a daemon of Mesita is there",
                server.port()
            ));
        }
        Ok(())
    }

    /// Runs a command beside a task, with the variables that the task names and those of its own, which
    /// win. Mesos: `Slave::getExecutorInfo`, whose environment the checker has.
    async fn run_in(&self, id: ContainerId, command: &Command, by: By) -> Result<Exit, String> {
        match self.containers.get(id) {
            // That has the environment of its container.
            Some(one) if one.docker().is_some() => self.exec_docker(id, command, by).await,
            _ => {
                let mut variables = variables_of(&self.tally.private_of(id));
                variables.extend(command.variables.iter().cloned());
                self.run_beside(id, Command { variables, ..command.clone() }).await
            }
        }
    }
}

/// What is healthy. Mesos: status 0, status codes from 200 to 399, a connection.
fn is_healthy(look: &Look, found: i32) -> Result<(), String> {
    let (healthy, what) = match look {
        Look::Command(_) => (found == 0, "exit status"),
        Look::Http(_) => ((200..400).contains(&found), "status code"),
        Look::Tcp(..) => (found != 0, "connections"),
    };
    if healthy { Ok(()) } else { Err(format!("{what} {found}")) }
}

/// Does `work` until nothing of the container runs any more.
async fn while_runs(container: &Container, work: impl Future<Output = ()>) {
    let over = async {
        loop {
            let changed = container.changed();
            if container.is_over() {
                return;
            }
            changed.await;
        }
    };
    futures_lite::future::or(work, over).await;
}

/// The status code of a GET. What leads elsewhere on the same server is followed, and any certificate is
/// taken, as curl does it for Mesos.
async fn ask(of: &Http, network: Option<Network>) -> Result<i32, String> {
    let outside = of.secure.then(Outside::anybody).transpose()?;
    let mut of = of.clone();
    for _ in 0..REDIRECTS_MAX {
        let answer = ask_once(&of, outside.as_ref(), network.clone()).await?;
        match same_server(&answer, &of) {
            Some(next) if answer.status().is_redirection() => of.path = next,
            _ => return Ok(answer.status().as_u16().into()),
        }
    }
    Err(format!("more than {REDIRECTS_MAX} redirections"))
}

async fn ask_once(
    of: &Http,
    outside: Option<&Outside>,
    network: Option<Network>,
) -> Result<Response<()>, String> {
    let (server, path) = (SocketAddr::new(of.address, of.port), &*of.path);
    let failed =
        |error: &dyn std::fmt::Display| format!("GET {}{server}{path}: {error}", scheme(of));
    let stream = nobody::connect(server, network).await.map_err(|error| failed(&error))?;
    let mut pipe = Pipe::tcp(stream).map_err(|error| failed(&error))?;
    if let Some(outside) = outside {
        pipe = outside.wrap(pipe, &of.address.to_string()).await.map_err(|why| failed(&why))?;
    }
    let mut builder = hyper::client::conn::http1::Builder::new();
    let shaken = builder.max_buf_size(ANSWER_MAX).handshake(FuturesIo::new(pipe.join())).await;
    let (mut sender, connection) = shaken.map_err(|error| failed(&error))?;
    let host = HeaderValue::from_str(&server.to_string()).map_err(|error| failed(&error))?;
    let request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .header(HOST, host)
        .header(USER_AGENT, "mesita")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        Ok(answer.map(|_| ()))
    };
    let broken = async {
        let ended = connection.await;
        match ended {
            // The answer is on its way.
            Ok(()) => std::future::pending().await,
            Err(error) => Err(failed(&error)),
        }
    };
    futures_lite::future::or(answered, broken).await
}

fn scheme(of: &Http) -> &'static str {
    if of.secure { "https://" } else { "http://" }
}

/// Where on the same server an answer leads.
fn same_server(answer: &Response<()>, of: &Http) -> Option<String> {
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    if answer.status() == StatusCode::NOT_MODIFIED {
        return None;
    }
    let port = of.port;
    let own = [SocketAddr::new(of.address, port).to_string(), format!("localhost:{port}")];
    let path = own.iter().find_map(|own| location.strip_prefix(scheme(of))?.strip_prefix(&**own));
    let path = path.unwrap_or(location);
    (path.starts_with('/') && !path.starts_with("//")).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_on_the_server_is_followed() {
        let of = Http { secure: false, address: [127, 0, 0, 1].into(), port: 80, path: "/".into() };
        let leads = |location: &str| {
            let answer = Response::builder().status(302).header(LOCATION, location).body(());
            same_server(&answer.unwrap(), &of)
        };
        assert_eq!(leads("/b"), Some("/b".to_owned()));
        assert_eq!(leads("http://127.0.0.1:80/c"), Some("/c".to_owned()));
        assert_eq!(leads("http://127.0.0.1:8080/c"), None);
        assert_eq!((leads("//elsewhere/"), leads("https://x/")), (None, None));
    }

    #[test]
    fn healthy_is_what_mesos_takes_for_it() {
        let here: IpAddr = [127, 0, 0, 1].into();
        let http = Http { secure: false, address: here, port: 1, path: "/".to_owned() };
        let http = Look::Http(http);
        assert!(is_healthy(&http, 399).is_ok() && is_healthy(&http, 400).is_err());
        let command = Look::Command(Command::default());
        assert!(is_healthy(&command, 0).is_ok() && is_healthy(&command, 1).is_err());
        assert!(is_healthy(&Look::Tcp(here, 1), 0).is_err());
    }
}
