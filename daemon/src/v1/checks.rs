//! Checks and health checks of tasks: whether they make sense, and when and what they look at.
//!
//! Mesos: `checks/{checker,health_checker}.cpp`, `common/validation.cpp`. A check reports what it
//! found, a health check decides whether its task may live.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::amounts::micros;
use crate::command::Command;
use crate::pb::mesos::v1 as pb;
use pb::network_info::Protocol;

/// Between the end of a look and the next at the least, in µs: a check that asks for less costs no
/// more.
pub(crate) const INTERVAL_MIN_US: u64 = 100_000;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// How a command ends that runs beside the task.
    Command(Command),
    /// How a server on this machine answers a GET.
    Http(Http),
    /// Whether something on this machine takes a connection.
    Tcp(IpAddr, u16),
}

/// A GET to a server on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Http {
    /// By TLS, whatever certificate it shows.
    pub(crate) secure: bool,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) path: String,
}

/// When it is looked at, all in µs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rhythm {
    /// From the start of the task to the first look.
    pub(crate) delay_us: u64,
    /// From the end of a look to the next.
    pub(crate) interval_us: u64,
    /// How long a look may take; none = as long as it does.
    pub(crate) timeout_us: Option<u64>,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) kind: pb::check_info::Type,
    pub(crate) look: Look,
    pub(crate) rhythm: Rhythm,
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) look: Look,
    pub(crate) rhythm: Rhythm,
    /// Failures within so long from the start do not count until it was healthy once, in µs.
    pub(crate) grace_us: u64,
    /// The task is killed after so many failures one after the other.
    pub(crate) failures_max: u32,
}

impl Check {
    /// Reads a check; else what is wrong with it, in Mesos' words where it has any.
    pub(crate) fn of(info: &pb::CheckInfo) -> Result<Self, String> {
        use pb::check_info::Type;
        if info.r#type.is_none() {
            return Err("CheckInfo must specify 'type'".to_owned());
        }
        let missing = |what: &str, kind| format!("Expecting '{what}' to be set for {kind} check");
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let look = match info.r#type() {
            Type::Command => {
                let check = info.command.as_ref().ok_or_else(|| missing("command", "COMMAND"))?;
                command(&check.command, "Command check", "Check")?
            }
            Type::Http => {
                let http = info.http.as_ref().ok_or_else(|| missing("http", "HTTP"))?;
                let path = path(http.path.as_deref(), "check")?;
                Look::Http(Http { secure: false, address: here, port: port(http.port)?, path })
            }
            Type::Tcp => {
                let tcp = info.tcp.as_ref().ok_or_else(|| missing("tcp", "TCP"))?;
                Look::Tcp(here, port(tcp.port)?)
            }
            Type::Unknown => return Err("'UNKNOWN' is not a valid check type".to_owned()),
        };
        let (delay, interval) = (info.delay_seconds(), info.interval_seconds());
        let rhythm = Rhythm::of(delay, interval, info.timeout_seconds())?;
        Ok(Self { kind: info.r#type(), look, rhythm })
    }
}

impl Health {
    /// Reads a health check; else what is wrong with it, in Mesos' words where it has any.
    pub(crate) fn of(info: &pb::HealthCheck) -> Result<Self, String> {
        use pb::health_check::Type;
        if info.r#type.is_none() {
            return Err("HealthCheck must specify 'type'".to_owned());
        }
        let missing =
            |what: &str, kind| format!("Expecting '{what}' to be set for {kind} health check");
        let look = match info.r#type() {
            Type::Command => {
                let of = info.command.as_ref().ok_or_else(|| missing("command", "COMMAND"))?;
                command(of, "Command health check", "Health check")?
            }
            Type::Http => {
                let http = info.http.as_ref().ok_or_else(|| missing("http", "HTTP"))?;
                Look::Http(Http {
                    secure: is_secure(http.scheme())?,
                    address: address(http.protocol()),
                    port: port(http.port)?,
                    path: path(http.path.as_deref(), "health check")?,
                })
            }
            Type::Tcp => {
                let tcp = info.tcp.as_ref().ok_or_else(|| missing("tcp", "TCP"))?;
                Look::Tcp(address(tcp.protocol()), port(tcp.port)?)
            }
            Type::Unknown => return Err("'UNKNOWN' is not a valid health check type".to_owned()),
        };
        let (delay, interval) = (info.delay_seconds(), info.interval_seconds());
        let rhythm = Rhythm::of(delay, interval, info.timeout_seconds())?;
        let grace_us = time("grace_period_seconds", info.grace_period_seconds())?;
        Ok(Self { look, rhythm, grace_us, failures_max: info.consecutive_failures() })
    }
}

impl Rhythm {
    fn of(delay: f64, interval: f64, timeout: f64) -> Result<Self, String> {
        let timeout_us = time("timeout_seconds", timeout)?;
        Ok(Self {
            delay_us: time("delay_seconds", delay)?,
            interval_us: time("interval_seconds", interval)?.max(INTERVAL_MIN_US),
            timeout_us: (timeout_us > 0).then_some(timeout_us),
        })
    }
}

fn time(name: &str, seconds: f64) -> Result<u64, String> {
    micros(seconds).ok_or_else(|| format!("Expecting '{name}' to be non-negative"))
}

fn command(command: &pb::CommandInfo, what: &str, short: &str) -> Result<Look, String> {
    if command.value.is_none() {
        let kind = if command.shell() { "'shell command'" } else { "'executable path'" };
        return Err(format!("{what} must contain {kind}"));
    }
    let bad = |bad| format!("{short}'s `CommandInfo` is invalid: {bad}");
    if !command.uris.is_empty() {
        return Err(bad("it fetches nothing, the task does".to_owned()));
    }
    Command::of(command).map(Look::Command).map_err(|why| bad(why.to_string()))
}

fn port(port: u32) -> Result<u16, String> {
    let within = u16::try_from(port).ok().filter(|port| *port > 0);
    within.ok_or_else(|| format!("Port {port} of a check is not between 1 and 65535"))
}

fn path(path: Option<&str>, what: &str) -> Result<String, String> {
    let path = path.unwrap_or("/");
    if !path.starts_with('/') {
        return Err(format!("The path '{path}' of HTTP {what} must start with '/'"));
    }
    match path.parse::<hyper::http::uri::PathAndQuery>() {
        Ok(_) => Ok(path.to_owned()),
        Err(bad) => Err(format!("The path '{path}' of HTTP {what} is none: {bad}")),
    }
}

fn is_secure(scheme: &str) -> Result<bool, String> {
    match scheme {
        "" | "http" => Ok(false),
        "https" => Ok(true),
        other => Err(format!("Unsupported HTTP health check scheme: '{other}'")),
    }
}

fn address(protocol: Protocol) -> IpAddr {
    match protocol {
        Protocol::IPv4 => Ipv4Addr::LOCALHOST.into(),
        Protocol::IPv6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// What a check has found: a number where there is one, of its kind.
pub(crate) fn found(kind: pb::check_info::Type, result: Option<i32>) -> pb::CheckStatusInfo {
    use pb::check_info::Type;
    use pb::check_status_info::{Command, Http, Tcp};
    let mut status = pb::CheckStatusInfo { r#type: Some(kind.into()), ..Default::default() };
    match kind {
        Type::Command => status.command = Some(Command { exit_code: result }),
        Type::Http => {
            let status_code = result.and_then(|code| u32::try_from(code).ok());
            status.http = Some(Http { status_code });
        }
        Type::Tcp => status.tcp = Some(Tcp { succeeded: result.map(|taken| taken != 0) }),
        Type::Unknown => {}
    }
    status
}

/// Says of a status that its task has a check, if it does not say what that found: nothing yet. Mesos:
/// `TaskStatus.check_status`, which is there if and only if there is a check.
pub(crate) fn expect(told: &mut pb::TaskStatus, check: Option<&pb::CheckInfo>) {
    let by_executor = told.source() == pb::task_status::Source::Executor;
    if let Some(check) = check.filter(|_| by_executor && told.check_status.is_none()) {
        told.check_status = Some(found(check.r#type(), None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::transcode::from_json;

    fn check(json: &str) -> Result<Check, String> {
        Check::of(&from_json(json.as_bytes()).unwrap())
    }

    fn health(json: &str) -> Result<Health, String> {
        Health::of(&from_json(json.as_bytes()).unwrap())
    }

    #[test]
    fn what_is_not_said_is_what_mesos_takes() {
        let read = health(r#"{"type":"HTTP","http":{"port":80}}"#).unwrap();
        let localhost = Ipv4Addr::LOCALHOST.into();
        let http = Http { secure: false, address: localhost, port: 80, path: "/".to_owned() };
        assert_eq!(read.look, Look::Http(http));
        let timeout_us = Some(20_000_000);
        let rhythm = Rhythm { delay_us: 15_000_000, interval_us: 10_000_000, timeout_us };
        assert_eq!((read.rhythm, read.grace_us, read.failures_max), (rhythm, 10_000_000, 3));
        let read =
            check(r#"{"type":"TCP","tcp":{"port":1},"timeout_seconds":0,"interval_seconds":0}"#);
        let read = read.unwrap();
        assert_eq!((read.rhythm.timeout_us, read.rhythm.interval_us), (None, INTERVAL_MIN_US));
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_the_words_of_mesos() {
        for (json, words) in [
            ("{}", "CheckInfo must specify 'type'"),
            (r#"{"type":"UNKNOWN"}"#, "'UNKNOWN' is not a valid check type"),
            (r#"{"type":"COMMAND"}"#, "Expecting 'command' to be set for COMMAND check"),
            (r#"{"type":"COMMAND","command":{"command":{}}}"#, "must contain 'shell command'"),
            (r#"{"type":"HTTP","http":{"port":80,"path":"x"}}"#, "must start with '/'"),
            (r#"{"type":"TCP","tcp":{"port":70000}}"#, "not between 1 and 65535"),
            (r#"{"type":"TCP","tcp":{"port":7},"delay_seconds":-1}"#, "'delay_seconds'"),
        ] {
            let why = check(json).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        for (json, words) in [
            ("{}", "HealthCheck must specify 'type'"),
            (r#"{"type":"TCP"}"#, "Expecting 'tcp' to be set for TCP health check"),
            (r#"{"type":"HTTP","http":{"port":80,"scheme":"ftp"}}"#, "scheme: 'ftp'"),
            (r#"{"type":"TCP","tcp":{"port":7},"grace_period_seconds":-1}"#, "'grace_period"),
        ] {
            let why = health(json).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn a_status_has_the_part_of_its_kind_even_when_nothing_was_found() {
        use pb::check_info::Type;
        assert_eq!(found(Type::Command, Some(3)).command.unwrap().exit_code, Some(3));
        assert_eq!(found(Type::Command, None).command.unwrap().exit_code, None);
        assert_eq!(found(Type::Tcp, Some(0)).tcp.unwrap().succeeded, Some(false));
        assert_eq!(found(Type::Http, Some(404)).http.unwrap().status_code, Some(404));
    }
}
