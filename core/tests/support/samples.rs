//! One message of every sort, with every field set to something that shows.

#![allow(unreachable_pub)]

use mesita_core::Refusal;
use mesita_core::limits::STREAM_WINDOW;
use mesita_core::resources::Amount;
use mesita_core::table::Id;
use mesita_core::wire::agent::*;
use mesita_core::wire::call::*;
use mesita_core::wire::event::*;
use mesita_core::wire::executor::*;
use mesita_core::wire::gossip::{
    Bootstrap, Digest, Edit, Envelope, Gossip, Join, Joined, Replica, Row, Table, Version,
};
use mesita_core::wire::hello::*;
use mesita_core::wire::link::*;
use mesita_core::wire::operator::*;
use mesita_core::wire::resource::*;
use mesita_core::wire::svc::*;
use mesita_core::wire::task::*;
use mesita_core::wire::*;

pub const FRAMEWORK: FrameworkId = FrameworkId { epoch: 1, number: 7 };
pub const AGENT: AgentId = AgentId { epoch: 1, number: 3 };
pub const OFFER: OfferId = OfferId { epoch: 1, id: Id { index: 5, generation: 1 } };
pub const SESSION: Session = Session { incarnation: 2, counter: 9 };
pub const CONTAINER: ContainerId = ContainerId { incarnation: 2, counter: 300 };
pub const FENCE: Fence = Fence { generation: Generation { number: 1, nonce: 77 }, epoch: 4 };
const UUID: Uuid = Uuid { agent: AGENT, sequence: 1_000 };
const CLUSTER: u64 = 0x3f9a_41c2_0000_0001;

fn scratch() -> Scratch<'static> {
    Scratch::new(Box::leak(Box::new([0; 4096])))
}

/// A list of whatever is written here.
macro_rules! list {
    ($item:ty; $($element:expr),* $(,)?) => {
        scratch().seq::<$item>([$($element),*]).unwrap()
    };
}

/// 4 cpus, 4 GiB, 100 GB of disk and two ranges of ports: the offer that sizes are quoted for.
pub fn usual_resources() -> Seq<'static, Resource<'static>> {
    let ranges =
        list![Range; Range { begin: 31_000, end: 31_500 }, Range { begin: 31_600, end: 32_000 }];
    let ports = Resource { name: "ports", value: Value::Ranges(ranges), traits: Traits::PLAIN };
    list![Resource<'static>;
        Resource::scalar("cpus", Amount::from_units(4)),
        Resource::scalar("mem", Amount::from_units(4_096)),
        Resource::scalar("disk", Amount::from_units(100_000)),
        ports,
    ]
}

pub fn usual_offer() -> Offer<'static> {
    Offer { id: OFFER, agent: AGENT, role: "*", resources: usual_resources(), detail: None }
}

pub fn usual_status() -> Status<'static> {
    Status {
        task: "run-1",
        state: TaskState::Running,
        source: Source::Agent,
        agent: AGENT,
        uuid: Some(1_000),
        wall_us: 1_795_000_000_000_000,
        detail: None,
    }
}

/// A resource with everything that can be said of one.
fn rich_resource() -> Resource<'static> {
    let reservations = list![Reservation<'static>;
        Reservation { role: "eng", kind: ReservationKind::Static, principal: "", labels: "" },
        Reservation {
            role: "eng/web",
            kind: ReservationKind::Dynamic,
            principal: "ops",
            labels: "a=b",
        },
    ];
    let disk = Disk {
        source: DiskSource::Path,
        root: "/mnt/data",
        id: "",
        profile: "",
        vendor: "",
        persistence: "volume-1",
        principal: "ops",
        container_path: "data",
    };
    let traits = Traits {
        reservations,
        allocated_to: "eng/web",
        disk: Some(disk),
        provider: "",
        revocable: false,
        shared: true,
    };
    Resource { name: "disk", value: Value::Scalar(Amount::from_milli(512_250)), traits }
}

pub fn launch() -> Launch<'static> {
    let set = Value::Set(list![&'static str; "a", "b"]);
    let resources = list![Resource<'static>;
        Resource::scalar("cpus", Amount::from_milli(500)),
        Resource { name: "racks", value: set, traits: Traits::PLAIN },
        rich_resource(),
    ];
    Launch {
        task: "web.1",
        agent: AGENT,
        kind: Kind::Executor,
        resources,
        limits: list![Limit<'static>;
            Limit { name: "cpus", amount: None },
            Limit { name: "mem", amount: Some(Amount::from_units(256)) },
        ],
        executor: Some(executor()),
        user: "nobody",
        grace_us: Some(3_000_000),
        completion_us: Some(60_000_000),
        restart: Restart {
            rule: RestartRule::OnFailure,
            stop_after_us: 1_000_000,
            lost_after_us: 10_000_000,
            unknown: UnknownAge::Start,
            on_return: OnReturn::LongestRunning,
            copies: Copies::Availability,
        },
        public: Body::at(0),
        private: Body::at(1),
    }
}

fn executor() -> Executor<'static> {
    Executor {
        id: "default",
        resources: list![Resource<'static>; Resource::scalar("cpus", Amount::from_milli(100))],
        user: "",
        grace_us: None,
        body: Body::at(2),
    }
}

fn rich_status() -> Status<'static> {
    let detail = Detail {
        reason: Some(Reason::ContainerLimitationMemory),
        message: "Memory limit exceeded",
        exit: Exit::Signal(9),
        executor: "default",
        container: Some(CONTAINER),
        healthy: Some(false),
        attempt: 2,
        unreachable_wall_us: 5,
        public: Body::at(0),
        data: Body::NONE,
    };
    Status { state: TaskState::Failed, uuid: None, detail: Some(detail), ..usual_status() }
}

fn quantities() -> Seq<'static, Quantity<'static>> {
    list![Quantity<'static>; Quantity { name: "cpus", amount: Amount::from_milli(10) }]
}

fn subscribe() -> Subscribe<'static> {
    let alternatives = list![Quantities<'static>; Quantities { amounts: quantities() }];
    Subscribe {
        name: "meter",
        user: "pi",
        principal: "meter",
        hostname: "pi1",
        webui_url: "http://pi1/",
        roles: list![&'static str; "*", "eng/web"],
        suppressed: list![&'static str; "*"],
        minimums: list![Minimum<'static>; Minimum { role: "eng/web", alternatives }],
        failover_us: 60_000_000,
        capabilities: Capability::PartitionAware.bit() | Capability::MultiRole.bit(),
        owned: Ownership::Master,
        public: Body::at(0),
    }
}

fn framework_held() -> FrameworkHeld<'static> {
    FrameworkHeld {
        framework: FRAMEWORK,
        name: "meter",
        user: "pi",
        principal: "meter",
        caller: "local:pi",
        failover_us: 60_000_000,
        capabilities: 96,
        roles: list![&'static str; "*"],
        owned: Ownership::Scheduler,
    }
}

fn register() -> Register<'static> {
    let ranges = list![Range; Range { begin: 1, end: 2 }];
    Register {
        session: SESSION,
        agent: AGENT,
        seen: FENCE,
        cluster: CLUSTER,
        key: [7; 32],
        hostname: "pi2",
        region: "eu",
        zone: "a",
        address: "10.0.0.2:5051",
        attributes: list![Attribute<'static>;
            Attribute { name: "rack", value: AttributeValue::Text("a") },
            Attribute { name: "height", value: AttributeValue::Scalar(Amount::from_milli(1_500)) },
            Attribute { name: "slots", value: AttributeValue::Ranges(ranges) },
        ],
        resources: usual_resources(),
        tasks_max: 64,
        task_kinds: Kind::Command.bit() | Kind::Executor.bit(),
        reports: 1,
    }
}

fn task_held() -> TaskHeld<'static> {
    TaskHeld {
        framework: FRAMEWORK,
        task: "web.1",
        executor: "default",
        role: "eng/web",
        container: CONTAINER,
        state: TaskState::Running,
        unacknowledged: Some(TaskState::Starting),
        attempt: 1,
        restart: Restart::default(),
        resources: usual_resources(),
        public: Hash { len: 10, hash: 1 << 50 },
    }
}

fn ran() -> Seq<'static, TaskRan<'static>> {
    list![TaskRan<'static>; TaskRan { held: task_held(), us: 90_000_000 }]
}

fn report() -> Report<'static> {
    let tasks = list![TaskHeld<'static>; task_held()];
    let executors = list![ExecutorHeld<'static>; ExecutorHeld {
        framework: FRAMEWORK,
        executor: "default",
        role: "eng/web",
        container: CONTAINER,
        resources: Seq::EMPTY,
        body: Hash { len: 99, hash: 2 },
    }];
    let frameworks = list![FrameworkHeld<'static>; framework_held()];
    Report { session: SESSION, part: 0, frameworks, executors, tasks }
}

fn operation() -> OperationRef<'static> {
    OperationRef { operation: "reserve-1", agent: AGENT, provider: "" }
}

fn operation_status() -> OperationStatus<'static> {
    OperationStatus {
        operation: operation(),
        state: OperationState::Finished,
        uuid: Some(4),
        message: "",
        converted: list![Resource<'static>; rich_resource()],
    }
}

fn unavailable() -> Unavailability {
    Unavailability { start_wall_us: 1_795_000_000_000_000, duration_us: 3_600_000_000 }
}

fn hello() -> Hello<'static> {
    Hello {
        cluster: CLUSTER,
        generation: FENCE.generation,
        node: 2,
        key: [9; 32],
        auth: AuthScheme::None,
        nonce: [3; 16],
        features: 5,
        tasks_max: 64,
        task_kinds: 31,
        window: STREAM_WINDOW,
        version_min: 1,
        version_max: 2,
        ..Hello::of_this_release(Role::Agent, "mesita 0.1.0")
    }
}

/// Every message, by a name that says which it is.
const MACHINE: MachineId<'static> = MachineId { hostname: "pi1", ip: "10.0.0.7" };

fn set_quota() -> OperatorVerb<'static> {
    OperatorVerb::SetQuota {
        role: "eng",
        guarantees: quantities(),
        limits: quantities(),
        force: false,
    }
}

fn constraints() -> Seq<'static, Constraints<'static>> {
    let named = Constraint {
        selector: Selector::Attribute,
        attribute: "rack",
        predicate: Predicate::TextMatches,
        value: "a[0-9]+",
    };
    let zone = Constraint {
        selector: Selector::Zone,
        attribute: "",
        predicate: Predicate::NotExists,
        value: "",
    };
    let all = list![Constraint<'static>; named, zone];
    let groups = list![ConstraintGroup<'static>; ConstraintGroup { all }];
    list![Constraints<'static>; Constraints { role: "eng/web", groups }]
}

fn gossip(of: Gossip<'static>) -> Head<'static> {
    Head::Gossip(of)
}

fn version(number: u64) -> Version {
    Version { epoch: 4, number }
}

fn digest() -> Digest<'static> {
    let starting = Row { id: 2, incarnation: 9, nonce: 5, flags: Row::STARTING, ..Row::default() };
    let row = Row {
        id: 1,
        incarnation: 300,
        sequence: 70_000,
        nonce: 0xdead_beef,
        promised: 5,
        voted_for: 3,
        accepted: version(8),
        hash: 77,
        held: version(7),
        leads: 4,
        commit: version(6),
        want: 6,
        grant_epoch: 7,
        grant_to: 2,
        echo_epoch: 4,
        echo_stamp: 1 << 40,
        heard: 0b1110,
        flags: Row::FORMED | Row::CAN_LEAD | Row::DISK_OK,
    };
    let rows = list![Row; row, starting];
    let generation = Generation { number: 1, nonce: 77 };
    Digest { cluster: CLUSTER, generation, roster: 2, sender: 1, amnesiac: 4, rows }
}

pub fn all() -> Vec<(&'static str, Head<'static>)> {
    let operator = |verb| Head::OperatorCall(OperatorCall { ticket: 9, verb });
    let call = |verb| Head::Call(Call { framework: FRAMEWORK, ticket: 300, verb });
    let offers = || list![OfferId; OFFER];
    let task_at = TaskAt { task: "web.1", agent: AGENT };
    let task_of = TaskOf { framework: FRAMEWORK, task: "web.1" };
    let change =
        || Change { id: "reserve-1", resources: list![Resource<'static>; rich_resource()] };
    let tasks = || list![Launch<'static>; launch()];
    let operate = |operation| {
        let operations = list![Operation<'static>; operation];
        call(Verb::Accept(Accept { offers: offers(), operations, refuse_us: Some(5_000_000) }))
    };
    let group = Launch { kind: Kind::Group { group: 1 }, ..launch() };
    let given = Launch { kind: Kind::Given { group: 1 }, ..launch() };
    let function = Kind::Function { entry: "blink", args: &[1, 2] };
    let container = Launch { kind: Kind::Container, executor: None, ..launch() };
    let update = ExecutorUpdate { uuid: [5; 16], status: rich_status() };
    let data = Body::at(0);
    let fence = FENCE;
    let session = SESSION;
    let framework = FRAMEWORK;
    let stream = |kind| Head::Svc(Svc::Open { stream: 1, kind, window: STREAM_WINDOW });
    vec![
        ("hello", Head::Hello(hello())),
        ("link.ping", Head::Link(Link::Ping { stamp: 1 << 40, session })),
        ("link.pong", Head::Link(Link::Pong { stamp: 1 << 40, session })),
        (
            "link.redirect",
            Head::Link(Link::Redirect { fence, leader: 2, address: "10.0.0.1:5050" }),
        ),
        (
            "link.bye",
            Head::Link(Link::Bye { reason: Parting::Mismatch, message: "another cluster" }),
        ),
        ("link.prove", Head::Link(Link::Prove { principal: "web", proof: [0xa5; 32] })),
        ("link.masters", Head::Link(Link::Masters { addresses: "10.0.0.1:5050,10.0.0.4:5050" })),
        ("link.splice", Head::Link(Link::Splice { address: "10.0.0.1:5050" })),
        ("link.called", Head::Link(Link::Called { hostname: "rack-1" })),
        ("call.subscribe", call(Verb::Subscribe(subscribe()))),
        ("call.teardown", call(Verb::Teardown)),
        ("call.accept.launch", operate(Operation::Launch { tasks: tasks() })),
        (
            "call.accept.launch_group",
            operate(Operation::LaunchGroup {
                executor: executor(),
                tasks: list![Launch<'static>; group],
            }),
        ),
        (
            "call.accept.launch_group.given",
            operate(Operation::LaunchGroup {
                executor: executor(),
                tasks: list![Launch<'static>; given],
            }),
        ),
        ("call.accept.reserve", operate(Operation::Reserve(change()))),
        ("call.accept.unreserve", operate(Operation::Unreserve(change()))),
        ("call.accept.create", operate(Operation::Create(change()))),
        ("call.accept.destroy", operate(Operation::Destroy(change()))),
        (
            "call.accept.grow",
            operate(Operation::Grow {
                id: "grow",
                volume: rich_resource(),
                addition: Resource::scalar("disk", Amount::from_units(1)),
            }),
        ),
        (
            "call.accept.shrink",
            operate(Operation::Shrink {
                id: "shrink",
                volume: rich_resource(),
                subtract: Amount::from_units(1),
            }),
        ),
        (
            "call.accept.move",
            operate(Operation::Move {
                id: "move",
                source: list![Resource<'static>; rich_resource()],
                resources: list![Resource<'static>; rich_resource()],
            }),
        ),
        ("call.decline", call(Verb::Decline { offers: offers(), refuse_us: None })),
        ("call.accept_inverse", call(Verb::AcceptInverse { offers: offers(), refuse_us: Some(0) })),
        ("call.decline_inverse", call(Verb::DeclineInverse { offers: offers(), refuse_us: None })),
        ("call.revive", call(Verb::Revive { roles: list![&'static str; "eng/web"] })),
        ("call.suppress", call(Verb::Suppress { roles: Seq::EMPTY })),
        ("call.kill", call(Verb::Kill { task: task_at, grace_us: Some(1) })),
        ("call.shutdown", call(Verb::Shutdown { executor: "default", agent: AGENT })),
        ("call.acknowledge", call(Verb::Acknowledge { task: "web.1", uuid: UUID })),
        (
            "call.acknowledge_operation",
            call(Verb::AcknowledgeOperation { operation: operation(), uuid: UUID }),
        ),
        ("call.reconcile", call(Verb::Reconcile { tasks: list![TaskAt<'static>; task_at] })),
        (
            "call.reconcile_operations",
            call(Verb::ReconcileOperations {
                operations: list![OperationRef<'static>; operation()],
            }),
        ),
        ("call.message", call(Verb::Message { agent: AGENT, executor: "default", data })),
        (
            "call.request",
            call(Verb::Request {
                requests: list![Request<'static>; Request { agent: AGENT, amounts: quantities() }],
            }),
        ),
        ("call.update_framework", call(Verb::UpdateFramework(subscribe()))),
        (
            "call.accept_part",
            call(Verb::AcceptPart(Accept {
                offers: offers(),
                operations: list![Operation<'static>; Operation::Launch { tasks: tasks() }],
                refuse_us: None,
            })),
        ),
        ("call.constrain", call(Verb::Constrain { roles: constraints() })),
        ("operator.set_quota", operator(set_quota())),
        (
            "operator.set_weight",
            operator(OperatorVerb::SetWeight { role: "eng/web", weight: 2_500 }),
        ),
        (
            "operator.deactivate",
            operator(OperatorVerb::Deactivate { agent: AGENT, deactivated: true }),
        ),
        (
            "operator.whitelist",
            operator(OperatorVerb::Whitelist {
                hosts: Some(list![&'static str; "pi1", "pi2"]),
                adds: false,
            }),
        ),
        (
            "operator.schedule",
            operator(OperatorVerb::Schedule {
                machines: list![Planned<'static>; Planned {
                    machine: MACHINE,
                    window: Unavailability {
                        start_wall_us: 1_795_000_000_000_000,
                        duration_us: 60,
                    },
                }],
            }),
        ),
        (
            "operator.down",
            operator(OperatorVerb::Down {
                machines: list![MachineId<'static>; MACHINE],
                down: true,
            }),
        ),
        (
            "operator.drain",
            operator(OperatorVerb::Drain { agent: AGENT, grace_us: Some(5), gone: true }),
        ),
        ("operator.mark_gone", operator(OperatorVerb::MarkGone { agent: AGENT })),
        (
            "operator.masters",
            operator(OperatorVerb::Masters { remove: 3, add: "0011aabb", force: true }),
        ),
        (
            "operator.operate",
            operator(OperatorVerb::Operate {
                agent: AGENT,
                operation: list![Operation<'static>; Operation::Reserve(change())],
            }),
        ),
        (
            "operator.once",
            operator(OperatorVerb::Once {
                id: [7; 16],
                // SET_WEIGHT of `a` to 2.
                verb: &[1, 1, b'a', 0xd0, 0x0f],
            }),
        ),
        ("operator.teardown", operator(OperatorVerb::Teardown { framework: FRAMEWORK })),
        (
            "operator.reply",
            Head::OperatorEvent(OperatorEvent::Reply {
                ticket: 9,
                result: Err(Refusal::QuotaExceeded),
                message: "the limit is below what the role has",
            }),
        ),
        ("gossip.digest", gossip(Gossip::Digest(digest()))),
        (
            "gossip.delta",
            gossip(Gossip::Replica(Replica::Delta {
                version: version(8),
                hash: 77,
                base: version(7),
                base_hash: 1 << 63,
                edits: list![
                    Edit<'static>;
                    Edit { table: Table::Meta, slot: 0, at: 0, bytes: b"who" },
                    Edit { table: Table::Revocations, slot: 300, at: 16, bytes: b"" },
                ],
            })),
        ),
        (
            "gossip.piece",
            gossip(Gossip::Replica(Replica::Piece {
                version: version(8),
                hash: 77,
                total: 100_000,
                at: 16_384,
                bytes: b"tables",
            })),
        ),
        (
            "gossip.pull",
            gossip(Gossip::Replica(Replica::Pull { version: version(8), hash: 77, at: 16_384 })),
        ),
        (
            "gossip.envelope",
            gossip(Gossip::Envelope(Envelope {
                incarnation: 3,
                nonce: 77,
                counter: 1 << 33,
                address: "10.0.0.7:5050",
                head: b"a head",
            })),
        ),
        (
            "gossip.bootstrap",
            gossip(Gossip::Bootstrap(Bootstrap {
                masters: "a:5050,b:5050,c:5050",
                id: 2,
                draw: 1 << 63,
                key: [7; 32],
                rows: [256, 32, 64],
                t_us: 500_000,
                agreed: 99,
                made: false,
            })),
        ),
        ("gossip.turned", gossip(Gossip::Turned { message: "another list" })),
        (
            "gossip.join",
            gossip(Gossip::Join(Join {
                key: [0x5a; 32],
                rows: [256, 32, 64],
                address: "10.0.0.4:5050",
            })),
        ),
        (
            "gossip.joined",
            gossip(Gossip::Joined(Joined {
                key: [0x5a; 32],
                id: 4,
                cluster: 0x1234,
                generation: Generation { number: 1, nonce: 77 },
                epoch: 9,
                t_us: 500_000,
                roster: &[1, 2, 3],
                masters: "10.0.0.1:5050,10.0.0.2:5050",
            })),
        ),
        ("gossip.called", gossip(Gossip::Called { hostname: "leader.example" })),
        ("gossip.part", gossip(Gossip::Part { of: 7, at: 2, count: 3, bytes: &[5; 100] })),
        (
            "event.subscribed",
            Head::Event(Event::Subscribed {
                framework,
                fence,
                cluster: CLUSTER,
                master: 1,
                guaranteed: quantities(),
            }),
        ),
        (
            "event.offers",
            Head::Event(Event::Offers { offers: list![Offer<'static>; usual_offer()] }),
        ),
        (
            "event.offers.detail",
            Head::Event(Event::Offers {
                offers: list![Offer<'static>; Offer {
                    resources: list![Resource<'static>; rich_resource()],
                    detail: Some(OfferDetail {
                        executors: list![&'static str; "default"],
                        unavailable: Some(unavailable()),
                    }),
                    ..usual_offer()
                }],
            }),
        ),
        (
            "event.inverse_offers",
            Head::Event(Event::InverseOffers {
                offers: list![InverseOffer; InverseOffer {
                    id: OFFER,
                    agent: AGENT,
                    unavailable: unavailable(),
                }],
            }),
        ),
        ("event.rescind", Head::Event(Event::Rescind { offer: OFFER })),
        ("event.rescind_inverse", Head::Event(Event::RescindInverse { offer: OFFER })),
        ("event.update", Head::Event(Event::Update { status: usual_status() })),
        ("event.update.detail", Head::Event(Event::Update { status: rich_status() })),
        (
            "event.operation_update",
            Head::Event(Event::OperationUpdate { status: operation_status() }),
        ),
        ("event.message", Head::Event(Event::Message { agent: AGENT, executor: "default", data })),
        (
            "event.failure",
            Head::Event(Event::Failure { agent: AGENT, executor: "", exit: Exit::Unseen }),
        ),
        ("event.error", Head::Event(Event::Error { message: "Framework failed over" })),
        ("event.reply.ok", Head::Event(Event::Reply { ticket: 300, result: Ok(()) })),
        (
            "event.reply.refusal",
            Head::Event(Event::Reply { ticket: 300, result: Err(Refusal::UnknownOffer) }),
        ),
        (
            "event.agents",
            Head::Event(Event::Agents {
                agents: list![AgentInfo<'static>; AgentInfo {
                    agent: AGENT,
                    hostname: "pi2",
                    region: "eu",
                    zone: "a",
                    attributes: register().attributes,
                    address: "10.0.0.2:5051",
                }],
            }),
        ),
        (
            "event.waiting",
            Head::Event(Event::Waiting {
                name: "cpus",
                asked: 8_000,
                largest: 4_000,
                agent: AGENT,
                fits: quantities(),
            }),
        ),
        ("agent.register", Head::AgentCall(AgentCall::Register(register()))),
        ("agent.report", Head::AgentCall(AgentCall::Report(report()))),
        ("agent.ran", Head::AgentCall(AgentCall::Ran { session: SESSION, tasks: ran() })),
        (
            "agent.told",
            Head::AgentCall(AgentCall::Told {
                session,
                tasks: list![TaskTold<'static>; TaskTold {
                    task: task_of,
                    state: TaskState::Running,
                    source: Source::Executor,
                    reason: Some(Reason::TaskHealthCheckStatusUpdated),
                    uuid: 1 << 32 | 3,
                    wall_us: 1_795_000_000_000_000,
                    healthy: Some(true),
                    public: data,
                }],
            }),
        ),
        (
            "agent.bodies",
            Head::AgentCall(AgentCall::Bodies {
                session,
                tasks: list![TaskBodies<'static>; TaskBodies { task: task_of, public: data }],
            }),
        ),
        ("agent.settled", Head::AgentCall(AgentCall::Settled { session })),
        (
            "agent.update",
            Head::AgentCall(AgentCall::Update {
                framework,
                latest: TaskState::Finished,
                status: usual_status(),
            }),
        ),
        (
            "agent.operation_update",
            Head::AgentCall(AgentCall::OperationUpdate { framework, status: operation_status() }),
        ),
        (
            "agent.message",
            Head::AgentCall(AgentCall::Message { framework, executor: "default", data }),
        ),
        (
            "agent.executor_ended",
            Head::AgentCall(AgentCall::ExecutorEnded {
                framework,
                executor: "default",
                exit: Exit::Code(3),
            }),
        ),
        (
            "agent.totals",
            Head::AgentCall(AgentCall::Totals { session, resources: usual_resources() }),
        ),
        ("agent.leaving", Head::AgentCall(AgentCall::Leaving { session })),
        ("agent.leave", Head::AgentCall(AgentCall::Leave { session })),
        ("agent.event.reactivate", Head::AgentEvent(AgentEvent::Reactivate)),
        (
            "agent.event.reconcile_operations",
            Head::AgentEvent(AgentEvent::ReconcileOperations {
                operations: list![
                    OperationOf<'static>;
                    OperationOf { framework: FRAMEWORK, operation: "op" }
                ],
            }),
        ),
        (
            "agent.event.describe_framework",
            Head::AgentEvent(AgentEvent::DescribeFramework {
                framework: FRAMEWORK,
                public: Body::at(0),
            }),
        ),
        (
            "agent.draining",
            Head::AgentCall(AgentCall::Draining { session, grace_us: None, gone: true }),
        ),
        (
            "to_agent.registered",
            Head::AgentEvent(AgentEvent::Registered {
                fence,
                session,
                agent: AGENT,
                cluster: CLUSTER,
                timeout_us: 10_000_000,
            }),
        ),
        (
            "to_agent.refused",
            Head::AgentEvent(AgentEvent::Refused {
                fence,
                refusal: Refusal::AgentsFull,
                message: "no room",
            }),
        ),
        (
            "to_agent.want",
            Head::AgentEvent(AgentEvent::Want { session, tasks: list![TaskOf<'static>; task_of] }),
        ),
        (
            "to_agent.verdicts",
            Head::AgentEvent(AgentEvent::Verdicts {
                fence,
                session,
                tasks: list![Verdict<'static>; Verdict { task: task_of, fate: Fate::Kill }],
                last: true,
            }),
        ),
        (
            "to_agent.launch",
            Head::AgentEvent(AgentEvent::Launch {
                fence,
                session,
                framework: framework_held(),
                role: "eng/web",
                tasks: list![Launch<'static>; launch(), container, Launch {
                    kind: function,
                    ..launch()
                }],
            }),
        ),
        ("to_agent.kill", Head::AgentEvent(AgentEvent::Kill { task: task_of, grace_us: None })),
        (
            "to_agent.acknowledge",
            Head::AgentEvent(AgentEvent::Acknowledge { task: task_of, sequence: 1_000 }),
        ),
        (
            "to_agent.acknowledge_operation",
            Head::AgentEvent(AgentEvent::AcknowledgeOperation {
                framework,
                operation: operation(),
                sequence: 4,
            }),
        ),
        (
            "to_agent.message",
            Head::AgentEvent(AgentEvent::Message { framework, executor: "default", data }),
        ),
        (
            "to_agent.shutdown_executor",
            Head::AgentEvent(AgentEvent::ShutdownExecutor { framework, executor: "default" }),
        ),
        (
            "to_agent.shutdown_framework",
            Head::AgentEvent(AgentEvent::ShutdownFramework { framework }),
        ),
        (
            "to_agent.reconcile",
            Head::AgentEvent(AgentEvent::Reconcile { tasks: list![TaskOf<'static>; task_of] }),
        ),
        (
            "to_agent.update_framework",
            Head::AgentEvent(AgentEvent::UpdateFramework { framework: framework_held() }),
        ),
        (
            "to_agent.operate",
            Head::AgentEvent(AgentEvent::Operate {
                fence,
                session,
                framework,
                operations: list![Operation<'static>; Operation::Reserve(change())],
            }),
        ),
        ("to_agent.drain", Head::AgentEvent(AgentEvent::Drain { grace_us: Some(1), gone: true })),
        ("to_agent.shutdown", Head::AgentEvent(AgentEvent::Shutdown { message: "gone" })),
        (
            "executor.subscribe",
            Head::ExecutorCall(ExecutorCall::Subscribe {
                framework,
                executor: "default",
                token: &[1, 2, 3],
                tasks: list![&'static str; "web.1"],
                updates: list![ExecutorUpdate<'static>; update],
            }),
        ),
        ("executor.update", Head::ExecutorCall(ExecutorCall::Update(update))),
        ("executor.message", Head::ExecutorCall(ExecutorCall::Message { data })),
        ("executor.heartbeat", Head::ExecutorCall(ExecutorCall::Heartbeat)),
        (
            "executor.holds",
            Head::ExecutorCall(ExecutorCall::Holds {
                framework,
                executor: "default",
                token: &[1, 2, 3],
                tasks: list![&'static str; "web.1"],
            }),
        ),
        (
            "to_executor.subscribed",
            Head::ExecutorEvent(ExecutorEvent::Subscribed {
                agent: AGENT,
                container: CONTAINER,
                executor: Body::at(0),
                framework: Body::at(1),
            }),
        ),
        ("to_executor.launch", Head::ExecutorEvent(ExecutorEvent::Launch { task: launch() })),
        (
            "to_executor.launch_group",
            Head::ExecutorEvent(ExecutorEvent::LaunchGroup { tasks: tasks() }),
        ),
        (
            "to_executor.kill",
            Head::ExecutorEvent(ExecutorEvent::Kill { task: "web.1", grace_us: Some(9) }),
        ),
        (
            "to_executor.acknowledged",
            Head::ExecutorEvent(ExecutorEvent::Acknowledged { task: "web.1", uuid: [5; 16] }),
        ),
        ("to_executor.message", Head::ExecutorEvent(ExecutorEvent::Message { data })),
        ("to_executor.shutdown", Head::ExecutorEvent(ExecutorEvent::Shutdown)),
        (
            "to_executor.error",
            Head::ExecutorEvent(ExecutorEvent::Error { message: "unknown executor" }),
        ),
        ("to_executor.heartbeat", Head::ExecutorEvent(ExecutorEvent::Heartbeat)),
        (
            "svc.open.logs",
            stream(Stream::Logs {
                agent: AGENT,
                of: LogsOf::Container(CONTAINER),
                which: Output::Stderr,
                offset: -100,
                follow: true,
            }),
        ),
        (
            "svc.open.logs.task",
            stream(Stream::Logs {
                agent: AgentId::NONE,
                of: LogsOf::Task { framework, task: "web.1" },
                which: Output::Stdout,
                offset: 0,
                follow: false,
            }),
        ),
        ("svc.open.http", stream(Stream::Http { agent: AGENT })),
        ("svc.open.exec", stream(Stream::Exec { agent: AGENT, container: CONTAINER })),
        ("svc.open.rows", stream(Stream::Rows { of: Rows::Frameworks })),
        ("svc.open.rows.quotas", stream(Stream::Rows { of: Rows::Quotas })),
        ("svc.open.rows.weights", stream(Stream::Rows { of: Rows::Weights })),
        ("svc.open.rows.machines", stream(Stream::Rows { of: Rows::Machines })),
        ("svc.open.rows.masters", stream(Stream::Rows { of: Rows::Masters })),
        ("svc.open.rows.audit", stream(Stream::Rows { of: Rows::Audit })),
        (
            "svc.open.store.put",
            stream(Stream::Store {
                owner: "web",
                key: "state",
                verb: Keep::Put { value: &[1, 2, 3], expected: Some(0) },
            }),
        ),
        ("svc.open.store.get", stream(Stream::Store { owner: "", key: "state", verb: Keep::Get })),
        (
            "svc.open.store.remove",
            stream(Stream::Store {
                owner: "",
                key: "state",
                verb: Keep::Remove { expected: None },
            }),
        ),
        ("svc.open.store.list", stream(Stream::Store { owner: "", key: "", verb: Keep::List })),
        (
            "svc.open.follow",
            stream(Stream::Follow {
                agent: AGENT,
                of: LogsOf::Container(CONTAINER),
                which: Output::Stderr,
                offset: -4_096,
            }),
        ),
        ("svc.open.charter", stream(Stream::Charter)),
        ("svc.open.rekey", stream(Stream::Rekey { key: [9; 32] })),
        (
            "svc.open.explain",
            stream(Stream::Explain {
                framework: "meter",
                agent: "pi1",
                need: "cpus:2;mem:64",
                attributes: "rack:a",
            }),
        ),
        ("svc.data", Head::Svc(Svc::Data { stream: 1, from_opener: false, bytes: b"hello\n" })),
        (
            "svc.credit",
            Head::Svc(Svc::Credit { stream: 1, from_opener: true, bytes: STREAM_WINDOW }),
        ),
        (
            "svc.close",
            Head::Svc(Svc::Close {
                stream: 1,
                from_opener: false,
                reason: CloseReason::NotFound,
                message: "no such task",
            }),
        ),
    ]
}
