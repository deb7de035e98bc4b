//! `OfferConstraintsFilterTest`: which agents a role wants.
//!
//! Patterns are understood outside of the core, which is told a verdict for each agent; here the
//! tests tell them.

use mesita_core::Refusal;
use mesita_core::allocator::hosts::Description;
use mesita_core::wire::call::{Constraint, ConstraintGroup, Constraints, Predicate, Selector};
use mesita_core::wire::resource::{Attribute, AttributeValue, Range};
use mesita_core::wire::{Scratch, Seq};

use crate::support::allocation::Rig;
use crate::support::text::scratch;

/// Agents by name, each with attributes, all of them text but for `name=1.5` and `name=[1-2]`.
fn agents(list: &[(&str, &[(&'static str, &'static str)])]) -> Rig {
    let mut rig = Rig::new();
    rig.framework("f", &["role"]);
    for (name, attributes) in list {
        let agent = rig.agent(name, "cpus:1;mem:100");
        let attributes =
            attributes.iter().map(|(name, value)| Attribute { name, value: read(value) });
        let attributes = scratch().seq::<Attribute<'static>>(attributes).unwrap();
        let description = Description { hostname: "host", region: "", zone: "", attributes };
        rig.allocator.describe(&mut rig.names, agent, &description);
    }
    rig
}

fn read(value: &'static str) -> AttributeValue<'static> {
    if let Ok(amount) = mesita_core::resources::Amount::parse(value) {
        AttributeValue::Scalar(amount)
    } else if value.starts_with('[') {
        let ranges = scratch().seq::<Range>([Range { begin: 1, end: 2 }]).unwrap();
        AttributeValue::Ranges(ranges)
    } else {
        AttributeValue::Text(value)
    }
}

fn on(attribute: &'static str, predicate: Predicate, value: &'static str) -> Constraint<'static> {
    Constraint { selector: Selector::Attribute, attribute, predicate, value }
}

fn leak() -> Scratch<'static> {
    Scratch::new(Box::leak(vec![0; 4_096].into_boxed_slice()))
}

fn groups(list: &[&[Constraint<'static>]]) -> Seq<'static, ConstraintGroup<'static>> {
    let groups = list.iter().map(|all| {
        let all = leak().seq::<Constraint<'static>>(all.iter().copied()).unwrap();
        ConstraintGroup { all }
    });
    leak().seq::<ConstraintGroup<'static>>(groups).unwrap()
}

fn constrain(
    rig: &mut Rig,
    role: &'static str,
    list: &[&[Constraint<'static>]],
) -> Result<(), Refusal> {
    let constraints = Constraints { role, groups: groups(list) };
    let client = rig.client("f", role);
    let all = leak().seq::<Constraints<'static>>([constraints]).unwrap();
    rig.allocator.check_constraints(&rig.names, [client].into_iter(), &all)?;
    rig.allocator.set_constraints(&mut rig.names, client, Some(&constraints));
    Ok(())
}

/// The agents that are offered, with nothing but these constraints.
fn taken(rig: &mut Rig, list: &[&[Constraint<'static>]]) -> Vec<String> {
    constrain(rig, "role", list).unwrap();
    let offers = rig.allocate();
    for offer in &offers {
        rig.decline("f", &offer.agent, 0);
    }
    offers.into_iter().map(|offer| offer.agent).collect()
}

fn taken_by(rig: &mut Rig, predicate: Predicate, value: &'static str) -> Vec<String> {
    taken(rig, &[&[on("rack", predicate, value)]])
}

const FOUR: [(&str, &[(&str, &str)]); 5] = [
    ("foo", &[("rack", "foo")]),
    ("bar", &[("rack", "bar")]),
    ("none", &[("zone", "foo")]),
    ("number", &[("rack", "1.5")]),
    ("ranges", &[("rack", "[1-2]")]),
];

#[test]
fn named_attribute_exists() {
    let mut rig = agents(&FOUR);
    assert_eq!(taken_by(&mut rig, Predicate::Exists, ""), ["bar", "foo", "number", "ranges"]);
}

#[test]
fn named_attribute_not_exists() {
    let mut rig = agents(&FOUR);
    assert_eq!(taken_by(&mut rig, Predicate::NotExists, ""), ["none"]);
}

#[test]
fn named_attribute_text_equals() {
    let mut rig = agents(&FOUR);
    // What is no text passes every predicate on text.
    assert_eq!(taken_by(&mut rig, Predicate::TextEquals, "foo"), ["foo", "number", "ranges"]);
}

#[test]
fn named_attribute_text_not_equals() {
    let mut rig = agents(&FOUR);
    let expected = ["bar", "none", "number", "ranges"];
    assert_eq!(taken_by(&mut rig, Predicate::TextNotEquals, "foo"), expected);
}

/// Verdicts on the first constraint, by agent.
fn judge(rig: &mut Rig, verdicts: &[(&str, bool)]) {
    for (agent, matches) in verdicts {
        let (client, agent) = (rig.client("f", "role"), rig.agents[*agent]);
        rig.allocator.set_verdict(client, 0, agent, *matches).unwrap();
    }
}

fn by_pattern(predicate: Predicate) -> [Vec<String>; 2] {
    let mut rig = agents(&FOUR);
    let unjudged = taken_by(&mut rig, predicate, "fo+");
    judge(&mut rig, &[("foo", true), ("bar", false)]);
    let offers = rig.allocate();
    [unjudged, offers.into_iter().map(|offer| offer.agent).collect()]
}

#[test]
fn named_attribute_text_matches() {
    let [unjudged, judged] = by_pattern(Predicate::TextMatches);
    assert_eq!(unjudged, ["number", "ranges"], "nothing holds before it is known");
    // What was free all the time is in `unjudged`; here it is what the verdicts let through.
    assert!(judged.contains(&"foo".to_string()) && !judged.contains(&"bar".to_string()));
}

#[test]
fn named_attribute_text_not_matches() {
    let [unjudged, judged] = by_pattern(Predicate::TextNotMatches);
    assert_eq!(unjudged, ["none", "number", "ranges"]);
    assert!(judged.contains(&"bar".to_string()) && !judged.contains(&"foo".to_string()));
}

#[test]
fn two_attributes_with_the_same_name() {
    // The first one counts.
    let mut rig = agents(&[
        ("one", &[("rack", "foo"), ("rack", "bar")]),
        ("two", &[("rack", "bar"), ("rack", "foo")]),
    ]);
    assert_eq!(taken_by(&mut rig, Predicate::TextEquals, "foo"), ["one"]);
    assert_eq!(taken_by(&mut rig, Predicate::TextNotEquals, "foo"), ["two"]);
}

#[test]
fn two_constraints_in_group() {
    let mut rig = agents(&[
        ("both", &[("rack", "foo"), ("kind", "big")]),
        ("rack", &[("rack", "foo")]),
        ("kind", &[("rack", "bar"), ("kind", "big")]),
    ]);
    let group = [on("rack", Predicate::TextEquals, "foo"), on("kind", Predicate::Exists, "")];
    assert_eq!(taken(&mut rig, &[&group]), ["both"]);
}

#[test]
fn two_groups() {
    let mut rig = agents(&[
        ("both", &[("rack", "foo"), ("kind", "big")]),
        ("rack", &[("rack", "foo")]),
        ("kind", &[("rack", "bar"), ("kind", "big")]),
        ("none", &[("rack", "bar")]),
    ]);
    let first = [on("rack", Predicate::TextEquals, "foo")];
    let second = [on("kind", Predicate::Exists, "")];
    assert_eq!(taken(&mut rig, &[&first, &second]), ["both", "kind", "rack"]);
}

#[test]
fn two_roles() {
    let mut rig = agents(&[("foo", &[("rack", "foo")]), ("bar", &[("rack", "bar")])]);
    rig.framework("f", &["other"]);
    constrain(&mut rig, "role", &[&[on("rack", Predicate::TextEquals, "foo")]]).unwrap();
    constrain(&mut rig, "other", &[&[on("rack", Predicate::TextEquals, "bar")]]).unwrap();
    let offers = rig.allocate();
    let by_role: Vec<_> = offers.iter().map(|offer| (&*offer.role, &*offer.agent)).collect();
    assert_eq!(by_role, [("other", "bar"), ("role", "foo")]);
}

#[test]
fn default_offer_constraints() {
    // None at all, and none for this role: all agents.
    let mut rig = agents(&[("foo", &[("rack", "foo")]), ("bar", &[])]);
    assert_eq!(taken(&mut rig, &[]), ["bar", "foo"]);
    assert_eq!(taken_by(&mut rig, Predicate::TextEquals, "foo"), ["foo"]);
    assert_eq!(taken(&mut rig, &[]), ["bar", "foo"], "taken back, nothing is kept from it");
}

#[test]
fn more_constraints_than_there_is_room_for_are_refused_and_change_nothing() {
    let mut rig = agents(&FOUR);
    assert_eq!(taken_by(&mut rig, Predicate::TextEquals, "bar"), ["bar", "number", "ranges"]);
    let many = [on("rack", Predicate::Exists, ""); 65];
    assert_eq!(constrain(&mut rig, "role", &[&many]), Err(Refusal::ConstraintsFull));
    let patterns = [on("rack", Predicate::TextMatches, "x"); 9];
    assert_eq!(constrain(&mut rig, "role", &[&patterns]), Err(Refusal::ConstraintsFull));
    let offers = rig.allocate();
    assert!(offers.iter().all(|offer| offer.agent != "foo"), "the older ones hold");
}
