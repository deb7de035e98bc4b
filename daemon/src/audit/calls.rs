//! What calls of Mesos' operator APIs change, by their names.

use crate::pb::mesos::v1 as pb;
use pb::ContainerId;
use pb::agent::Call;

/// How the names of calls begin that change nothing.
const READS: [&str; 7] =
    ["GET_", "LIST_", "READ_", "WAIT_", "SUBSCRIBE", "UNKNOWN", "ATTACH_CONTAINER_OUTPUT"];

/// True for the name of a call that changes something. One that nobody has thought of does.
pub(crate) fn changes(name: &str) -> bool {
    !READS.iter().any(|begin| name.starts_with(begin))
}

/// A call's name as it is told.
pub(crate) fn shown(name: &str) -> String {
    name.to_lowercase().replace('_', " ")
}

/// What a call changes at an agent, and in which container; none: it only reads, or is none.
#[allow(deprecated)] // Calls that Mesos has given up are made, too.
pub(crate) fn at_agent(call: &Call) -> Option<(String, String)> {
    let name = call.r#type().as_str_name();
    if !changes(name) {
        return None;
    }
    let input = call.attach_container_input.as_ref();
    let of = [
        call.launch_container.as_ref().map(|one| &one.container_id),
        call.launch_nested_container.as_ref().map(|one| &one.container_id),
        call.launch_nested_container_session.as_ref().map(|one| &one.container_id),
        call.kill_container.as_ref().map(|one| &one.container_id),
        call.kill_nested_container.as_ref().map(|one| &one.container_id),
        call.remove_container.as_ref().map(|one| &one.container_id),
        call.remove_nested_container.as_ref().map(|one| &one.container_id),
        input.and_then(|one| one.container_id.as_ref()),
    ];
    let container = of.into_iter().flatten().next().map(container).unwrap_or_default();
    Some((shown(name), container))
}

/// A container's id below those that it is in.
fn container(id: &ContainerId) -> String {
    let above = std::iter::successors(Some(id), |id| id.parent.as_deref());
    let mut names: Vec<&str> = above.map(|id| &*id.value).collect();
    names.reverse();
    names.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_known_read_changes_something() {
        let master = (0..100).filter_map(|kind| pb::master::call::Type::try_from(kind).ok());
        let agent = (0..100).filter_map(|kind| pb::agent::call::Type::try_from(kind).ok());
        let master = master.map(|kind| kind.as_str_name());
        let names: Vec<&str> = master.chain(agent.map(|kind| kind.as_str_name())).collect();
        assert!(names.len() > 60, "{names:?}");
        let some = ["TEARDOWN", "PRUNE_IMAGES", "ATTACH_CONTAINER_INPUT", "SET_LOGGING_LEVEL"];
        assert!(some.iter().all(|name| names.contains(name) && changes(name)));
        let reads = ["GET_STATE", "SUBSCRIBE", "WAIT_CONTAINER", "ATTACH_CONTAINER_OUTPUT"];
        assert!(reads.iter().all(|name| names.contains(name) && !changes(name)));
        assert!(changes("FROBNICATE"), "one of a later release");
    }
}
