//! Resources between text and wire.

use mesita_core::resources::text::{self, TextValue};
use mesita_core::wire::resource::*;
use mesita_core::wire::{Scratch, Seq};

pub fn scratch() -> Scratch<'static> {
    Scratch::new(Box::leak(vec![0; 2_048].into_boxed_slice()))
}

/// Mesos' text form as a list on the wire; a role is a static reservation. `disk(~web!p)%db:64` is a
/// volume `db` on disk that `p` has reserved for `web` by an operation; `%%db` may be shared.
pub fn wire(text: &str) -> Seq<'static, Resource<'static>> {
    let text: &'static str = Box::leak(text.to_string().into_boxed_str());
    let mut whole = scratch();
    let mut list = whole.list::<Resource<'static>>();
    for entry in text::resources(text) {
        let entry = entry.unwrap();
        let value = match entry.value {
            TextValue::Scalar(amount) => Value::Scalar(amount),
            TextValue::Ranges(inside) => {
                Value::Ranges(scratch().seq::<Range>(text::ranges(inside)).unwrap())
            }
            TextValue::Set(inside) => {
                Value::Set(scratch().seq::<&'static str>(text::items(inside)).unwrap())
            }
            TextValue::Text(_) => unreachable!("resources have no text values"),
        };
        let (role, principal) = entry.role.split_once('!').unwrap_or((entry.role, ""));
        let (role, kind) = match role.strip_prefix('~') {
            Some(role) => (role, ReservationKind::Dynamic),
            None => (role, ReservationKind::Static),
        };
        let layer = Reservation { role, kind, principal, labels: "" };
        let layers = (role != "*").then_some(layer);
        let reservations = scratch().seq::<Reservation<'static>>(layers).unwrap();
        let (name, volume) = entry.name.split_once('%').unwrap_or((entry.name, ""));
        let (shared, volume) = match volume.strip_prefix('%') {
            Some(volume) => (true, volume),
            None => (false, volume),
        };
        let disk = (!volume.is_empty()).then_some(Disk {
            source: DiskSource::Root,
            root: "",
            id: "",
            profile: "",
            vendor: "",
            persistence: volume,
            principal,
            container_path: "data",
        });
        let traits = Traits { reservations, disk, shared, ..Traits::PLAIN };
        list.push(&Resource { name, value, traits }).unwrap();
    }
    list.end()
}

/// A list on the wire in Mesos' text form.
pub fn shown(list: &Seq<'_, Resource<'_>>) -> String {
    let role = |resource: &Resource<'_>| {
        let role = resource.traits.reservations.iter().last();
        role.map_or(String::new(), |layer| format!("({})", layer.role))
    };
    let one = |resource: Resource<'_>| {
        format!("{}{}:{}", resource.name, role(&resource), value(&resource))
    };
    list.iter().map(one).collect::<Vec<_>>().join(";")
}

/// A list on the wire in the form of [`wire`], with what operations have made of it.
pub fn marked(list: &Seq<'_, Resource<'_>>) -> String {
    list.iter().map(|resource| one_marked(&resource)).collect::<Vec<_>>().join(";")
}

fn one_marked(resource: &Resource<'_>) -> String {
    let role = resource.traits.reservations.iter().last();
    let role = role.map_or(String::new(), |layer| {
        let made = if layer.kind == ReservationKind::Dynamic { "~" } else { "" };
        let by = if layer.principal.is_empty() { "" } else { "!" };
        format!("({made}{}{by}{})", layer.role, layer.principal)
    });
    let volume = resource.traits.disk.map_or("", |disk| disk.persistence);
    let mark = match (volume.is_empty(), resource.traits.shared) {
        (true, _) => "",
        (false, false) => "%",
        (false, true) => "%%",
    };
    format!("{}{mark}{volume}{role}:{}", resource.name, value(resource))
}

fn value(resource: &Resource<'_>) -> String {
    match resource.value {
        Value::Scalar(amount) => amount.to_string(),
        Value::Ranges(ranges) => {
            let ranges: Vec<_> = ranges.iter().map(|r| format!("{}-{}", r.begin, r.end)).collect();
            format!("[{}]", ranges.join(","))
        }
        Value::Set(items) => format!("{{{}}}", items.iter().collect::<Vec<_>>().join(",")),
    }
}
