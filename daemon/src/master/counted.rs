//! What peers have said to this master since it began, counted under the names of Mesos' metrics.

use std::cell::RefCell;
use std::collections::BTreeMap;

use mesita_core::wire::Head;
use mesita_core::wire::agent::AgentCall;
use mesita_core::wire::call::Verb;

/// Every kind that is counted.
const NAMES: [&str; 36] = [
    "invalid_executor_to_framework_messages",
    "invalid_framework_to_executor_messages",
    "invalid_operation_status_update_acknowledgements",
    "invalid_operation_status_updates",
    "invalid_status_update_acknowledgements",
    "invalid_status_updates",
    // Nobody says these here: who it is everybody proves otherwise, or with its first word.
    "messages_authenticate",
    "messages_deactivate_framework",
    "messages_decline_offers",
    "messages_executor_to_framework",
    "messages_exited_executor",
    "messages_framework_to_executor",
    "messages_kill_task",
    "messages_launch_tasks",
    "messages_operation_status_update",
    "messages_operation_status_update_acknowledgement",
    "messages_reconcile_operations",
    "messages_reconcile_tasks",
    "messages_register_framework",
    "messages_register_slave",
    "messages_reregister_framework",
    "messages_reregister_slave",
    "messages_resource_request",
    "messages_revive_offers",
    "messages_status_update",
    "messages_status_update_acknowledgement",
    "messages_suppress_offers",
    "messages_unregister_framework",
    "messages_unregister_slave",
    "messages_update_slave",
    "valid_executor_to_framework_messages",
    "valid_framework_to_executor_messages",
    "valid_operation_status_update_acknowledgements",
    "valid_operation_status_updates",
    "valid_status_update_acknowledgements",
    "valid_status_updates",
];

/// What somebody says of which is counted what comes of it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Awaited {
    taken: &'static str,
    refused: &'static str,
}

impl Awaited {
    /// Of what somebody says; none for everything else.
    pub(super) fn of(head: &Head<'_>) -> Option<Self> {
        let awaited = |taken, refused| Some(Self { taken, refused });
        match name_of(head)? {
            "messages_status_update" => awaited("valid_status_updates", "invalid_status_updates"),
            "messages_status_update_acknowledgement" => awaited(
                "valid_status_update_acknowledgements",
                "invalid_status_update_acknowledgements",
            ),
            "messages_operation_status_update" => {
                awaited("valid_operation_status_updates", "invalid_operation_status_updates")
            }
            "messages_operation_status_update_acknowledgement" => awaited(
                "valid_operation_status_update_acknowledgements",
                "invalid_operation_status_update_acknowledgements",
            ),
            "messages_executor_to_framework" => awaited(
                "valid_executor_to_framework_messages",
                "invalid_executor_to_framework_messages",
            ),
            "messages_framework_to_executor" => awaited(
                "valid_framework_to_executor_messages",
                "invalid_framework_to_executor_messages",
            ),
            _ => None,
        }
    }
}

/// How many of each there were.
#[derive(Default)]
pub(super) struct Counted(RefCell<BTreeMap<&'static str, u64>>);

impl Counted {
    /// Counts what somebody says.
    pub(super) fn said(&self, head: &Head<'_>) {
        if let Some(name) = name_of(head) {
            self.count(name);
        }
    }

    /// Counts what came of it: it was taken, or refused.
    pub(super) fn came_of(&self, awaited: Awaited, taken: bool) {
        self.count(if taken { awaited.taken } else { awaited.refused });
    }

    fn count(&self, name: &'static str) {
        *self.0.borrow_mut().entry(name).or_default() += 1;
    }

    /// All of them with their numbers.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counted = self.0.borrow().clone();
        NAMES.into_iter().map(move |name| (name, counted.get(name).copied().unwrap_or_default()))
    }
}

fn name_of(head: &Head<'_>) -> Option<&'static str> {
    match head {
        Head::Call(call) => Some(match call.verb {
            Verb::Subscribe(_) if call.framework.is_none() => "messages_register_framework",
            Verb::Subscribe(_) => "messages_reregister_framework",
            Verb::Teardown => "messages_unregister_framework",
            Verb::Accept(_) => "messages_launch_tasks",
            Verb::Decline { .. } => "messages_decline_offers",
            Verb::Revive { .. } => "messages_revive_offers",
            Verb::Suppress { .. } => "messages_suppress_offers",
            Verb::Kill { .. } => "messages_kill_task",
            Verb::Acknowledge { .. } => "messages_status_update_acknowledgement",
            Verb::AcknowledgeOperation { .. } => "messages_operation_status_update_acknowledgement",
            Verb::Reconcile { .. } => "messages_reconcile_tasks",
            Verb::ReconcileOperations { .. } => "messages_reconcile_operations",
            Verb::Message { .. } => "messages_framework_to_executor",
            Verb::Request { .. } => "messages_resource_request",
            // Mesos has no name for these, and a part is counted with the last.
            Verb::AcceptPart(_)
            | Verb::AcceptInverse { .. }
            | Verb::DeclineInverse { .. }
            | Verb::Shutdown { .. }
            | Verb::UpdateFramework(_)
            | Verb::Constrain { .. } => return None,
        }),
        Head::AgentCall(AgentCall::Update { .. }) => Some("messages_status_update"),
        Head::AgentCall(AgentCall::OperationUpdate { .. }) => {
            Some("messages_operation_status_update")
        }
        Head::AgentCall(AgentCall::Message { .. }) => Some("messages_executor_to_framework"),
        Head::AgentCall(AgentCall::ExecutorEnded { .. }) => Some("messages_exited_executor"),
        Head::AgentCall(AgentCall::Leave { .. }) => Some("messages_unregister_slave"),
        Head::AgentCall(AgentCall::Register(of)) if of.agent.is_none() => {
            Some("messages_register_slave")
        }
        Head::AgentCall(AgentCall::Register(_)) => Some("messages_reregister_slave"),
        Head::AgentCall(AgentCall::Totals { .. }) => Some("messages_update_slave"),
        // What else is said has no name there.
        Head::AgentCall(_)
        | Head::Hello(_)
        | Head::Link(_)
        | Head::Svc(_)
        | Head::Event(_)
        | Head::AgentEvent(_)
        | Head::ExecutorCall(_)
        | Head::ExecutorEvent(_)
        | Head::OperatorCall(_)
        | Head::OperatorEvent(_)
        | Head::Gossip(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesita_core::wire::FrameworkId;
    use mesita_core::wire::call::Call;

    #[test]
    fn what_is_counted_has_a_name_that_is_told() {
        let counted = Counted::default();
        let call = Call {
            framework: FrameworkId { epoch: 1, number: 1 },
            ticket: 0,
            verb: Verb::Teardown,
        };
        counted.said(&Head::Call(call));
        let told: Vec<_> = counted.all().filter(|(_, count)| *count > 0).collect();
        assert_eq!(told, [("messages_unregister_framework", 1)]);
        assert_eq!(counted.all().count(), NAMES.len());
    }

    #[test]
    fn what_comes_of_an_acknowledgement_is_counted_under_names_that_are_told() {
        use mesita_core::wire::Uuid;
        let counted = Counted::default();
        let framework = FrameworkId { epoch: 1, number: 1 };
        let verb = Verb::Acknowledge { task: "a", uuid: Uuid::from_bytes([7; 16]) };
        let awaited = Awaited::of(&Head::Call(Call { framework, ticket: 0, verb })).unwrap();
        for taken in [false, true, false] {
            counted.came_of(awaited, taken);
        }
        let told: Vec<_> = counted.all().filter(|(_, count)| *count > 0).collect();
        let of = |word: &str| told.iter().find(|(name, _)| name.starts_with(word)).unwrap().1;
        assert_eq!((told.len(), of("invalid_status"), of("valid_status")), (2, 2, 1));
        let verb = Verb::Teardown;
        assert_eq!(Awaited::of(&Head::Call(Call { framework, ticket: 0, verb })), None);
    }
}
