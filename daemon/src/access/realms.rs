//! What belongs together over HTTP: a realm, whose credentials one flag asks for.
//!
//! Mesos: the realms in `master/constants.hpp` and `slave/constants.hpp`, and the routes in
//! `Master::initialize` and `Slave::initialize`.

/// What is asked for, when a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Realm {
    /// What only tells.
    ReadOnly,
    /// What changes something, and Mesos' operator API as a whole.
    ReadWrite,
    /// Mesos' scheduler API.
    Scheduler,
}

impl Realm {
    /// The end of its name, after `mesos-master-` or `mesos-agent-`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "readonly",
            Self::ReadWrite => "readwrite",
            Self::Scheduler => "scheduler",
        }
    }
}

/// The realm of a path of a daemon of a kind; none: everybody may ask, as in Mesos, or whoever answers
/// looks by itself. It follows the routes of the daemon: what they take for the same has the same realm.
pub(crate) fn realm(kind: &str, path: &str) -> Option<Realm> {
    let path = under_process(path);
    if kind == AGENT {
        return of_agent(path);
    }
    match path.strip_prefix("/agent/") {
        // The agent's own answers, wherever they are served.
        Some(rest) => match under_process(rest.find('/').map_or("/", |at| &rest[at..])) {
            // The agent does not have to be asked by everybody.
            "/health" | "/version" => Some(Realm::ReadOnly),
            path => of_agent(path),
        },
        None if is_below(path, "/api/v1/scheduler") => Some(Realm::Scheduler),
        None if path == "/redirect" => None,
        None => of_any(path),
    }
}

/// The kind of a daemon that runs tasks.
const AGENT: &str = "agent";

fn of_agent(path: &str) -> Option<Realm> {
    // Executors show a token of their own.
    let own = path.strip_suffix(".json").unwrap_or(path);
    if is_below(own, "/api/v1/executor") { None } else { of_any(path) }
}

fn of_any(path: &str) -> Option<Realm> {
    match path.strip_suffix(".json").unwrap_or(path) {
        "/health" | "/version" => None,
        "/teardown"
        | "/weights"
        | "/quota"
        | "/reserve"
        | "/unreserve"
        | "/create-volumes"
        | "/destroy-volumes"
        | "/logging/toggle"
        | "/store"
        | "/api/v1"
        | "/maintenance/schedule" => Some(Realm::ReadWrite),
        path if ["/api/v1/", "/images/", "/machine/", "/masters/", "/quota/"]
            .iter()
            .any(|below| path.starts_with(below)) =>
        {
            Some(Realm::ReadWrite)
        }
        _ => Some(Realm::ReadOnly),
    }
}

fn is_below(path: &str, route: &str) -> bool {
    path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path without the name of its process, under which libprocess serves everything, too.
fn under_process(path: &str) -> &str {
    let own = ["/master", "/slave(1)"]
        .iter()
        .find_map(|process| path.strip_prefix(process).filter(|rest| rest.starts_with('/')));
    own.unwrap_or(path)
}

/// The path by which `get_endpoints` of `--acls` names what tells of a daemon itself; none: the rules
/// of what it tells of decide. Mesos has six of them, and of `/metrics` but the snapshot.
pub(crate) fn endpoint(path: &str) -> Option<&'static str> {
    let path = under_process(path);
    let path = path.strip_suffix(".json").unwrap_or(path);
    let all = [
        "/containers",
        "/containerizer/debug",
        "/files/debug",
        "/logging/toggle",
        "/metrics",
        "/metrics/containers",
        "/metrics/snapshot",
        "/monitor/statistics",
    ];
    all.into_iter().find(|one| *one == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_of_a_daemon_is_named_by_its_path() {
        assert_eq!(endpoint("/slave(1)/monitor/statistics.json"), Some("/monitor/statistics"));
        assert_eq!(endpoint("/metrics"), Some("/metrics"));
        assert_eq!(endpoint("/state"), None);
    }

    #[test]
    fn a_path_has_the_realm_that_mesos_gives_it() {
        for (kind, path, expected) in [
            ("master", "/health", None),
            ("master", "/master/health", None),
            ("agent", "/slave(1)/health", None),
            ("master", "/redirect", None),
            ("agent", "/redirect", Some(Realm::ReadOnly)),
            ("agent", "/slave(1)/api/v1/executor", None),
            ("agent", "/api/v1/executor/x", None),
            ("agent", "/api/v1/executor.json", None),
            ("agent", "/api/v1/executors", Some(Realm::ReadWrite)),
            // It is the operator API there, as whatever else is below that.
            ("master", "/api/v1/executor", Some(Realm::ReadWrite)),
            ("master", "/api/v1/scheduler", Some(Realm::Scheduler)),
            ("master", "/master/api/v1/scheduler", Some(Realm::Scheduler)),
            ("master", "/api/v1/scheduler/", Some(Realm::Scheduler)),
            ("master", "/api/v1/scheduler/x", Some(Realm::Scheduler)),
            ("master", "/api/v1/scheduler.json", Some(Realm::ReadWrite)),
            ("agent", "/api/v1/scheduler", Some(Realm::ReadWrite)),
            ("master", "/agent/x/api/v1/scheduler", Some(Realm::ReadWrite)),
            ("master", "/api/v1", Some(Realm::ReadWrite)),
            ("master", "/api/v1/anything", Some(Realm::ReadWrite)),
            ("master", "/master/maintenance/status.json", Some(Realm::ReadOnly)),
            ("master", "/maintenance/schedule", Some(Realm::ReadWrite)),
            ("master", "/weights", Some(Realm::ReadWrite)),
            ("master", "/state.json", Some(Realm::ReadOnly)),
            ("master", "/metrics", Some(Realm::ReadOnly)),
            ("master", "/store", Some(Realm::ReadWrite)),
            ("master", "/masters", Some(Realm::ReadOnly)),
            ("master", "/masters/change", Some(Realm::ReadWrite)),
            ("master", "/agent/x/state", Some(Realm::ReadOnly)),
            ("master", "/agent/x/slave(1)/api/v1", Some(Realm::ReadWrite)),
            ("master", "/agent/x/api/v1/executor", None),
            ("master", "/agent/x/agent/y/health", Some(Realm::ReadOnly)),
            ("master", "/agent/x", Some(Realm::ReadOnly)),
            ("master", "/agent/x/images/pull", Some(Realm::ReadWrite)),
            ("master", "", Some(Realm::ReadOnly)),
        ] {
            assert_eq!(realm(kind, path), expected, "{path} of {kind}");
        }
    }
}
