//! `HierarchicalAllocatorTest`: the two of its tests that are about machines which will be absent.
//! Here that is the master's concern, so a whole master is asked.

use mesita_core::wire::FrameworkId;

use crate::support::rig::Rig;

/// What a master says to each line, all in one.
fn said(rig: &mut Rig, lines: &[&str]) -> String {
    lines.iter().flat_map(|line| rig.line(line)).collect::<Vec<_>>().join("\n")
}

/// Mesos: an agent that has maintenance planned, and resources of a framework nobody knows, is added
/// without harm, and offered to others.
#[test]
fn add_agent_with_unknown_framework_and_maintenance() {
    let mut rig = Rig::new();
    rig.peer("f9").framework = FrameworkId { epoch: 7, number: 9 };
    said(&mut rig, &["operator op", "schedule op s1@1000+60", "framework f1 web"]);
    let told = said(&mut rig, &["agent s1 cpus:2 f9/t1/RUNNING/cpus:1"]);
    assert!(told.contains("f1: OFFERS O0.0 for web of S1/1: cpus:1, away 1000"), "{told}");
    assert!(told.contains("f1: INVERSE_OFFERS I1.0 of S1/1 at 1000+60"), "{told}");
}

/// Mesos: inverse offers go to whoever has something of an agent that is to be absent; one that
/// declined is not asked again while its filter holds, and then is.
#[test]
fn maintenance_inverse_offers() {
    let mut rig = Rig::new();
    let lines = [
        "operator op",
        "agent s1 cpus:2",
        "agent s2 cpus:2",
        "framework f1 web",
        "accept f1 O1.0 t1=cpus:2",
        "accept f1 O0.0 t2=cpus:2",
        "framework f2 db",
    ];
    said(&mut rig, &lines);
    let told = said(&mut rig, &["schedule op s1@1000+60"]);
    assert!(told.contains("f1: INVERSE_OFFERS I0.0 of S1/1 at 1000+60"), "{told}");
    assert!(!told.contains("f2: ") && !told.contains("S1/2"), "only who has something: {told}");
    let told = said(&mut rig, &["inverse f1 no I0.0 10s", "wait 9s"]);
    assert_eq!(told, "", "asked again while it refuses");
    let told = said(&mut rig, &["wait 1s"]);
    assert!(told.contains("f1: INVERSE_OFFERS I0.0 of S1/1"), "{told}");
    // Nobody has anything there any more: nobody is asked.
    let ended = ["inverse f1 no I0.0 5s", "status s1 f1 t1 FINISHED #1", "ack f1 t1 s1 #1"];
    let told = said(&mut rig, &ended);
    let other = told.contains("f2: OFFERS") || told.contains("f1: OFFERS");
    assert!(other && told.contains("away 1000"), "{told}");
}
