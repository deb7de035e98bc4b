//! What a framework says of itself. Mesos: `validation::framework`.

// The older form of roles, which frameworks without MULTI_ROLE speak.
#![allow(deprecated)]

use mesita_core::wire::call::{
    self, Capability, Minimum, Ownership, Quantities, Quantity, Subscribe, Verb,
};
use mesita_core::wire::{Body, FrameworkId, Head, Scratch, Seq};
use prost::Message;

use super::constraints::check_constraints;
use super::{BadCall, MEMORY, Said, Writer, role_trouble};
use crate::pb::mesita::FrameworkPublic;
use crate::pb::mesos::v1 as pb;
use crate::v1::amounts::{amount, micros};
use pb::scheduler::OfferConstraints;

impl<'s> Writer<'s> {
    pub(super) fn subscribe(
        &mut self,
        info: &'s pb::FrameworkInfo,
        suppressed: &'s [String],
        constraints: Option<&OfferConstraints>,
    ) -> Result<Subscribe<'s>, BadCall> {
        let capabilities = capabilities(info);
        let multi_role = capabilities & Capability::MultiRole.bit() != 0;
        let roles = self.roles(info, multi_role)?;
        let of_filters =
            info.offer_filters.keys().map(|role| ("FrameworkInfo.offer_filters", role));
        let named = suppressed.iter().map(|role| ("suppressed_roles", role)).chain(of_filters);
        for (field, role) in named {
            if !roles.iter().any(|own| own == role) {
                let role = role.escape_debug();
                let why = format!("'{field}' names role '{role}', which the framework is not in");
                return Err(BadCall::Framework(why));
            }
        }
        let failover_us = micros(info.failover_timeout()).ok_or_else(|| {
            let why = "'FrameworkInfo.failover_timeout' must be a number that is not negative";
            BadCall::Framework(why.to_owned())
        })?;
        if let Some(constraints) = constraints {
            check_constraints(constraints, &roles)?;
        }
        let public = FrameworkPublic {
            checkpoint: info.checkpoint,
            role: info.role.clone(),
            hostname: info.hostname.clone(),
            webui_url: info.webui_url.clone(),
            labels: info.labels.clone(),
            offer_filters: info.offer_filters.clone(),
            offer_constraints: constraints.cloned(),
        };
        Ok(Subscribe {
            name: &info.name,
            user: &info.user,
            principal: info.principal(),
            hostname: info.hostname(),
            webui_url: info.webui_url(),
            roles,
            suppressed: self.texts(suppressed)?,
            minimums: self.minimums(info)?,
            failover_us,
            capabilities,
            owned: Ownership::Scheduler,
            public: self.public(&public),
        })
    }

    fn public(&mut self, public: &FrameworkPublic) -> Body {
        self.bodies.put(public.encode_to_vec())
    }

    fn roles(
        &mut self,
        info: &'s pb::FrameworkInfo,
        multi_role: bool,
    ) -> Result<Seq<'s, &'s str>, BadCall> {
        let bad = |why: String| Err(BadCall::Framework(why));
        if multi_role {
            if info.role.is_some() {
                let why =
                    "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable";
                return bad(why.to_owned());
            }
            for (index, role) in info.roles.iter().enumerate() {
                if let Some(why) = role_trouble(role) {
                    return bad(format!("'FrameworkInfo.roles' contains invalid role: {why}"));
                }
                if info.roles[..index].contains(role) {
                    return bad(format!("'FrameworkInfo.roles' contains duplicate role: {role}"));
                }
            }
            return Ok(self.texts(&info.roles)?);
        }
        if !info.roles.is_empty() {
            let why = "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable";
            return bad(why.to_owned());
        }
        let role = info.role.as_deref().unwrap_or("*");
        if let Some(why) = role_trouble(role) {
            return bad(format!("'FrameworkInfo.role' is not a valid role: {why}"));
        }
        Ok(self.scratch.seq::<&'static str>([role])?)
    }

    fn minimums(&mut self, info: &'s pb::FrameworkInfo) -> Result<Seq<'s, Minimum<'s>>, BadCall> {
        let mut minimums = Vec::new();
        for (role, filters) in &info.offer_filters {
            let Some(least) = &filters.min_allocatable_resources else { continue };
            let mut alternatives = Vec::new();
            for one in &least.quantities {
                let mut amounts = Vec::new();
                for (name, scalar) in &one.quantities {
                    let amount = amount(scalar.value).map_err(|bad| {
                        BadCall::Framework(format!("Invalid 'offer_filters': '{name}' {bad}"))
                    })?;
                    amounts.push(Quantity { name, amount });
                }
                let amounts = self.scratch.seq::<Quantity<'static>>(amounts)?;
                alternatives.push(Quantities { amounts });
            }
            let alternatives = self.scratch.seq::<Quantities<'static>>(alternatives)?;
            minimums.push(Minimum { role, alternatives });
        }
        Ok(self.scratch.seq::<Minimum<'static>>(minimums)?)
    }
}

/// The call that wants offers in all roles but those that a subscription suppresses; none when there
/// are no others.
#[allow(deprecated)] // Frameworks without MULTI_ROLE have a role and no roles.
pub(crate) fn revive(
    call: &pb::scheduler::call::Subscribe,
    framework: FrameworkId,
) -> Option<Said> {
    let mut memory = vec![0; MEMORY];
    let info = &call.framework_info;
    let own = if info.roles.is_empty() { std::slice::from_ref(&info.role) } else { &[][..] };
    let own = own.iter().map(|role| role.as_deref().unwrap_or("*"));
    let roles = info.roles.iter().map(String::as_str).chain(own);
    let wanted = |role: &&str| !call.suppressed_roles.iter().any(|one| one == role);
    let wanted: Vec<&str> = roles.filter(wanted).collect();
    if wanted.is_empty() {
        return None;
    }
    // All of them, when it names none to be left out.
    let roles = if call.suppressed_roles.is_empty() {
        Seq::EMPTY
    } else {
        Scratch::new(&mut memory).seq::<&'static str>(wanted).unwrap_or_default()
    };
    let head = Head::Call(call::Call { framework, ticket: 0, verb: Verb::Revive { roles } });
    // Our own types have no way to fail.
    let head = postcard::to_allocvec(&head).unwrap_or_default();
    Some(Said { head, bodies: Vec::new(), bad: Vec::new() })
}

/// Capabilities of the wire, and of the API.
const CAPABILITIES: [(Capability, pb::framework_info::capability::Type); 8] = {
    use pb::framework_info::capability::Type;
    [
        (Capability::RevocableResources, Type::RevocableResources),
        (Capability::TaskKillingState, Type::TaskKillingState),
        (Capability::GpuResources, Type::GpuResources),
        (Capability::SharedResources, Type::SharedResources),
        (Capability::PartitionAware, Type::PartitionAware),
        (Capability::MultiRole, Type::MultiRole),
        (Capability::ReservationRefinement, Type::ReservationRefinement),
        (Capability::RegionAware, Type::RegionAware),
    ]
};

/// What a framework says it understands, as bits; what is not known is left out.
pub(crate) fn capabilities(info: &pb::FrameworkInfo) -> u32 {
    let bits = info.capabilities.iter().map(|told| {
        let known = CAPABILITIES.into_iter().find(|(_, kind)| told.r#type() == *kind);
        known.map_or(0, |(capability, _)| capability.bit())
    });
    bits.fold(0, |all, bit| all | bit)
}

/// What a framework understands, for the API.
pub(crate) fn capability_list(bits: u32) -> Vec<pb::framework_info::Capability> {
    let set = CAPABILITIES.into_iter().filter(|(capability, _)| bits & capability.bit() != 0);
    set.map(|(_, kind)| pb::framework_info::Capability { r#type: Some(kind.into()) }).collect()
}

#[cfg(test)]
mod tests {
    use crate::v1::calls::BadCall;
    use crate::v1::calls::tests::said;

    #[test]
    fn roles_are_one_or_many_but_never_both() {
        let framework = |more: &str| {
            let info = format!(r#"{{"user":"u","name":"n",{more}}}"#);
            let call = format!(r#"{{"type":"SUBSCRIBE","subscribe":{{"framework_info":{info}}}}}"#);
            said(&call)
        };
        let many = r#""capabilities":[{"type":"MULTI_ROLE"}]"#;
        assert!(framework(r#""role":"a/b""#).is_ok());
        assert!(framework(&format!(r#""roles":["a","b"],{many}"#)).is_ok());
        for (more, words) in [
            (r#""roles":["a"]"#.to_owned(), "is not MULTI_ROLE capable"),
            (format!(r#""role":"a",{many}"#), "is MULTI_ROLE capable"),
            (format!(r#""roles":["a","a"],{many}"#), "duplicate role: a"),
            (format!(r#""roles":["/bad/"],{many}"#), "Role '/bad/' cannot start with a slash"),
            (format!(r#""roles":["a\u0000b"],{many}"#), "Role 'a\\0b' cannot contain white space"),
            (format!(r#""roles":["{}"],{many}"#, ["a"; 17].join("/")), "16 components"),
            (
                format!(r#""roles":["a"],{many},"offer_filters":{{"b":{{}}}}"#),
                "'FrameworkInfo.offer_filters' names role 'b'",
            ),
            (r#""failover_timeout":-1"#.to_owned(), "failover_timeout"),
        ] {
            let Err(BadCall::Framework(why)) = framework(&more) else { panic!("{more}") };
            assert!(why.contains(words), "{why}");
        }
    }
}
