//! What operators say of quota, in the forms that Mesos has had for it: UPDATE_QUOTA, and SET_QUOTA
//! and REMOVE_QUOTA with `POST /quota` and `DELETE /quota/ROLE` before it.
//!
//! Mesos: `src/master/quota_handler.cpp`, `quota.cpp`.

use std::collections::BTreeMap;
use std::rc::Rc;

use hyper::{Method, StatusCode};
use mesita_core::Refusal;
use mesita_core::acls::Action;
use mesita_core::resources::Amount;
use mesita_core::wire::call::Quantity;
use mesita_core::wire::operator::OperatorVerb;
use mesita_core::wire::{Scratch, Seq};

use super::MasterNode;
use super::operations::{Answer, answered};
use super::site::without_process;
use crate::catalog::rows::Quota;
use crate::doors::Caller;
use crate::http::{Early, Reply, Visit, early, only, request, status, transcode};
use crate::legacy;
use crate::pb::mesos::v1 as pb;
use crate::v1::amounts::amount;
use crate::v1::calls::role_trouble;
use pb::master::call::UpdateQuota;
use pb::quota::QuotaRequest;

impl MasterNode {
    /// UPDATE_QUOTA: all of them or none, in whatever order they can be; when one is refused, what was
    /// set before it is set back.
    pub(super) async fn update_quota(
        self: &Rc<Self>,
        update: &UpdateQuota,
        caller: &Caller,
    ) -> Result<(), Early> {
        let mut wanted = Vec::new();
        for config in &update.quota_configs {
            if let Some(why) = role_trouble(&config.role) {
                return Err(bad(format!("Invalid 'QuotaConfig.role': {why}")));
            }
            let read = |of: &BTreeMap<String, pb::value::Scalar>| {
                let each = of.iter().map(|(name, scalar)| {
                    let amount = amount(scalar.value);
                    let amount =
                        amount.map_err(|why| bad(format!("Invalid quota for '{name}': it {why}")));
                    Ok((name.as_str().into(), amount?))
                });
                each.collect::<Result<BTreeMap<Box<str>, Amount>, Early>>()
            };
            let quota =
                Quota { guarantees: read(&config.guarantees)?, limits: read(&config.limits)? };
            wanted.push((config.role.as_str(), quota));
        }
        for (role, _) in &wanted {
            self.options.access.check(caller, Action::UpdateQuota, Some(role))?;
        }
        let before = self.catalog.borrow().now.quotas.clone();
        let (mut left, mut done) = (wanted.iter().collect::<Vec<_>>(), Vec::new());
        while !left.is_empty() {
            let (mut later, mut refused) = (Vec::new(), None);
            let asked = left.len();
            for change @ (role, quota) in left {
                match self.set_quota(role, quota, update.force(), caller).await.and_then(answered) {
                    Ok(()) => done.push(*role),
                    // What another role gives up may be what this one needs.
                    Err(reply) => {
                        later.push(change);
                        refused.get_or_insert(reply);
                    }
                }
            }
            if let Some(reply) = refused.filter(|_| later.len() == asked) {
                for role in done.into_iter().rev() {
                    let old = before.get(role).cloned().unwrap_or_default();
                    // What was true a moment ago is true again.
                    let _ = self.set_quota(role, &old, true, caller).await;
                }
                self.forget_request(caller);
                return Err(reply);
            }
            left = later;
        }
        Ok(())
    }

    /// SET_QUOTA, for a role that has none: what it is guaranteed is what it may have at most.
    pub(super) async fn put_quota(
        self: &Rc<Self>,
        request: &QuotaRequest,
        caller: &Caller,
    ) -> Result<(), Early> {
        let invalid = |why: &str| bad(format!("Failed to validate set quota request: {why}"));
        let role = request.role();
        if role.is_empty() {
            return Err(invalid("QuotaInfo must specify a role"));
        }
        if role == "*" {
            return Err(invalid("QuotaInfo must not specify the default '*' role"));
        }
        let guarantees = guarantee(&request.guarantee).map_err(|why| invalid(&why))?;
        self.options.access.check(caller, Action::UpdateQuota, Some(role))?;
        if self.has_quota(role) && !self.was_done(caller) {
            let why = format!(
                "Can not set quota for a role that already has quota: '{role}'; remove it first, or \
                 use UPDATE_QUOTA"
            );
            return Err(invalid(&why));
        }
        let quota = Quota { limits: guarantees.clone(), guarantees };
        let answer = self.set_quota(role, &quota, request.force(), caller).await?;
        if let Err(refusal @ (Refusal::Overcommitted | Refusal::QuotaExceeded)) = answer.0 {
            let message = format!(
                "Heuristic capacity check for set quota request failed: {}",
                refusal.sentence()
            );
            return Err(early(StatusCode::CONFLICT, message));
        }
        answered(answer)
    }

    /// REMOVE_QUOTA, of a role that has one.
    pub(super) async fn remove_quota(
        self: &Rc<Self>,
        role: &str,
        caller: &Caller,
    ) -> Result<(), Early> {
        self.options.access.check(caller, Action::UpdateQuota, Some(role))?;
        if !self.has_quota(role) && !self.was_done(caller) {
            let role = role.escape_debug();
            let message =
                format!("Failed to remove quota for role '{role}': Role '{role}' has no quota set");
            return Err(bad(message));
        }
        answered(self.set_quota(role, &Quota::default(), true, caller).await?)
    }

    /// `POST /quota`
    pub(super) async fn post_quota(self: Rc<Self>, visit: Visit) -> Reply {
        let change = async {
            self.leads_or_not()?;
            let bytes = request::whole(&self.port.bodies, visit.request.into_body()).await?;
            let request = transcode::from_json::<QuotaRequest>(&bytes);
            let request = request
                .map_err(|why| bad(format!("Failed to parse set quota request JSON: {why}")))?;
            self.put_quota(&request, &visit.caller).await
        };
        told(change.await)
    }

    /// `DELETE /quota/ROLE`
    pub(super) async fn delete_quota(self: Rc<Self>, visit: Visit) -> Reply {
        let change = async {
            self.leads_or_not()?;
            only(visit.request.method(), &[Method::DELETE])?;
            let path = without_process(visit.request.uri().path());
            let role = path.strip_prefix("/quota/").unwrap_or_default();
            // A plus is a plus in a path.
            let role = legacy::decoded(&role.replace('+', "%2B"));
            self.remove_quota(&role, &visit.caller).await
        };
        told(change.await)
    }

    fn has_quota(&self, role: &str) -> bool {
        self.catalog.borrow().now.quotas.contains_key(role)
    }

    async fn set_quota(
        self: &Rc<Self>,
        role: &str,
        quota: &Quota,
        force: bool,
        caller: &Caller,
    ) -> Result<Answer, Early> {
        let mut memory = [vec![0; 4096], vec![0; 4096]];
        let [first, second] = &mut memory;
        let many = |_| bad("a quota names at most 16 resources");
        let guarantees = list(&quota.guarantees, first).map_err(many)?;
        let limits = list(&quota.limits, second).map_err(many)?;
        let verb = OperatorVerb::SetQuota { role, guarantees, limits, force };
        self.ask_core(caller, verb).await
    }
}

fn told(done: Result<(), Early>) -> Reply {
    match done {
        Ok(()) => status(StatusCode::OK),
        Err(reply) => *reply,
    }
}

fn bad(message: impl Into<String>) -> Early {
    early(StatusCode::BAD_REQUEST, message.into())
}

/// The amounts of a list of plain resources, or what is wrong with it. Mesos:
/// `quota::validation::quotaInfo`.
#[allow(deprecated)] // What was a reservation before there were layers of them is none here either.
fn guarantee(list: &[pb::Resource]) -> Result<BTreeMap<Box<str>, Amount>, String> {
    if list.is_empty() {
        return Err("QuotaInfo with empty 'guarantee'".to_owned());
    }
    let mut amounts = BTreeMap::<Box<str>, Amount>::new();
    for one in list {
        let role = one.role.as_deref().unwrap_or("*");
        if !one.reservations.is_empty() || one.reservation.is_some() || role != "*" {
            return Err("QuotaInfo must not contain any ReservationInfo".to_owned());
        }
        if one.disk.is_some() {
            return Err("QuotaInfo must not contain DiskInfo".to_owned());
        }
        if one.revocable.is_some() {
            return Err("QuotaInfo must not contain RevocableInfo".to_owned());
        }
        let Some(scalar) = one.scalar.as_ref() else {
            return Err("QuotaInfo must not include non-scalar resources".to_owned());
        };
        let amount = amount(scalar.value).map_err(|why| {
            format!("QuotaInfo with invalid resource: '{}' {why}", one.name.escape_debug())
        })?;
        if amounts.insert(one.name.as_str().into(), amount).is_some() {
            let name = one.name.escape_debug();
            return Err(format!("QuotaInfo contains duplicate resource name '{name}'"));
        }
    }
    Ok(amounts)
}

fn list<'s>(
    amounts: &'s BTreeMap<Box<str>, Amount>,
    memory: &'s mut [u8],
) -> Result<Seq<'s, Quantity<'s>>, mesita_core::table::Full> {
    let each = amounts.iter().map(|(name, &amount)| Quantity { name, amount });
    Scratch::new(memory).seq::<Quantity<'_>>(each)
}
