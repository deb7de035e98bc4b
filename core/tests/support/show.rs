//! Messages as a person would tell them.

use mesita_core::allocator::Gate;
use mesita_core::master::Fact;
use mesita_core::master::explain::Row;
use mesita_core::wire::agent::*;
use mesita_core::wire::call::*;
use mesita_core::wire::event::*;
use mesita_core::wire::executor::*;
use mesita_core::wire::operator::*;
use mesita_core::wire::task::*;
use mesita_core::wire::*;

use super::text::marked as shown;

pub fn agent(id: AgentId) -> String {
    if id.is_none() { "nowhere".into() } else { format!("S{}/{}", id.epoch, id.number) }
}

pub fn framework(id: FrameworkId) -> String {
    if id.is_none() { "nobody".into() } else { format!("F{}/{}", id.epoch, id.number) }
}

pub fn offer(id: OfferId) -> String {
    // The highest bit tells inverse offers.
    let (sort, index) =
        if id.id.index >> 31 == 1 { ("I", id.id.index << 1 >> 1) } else { ("O", id.id.index) };
    format!("{sort}{index}.{}", id.id.generation / 2)
}

pub fn status(status: &Status<'_>) -> String {
    let detail = status.detail();
    let mut text = format!("{} {}", status.task, status.state.name());
    if let Some(sequence) = status.uuid {
        text += &format!(" #{sequence}");
    }
    if let Some(reason) = detail.reason {
        text += &format!(" {}", reason.name());
    }
    match detail.exit {
        Exit::Unseen => {}
        Exit::Code(code) => text += &format!(" exit={code}"),
        Exit::Signal(signal) => text += &format!(" signal={signal}"),
    }
    if detail.attempt > 0 {
        text += &format!(" attempt={}", detail.attempt);
    }
    if !detail.message.is_empty() {
        text += &format!(" \"{}\"", detail.message);
    }
    text
}

fn quantities(list: &Seq<'_, Quantity<'_>>) -> String {
    list.iter().map(|q| format!("{}:{}", q.name, q.amount)).collect::<Vec<_>>().join(";")
}

pub fn launch(launch: &Launch<'_>) -> String {
    let executor = launch.executor.map_or(String::new(), |e| format!(" executor={}", e.id));
    format!("{} {}{executor}", launch.task, shown(&launch.resources))
}

pub fn head(head: &Head<'_>) -> String {
    match head {
        Head::Event(event) => self::event(event),
        Head::AgentEvent(event) => agent_event(event),
        Head::Call(call) => format!("{} {}", framework(call.framework), self::call(&call.verb)),
        Head::AgentCall(call) => agent_call(call),
        Head::ExecutorCall(call) => format!("{call:?}"),
        Head::ExecutorEvent(event) => executor_event(event),
        Head::OperatorEvent(OperatorEvent::Reply { ticket, result: Ok(()), .. }) => {
            format!("REPLY {ticket} ok")
        }
        Head::OperatorEvent(OperatorEvent::Reply { ticket, result: Err(why), .. }) => {
            format!("REPLY {ticket} {why:?}")
        }
        Head::OperatorCall(call) => format!("{call:?}"),
        Head::Hello(_) | Head::Link(_) | Head::Svc(_) | Head::Gossip(_) => format!("{head:?}"),
    }
}

fn event(event: &Event<'_>) -> String {
    match event {
        Event::Subscribed { framework: id, fence, .. } => {
            format!("SUBSCRIBED as {} in epoch {}", framework(*id), fence.epoch)
        }
        Event::Offers { offers } => {
            let one = |o: Offer<'_>| {
                let role = if o.role == "*" { String::new() } else { format!(" for {}", o.role) };
                let away = o.detail.and_then(|detail| detail.unavailable);
                let away = away.map_or(String::new(), |w| format!(", away {}", w.start_wall_us));
                let (id, of) = (offer(o.id), agent(o.agent));
                format!("{id}{role} of {of}: {}{away}", shown(&o.resources))
            };
            format!("OFFERS {}", offers.iter().map(one).collect::<Vec<_>>().join(" | "))
        }
        Event::Rescind { offer: id } => format!("RESCIND {}", offer(*id)),
        Event::InverseOffers { offers } => {
            let one = |o: InverseOffer| {
                let Unavailability { start_wall_us, duration_us } = o.unavailable;
                let window = format!("{start_wall_us}+{duration_us}");
                format!("{} of {} at {window}", offer(o.id), agent(o.agent))
            };
            format!("INVERSE_OFFERS {}", offers.iter().map(one).collect::<Vec<_>>().join(" | "))
        }
        Event::RescindInverse { offer: id } => format!("RESCIND_INVERSE {}", offer(*id)),
        Event::Update { status: told } => format!("UPDATE {}", status(told)),
        Event::Failure { agent: id, executor, exit } if !executor.is_empty() => {
            format!("FAILURE of executor {executor} on {}: {exit:?}", agent(*id))
        }
        Event::Failure { agent: id, .. } => format!("FAILURE of {}", agent(*id)),
        Event::Error { message } => format!("ERROR \"{message}\""),
        Event::Reply { ticket, result: Ok(()) } => format!("REPLY {ticket} ok"),
        Event::Reply { ticket, result: Err(why) } => format!("REPLY {ticket} {why:?}"),
        Event::Message { executor, agent: id, .. } => {
            format!("MESSAGE from {executor} on {}", agent(*id))
        }
        Event::Waiting { name, asked, largest, agent: id, fits } => format!(
            "WAITING no agent has {name}:{asked}; largest is {} with {largest}; would fit: {}",
            agent(*id),
            quantities(fits)
        ),
        Event::OperationUpdate { status } => format!("OPERATION {}", operation_status(status)),
        other => format!("{other:?}"),
    }
}

fn operation_status(told: &OperationStatus<'_>) -> String {
    let mut text = format!("{} {:?}", told.operation.operation, told.state);
    if let Some(sequence) = told.uuid {
        text += &format!(" #{sequence}");
    }
    if !told.converted.is_empty() {
        text += &format!(" {}", shown(&told.converted));
    }
    if !told.message.is_empty() {
        text += &format!(" \"{}\"", told.message);
    }
    text
}

pub fn operation(operation: &Operation<'_>) -> String {
    let id = operation.id();
    let id = if id.is_empty() { String::new() } else { format!(" as {id}") };
    match operation {
        Operation::Reserve(change) => format!("reserve{id} {}", shown(&change.resources)),
        Operation::Unreserve(change) => format!("unreserve{id} {}", shown(&change.resources)),
        Operation::Create(change) => format!("create{id} {}", shown(&change.resources)),
        Operation::Destroy(change) => format!("destroy{id} {}", shown(&change.resources)),
        other => {
            let mut memory = [0; 4096];
            let planned = mesita_core::resources::made::Planned::of(other, &mut memory).unwrap();
            let planned = planned.unwrap();
            format!("{:?}{id} {}", planned.step, shown(&planned.list))
        }
    }
}

fn agent_event(event: &AgentEvent<'_>) -> String {
    match event {
        AgentEvent::Registered { session, agent: id, fence, .. } => format!(
            "registered as {} in session {}.{}, epoch {}",
            agent(*id),
            session.incarnation,
            session.counter,
            fence.epoch
        ),
        AgentEvent::Refused { refusal, .. } => format!("refused: {refusal:?}"),
        AgentEvent::Launch { framework: of, tasks, session, .. } => format!(
            "launch for {} in session {}.{}: {}",
            framework(of.framework),
            session.incarnation,
            session.counter,
            tasks.iter().map(|task| launch(&task)).collect::<Vec<_>>().join(" | ")
        ),
        AgentEvent::Drain { grace_us, gone } => format!("drain, grace {grace_us:?}, gone {gone}"),
        AgentEvent::Reactivate => "offered again".into(),
        AgentEvent::Shutdown { message } => format!("shut down: {message}"),
        AgentEvent::Kill { task, grace_us } => {
            let grace = grace_us.map_or(String::new(), |us| format!(" grace {us} us"));
            format!("kill {}{grace}", task.task)
        }
        AgentEvent::Acknowledge { task, sequence } => {
            format!("acknowledge {} #{sequence}", task.task)
        }
        AgentEvent::ShutdownFramework { framework: id } => {
            format!("shut down {}", framework(*id))
        }
        AgentEvent::Verdicts { tasks, last, .. } => {
            let one = |v: Verdict<'_>| format!(" {} {:?}", v.task.task, v.fate);
            let last = if *last { ", last" } else { "" };
            format!("verdicts:{}{last}", tasks.iter().map(one).collect::<String>())
        }
        AgentEvent::Want { tasks, .. } => {
            let names: Vec<_> = tasks.iter().map(|task| task.task).collect();
            format!("wants the bodies of {}", names.join(", "))
        }
        AgentEvent::Operate { framework: of, operations, .. } => {
            let each: Vec<_> = operations.iter().map(|one| operation(&one)).collect();
            format!("for {}: {}", framework(*of), each.join(" | "))
        }
        AgentEvent::AcknowledgeOperation { operation, sequence, .. } => {
            format!("acknowledge operation {} #{sequence}", operation.operation)
        }
        AgentEvent::ReconcileOperations { operations } => {
            let each: Vec<_> = operations.iter().map(|one| one.operation).collect();
            format!("reconcile operations {}", each.join(", "))
        }
        AgentEvent::UpdateFramework { framework: of } => {
            format!("{} is now {}", framework(of.framework), of.name)
        }
        AgentEvent::DescribeFramework { framework: of, public } => {
            let more = public.index().map_or("nothing more", |_| "more");
            format!("{} shows {more}", framework(*of))
        }
        other => format!("{other:?}"),
    }
}

fn agent_call(call: &AgentCall<'_>) -> String {
    match call {
        AgentCall::Register(register) => format!(
            "registers as {} in session {}.{} with {} and {} reports",
            agent(register.agent),
            register.session.incarnation,
            register.session.counter,
            shown(&register.resources),
            register.reports
        ),
        AgentCall::Report(report) => {
            let one = |held: TaskHeld<'_>| format!(" {} {}", held.task, held.state.name());
            format!(
                "reports part {}:{}",
                report.part,
                report.tasks.iter().map(one).collect::<String>()
            )
        }
        AgentCall::Update { framework: of, status: told, latest } => {
            let latest = if *latest == told.state {
                String::new()
            } else {
                format!(" (now {})", latest.name())
            };
            format!("update of {}: {}{latest}", framework(*of), status(told))
        }
        AgentCall::OperationUpdate { framework: of, status } => {
            format!("operation of {}: {}", framework(*of), operation_status(status))
        }
        AgentCall::Totals { resources, .. } => format!("has {} in all", shown(resources)),
        other => format!("{other:?}"),
    }
}

fn executor_event(event: &ExecutorEvent<'_>) -> String {
    match event {
        ExecutorEvent::Launch { task } => format!("LAUNCH {}", launch(task)),
        ExecutorEvent::Subscribed { container, .. } => format!("SUBSCRIBED in {container}"),
        ExecutorEvent::Kill { task, .. } => format!("KILL {task}"),
        ExecutorEvent::Acknowledged { task, .. } => format!("ACKNOWLEDGED {task}"),
        other => format!("{other:?}"),
    }
}

fn call(verb: &Verb<'_>) -> String {
    match verb {
        Verb::Subscribe(subscribe) => {
            format!("SUBSCRIBE {:?}", subscribe.roles.iter().collect::<Vec<_>>())
        }
        Verb::Accept(accept) => {
            let offers: Vec<_> = accept.offers.iter().map(offer).collect();
            let tasks: Vec<_> = accept
                .operations
                .iter()
                .flat_map(|operation| match operation {
                    Operation::Launch { tasks } => tasks.iter().map(|t| launch(&t)).collect(),
                    _ => vec![],
                })
                .collect();
            format!("ACCEPT {}: {}", offers.join(" "), tasks.join(" | "))
        }
        Verb::Decline { offers, refuse_us } => {
            let offers: Vec<_> = offers.iter().map(offer).collect();
            format!("DECLINE {} refuse={refuse_us:?}", offers.join(" "))
        }
        Verb::Acknowledge { task, uuid } => format!("ACKNOWLEDGE {task} #{}", uuid.sequence),
        Verb::Kill { task, .. } => format!("KILL {}", task.task),
        other => format!("{other:?}"),
    }
}

/// A fact in a few words: what readers see, not how.
pub fn fact(fact: &Fact<'_>) -> String {
    match fact {
        Fact::Leading { fence, .. } => format!("leading in epoch {}", fence.epoch),
        Fact::Agent { info, .. } => format!("agent {} on {}", agent(info.agent), info.hostname),
        Fact::AgentState { state, .. } => format!("agent {state:?}"),
        Fact::AgentKept { .. } => "agent not given up".into(),
        Fact::AgentGone { .. } => "agent gone".into(),
        Fact::Admission(kept) => {
            let given_up = if kept.deactivated { ", deactivated" } else { "" };
            let emptied = if kept.emptying.is_some() { ", emptied" } else { "" };
            format!("keep {} as {:?}{given_up}{emptied}", agent(kept.agent), kept.life)
        }
        Fact::Removed { framework: id, .. } => format!("keep that {} was removed", framework(*id)),
        Fact::Dismissed { agent: id } => format!("keep {} no more", agent(*id)),
        Fact::Framework { info, .. } => {
            format!("framework {} {}", framework(info.framework), info.name)
        }
        Fact::FrameworkState { state, .. } => format!("framework {state:?}"),
        Fact::FrameworkGone { .. } => "framework gone".into(),
        Fact::Task { task, resources, .. } => format!("task {task} {}", shown(resources)),
        Fact::TaskState { state, .. } => format!("task {}", state.name()),
        Fact::TaskGone { .. } => "task gone".into(),
        Fact::Executor { executor, .. } => format!("executor {executor}"),
        Fact::ExecutorGone { .. } => "executor gone".into(),
        Fact::Offer { offer: id, .. } => format!("offer {}", offer(*id)),
        Fact::OfferGone { .. } => "offer gone".into(),
        Fact::Quota { role, guarantees, limits } => {
            let amounts = |list: &Seq<'_, Quantity<'_>>| {
                let each = list.iter().map(|one| format!("{}:{}", one.name, one.amount));
                each.collect::<Vec<_>>().join(";")
            };
            format!("quota {role} {} to {}", amounts(guarantees), amounts(limits))
        }
        Fact::Weight { role, weight } => format!("weight {role} {weight}"),
        Fact::AgentDeactivated { deactivated, .. } => format!("agent deactivated {deactivated}"),
        Fact::AgentEmptying { emptying, grace_us, gone, .. } => {
            format!("agent {emptying:?} grace {grace_us:?} gone {gone}")
        }
        Fact::Machine { machine, window, down, .. } => {
            let MachineId { hostname, ip } = machine;
            let (from, during) = (window.start_wall_us, window.duration_us);
            format!("machine {hostname}/{ip} from {from} for {during} down {down}")
        }
        Fact::MachineGone { .. } => "machine gone".into(),
        Fact::Inverse { offer: id, willing, .. } => {
            format!("inverse offer {} {willing:?}", id.map_or("none".into(), offer))
        }
        Fact::InverseGone { .. } => "inverse offer gone".into(),
        Fact::AgentResources { resources, .. } => format!("agent has {}", shown(resources)),
        Fact::Operation { operation: of, .. } => {
            let of = of.first().map_or("unknown".into(), |one| operation(&one));
            format!("operation {of}")
        }
        Fact::OperationState { status, .. } => format!("operation {}", operation_status(status)),
        Fact::OperationGone { .. } => "operation gone".into(),
        Fact::Unheard { framework: id } => format!("keep nothing of {}", framework(*id)),
    }
}

/// A row of an answer.
pub fn row(row: &Row<'_>) -> String {
    match *row {
        Row::Standing { of, kind, role, resource, has, total, count, siblings, before, .. } => {
            let share = format!("{has} of {total} {resource}");
            format!(
                "  {of}: {kind:?} {role} {share}, {count} offers, {before} of {siblings} before"
            )
        }
        Row::Agent { of, agent: on, gate, role, resource, entitled, offered, lacks, .. } => {
            let gate = gate.map_or("open".to_string(), |gate| {
                let text = format!("{gate:?}");
                let word = text.split([' ', '(', '{']).next().unwrap().to_string();
                let bar = matches!(gate, Gate::AgentBarred(_)) || matches!(gate, Gate::Filtered(_));
                if bar { text } else { word }
            });
            let names = [role, resource].into_iter().filter(|name| !name.is_empty());
            let names: String = names.map(|name| format!(" {name}")).collect();
            let entitled = if entitled { ", entitled" } else { "" };
            let offered = offered.map_or(String::new(), |(to, since)| {
                format!(", offered to {} for {since:?}", framework(to))
            });
            let lacks = lacks.map_or(String::new(), |lack| format!(", lacks {}", lack.resource));
            format!("  {of} on {}: {gate}{names}{entitled}{offered}{lacks}", agent(on))
        }
        Row::Need { agent: on, bar, lacks, never } => {
            let lacks = lacks.map(|lack| (lack.resource.to_string(), lack.least, lack.have));
            format!("  {}: {bar:?} {lacks:?} never {never}", agent(on))
        }
    }
}
