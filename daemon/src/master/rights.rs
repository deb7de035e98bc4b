//! What `--acls` let callers do on a master: asked here for every call, whichever way it came.
//!
//! Mesos: the `authorize...` functions of its master, with their sentences.

use hyper::StatusCode;
use mesita_core::acls::Action;
use mesita_core::doors::{self, Rights};
use mesita_core::wire::FrameworkId;
use mesita_core::wire::call::Operation;
use mesita_core::wire::operator::OperatorVerb;
use mesita_core::wire::resource::Resource;

use super::MasterNode;
use super::operator::OPERATES_NOT;
use crate::access::denied;
use crate::audit;
use crate::doors::Caller;
use crate::http::{Early, early};

impl MasterNode {
    /// A sentence unless a caller may operate the cluster so. That it was asked for is noted.
    pub(super) fn allowed(&self, caller: &Caller, verb: &OperatorVerb<'_>) -> Result<(), String> {
        let may = self.may_operate_so(caller, verb);
        let (what, of) = audit::told(verb, self.cluster());
        let operates = caller.rights.has(Rights::OPERATE);
        let denied = may.as_ref().err().map(String::as_str);
        let denied = denied.or((!operates).then_some("who asks does not operate the cluster"));
        self.audit.note(caller, what, &of, denied);
        may?;
        // Of whom the core refuses, a principal can be given what it lacks.
        if caller.principal().is_some() && !operates {
            return Err(OPERATES_NOT.to_owned());
        }
        Ok(())
    }

    fn may_operate_so(&self, caller: &Caller, verb: &OperatorVerb<'_>) -> Result<(), String> {
        let may = |action: Action, object: Option<&str>| {
            let may = self.options.access.may(caller, action, object);
            if may { Ok(()) } else { Err(denied(caller, action, object)) }
        };
        match *verb {
            OperatorVerb::SetQuota { role, .. } => may(Action::UpdateQuota, Some(role)),
            OperatorVerb::SetWeight { role, .. } => may(Action::UpdateWeight, Some(role)),
            OperatorVerb::Deactivate { deactivated: true, .. } => {
                may(Action::DeactivateAgent, None)
            }
            OperatorVerb::Deactivate { .. } => may(Action::ReactivateAgent, None),
            OperatorVerb::Schedule { .. } => may(Action::UpdateMaintenanceSchedule, None),
            OperatorVerb::Down { down: true, .. } => may(Action::StartMaintenance, None),
            OperatorVerb::Down { .. } => may(Action::StopMaintenance, None),
            OperatorVerb::Drain { gone, .. } => {
                may(Action::DrainAgent, None)?;
                if gone { may(Action::MarkAgentGone, None) } else { Ok(()) }
            }
            OperatorVerb::MarkGone { .. } => may(Action::MarkAgentGone, None),
            OperatorVerb::Teardown { framework } => {
                let principal = self
                    .catalog
                    .borrow()
                    .framework(framework)
                    .map(|(_, row)| row.principal.clone());
                let principal = principal.filter(|principal| !principal.is_empty());
                may(Action::TeardownFramework, principal.as_deref())
            }
            OperatorVerb::Operate { operation, .. } => {
                operation.iter().try_for_each(|operation| asked_of(&operation, &may))
            }
            OperatorVerb::Masters { .. } => may(Action::ChangeMasters, None),
            // Mesos has no such call, and so no list for it.
            // What is done once is looked at when it is done.
            OperatorVerb::Whitelist { .. } | OperatorVerb::Once { .. } => Ok(()),
        }
    }

    /// The same, as an answer.
    pub(super) fn check_asked(
        &self,
        caller: &Caller,
        verb: &OperatorVerb<'_>,
    ) -> Result<(), Early> {
        self.allowed(caller, verb).map_err(|why| early(StatusCode::FORBIDDEN, why))
    }

    /// The same before all of something is asked for: noted only if it is denied.
    pub(super) fn check_allowed(
        &self,
        caller: &Caller,
        verb: &OperatorVerb<'_>,
    ) -> Result<(), Early> {
        let may = self.may_operate_so(caller, verb);
        if may.is_ok() { Ok(()) } else { self.check_asked(caller, verb) }
    }

    /// A sentence unless a principal may be offered resources of all these roles.
    pub(super) fn may_use_roles<'r>(
        &self,
        principal: &str,
        roles: impl Iterator<Item = &'r str> + Clone,
    ) -> Result<(), String> {
        let access = &self.options.access;
        let principal = Some(principal).filter(|principal| !principal.is_empty());
        let may = |role: &str| access.allows(principal, Action::RegisterFramework, Some(role));
        if roles.clone().all(may) {
            return Ok(());
        }
        let roles: Vec<&str> = roles.collect();
        Err(format!("Not authorized to use roles '{{ {} }}'", roles.join(", ")))
    }

    /// What says whether tasks of a framework may run as a user: their own, else their executor's, else
    /// that of the framework.
    pub(super) fn may_run(
        &self,
        framework: FrameworkId,
    ) -> impl Fn(&str, &str) -> Result<(), String> {
        let access = &self.options.access;
        let known = self.catalog.borrow().framework(framework).map(|(_, row)| row.clone());
        let known = known.filter(|_| !access.is_open(&[Action::RunTask]));
        move |of_task, of_executor| {
            let Some(row) = &known else { return Ok(()) };
            let user = doors::user(of_task, of_executor, &row.user, &row.caller);
            let principal = Some(&*row.principal).filter(|principal| !principal.is_empty());
            if access.allows(principal, Action::RunTask, Some(user)) {
                return Ok(());
            }
            Err(format!("Not authorized to launch as user '{user}'"))
        }
    }
}

impl MasterNode {
    /// What says whether a framework may do an operation on resources, by its principal.
    pub(super) fn may_operate(
        &self,
        framework: FrameworkId,
    ) -> impl Fn(&Operation<'_>) -> Result<(), String> {
        let access = &self.options.access;
        let principal = self
            .catalog
            .borrow()
            .framework(framework)
            .map(|(_, row)| row.principal.clone())
            .filter(|principal| !principal.is_empty());
        move |operation| {
            asked_of(operation, &|action, object| {
                if access.allows(principal.as_deref(), action, object) {
                    return Ok(());
                }
                let who = principal.as_deref().unwrap_or("ANY");
                Err(format!("Not authorized to do this to resources as '{who}'"))
            })
        }
    }
}

/// What an operation on resources asks for: each role, or whose they were.
fn asked_of(
    operation: &Operation<'_>,
    may: &impl Fn(Action, Option<&str>) -> Result<(), String>,
) -> Result<(), String> {
    match operation {
        Operation::Reserve(change) => change
            .resources
            .iter()
            .try_for_each(|of| may(Action::ReserveResources, Some(role(&of)))),
        Operation::Unreserve(change) => change
            .resources
            .iter()
            .try_for_each(|of| may(Action::UnreserveResources, reserver(&of))),
        Operation::Move { source, resources, .. } => {
            source.iter().try_for_each(|of| may(Action::UnreserveResources, reserver(&of)))?;
            resources.iter().try_for_each(|of| may(Action::ReserveResources, Some(role(&of))))
        }
        Operation::Create(change) => {
            change.resources.iter().try_for_each(|of| may(Action::CreateVolume, Some(role(&of))))
        }
        Operation::Destroy(change) => change.resources.iter().try_for_each(|of| {
            let creator = of.traits.disk.map(|disk| disk.principal).filter(|one| !one.is_empty());
            may(Action::DestroyVolume, creator)
        }),
        Operation::Grow { volume, .. } | Operation::Shrink { volume, .. } => {
            may(Action::ResizeVolume, Some(role(volume)))
        }
        Operation::Launch { .. } | Operation::LaunchGroup { .. } => Ok(()),
    }
}

/// The role that a resource is reserved for.
fn role<'r>(of: &Resource<'r>) -> &'r str {
    of.traits.reservations.iter().last().map_or("*", |layer| layer.role)
}

/// Who reserved it.
fn reserver<'r>(of: &Resource<'r>) -> Option<&'r str> {
    let principal = of.traits.reservations.iter().last().map(|layer| layer.principal);
    principal.filter(|principal| !principal.is_empty())
}
