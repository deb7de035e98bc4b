//! Calls that are longer than what the core takes at once, in parts that it does. Each task and each
//! operation has its own verdict, so what fits no part is refused alone.

use std::mem;

use mesita_core::limits::{HEAD_MAX, TASKS_PER_HEAD_MAX};
use mesita_core::wire::FrameworkId;
use prost::Message;

use super::accepts::tasks_of;
use super::{BadCall, Said, part_to_wire};
use crate::pb::mesos::v1 as pb;
use pb::offer::Operation;
use pb::offer::operation::{Launch, Type};
use pb::scheduler::Call;
use pb::scheduler::call::{Accept, Decline, Reconcile};

/// Which part of an ACCEPT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// None follows: what is left of the offers is given back.
    pub(super) last: bool,
    /// Nothing of it fits a call, however it is divided: all of it is refused.
    pub(super) too_long: bool,
}

const LAUNCH: Option<i32> = Some(Type::Launch as i32);
/// Bytes of names of one part of a call; the rest of a head is theirs twice over.
const PART: usize = HEAD_MAX / 3;

/// A RECONCILE as calls that each ask about some tasks.
pub(crate) fn reconciliations(mut call: Call) -> Vec<Call> {
    let Some(reconcile) = &mut call.reconcile else { return vec![call] };
    let tasks = mem::take(&mut reconcile.tasks);
    let mut lists = vec![Vec::new()];
    let mut bytes = 0;
    for task in tasks {
        bytes += task.encoded_len();
        let last = lists.last().map_or(0, Vec::len);
        if last > 0 && (last >= TASKS_PER_HEAD_MAX || bytes > PART) {
            bytes = task.encoded_len();
            lists.push(Vec::new());
        }
        lists.last_mut().into_iter().for_each(|list| list.push(task.clone()));
    }
    let part = |tasks| Call { reconcile: Some(Reconcile { tasks }), ..call.clone() };
    lists.into_iter().map(part).collect()
}

/// Offers that one part of a call names.
const OFFERS: usize = 512;

/// A call that names nothing but offers, as calls that each name some of them; any other as it is.
pub(crate) fn declines(mut call: Call) -> Vec<Call> {
    let lists = |all: Vec<pb::OfferId>| all.chunks(OFFERS).map(<[_]>::to_vec).collect::<Vec<_>>();
    if let Some(decline) = call.decline.as_mut().filter(|one| one.offer_ids.len() > OFFERS) {
        let all = lists(mem::take(&mut decline.offer_ids)).into_iter();
        let part = |offer_ids| {
            let decline = call.decline.clone();
            Call { decline: decline.map(|one| Decline { offer_ids, ..one }), ..call.clone() }
        };
        return all.map(part).collect();
    }
    vec![call]
}

/// An ACCEPT for the core of this cluster, in as many parts as it takes: it is cut in half until
/// each part fits.
pub(crate) fn accepts(
    call: Call,
    framework: FrameworkId,
    cluster: u64,
) -> Result<Vec<Said>, BadCall> {
    let mut said = Vec::new();
    let mut rest = vec![(call, Part { last: true, too_long: false })];
    while let Some((mut call, part)) = rest.pop() {
        match part_to_wire(&call, framework, cluster, part) {
            Ok(one) => said.push(one),
            Err(BadCall::TooLong) => match second_half(&mut call) {
                Some(second) => {
                    rest.push((second, part));
                    rest.push((call, Part { last: false, ..part }));
                }
                // Then it is the list of offers that is too long.
                None if part.too_long => return Err(BadCall::TooLong),
                None => {
                    apart(&mut call);
                    rest.push((call, Part { too_long: true, ..part }));
                }
            },
            Err(bad) => return Err(bad),
        }
    }
    Ok(said)
}

/// Takes the second half of what an ACCEPT says; none when that is a single thing.
fn second_half(call: &mut Call) -> Option<Call> {
    let accept = call.accept.as_mut()?;
    let operations = &mut accept.operations;
    let second = if operations.len() > 1 {
        operations.split_off(operations.len() / 2)
    } else {
        let only = operations.first_mut()?;
        let count = tasks_of(only).len();
        let tasks = only.launch.as_mut().filter(|_| only.r#type == LAUNCH && count > 1)?;
        let task_infos = tasks.task_infos.split_off(count / 2);
        let launch = Some(Launch { task_infos });
        vec![Operation { r#type: LAUNCH, id: only.id.clone(), launch, ..Operation::default() }]
    };
    let (offer_ids, filters) = (accept.offer_ids.clone(), accept.filters);
    let accept = Some(Accept { offer_ids, operations: second, filters });
    let (framework_id, r#type) = (call.framework_id.clone(), call.r#type);
    Some(Call { framework_id, r#type, accept, ..Call::default() })
}

/// The tasks of a group that cannot be, as tasks that are each refused.
fn apart(call: &mut Call) {
    for operation in call.accept.iter_mut().flat_map(|accept| &mut accept.operations) {
        if operation.r#type() == Type::LaunchGroup {
            let launch = Some(Launch { task_infos: tasks_of(operation).to_vec() });
            *operation = Operation { r#type: LAUNCH, launch, ..Operation::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use mesita_core::wire::call::Verb;
    use mesita_core::wire::{Head, decode};
    use serde_json::{Value, json};

    use super::*;
    use crate::http::transcode::from_json;
    use crate::v1::calls::tests::{CLUSTER, FRAMEWORK};

    fn task(name: &str) -> Value {
        json!({"name": name, "task_id": {"value": name}, "agent_id": {"value": "0000000000000007-1-S1"},
               "command": {"value": name},
               "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}}]})
    }

    fn launch(tasks: Vec<Value>) -> Value {
        json!({"type": "LAUNCH", "launch": {"task_infos": tasks}})
    }

    /// The tasks of each part, whether it is the last, and how many are refused.
    fn parts(operations: Vec<Value>) -> Vec<(Vec<String>, bool, usize)> {
        let call = json!({"type": "ACCEPT", "framework_id": {"value": "f"}, "accept": {
            "offer_ids": [{"value": "0000000000000007-1-O0"}], "operations": operations}});
        let call: Call = from_json(call.to_string().as_bytes()).unwrap();
        let parts = accepts(call, FRAMEWORK, CLUSTER).unwrap();
        let shown = parts.iter().map(|said| {
            assert!(said.head.len() <= HEAD_MAX && said.bodies.len() <= 512);
            let Head::Call(call) = decode(&said.head).unwrap() else { panic!() };
            let last = matches!(call.verb, Verb::Accept(_));
            let accept = call.verb.accepted().unwrap();
            assert_eq!(accept.offers.len(), 1);
            let names = accept.operations.iter().flat_map(|one| {
                let other = Some(one.id()).filter(|id| !id.is_empty()).map(|id| format!("-{id}"));
                one.tasks().iter().map(|task| task.task.to_owned()).chain(other).collect::<Vec<_>>()
            });
            (names.collect(), last, said.bad.len())
        });
        shown.collect()
    }

    #[test]
    fn what_fits_is_one_part() {
        let tasks = (0..256).map(|number| task(&number.to_string())).collect();
        let parts = parts(vec![launch(tasks)]);
        assert_eq!(parts.len(), 1);
        assert!(parts[0].1 && parts[0].2 == 0);
    }

    #[test]
    fn any_number_of_tasks_keeps_its_order() {
        let names: Vec<String> = (0..1_000).map(|number| format!("{number:0100}")).collect();
        let tasks = names.iter().map(|name| task(name)).collect();
        let group = json!({"type": "LAUNCH_GROUP", "launch_group": {
            "executor": {"type": "DEFAULT", "executor_id": {"value": "e"}},
            "task_group": {"tasks": [task("g1"), task("g2")]}}});
        let parts = parts(vec![launch(tasks), group]);
        let all: Vec<&String> = parts.iter().flat_map(|(names, ..)| names).collect();
        assert!(all.iter().take(1_000).zip(&names).all(|(one, other)| *one == other));
        assert_eq!((all.len(), all[1_001].as_str()), (1_002, "g2"));
        assert!(parts.iter().rev().skip(1).all(|(_, last, _)| !last) && parts.last().unwrap().1);
        assert!(parts.iter().all(|(.., bad)| *bad == 0));
    }

    #[test]
    fn tasks_with_an_executor_each_have_a_body_more() {
        let tasks = (0..200).map(|number| {
            let mut task = task(&number.to_string());
            task.as_object_mut().unwrap().remove("command");
            task["data"] = json!(format!("{number:04}"));
            task["executor"] = json!({"executor_id": {"value": number.to_string()},
                                      "command": {"value": number.to_string()}});
            task
        });
        let parts = parts(vec![launch(tasks.collect())]);
        let all: usize = parts.iter().map(|(names, ..)| names.len()).sum();
        assert!(parts.len() > 1 && all == 200 && parts.iter().all(|(.., bad)| *bad == 0));
    }

    #[test]
    fn what_fits_no_part_is_refused_alone() {
        let ranges = (0..20_000).map(|at| json!({"begin": 2 * at, "end": 2 * at}));
        let mut large = task("large");
        large["resources"] = json!([{"name": "ports", "type": "RANGES",
                                     "ranges": {"range": ranges.collect::<Vec<_>>()}}]);
        let reserve = json!({"type": "RESERVE", "id": {"value": "r"},
                             "reserve": {"resources": large["resources"]}});
        let group = json!({"type": "LAUNCH_GROUP", "launch_group": {
            "executor": {"type": "DEFAULT", "executor_id": {"value": "e"}},
            "task_group": {"tasks": (0..300).map(|_| task("g")).collect::<Vec<_>>()}}});
        let long = task(&"l".repeat(100_000));
        let operations = vec![launch(vec![task("a"), large, long, task("b")]), reserve, group];
        let parts = parts(operations);
        let bad: usize = parts.iter().map(|(.., bad)| bad).sum();
        assert_eq!(bad, 1 + 1 + 1 + 300);
        let all: Vec<&String> = parts.iter().flat_map(|(names, ..)| names).collect();
        assert_eq!(all.len(), 4 + 1 + 300);
        assert_eq!([all[0].as_str(), all[1], all[3], all[4]], ["a", "large", "b", "-r"]);
    }
}
