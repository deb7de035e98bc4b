//! Resources and attributes. On the wire a reservation is a stack; the API also knows the older
//! form, one role and one dynamic reservation, which frameworks without RESERVATION_REFINEMENT
//! speak. Mesos: `upgradeResource`, `downgradeResource`.

#![allow(deprecated)]

use std::fmt;

use mesita_core::table::Full;
use mesita_core::wire::resource::{
    Attribute, AttributeValue, Disk, DiskSource, Range, Reservation, ReservationKind, Resource,
    Traits, Value,
};
use mesita_core::wire::{Scratch, Seq};
use serde_json::json;

use super::amounts::{BadNumber, amount, double};
use super::calls::role_trouble;
use crate::pb::mesos::v1 as pb;
use pb::resource::disk_info::{Persistence, Source, source};
use pb::resource::reservation_info::Type as ReservationType;
use pb::resource::{AllocationInfo, DiskInfo, ReservationInfo, RevocableInfo, SharedInfo};

/// What is wrong with a resource, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadResource {
    /// Its value is not the one that its type says.
    NoValue(String),
    /// A number that is none.
    Number(String, BadNumber),
    /// A range that ends before it begins, or ranges that overlap.
    Ranges(String),
    /// Two forms of reservations that differ, or half of one.
    Reservation(String),
    /// A reservation for everybody, and in which form.
    Everybodys(String, &'static str),
    /// A reservation for what no role can be called, and why.
    Role(String, String),
    /// A volume where a task's outputs are.
    Path(String),
    /// A disk without what its kind needs, or of an unknown kind.
    Disk(String),
    /// A persistent volume from somewhere else.
    Volume(String),
    /// A persistent volume that is to be made, and to be read-only.
    ReadOnly(String),
    /// Two lists that are not the same under two reservations, and why.
    Moved(&'static str),
    /// More than a message may hold.
    TooMany,
}

impl fmt::Display for BadResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue(name) => write!(f, "Resource '{name}' has no value of its type"),
            Self::Number(name, bad) => write!(f, "The value of resource '{name}' {bad}"),
            Self::Ranges(name) => write!(
                f,
                "The ranges of resource '{name}' must neither overlap nor end before they begin"
            ),
            Self::Reservation(name) => write!(
                f,
                "Resource '{name}' is reserved in two formats that differ, or without a role"
            ),
            Self::Everybodys(name, form) => write!(
                f,
                "Resource '{name}' is invalid: Invalid reservation: role \"*\" cannot be {form}"
            ),
            Self::Role(name, why) => {
                write!(f, "Resource '{name}' has an invalid 'reservations.role': {why}")
            }
            Self::Path(name) => write!(
                f,
                "Resource '{name}' has a 'disk.volume.container_path' of stdout or stderr, where its task's outputs are"
            ),
            Self::Disk(name) => write!(f, "Resource '{name}' has a disk that is not described"),
            Self::Volume(name) => write!(
                f,
                "Resource '{name}' has a persistent volume that names a host_path, an image or a source"
            ),
            Self::ReadOnly(name) => write!(
                f,
                "Resource '{name}' is a volume of mode RO: it is made as RW, and each task says how it uses it"
            ),
            Self::Moved(why) => f.write_str(why),
            Self::TooMany => f.write_str("The resources are more than one message may hold"),
        }
    }
}

impl From<Full> for BadResource {
    fn from(_: Full) -> Self {
        Self::TooMany
    }
}

/// A list for the wire.
pub(crate) fn to_wire<'s>(
    list: &'s [pb::Resource],
    scratch: &mut Scratch<'s>,
) -> Result<Seq<'s, Resource<'s>>, BadResource> {
    let mut resources = Vec::with_capacity(list.len());
    for resource in list {
        resources.push(one_to_wire(resource, scratch)?);
    }
    Ok(scratch.seq::<Resource<'static>>(resources)?)
}

/// What is reserved in one way, and each of it as it is to be reserved, for the wire. Mesos:
/// `validation::operation::validate` of Reserve.
pub(crate) fn moved<'s>(
    source: &'s [pb::Resource],
    resources: &'s [pb::Resource],
    scratch: &mut Scratch<'s>,
) -> Result<(Seq<'s, Resource<'s>>, Seq<'s, Resource<'s>>), BadResource> {
    let (source, others) = (to_wire(source, scratch)?, to_wire(resources, scratch)?);
    let bare = |of: &Resource<'s>| {
        let traits = Traits { reservations: Seq::EMPTY, allocated_to: "", ..of.traits };
        Resource { traits, ..*of }
    };
    let mut left: Vec<Resource<'s>> = others.iter().collect();
    let mut paired = Vec::with_capacity(left.len());
    for one in source.iter() {
        let same = left.iter().position(|other| bare(other) == bare(&one));
        let differ = "'source' and 'resources' must differ only in their reservations";
        let other = left.remove(same.ok_or(BadResource::Moved(differ))?);
        if other.traits.reservations == one.traits.reservations {
            let same = "'source' and 'resources' have the same reservations";
            return Err(BadResource::Moved(same));
        }
        paired.push(other);
    }
    if !left.is_empty() {
        return Err(BadResource::Moved("'resources' has more than 'source'"));
    }
    Ok((source, scratch.seq::<Resource<'static>>(paired)?))
}

fn one_to_wire<'s>(
    resource: &'s pb::Resource,
    scratch: &mut Scratch<'s>,
) -> Result<Resource<'s>, BadResource> {
    let name = resource.name.as_str();
    let value = value_to_wire(resource, scratch)?;
    let stack = stack(resource)?;
    if let Some(why) = stack.iter().find_map(|layer| role_trouble(layer.role())) {
        return Err(BadResource::Role(name.to_owned(), why));
    }
    let labels: Vec<String> = stack.iter().map(|layer| canonical(layer.labels.as_ref())).collect();
    let reservations = stack.iter().zip(&labels).map(|(layer, labels)| Reservation {
        role: layer.role(),
        kind: match layer.r#type() {
            ReservationType::Static => ReservationKind::Static,
            ReservationType::Dynamic | ReservationType::Unknown => ReservationKind::Dynamic,
        },
        principal: layer.principal(),
        labels,
    });
    let reservations = scratch.seq::<Reservation<'static>>(reservations)?;
    let disk = resource.disk.as_ref().map(|disk| disk_to_wire(name, disk)).transpose()?;
    let traits = Traits {
        reservations,
        allocated_to: resource.allocation_info.as_ref().map_or("", |info| info.role()),
        disk: disk.flatten(),
        provider: resource.provider_id.as_ref().map_or("", |provider| &provider.value),
        revocable: resource.revocable.is_some(),
        shared: resource.shared.is_some(),
    };
    Ok(Resource { name, value, traits })
}

fn value_to_wire<'s>(
    resource: &'s pb::Resource,
    scratch: &mut Scratch<'s>,
) -> Result<Value<'s>, BadResource> {
    let name = || resource.name.clone();
    let missing = || BadResource::NoValue(name());
    match resource.r#type() {
        pb::value::Type::Scalar => {
            let scalar = resource.scalar.as_ref().ok_or_else(missing)?;
            let amount = amount(scalar.value).map_err(|bad| BadResource::Number(name(), bad))?;
            Ok(Value::Scalar(amount))
        }
        pb::value::Type::Ranges => {
            let ranges = resource.ranges.as_ref().ok_or_else(missing)?;
            let ranges = ascending(&ranges.range).ok_or_else(|| BadResource::Ranges(name()))?;
            Ok(Value::Ranges(scratch.seq::<Range>(ranges)?))
        }
        pb::value::Type::Set => {
            let set = resource.set.as_ref().ok_or_else(missing)?;
            Ok(Value::Set(scratch.seq::<&'static str>(set.item.iter().map(String::as_str))?))
        }
        pb::value::Type::Text => Err(missing()),
    }
}

/// Ranges in order, those that touch made one. None if some overlap, or one ends before it begins.
/// Mesos: `Resources::validate`.
fn ascending(ranges: &[pb::value::Range]) -> Option<Vec<Range>> {
    let mut sorted: Vec<Range> =
        ranges.iter().map(|range| Range { begin: range.begin, end: range.end }).collect();
    if sorted.iter().any(|range| range.begin > range.end) {
        return None;
    }
    sorted.sort_unstable_by_key(|range| (range.begin, range.end));
    if sorted.windows(2).any(|pair| pair[1].begin <= pair[0].end) {
        return None;
    }
    let mut merged = Vec::<Range>::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.begin == last.end.saturating_add(1) => last.end = range.end,
            Some(_) | None => merged.push(range),
        }
    }
    Some(merged)
}

/// The reservation stack, whichever form it is in.
pub(crate) fn stack(resource: &pb::Resource) -> Result<Vec<ReservationInfo>, BadResource> {
    let bad = || BadResource::Reservation(resource.name.clone());
    let role = resource.role.as_deref().unwrap_or("*");
    let old = role != "*" || resource.reservation.is_some();
    let everybodys = |form| Err(BadResource::Everybodys(resource.name.clone(), form));
    if resource.reservations.iter().any(|layer| layer.role() == "*") {
        return everybodys("reserved");
    }
    if !resource.reservations.is_empty() {
        let named = resource.reservations.iter().all(|layer| !layer.role().is_empty());
        let one = named && (!old || agrees(resource));
        return if one { Ok(resource.reservations.clone()) } else { Err(bad()) };
    }
    if role == "*" {
        let reserved = resource.reservation.is_some();
        return if reserved { everybodys("dynamically reserved") } else { Ok(Vec::new()) };
    }
    let dynamic = resource.reservation.clone();
    let kind = if dynamic.is_some() { ReservationType::Dynamic } else { ReservationType::Static };
    Ok(vec![ReservationInfo {
        r#type: Some(kind.into()),
        role: Some(role.to_owned()),
        ..dynamic.unwrap_or_default()
    }])
}

/// True when both forms of a reservation say the same, as operators read it and send it back.
fn agrees(resource: &pb::Resource) -> bool {
    let [layer] = &resource.reservations[..] else { return false };
    resource.role() == layer.role() && resource.reservation == older(layer)
}

/// The role that a resource is reserved for; empty = anyone's.
pub(crate) fn role_of(resource: &pb::Resource) -> String {
    let stack = stack(resource).unwrap_or_default();
    stack.last().map_or_else(String::new, |layer| layer.role().to_owned())
}

/// Labels as the one text that equal labels have.
fn canonical(labels: Option<&pb::Labels>) -> String {
    let labels = labels.map_or(&[][..], |labels| &labels.labels);
    if labels.is_empty() {
        return String::new();
    }
    let mut pairs: Vec<_> = labels.iter().map(|label| (&label.key, &label.value)).collect();
    pairs.sort();
    json!(pairs).to_string()
}

/// Labels out of that text.
fn labels(canonical: &str) -> Option<pb::Labels> {
    let pairs: Vec<(String, Option<String>)> = serde_json::from_str(canonical).ok()?;
    let labels = pairs.into_iter().map(|(key, value)| pb::Label { key, value }).collect();
    Some(pb::Labels { labels })
}

fn disk_to_wire<'s>(name: &str, disk: &'s DiskInfo) -> Result<Option<Disk<'s>>, BadResource> {
    let bad = || BadResource::Disk(name.to_owned());
    let plain = Disk {
        source: DiskSource::Root,
        root: "",
        id: "",
        profile: "",
        vendor: "",
        persistence: "",
        principal: "",
        container_path: "",
    };
    let mut wire = plain;
    if let Some(source) = &disk.source {
        (wire.source, wire.root) = match source.r#type() {
            source::Type::Path => {
                (DiskSource::Path, source.path.as_ref().map_or("", |path| path.root()))
            }
            source::Type::Mount => {
                (DiskSource::Mount, source.mount.as_ref().map_or("", |mount| mount.root()))
            }
            source::Type::Block => (DiskSource::Block, ""),
            source::Type::Raw => (DiskSource::Raw, ""),
            source::Type::Unknown => return Err(bad()),
        };
        (wire.id, wire.profile, wire.vendor) = (source.id(), source.profile(), source.vendor());
    }
    if let Some(persistence) = &disk.persistence {
        if persistence.id.is_empty() {
            return Err(bad());
        }
        (wire.persistence, wire.principal) = (&persistence.id, persistence.principal());
    }
    if let Some(volume) = &disk.volume {
        if volume.host_path.is_some() || volume.image.is_some() || volume.source.is_some() {
            return Err(BadResource::Volume(name.to_owned()));
        }
        if is_output(&volume.container_path) {
            return Err(BadResource::Path(name.to_owned()));
        }
        wire.container_path = &volume.container_path;
    }
    Ok((wire != plain).then_some(wire))
}

/// Volumes that are to be made. Whether they are written to is said by each who uses them. Mesos:
/// `resource::validatePersistentVolume`.
pub(crate) fn makeable(list: &[pb::Resource]) -> Result<(), BadResource> {
    match list.iter().find(|resource| is_read_only(resource)) {
        Some(resource) => Err(BadResource::ReadOnly(resource.name.clone())),
        None => Ok(()),
    }
}

/// The volumes among resources that are only to be read. Not on the wire: nothing is decided by it.
pub(crate) fn read_only(list: &[pb::Resource]) -> Vec<pb::Resource> {
    list.iter().filter(|resource| is_read_only(resource)).cloned().collect()
}

/// A list for the API, in which those volumes are told as such.
pub(crate) fn of_holder(
    list: &Seq<'_, Resource<'_>>,
    role: &str,
    form: Form,
    read_only: &[pb::Resource],
) -> Vec<pb::Resource> {
    let mut told = of_wire(list, role, form);
    for resource in told.iter_mut().filter(|_| !read_only.is_empty()) {
        let volume = |of: &pb::Resource| Some((role_of(of), persistence(of)?.id.clone()));
        let own = volume(resource);
        if own.is_some()
            && read_only.iter().any(|one| volume(one) == own)
            && let Some(volume) = resource.disk.as_mut().and_then(|disk| disk.volume.as_mut())
        {
            volume.set_mode(pb::volume::Mode::Ro);
        }
    }
    told
}

fn persistence(resource: &pb::Resource) -> Option<&Persistence> {
    resource.disk.as_ref()?.persistence.as_ref()
}

fn is_read_only(resource: &pb::Resource) -> bool {
    let volume = resource.disk.as_ref().and_then(|disk| disk.volume.as_ref());
    volume.is_some_and(|volume| volume.mode() == pb::volume::Mode::Ro)
}

/// True for a path in a sandbox that is, or begins with, a file that a task writes to.
fn is_output(path: &str) -> bool {
    let first = path.split('/').find(|part| !matches!(*part, "" | "."));
    matches!(first, Some("stdout" | "stderr"))
}

/// How reservations are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// `role` and `reservation`: there is room for one layer.
    Old,
    /// `reservations`, for who has RESERVATION_REFINEMENT.
    New,
    /// `reservations`, and the older form as well where there is one layer or none: for operators.
    /// Mesos: `ResourceFormat::ENDPOINT`.
    Both,
}

/// How somebody wants resources told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// Reservations.
    pub(crate) stack: Stack,
    /// MULTI_ROLE: the role that each is allocated to.
    pub(crate) allocated: bool,
}

/// A list for the API. `role` is the one they are allocated to, unless each says its own.
pub(crate) fn of_wire(list: &Seq<'_, Resource<'_>>, role: &str, form: Form) -> Vec<pb::Resource> {
    list.iter().map(|resource| one_of_wire(&resource, role, form)).collect()
}

/// One for the API.
pub(crate) fn one_of_wire(resource: &Resource<'_>, role: &str, form: Form) -> pb::Resource {
    let traits = &resource.traits;
    let mut told = pb::Resource { name: resource.name.to_owned(), ..pb::Resource::default() };
    match &resource.value {
        Value::Scalar(amount) => {
            told.set_type(pb::value::Type::Scalar);
            told.scalar = Some(pb::value::Scalar { value: double(*amount) });
        }
        Value::Ranges(ranges) => {
            told.set_type(pb::value::Type::Ranges);
            told.ranges = Some(ranges_of_wire(ranges));
        }
        Value::Set(items) => {
            told.set_type(pb::value::Type::Set);
            told.set = Some(pb::value::Set { item: items.iter().map(str::to_owned).collect() });
        }
    }
    reserve(&mut told, traits, form);
    let allocated_to = if traits.allocated_to.is_empty() { role } else { traits.allocated_to };
    if form.allocated && !allocated_to.is_empty() {
        told.allocation_info = Some(AllocationInfo { role: Some(allocated_to.to_owned()) });
    }
    if !traits.provider.is_empty() {
        told.provider_id = Some(pb::ResourceProviderId { value: traits.provider.to_owned() });
    }
    told.disk = traits.disk.as_ref().map(disk_of_wire);
    told.revocable = traits.revocable.then(RevocableInfo::default);
    told.shared = traits.shared.then(SharedInfo::default);
    told
}

fn reserve(told: &mut pb::Resource, traits: &Traits<'_>, form: Form) {
    let stack: Vec<ReservationInfo> = traits.reservations.iter().map(reservation).collect();
    match (form.stack, &stack[..]) {
        (Stack::New, _) | (Stack::Both, [_, _, ..]) => {}
        (_, []) => told.role = Some("*".to_owned()),
        // Frameworks that speak the older form are offered no deeper stack.
        (_, [.., layer]) => {
            told.role = Some(layer.role().to_owned());
            told.reservation = older(layer);
        }
    }
    if form.stack != Stack::Old {
        told.reservations = stack;
    }
}

/// What the older form says of a layer besides its role.
fn older(layer: &ReservationInfo) -> Option<ReservationInfo> {
    let dynamic = layer.r#type() == ReservationType::Dynamic;
    dynamic.then(|| ReservationInfo { r#type: None, role: None, ..layer.clone() })
}

fn reservation(layer: Reservation<'_>) -> ReservationInfo {
    let kind = match layer.kind {
        ReservationKind::Static => ReservationType::Static,
        ReservationKind::Dynamic => ReservationType::Dynamic,
    };
    ReservationInfo {
        r#type: Some(kind.into()),
        role: Some(layer.role.to_owned()),
        principal: (!layer.principal.is_empty()).then(|| layer.principal.to_owned()),
        labels: labels(layer.labels),
    }
}

fn disk_of_wire(disk: &Disk<'_>) -> DiskInfo {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let source = |kind: source::Type| Source {
        r#type: kind.into(),
        path: (kind == source::Type::Path).then(|| source::Path { root: given(disk.root) }),
        mount: (kind == source::Type::Mount).then(|| source::Mount { root: given(disk.root) }),
        vendor: given(disk.vendor),
        id: given(disk.id),
        metadata: None,
        profile: given(disk.profile),
    };
    DiskInfo {
        persistence: given(disk.persistence)
            .map(|id| Persistence { id, principal: given(disk.principal) }),
        volume: given(disk.container_path).map(|container_path| pb::Volume {
            mode: pb::volume::Mode::Rw.into(),
            container_path,
            ..pb::Volume::default()
        }),
        source: match disk.source {
            DiskSource::Root => None,
            DiskSource::Path => Some(source(source::Type::Path)),
            DiskSource::Mount => Some(source(source::Type::Mount)),
            DiskSource::Block => Some(source(source::Type::Block)),
            DiskSource::Raw => Some(source(source::Type::Raw)),
        },
    }
}

fn ranges_of_wire(ranges: &Seq<'_, Range>) -> pb::value::Ranges {
    let range = ranges.iter().map(|Range { begin, end }| pb::value::Range { begin, end });
    pb::value::Ranges { range: range.collect() }
}

/// Attributes for the API.
pub(crate) fn attributes(list: &Seq<'_, Attribute<'_>>) -> Vec<pb::Attribute> {
    let told = list.iter().map(|attribute| {
        let mut told = pb::Attribute { name: attribute.name.to_owned(), ..Default::default() };
        match &attribute.value {
            AttributeValue::Text(text) => {
                told.set_type(pb::value::Type::Text);
                told.text = Some(pb::value::Text { value: (*text).to_owned() });
            }
            AttributeValue::Scalar(amount) => {
                told.set_type(pb::value::Type::Scalar);
                told.scalar = Some(pb::value::Scalar { value: double(*amount) });
            }
            AttributeValue::Ranges(ranges) => {
                told.set_type(pb::value::Type::Ranges);
                told.ranges = Some(ranges_of_wire(ranges));
            }
        }
        told
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Form = Form { stack: Stack::Old, allocated: false };
    const NEW: Form = Form { stack: Stack::New, allocated: true };
    const BOTH: Form = Form { stack: Stack::Both, allocated: false };

    fn cpus(value: f64) -> pb::Resource {
        pb::Resource {
            name: "cpus".to_owned(),
            scalar: Some(pb::value::Scalar { value }),
            ..pb::Resource::default()
        }
    }

    /// There and back again.
    fn told(resource: pb::Resource, form: Form) -> Result<pb::Resource, BadResource> {
        let mut memory = vec![0; 4096];
        let list = [resource];
        let wire = to_wire(&list, &mut Scratch::new(&mut memory))?;
        Ok(of_wire(&wire, "web", form).remove(0))
    }

    #[test]
    fn both_forms_of_a_reservation_are_one_stack() {
        let old = pb::Resource { role: Some("web".to_owned()), ..cpus(1.5) };
        let new = told(old.clone(), NEW).unwrap();
        assert_eq!(new.reservations[0].r#type(), ReservationType::Static);
        assert_eq!(new.reservations[0].role(), "web");
        assert_eq!(new.role, None);
        assert_eq!(told(new.clone(), OLD).unwrap(), old);
        let labels = pb::Labels {
            labels: vec![pb::Label { key: "k".to_owned(), value: Some("v".to_owned()) }],
        };
        let reservation = ReservationInfo {
            principal: Some("ops".to_owned()),
            labels: Some(labels),
            ..ReservationInfo::default()
        };
        let dynamic = pb::Resource { reservation: Some(reservation), ..old.clone() };
        assert_eq!(told(dynamic.clone(), OLD).unwrap(), dynamic);
        // What operators read they can send back.
        for resource in [old.clone(), dynamic.clone()] {
            let both = told(resource.clone(), BOTH).unwrap();
            assert_eq!(both.role(), "web");
            assert_eq!(both.reservation, resource.reservation);
            assert_eq!(both.reservations.len(), 1);
            assert_eq!(told(both.clone(), BOTH).unwrap(), both);
            assert_eq!(told(both, OLD).unwrap(), resource);
        }
        assert_eq!(told(cpus(1.0), BOTH).unwrap().role.as_deref(), Some("*"));
        let bad = Err(BadResource::Reservation("cpus".to_owned()));
        let differ = pb::Resource { role: Some("db".to_owned()), ..new.clone() };
        assert_eq!(told(differ, NEW), bad);
        let all = pb::Resource { role: Some("*".to_owned()), ..dynamic.clone() };
        let why = told(all, OLD).unwrap_err().to_string();
        assert!(why.ends_with("role \"*\" cannot be dynamically reserved"), "{why}");
        let mut all = new.clone();
        all.reservations[0].role = Some("*".to_owned());
        let why = told(all, NEW).unwrap_err().to_string();
        assert!(why.ends_with("role \"*\" cannot be reserved"), "{why}");
        let half = pb::Resource { role: None, reservations: new.reservations, ..dynamic.clone() };
        assert_eq!(told(half, NEW), bad);
        let layer = told(dynamic, NEW).unwrap().reservations.remove(0);
        let upper = ReservationInfo { role: Some("web/a".to_owned()), ..layer.clone() };
        let deep = pb::Resource { reservations: vec![layer, upper], ..cpus(1.0) };
        let both = told(deep, BOTH).unwrap();
        assert_eq!((both.role, both.reservation, both.reservations.len()), (None, None, 2));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (value, bad) in [(f64::NAN, BadNumber::NotFinite), (-1.0, BadNumber::Negative)] {
            let refused = BadResource::Number("cpus".to_owned(), bad);
            assert_eq!(told(cpus(value), OLD), Err(refused));
        }
        let none = pb::Resource { scalar: None, ..cpus(1.0) };
        assert_eq!(told(none, OLD), Err(BadResource::NoValue("cpus".to_owned())));
        let mut ports = pb::Resource { name: "ports".to_owned(), ..pb::Resource::default() };
        ports.set_type(pb::value::Type::Ranges);
        let range = |begin, end| pb::value::Range { begin, end };
        ports.ranges = Some(pb::value::Ranges { range: vec![range(5, 4)] });
        assert_eq!(told(ports.clone(), OLD), Err(BadResource::Ranges("ports".to_owned())));
        for overlapping in [[range(1, 5), range(3, 9)], [range(5, 9), range(1, 5)]] {
            ports.ranges = Some(pb::value::Ranges { range: overlapping.to_vec() });
            assert_eq!(told(ports.clone(), OLD), Err(BadResource::Ranges("ports".to_owned())));
        }
        ports.ranges = Some(pb::value::Ranges { range: vec![range(5, 9), range(1, 4)] });
        assert_eq!(told(ports, OLD).unwrap().ranges.unwrap().range, [range(1, 9)]);
    }

    #[test]
    fn a_volume_comes_back_as_it_was() {
        let disk = DiskInfo {
            persistence: Some(Persistence { id: "db".to_owned(), principal: None }),
            volume: Some(pb::Volume {
                mode: pb::volume::Mode::Rw.into(),
                container_path: "data".to_owned(),
                ..pb::Volume::default()
            }),
            source: Some(Source {
                r#type: source::Type::Mount.into(),
                mount: Some(source::Mount { root: Some("/mnt".to_owned()) }),
                ..Source::default()
            }),
        };
        let volume = pb::Resource { disk: Some(disk), name: "disk".to_owned(), ..cpus(64.0) };
        assert_eq!(told(volume.clone(), NEW).unwrap().disk, volume.disk);
        for path in ["stdout", "./stderr", "stdout/x"] {
            let mut there = volume.clone();
            let disk = there.disk.as_mut().unwrap();
            disk.volume.as_mut().unwrap().container_path = path.to_owned();
            assert_eq!(told(there, NEW), Err(BadResource::Path("disk".to_owned())), "{path}");
        }
    }
}
