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

/// The realm of a path; none: everybody may ask, as in Mesos, or whoever answers looks by itself.
pub(crate) fn realm(path: &str) -> Option<Realm> {
    let own = ["/master", "/slave(1)"]
        .iter()
        .find_map(|process| path.strip_prefix(process).filter(|rest| rest.starts_with('/')));
    let path = own.unwrap_or(path);
    if let Some(rest) = path.strip_prefix("/agent/") {
        // The agent's own answers, wherever they are served.
        let inner = rest.find('/').map_or("/", |at| &rest[at..]);
        return if inner.starts_with("/agent/") { Some(Realm::ReadOnly) } else { realm(inner) };
    }
    match path.strip_suffix(".json").unwrap_or(path) {
        "/health" | "/version" | "/redirect" | "/api/v1/executor" => None,
        "/api/v1/scheduler" => Some(Realm::Scheduler),
        "/teardown" | "/weights" | "/quota" | "/reserve" | "/unreserve" | "/create-volumes"
        | "/destroy-volumes" | "/logging/toggle" | "/store" | "/api/v1" => Some(Realm::ReadWrite),
        path if ["/api/v1/", "/maintenance/", "/machine/", "/masters/", "/quota/"]
            .iter()
            .any(|below| path.starts_with(below)) =>
        {
            Some(Realm::ReadWrite)
        }
        _ => Some(Realm::ReadOnly),
    }
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
        for (path, expected) in [
            ("/health", None),
            ("/master/health", None),
            ("/redirect", None),
            ("/slave(1)/api/v1/executor", None),
            ("/api/v1/scheduler", Some(Realm::Scheduler)),
            ("/master/api/v1/scheduler", Some(Realm::Scheduler)),
            ("/api/v1", Some(Realm::ReadWrite)),
            ("/api/v1/anything", Some(Realm::ReadWrite)),
            ("/master/maintenance/status.json", Some(Realm::ReadWrite)),
            ("/weights", Some(Realm::ReadWrite)),
            ("/state.json", Some(Realm::ReadOnly)),
            ("/metrics", Some(Realm::ReadOnly)),
            ("/store", Some(Realm::ReadWrite)),
            ("/masters", Some(Realm::ReadOnly)),
            ("/masters/change", Some(Realm::ReadWrite)),
            ("/agent/x/state", Some(Realm::ReadOnly)),
            ("/agent/x/slave(1)/api/v1", Some(Realm::ReadWrite)),
            ("/agent/x/api/v1/executor", None),
            ("/agent/x/agent/y/health", Some(Realm::ReadOnly)),
            ("/agent/x", Some(Realm::ReadOnly)),
            ("", Some(Realm::ReadOnly)),
        ] {
            assert_eq!(realm(path), expected, "{path}");
        }
    }
}
