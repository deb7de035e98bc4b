//! ACCEPT: what a framework makes of its offers, operation by operation and task by task.

use mesita_core::limits::{NAME_MAX, TASKS_PER_HEAD_MAX};
use mesita_core::table::Full;
use mesita_core::wire::call::{Change, Operation};
use mesita_core::wire::resource::Resource;
use mesita_core::wire::task::Launch;
use mesita_core::wire::{Check as _, FrameworkId, Seq};

use super::{BadCall, Writer};
use crate::pb::mesos::v1 as pb;
use crate::v1::amounts::amount;
use crate::v1::{resources, tasks};
use pb::offer::operation::Type;

/// What is wrong with a task under an executor of another framework.
const FOREIGN: &str =
    "ExecutorInfo has an invalid FrameworkID: leave it out, or name the framework itself";

/// What is wrong with what does not even fit a call of its own.
const TOO_LONG: &str = "It takes more than a message holds: 65,536 bytes without commands and data, or 256 tasks of a group";

/// What has more tasks or operations than fit a head goes in parts.
pub(super) fn few(operations: &[pb::offer::Operation]) -> Result<(), BadCall> {
    let tasks = operations.iter().map(|operation| tasks_of(operation).len()).sum::<usize>();
    let fits = operations.len() <= TASKS_PER_HEAD_MAX && tasks <= TASKS_PER_HEAD_MAX;
    if fits { Ok(()) } else { Err(BadCall::TooLong) }
}

/// The tasks that an operation launches.
pub(super) fn tasks_of(operation: &pb::offer::Operation) -> &[pb::TaskInfo] {
    let group = || operation.launch_group.as_ref().map(|group| &group.task_group.tasks);
    let tasks = match operation.r#type() {
        Type::Launch => operation.launch.as_ref().map(|launch| &launch.task_infos),
        Type::LaunchGroup => group(),
        Type::Unknown
        | Type::Reserve
        | Type::Unreserve
        | Type::Create
        | Type::Destroy
        | Type::GrowVolume
        | Type::ShrinkVolume
        | Type::CreateDisk
        | Type::DestroyDisk => None,
    };
    tasks.map_or(&[], Vec::as_slice)
}

/// As much of a task's id as is told back.
fn short(id: &str) -> &str {
    &id[..id.floor_char_boundary(4 * NAME_MAX)]
}

impl<'s> Writer<'s> {
    /// One operation. What is wrong with it alone keeps no other from being done: it is told to its
    /// framework if it has an id, as Mesos drops it.
    pub(super) fn operation(
        &mut self,
        place: u16,
        operation: &'s pb::offer::Operation,
    ) -> Result<Operation<'s>, BadCall> {
        if self.part.too_long && operation.r#type() != Type::Launch {
            return Ok(self.refused(place, operation, TOO_LONG.to_owned()));
        }
        let said = self.operation_itself(operation);
        // Tasks have their own verdicts.
        if operation.launch.is_some() || operation.launch_group.is_some() {
            return said;
        }
        let why = match said {
            Ok(said) => match said.check() {
                Ok(()) => return Ok(said),
                Err(malformed) => malformed.to_string(),
            },
            Err(BadCall::Invalid(why)) => why,
            Err(bad) => return Err(bad),
        };
        Ok(self.refused(place, operation, why))
    }

    /// An operation that is only told of.
    fn refused(
        &mut self,
        place: u16,
        operation: &'s pb::offer::Operation,
        why: String,
    ) -> Operation<'s> {
        log::info!("an operation of a framework is refused: {why}");
        self.bad.push((place, why));
        let id = operation.id.as_ref().map_or("", |id| id.value.as_str());
        let id = if id.len() <= NAME_MAX { id } else { "" };
        Operation::Reserve(Change { id, resources: Seq::EMPTY })
    }

    fn operation_itself(
        &mut self,
        operation: &'s pb::offer::Operation,
    ) -> Result<Operation<'s>, BadCall> {
        let id = operation.id.as_ref().map_or("", |id| &id.value);
        let missing = |what: &str| {
            BadCall::Invalid(format!("Expecting 'accept.operations.{what}' to be present"))
        };
        match operation.r#type() {
            Type::Unknown => Err(missing("type")),
            Type::Launch => {
                let launch = operation.launch.as_ref().ok_or_else(|| missing("launch"))?;
                let tasks = self.launches(&launch.task_infos, None, id)?;
                Ok(Operation::Launch { tasks })
            }
            Type::LaunchGroup => {
                let group =
                    operation.launch_group.as_ref().ok_or_else(|| missing("launch_group"))?;
                self.group(group, id)
            }
            Type::Reserve => {
                let reserve = operation.reserve.as_ref().ok_or_else(|| missing("reserve"))?;
                if !reserve.source.is_empty() {
                    let (source, list) = (&reserve.source, &reserve.resources);
                    let (source, resources) = resources::moved(source, list, &mut self.scratch)?;
                    return Ok(Operation::Move { id, source, resources });
                }
                Ok(Operation::Reserve(self.change(id, &reserve.resources)?))
            }
            Type::Unreserve => {
                let unreserve = operation.unreserve.as_ref().ok_or_else(|| missing("unreserve"))?;
                Ok(Operation::Unreserve(self.change(id, &unreserve.resources)?))
            }
            Type::Create => {
                let create = operation.create.as_ref().ok_or_else(|| missing("create"))?;
                resources::makeable(&create.volumes)?;
                Ok(Operation::Create(self.change(id, &create.volumes)?))
            }
            Type::Destroy => {
                let destroy = operation.destroy.as_ref().ok_or_else(|| missing("destroy"))?;
                Ok(Operation::Destroy(self.change(id, &destroy.volumes)?))
            }
            Type::GrowVolume => {
                let grow = operation.grow_volume.as_ref().ok_or_else(|| missing("grow_volume"))?;
                let volume = self.resource(&grow.volume)?;
                let addition = self.resource(&grow.addition)?;
                Ok(Operation::Grow { id, volume, addition })
            }
            Type::ShrinkVolume => {
                let shrink =
                    operation.shrink_volume.as_ref().ok_or_else(|| missing("shrink_volume"))?;
                let volume = self.resource(&shrink.volume)?;
                let subtract = amount(shrink.subtract.value)
                    .map_err(|bad| BadCall::Invalid(format!("'shrink_volume.subtract' {bad}")))?;
                Ok(Operation::Shrink { id, volume, subtract })
            }
            Type::CreateDisk | Type::DestroyDisk => {
                let why = "CREATE_DISK and DESTROY_DISK are for disks of resource providers, which no \
                           agent here has";
                Err(BadCall::Invalid(why.to_owned()))
            }
        }
    }

    fn resource(&mut self, resource: &'s pb::Resource) -> Result<Resource<'s>, BadCall> {
        let one = resources::to_wire(std::slice::from_ref(resource), &mut self.scratch)?;
        one.first().ok_or_else(|| Full.into())
    }

    fn change(&mut self, id: &'s str, list: &'s [pb::Resource]) -> Result<Change<'s>, BadCall> {
        Ok(Change { id, resources: resources::to_wire(list, &mut self.scratch)? })
    }

    /// True for an executor that says it is another framework's.
    fn is_foreign(&self, executor: &pb::ExecutorInfo) -> bool {
        let said = executor.framework_id.as_ref();
        said.is_some_and(|id| FrameworkId::parse(&id.value, self.cluster) != Some(self.framework))
    }

    /// Tasks, each by itself: one that makes no sense is refused alone.
    fn launches(
        &mut self,
        infos: &'s [pb::TaskInfo],
        group: Option<(u16, &'s pb::ExecutorInfo)>,
        id: &str,
    ) -> Result<Seq<'s, Launch<'s>>, BadCall> {
        let mut launches = Vec::new();
        for info in infos {
            let agent = self.agent(&info.agent_id);
            if self.part.too_long {
                self.bad.push((self.place, TOO_LONG.to_owned()));
                launches.push(Launch {
                    task: short(&info.task_id.value),
                    ..tasks::nothing_of(info, agent)
                });
                self.place += 1;
                continue;
            }
            let launch = tasks::to_wire(info, agent, group, &mut self.bodies, &mut self.scratch);
            let launch = match launch {
                // It may fit a part of its own.
                Err(bad) if bad.is_too_long() => return Err(BadCall::TooLong),
                Ok(_) if !id.is_empty() => {
                    Err("Operation 'id' must not be set for LAUNCH and LAUNCH_GROUP".to_owned())
                }
                Ok(_) if info.executor.as_ref().is_some_and(|one| self.is_foreign(one)) => {
                    Err(FOREIGN.to_owned())
                }
                // What its message may not hold is wrong with this task alone.
                Ok(launch) => launch.check().map(|()| launch).map_err(|bad| bad.to_string()),
                Err(bad) => Err(bad.to_string()),
            };
            launches.push(launch.unwrap_or_else(|why| {
                self.bad.push((self.place, why));
                tasks::nothing_of(info, agent)
            }));
            self.place += 1;
        }
        Ok(self.scratch.seq::<Launch<'static>>(launches)?)
    }

    fn group(
        &mut self,
        group: &'s pb::offer::operation::LaunchGroup,
        id: &str,
    ) -> Result<Operation<'s>, BadCall> {
        let number = self.groups;
        self.groups += 1;
        let infos = &group.task_group.tasks;
        let (bodies, scratch) = (&mut self.bodies, &mut self.scratch);
        let executor = tasks::group_executor(&group.executor)
            .and_then(|()| tasks::executor_to_wire(&group.executor, bodies, scratch));
        if executor.as_ref().is_err_and(tasks::BadTask::is_too_long) {
            return Err(BadCall::TooLong);
        }
        let executor = executor.map_err(|bad| bad.to_string()).and_then(|executor| {
            executor.check().map(|()| executor).map_err(|malformed| malformed.to_string())
        });
        let shares = infos.iter().filter(|info| tasks::shares_cgroups(info)).count();
        let executor = if self.is_foreign(&group.executor) {
            Err(FOREIGN.to_owned())
        } else if shares != 0 && shares != infos.len() {
            let why = "If set, the value of 'share_cgroups' must be the same for all tasks in each \
                       task group and under a single executor";
            Err(why.to_owned())
        } else {
            executor
        };
        let executor = executor.unwrap_or_else(|why| {
            // What is wrong with it is wrong with all of them.
            let places = (self.place..).take(infos.len());
            self.bad.extend(places.map(|place| (place, why.clone())));
            tasks::NO_EXECUTOR
        });
        let tasks = self.launches(infos, Some((number, &group.executor)), id)?;
        Ok(Operation::LaunchGroup { executor, tasks })
    }
}

#[cfg(test)]
mod tests {
    use mesita_core::master::OPERATION_PLACES;
    use mesita_core::wire::call::{Operation, Verb};
    use mesita_core::wire::{Head, decode};

    use crate::v1::calls::tests::said;
    use crate::v1::calls::{NO_OFFER, REFUSE_US};

    #[test]
    fn a_bad_task_is_refused_alone() {
        let json = r#"{"type":"ACCEPT","framework_id":{"value":"f"},"accept":{
            "offer_ids":[{"value":"0000000000000007-1-O0"},{"value":"stranger"}],
            "operations":[{"type":"LAUNCH","launch":{"task_infos":[
              {"name":"a","task_id":{"value":"a"},"agent_id":{"value":"0000000000000007-1-S1"}},
              {"name":"b","task_id":{"value":"b"},"agent_id":{"value":"0000000000000007-1-S1"},
               "command":{"value":"true"},"resources":[
                 {"name":"cpus","type":"SCALAR","scalar":{"value":0.5}}]},
              {"name":"c","task_id":{"value":"c"},"agent_id":{"value":"nobody"},
               "command":{"value":"true"},"resources":[
                 {"name":"cpus","type":"SCALAR","scalar":{"value":-1}}]}]}}],
            "filters":{"refuse_seconds":-3}}}"#;
        let said = said(json).unwrap();
        let bad: Vec<u16> = said.bad.iter().map(|(place, _)| *place).collect();
        assert_eq!(bad, [0, 2]);
        let Head::Call(call) = decode(&said.head).unwrap() else { panic!() };
        let Verb::Accept(accept) = call.verb else { panic!() };
        assert_eq!(accept.refuse_us, Some(REFUSE_US));
        assert_eq!(accept.offers.iter().last(), Some(NO_OFFER));
        let Some(Operation::Launch { tasks }) = accept.operations.first() else { panic!() };
        let names: Vec<&str> = tasks.iter().map(|task| task.task).collect();
        assert_eq!(names, ["a", "b", "c"]);
        // The public body of the one that is well, and its command.
        assert_eq!(said.bodies.len(), 2);
    }

    #[test]
    fn what_is_wrong_with_one_operation_keeps_no_other_from_being_done() {
        let json = r#"{"type":"ACCEPT","framework_id":{"value":"f"},"accept":{
            "offer_ids":[{"value":"0000000000000007-1-O0"}],"operations":[
            {"type":"NEWER"},
            {"type":"RESERVE","id":{"value":"r"},"reserve":{"resources":[
              {"name":"cpus","type":"SCALAR","scalar":{"value":1},
               "reservations":[{"type":"DYNAMIC","role":"-x"}]}]}},
            {"type":"LAUNCH","launch":{"task_infos":[
              {"name":"a","task_id":{"value":"a"},"agent_id":{"value":"0000000000000007-1-S1"},
               "executor":{"executor_id":{"value":"a/b"},"command":{"value":"true"}},
               "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}}]},
              {"name":"b","task_id":{"value":"b"},"agent_id":{"value":"0000000000000007-1-S1"},
               "command":{"value":"true"},
               "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}}]}]}},
            {"type":"LAUNCH_GROUP","launch_group":{
              "executor":{"type":"DEFAULT","executor_id":{"value":""}},
              "task_group":{"tasks":[
              {"name":"c","task_id":{"value":"c"},"agent_id":{"value":"0000000000000007-1-S1"},
               "command":{"value":"true"},
               "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}}]}]}}}]}}"#;
        let said = said(json).unwrap();
        let bad: Vec<u16> = said.bad.iter().map(|(place, _)| *place).collect();
        assert_eq!(bad, [OPERATION_PLACES, OPERATION_PLACES + 1, 0, 2]);
        let Head::Call(call) = decode(&said.head).unwrap() else { panic!() };
        let Verb::Accept(accept) = call.verb else { panic!() };
        let ids: Vec<&str> = accept.operations.iter().map(|one| one.id()).collect();
        assert_eq!(ids, ["", "r", "", ""]);
    }
}
