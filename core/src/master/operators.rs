//! Operators: who may ask, and what of quota and weights.
//!
//! What they set holds for as long as this master runs; what is to outlive it, its facts tell. Mesos: `Master::Http::updateQuota`,
//! `updateWeights`, `deactivateAgent`.

use super::operations::Unfit;
use super::rows::{BY_AGE, Offer};
use super::{Cx, Fact, Master, Output};
use crate::Refusal;
use crate::allocator::quota::QuotaSpec;
use crate::doors::Rights;
use crate::index::before;
use crate::resources::Quantities;
use crate::table::Id;
use crate::wire::Head;
use crate::wire::operator::{OperatorCall, OperatorEvent, OperatorVerb};

impl Master<'_> {
    /// One call. `Denied` unless its caller operates the cluster.
    pub(super) fn operator_call(
        &mut self,
        cx: &mut Cx<'_>,
        conn: Id,
        call: &OperatorCall<'_>,
    ) -> Result<(), Refusal> {
        self.check_leads(cx, conn)?;
        let (_, rights) = self.caller_of(conn);
        if let OperatorVerb::Operate { agent, operation } = call.verb
            && rights.has(Rights::OPERATE)
        {
            let operation = operation.first().ok_or(Refusal::BadOperation)?;
            let begun = self.operate_for(cx, (conn, call.ticket), agent, &operation);
            // Answered when the agent has done it.
            return begun.or_else(|unfit| self.answer(cx, conn, call.ticket, Err(unfit)));
        }
        let done = if rights.has(Rights::OPERATE) {
            self.operator_verb(cx, call.verb).map_err(Unfit::from)
        } else {
            Err(Refusal::Denied.into())
        };
        let later = matches!(call.verb, OperatorVerb::Schedule { .. } | OperatorVerb::Down { .. });
        if later && done.is_ok() {
            self.answer_later(conn, call.ticket);
            return Ok(());
        }
        self.answer(cx, conn, call.ticket, done)
    }

    fn answer(
        &self,
        cx: &mut Cx<'_>,
        conn: Id,
        ticket: u32,
        done: Result<(), Unfit>,
    ) -> Result<(), Refusal> {
        let result = done.map_err(|unfit| unfit.refusal);
        if ticket != 0 {
            let message = done.err().map_or("", |unfit| unfit.message);
            let reply = OperatorEvent::Reply { ticket, result, message };
            cx.emit(Output::Send { conn, head: Head::OperatorEvent(reply) });
        }
        result
    }

    fn operator_verb(&mut self, cx: &mut Cx<'_>, verb: OperatorVerb<'_>) -> Result<(), Refusal> {
        match verb {
            OperatorVerb::SetQuota { role, guarantees, limits, force } => {
                self.set_quota(cx, role, &QuotaSpec { guarantees, limits }, force)
            }
            OperatorVerb::SetWeight { role, weight } => {
                self.set_weight(cx, role, weight)?;
                // The weight of a role that nobody is in changes nobody's share.
                if self.allocator.has_frameworks(&self.names, role) {
                    self.rescind_all(cx);
                }
                Ok(())
            }
            OperatorVerb::Deactivate { agent, deactivated } => {
                self.deactivate(cx, agent, deactivated)
            }
            OperatorVerb::Teardown { framework } => {
                let row = self.framework_by_id(framework).ok_or(Refusal::UnknownFramework)?;
                self.teardown(cx, row)
            }
            OperatorVerb::Whitelist { hosts, adds } => {
                let (allocator, mut world) = self.world();
                allocator.set_whitelist(&mut world, hosts.as_ref(), adds)
            }
            OperatorVerb::Schedule { machines } => self.set_schedule(cx, &machines),
            OperatorVerb::Down { machines, down } => self.set_down(cx, &machines, down),
            OperatorVerb::Drain { agent, grace_us, gone } => self.drain(cx, agent, grace_us, gone),
            OperatorVerb::MarkGone { agent } => self.mark_gone(cx, agent),
            OperatorVerb::Masters { .. } | OperatorVerb::Once { .. } => Err(Refusal::Unsupported),
            // Answered later: see `operator_call`.
            OperatorVerb::Operate { .. } => Err(Refusal::BadOperation),
        }
    }

    /// What was only offered of a role's consumption does not stand in the way of its limit: as many
    /// offers are taken back as the new quota needs. O(offers · depth).
    pub(super) fn set_quota(
        &mut self,
        cx: &mut Cx<'_>,
        role: &str,
        spec: &QuotaSpec<'_>,
        force: bool,
    ) -> Result<(), Refusal> {
        let offered = self.offered_in(role);
        let (allocator, mut world) = self.world();
        allocator.set_quota(&mut world, role, spec, force, &offered)?;
        let QuotaSpec { guarantees, limits } = *spec;
        cx.fact(Fact::Quota { role, guarantees, limits });
        self.rescind_some(cx, |master, offer| {
            master.allocator.is_over_limit(&master.pool, offer.client, offer.held)
        });
        self.rescind_some(cx, |master, offer| {
            master.allocator.is_owed(&master.pool, offer.client, offer.held)
        });
        Ok(())
    }

    /// Sets a weight, and tells the read model.
    pub(super) fn set_weight(
        &mut self,
        cx: &mut Cx<'_>,
        role: &str,
        weight: u32,
    ) -> Result<(), Refusal> {
        crate::wire::check_role("role", role).map_err(|_| Refusal::BadRole)?;
        self.allocator.set_weight(&mut self.names, role, weight)?;
        cx.fact(Fact::Weight { role, weight });
        Ok(())
    }

    /// What is offered to a role and those below it, and not used yet, of what quota is about.
    fn offered_in(&self, role: &str) -> Quantities {
        let mut offered = Quantities::NONE;
        for (_, row) in self.offers.iter() {
            let of = self.allocator.role_of(&self.names, row.client);
            let below = of.strip_prefix(role);
            if below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/'])) {
                offered.add_all(&self.allocator.open_quantities(&self.pool, row.held));
            }
        }
        offered
    }

    /// Takes back those offers that `wanted` says so of when it is their turn, the newest first: as
    /// many as one step has room to tell of. The rest end by their timeout.
    fn rescind_some(&mut self, cx: &mut Cx<'_>, wanted: fn(&Self, &Offer) -> bool) {
        let mut next = self.offers_by_age.last(&self.offers);
        while cx.has_room()
            && let Some(id) = next
        {
            next = before(&self.offers, BY_AGE, id);
            if self.offers.get(id).is_some_and(|offer| wanted(self, &offer)) {
                self.rescind(cx, id, None);
            }
        }
    }

    /// Takes offers back, the oldest first: as many as one step has room to tell of. The rest end
    /// by their timeout.
    fn rescind_all(&mut self, cx: &mut Cx<'_>) {
        while cx.has_room()
            && let Some(offer) = self.offers_by_age.first(&self.offers)
        {
            self.rescind(cx, offer, None);
        }
    }
}
