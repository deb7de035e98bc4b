//! What messages and names cost: bytes and ns here, instructions by `ci/instructions`, which counts
//! how many more of them a second thousand takes.

use std::hint::black_box;
use std::time::Instant;

use mesita_core::names::Names;
use mesita_core::resources::Amount;
use mesita_core::table::Id;
use mesita_core::wire::event::{Event, Offer};
use mesita_core::wire::resource::{Range, Resource, Traits, Value};
use mesita_core::wire::task::{Detail, Source, Status, TaskState};
use mesita_core::wire::{AgentId, ContainerId, Head, OfferId, Scratch, decode, encode};

use crate::allocation::Size;
use crate::stage::Stage;

/// What can be done again and again, by its name.
pub const DEEDS: [&str; 9] = [
    "decision-10",
    "decision-100",
    "decision-1000",
    "offer-encode",
    "offer-decode",
    "status-encode",
    "status-decode",
    "name-intern",
    "name-find",
];

/// Something that is done `times` times, after everything that it needs was made.
///
/// # Panics
/// When there is no such deed.
pub fn again(deed: &str, times: u32) {
    let mut act = made(deed).unwrap_or_else(|| panic!("no deed is called {deed}"));
    (0..times).for_each(|_| act());
}

/// Prints bytes, and the spread of ns, of each.
pub fn run(size: Size) {
    let mut memory = [0; 512];
    for (name, head) in [("offer", offer(&mut memory)), ("status", status())] {
        let mut into = [0; 512];
        let bytes = encode(&head, &mut into).map_or(0, |bytes| bytes.len());
        println!("{{\"case\":\"codec\",\"what\":\"{name}\",\"unit\":\"bytes\",\"value\":{bytes}}}");
    }
    let blocks = if size.quick { 20 } else { 200 };
    for deed in DEEDS.into_iter().filter(|deed| !deed.starts_with("decision")) {
        let Some(mut act) = made(deed) else { continue };
        (0..10_000).for_each(|_| act());
        let mut times: Vec<u128> = (0..blocks)
            .map(|_| {
                let began = Instant::now();
                (0..1_000).for_each(|_| act());
                began.elapsed().as_nanos() / 1_000
            })
            .collect();
        times.sort_unstable();
        println!(
            "{{\"case\":\"codec\",\"what\":\"{deed}\",\"unit\":\"ns\",\"min\":{},\"p50\":{}}}",
            times[0],
            times[times.len() / 2]
        );
    }
}

fn made(deed: &str) -> Option<Box<dyn FnMut()>> {
    if let Some(frameworks) = deed.strip_prefix("decision-") {
        return Some(decision(frameworks.parse().ok()?));
    }
    let mut memory = [0; 512];
    Some(match deed {
        "offer-encode" => {
            let memory = Box::leak(Box::new([0; 512]));
            encoding(offer(memory))
        }
        "offer-decode" => decoding(offer(&mut memory)),
        "status-encode" => encoding(status()),
        "status-decode" => decoding(status()),
        "name-intern" => {
            let (mut names, mut next) = (names(), 0u32);
            Box::new(move || {
                next = (next + 1) % 1_000;
                let name = names.intern(&format!("task-{next}"));
                if let Ok(name) = black_box(name) {
                    names.release_one(name);
                }
            })
        }
        "name-find" => {
            let mut names = names();
            let name = names.intern("the-name-that-is-looked-for");
            black_box(&name);
            Box::new(move || {
                black_box(names.find(black_box("the-name-that-is-looked-for")));
            })
        }
        _ => return None,
    })
}

fn decision(frameworks: u32) -> Box<dyn FnMut()> {
    let mut stage = Stage::new(1, frameworks, 2);
    (0..frameworks).for_each(|_| stage.add_framework("*"));
    stage.add_agent("cpus:24;mem:4096", "cpus:0.001");
    Box::new(move || {
        stage.cycle();
        stage.give_back(false);
    })
}

fn encoding(head: Head<'static>) -> Box<dyn FnMut()> {
    Box::new(move || {
        let mut into = [0; 512];
        black_box(encode(black_box(&head), &mut into).is_ok());
    })
}

fn decoding(head: Head<'_>) -> Box<dyn FnMut()> {
    let mut into = vec![0; 512];
    let bytes = encode(&head, &mut into).map_or(0, |bytes| bytes.len());
    into.truncate(bytes);
    Box::new(move || {
        black_box(decode::<Head<'_>>(black_box(&into)).is_ok());
    })
}

/// An offer of three amounts and two ranges of ports.
fn offer(memory: &mut [u8]) -> Head<'_> {
    let mut scratch = Scratch::new(memory);
    let ports = [Range { begin: 31_000, end: 31_499 }, Range { begin: 31_600, end: 32_000 }];
    let ports = scratch.seq::<Range>(ports).unwrap_or_default();
    let plain = |name, units| Resource::scalar(name, Amount::from_units(units));
    let resources = [
        plain("cpus", 4),
        plain("mem", 4_096),
        plain("disk", 10_000),
        Resource { name: "ports", value: Value::Ranges(ports), traits: Traits::PLAIN },
    ];
    let resources = scratch.seq::<Resource<'static>>(resources).unwrap_or_default();
    let offer = Offer {
        id: OfferId { epoch: 1, id: Id { index: 3, generation: 5 } },
        agent: AgentId { epoch: 1, number: 7 },
        role: "*",
        resources,
        detail: None,
    };
    let offers = scratch.seq::<Offer<'static>>([offer]).unwrap_or_default();
    Head::Event(Event::Offers { offers })
}

fn status() -> Head<'static> {
    let container = ContainerId { incarnation: 1, counter: 4 };
    let status = Status {
        task: "run-4711",
        state: TaskState::Running,
        source: Source::Agent,
        agent: AgentId { epoch: 1, number: 7 },
        uuid: Some(0x1_0000_0004),
        wall_us: 1_795_854_902_328_637,
        detail: Some(Detail { container: Some(container), ..Detail::default() }),
    };
    Head::Event(Event::Update { status })
}

fn names() -> Names<'static> {
    let rows = 4_096;
    let lend = |_: ()| Box::leak(vec![bytemuck::Zeroable::zeroed(); rows].into_boxed_slice());
    let cells = Box::leak(vec![bytemuck::Zeroable::zeroed(); rows].into_boxed_slice());
    let buckets = Box::leak(vec![bytemuck::Zeroable::zeroed(); rows].into_boxed_slice());
    Names::new(lend(()), cells, buckets, 1)
}
