//! Guarantees, limits and reservations, at every level of the tree of roles.
//!
//! A role's *consumption* is what is reserved for it and below it, used or not, and what it and
//! those below it have beside of resources that are anyone's and to keep (Mesos: *quota
//! consumption*). A *limit* bounds it. A *guarantee* is served before anything else, and held free
//! for as long as it is not met: the *headroom*.
//!
//! What a role is short of is its *need*: its own gap, or the needs of the roles below it together,
//! whichever is more, kind by kind. A role is *entitled* to its own gap, and to what the gaps above
//! leave after the needs of its siblings. All needs together are required, all that is free, anyone's
//! and to keep is available; what is given beyond guarantees is never more than the difference.
//!
//! Mesos has quota for top-level roles only, and only frameworks in that very role are served first.

use super::agents::Charge;
use super::node::{Node, NodeKind};
use super::{Allocator, World};
use crate::Refusal;
use crate::limits::ROLE_DEPTH_MAX;
use crate::names::{Name, Names};
use crate::resources::pool::{CPUS, Class, MEM};
use crate::resources::quantities::Kinds;
use crate::resources::{Holding, Quantities};
use crate::wire::Seq;
use crate::wire::call::Quantity;

/// Whether something comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It comes.
    More,
    /// It goes.
    Less,
}

record! {
    /// What counts against a role's quota.
    pub struct Account {
        /// What it and those below it have of what is anyone's and to keep.
        pub open: Quantities,
        /// What is reserved for it and those below it.
        pub reserved: Quantities,
        /// Ports and items reserved for it and those below it.
        spans: u64,
        /// Its quota, as index + 1; 0 = none, nor any below.
        pub quota: u32,
        /// Clients below it with a minimum of their own.
        picky: u32,
    }

    /// A role's quota, or the sums of those below it.
    pub struct Quota {
        /// Held free for it; its own word, without those below.
        pub guarantee: Quantities,
        /// The most that it may have; `u64::MAX` = no limit.
        pub limit: Quantities,
        /// What is guaranteed to those below it, together.
        pub promised: Quantities,
        /// What those below it are short of, together.
        pub below: Quantities,
        /// What it is short of: see the top of this file.
        pub need: Quantities,
        /// The role's node.
        pub node: u32,
        /// Rows of quotas right below.
        pub children: u32,
        /// Kinds that it names, each of which it keeps.
        pub kinds: Kinds,
        /// Kinds that it limits.
        pub limited: Kinds,
        /// An operator set it.
        pub set: bool,
        /// Its limit cut an offer since it was last less used.
        pub cut: bool,
    }
}

impl Account {
    /// Consumption of a kind.
    pub fn consumed(&self, kind: u8) -> u64 {
        self.open.of(kind).saturating_add(self.reserved.of(kind))
    }

    /// True when a role must be known though nobody is in it.
    pub fn is_used(&self) -> bool {
        self.quota != 0 || self.spans != 0 || !self.reserved.is_empty()
    }
}

impl Quota {
    /// How far a role is below its own guarantee.
    fn gap(&self, account: &Account, kind: u8) -> u64 {
        self.guarantee.of(kind).saturating_sub(account.consumed(kind))
    }

    /// What is guaranteed to it, by its own word or by those below.
    fn guaranteed(&self) -> Quantities {
        self.guarantee.at_least(&self.promised)
    }
}

/// What an operator wants for a role.
#[derive(Clone, Copy, Debug)]
pub struct QuotaSpec<'q> {
    /// Held free for it; what is not named is 0.
    pub guarantees: Seq<'q, Quantity<'q>>,
    /// The most that it may have; what is not named is not limited.
    pub limits: Seq<'q, Quantity<'q>>,
}

impl<'a> Allocator<'a> {
    /// True when any role has a quota. O(1).
    pub fn has_quotas(&self) -> bool {
        !self.quotas.is_empty()
    }

    /// Sets a role's quota, or takes it back; with `force`, also one that is not met or too much.
    /// `offered` = what of the role's consumption is only offered, and about to be taken back.
    ///
    /// `BadQuota` when a guarantee is above its limit, or above a limit higher up, with what is
    /// guaranteed to the roles beside; `QuotaExceeded`, `Overcommitted` unless forced; `RolesFull`,
    /// `QuotasFull`, `KindsFull`, `NamesFull` without room. Nothing has changed then.
    /// O(depth · kinds + agents / 64).
    pub fn set_quota(
        &mut self,
        world: &mut World<'_, 'a>,
        role: &str,
        spec: &QuotaSpec<'_>,
        force: bool,
        offered: &Quantities,
    ) -> Result<(), Refusal> {
        self.check_quota(world, role, spec, force, offered)?;
        let mut guarantee = Quantities::NONE;
        let mut limit = Quantities::ENDLESS;
        let (mut kinds, mut limited) = (Kinds::NONE, Kinds::NONE);
        for (list, limits) in [(spec.guarantees, false), (spec.limits, true)] {
            for Quantity { name, amount } in list.iter() {
                let Some(kind) = world.pool.hold_kind(world.names, name) else { continue };
                if kinds.contains(kind) {
                    world.pool.release_kind(world.names, kind);
                }
                kinds.insert(kind);
                if limits {
                    limit.set(kind, amount.milli());
                    limited.insert(kind);
                } else {
                    guarantee.set(kind, amount.milli());
                }
            }
        }
        let Ok(at) = self.add_role(world.names, role) else { return Err(Refusal::RolesFull) };
        self.open_quotas(at);
        let Some(index) = self.quota_index(at) else { return Err(Refusal::QuotasFull) };
        let Some(quota) = self.quotas.row_mut(index) else { return Err(Refusal::QuotasFull) };
        let (old, promised) = (quota.kinds, quota.guaranteed());
        (quota.guarantee, quota.limit) = (guarantee, limit);
        (quota.kinds, quota.limited) = (kinds, limited);
        quota.set = !spec.guarantees.is_empty() || !spec.limits.is_empty();
        let now_promised = quota.guaranteed();
        for kind in old.iter() {
            world.pool.release_kind(world.names, kind);
        }
        self.promise(at, &promised, &now_promised);
        self.recount(world.names, at, Kinds::ALL, false);
        self.close_quotas(at);
        self.prune(world.names, at);
        self.mark_all();
        Ok(())
    }

    fn check_quota(
        &self,
        world: &World<'_, 'a>,
        role: &str,
        spec: &QuotaSpec<'_>,
        force: bool,
        offered: &Quantities,
    ) -> Result<(), Refusal> {
        let amount = |list: &Seq<'_, Quantity<'_>>, name: &str| {
            list.iter().find(|entry| entry.name == name).map(|entry| entry.amount.milli())
        };
        for list in [spec.guarantees, spec.limits] {
            let mut index = 0usize;
            for entry in list.iter() {
                if list.iter().take(index).any(|earlier| earlier.name == entry.name) {
                    return Err(Refusal::BadQuota);
                }
                index = index.saturating_add(1);
                if !world.pool.is_scalar(world.names, entry.name) {
                    return Err(Refusal::BadResource);
                }
            }
        }
        let above = |entry: Quantity<'_>| {
            amount(&spec.limits, entry.name).is_some_and(|limit| limit < entry.amount.milli())
        };
        if spec.guarantees.iter().any(above) {
            return Err(Refusal::BadQuota);
        }
        self.check_quota_room(world, role, spec)?;
        let at = world.names.find(role).and_then(|name| self.role(name));
        let quota = at.and_then(|at| self.quota(at));
        // What is guaranteed below stays guaranteed, and must fit the new limit.
        let promised = quota.map_or(Quantities::NONE, |quota| quota.promised);
        let fits = spec.limits.iter().all(|entry| {
            let kind = world.pool.kind(world.names, entry.name);
            kind.is_none_or(|kind| promised.of(kind) <= entry.amount.milli())
        });
        if !fits {
            return Err(Refusal::BadQuota);
        }
        let account = at.and_then(|at| self.nodes.row(at)).and_then(|node| self.account(node));
        let over = |entry: Quantity<'_>| {
            let kind = world.pool.kind(world.names, entry.name);
            let consumed = kind.zip(account).map_or(0, |(kind, account)| {
                account.consumed(kind).saturating_sub(offered.of(kind))
            });
            consumed > entry.amount.milli()
        };
        if !force && spec.limits.iter().any(over) {
            return Err(Refusal::QuotaExceeded);
        }
        self.check_guarantees(world, role, spec, quota, force)
    }

    /// What would be guaranteed at each level above is within its limit, and all of it within what
    /// the cluster has.
    fn check_guarantees(
        &self,
        world: &World<'_, 'a>,
        role: &str,
        spec: &QuotaSpec<'_>,
        quota: Option<&Quota>,
        force: bool,
    ) -> Result<(), Refusal> {
        let old = quota.copied().unwrap_or(bytemuck::Zeroable::zeroed());
        for kind in 0u8..16 {
            let name = world.pool.kind_name(kind);
            let own = spec.guarantees.iter().find(|entry| world.names.is(name, entry.name));
            let own = own.map_or(0, |entry| entry.amount.milli());
            let before = old.guaranteed().of(kind);
            let mut more = own.max(old.promised.of(kind)).saturating_sub(before);
            if more == 0 {
                continue;
            }
            let mut path = role;
            while let Some((above, _)) = path.rsplit_once(['/']) {
                path = above;
                let at = world.names.find(path).and_then(|name| self.role(name));
                let Some(quota) = at.and_then(|at| self.quota(at)) else { continue };
                let sum = quota.promised.of(kind).saturating_add(more);
                if sum > quota.limit.of(kind) {
                    return Err(Refusal::BadQuota);
                }
                let was = quota.guaranteed().of(kind);
                more = quota.guarantee.of(kind).max(sum).saturating_sub(was);
            }
            let all = self.state.promised.of(kind).saturating_add(more);
            if !force && more > 0 && all > self.totals.amounts.of(kind) {
                return Err(Refusal::Overcommitted);
            }
        }
        // A kind that nothing is of cannot be guaranteed.
        let unknown = |entry: Quantity<'_>| {
            entry.amount.milli() > 0 && world.pool.kind(world.names, entry.name).is_none()
        };
        if !force && spec.guarantees.iter().any(unknown) {
            return Err(Refusal::Overcommitted);
        }
        Ok(())
    }

    fn check_quota_room(
        &self,
        world: &World<'_, 'a>,
        role: &str,
        spec: &QuotaSpec<'_>,
    ) -> Result<(), Refusal> {
        let named = spec.guarantees.iter().chain(spec.limits.iter());
        let mut new = heapless::Vec::<&str, 32>::new();
        for entry in named {
            let known = world.pool.kind(world.names, entry.name).is_some();
            if !known && !new.contains(&entry.name) {
                new.push(entry.name).map_err(|_| Refusal::KindsFull)?;
            }
        }
        if new.len() > world.pool.kinds_room() {
            return Err(Refusal::KindsFull);
        }
        self.has_room_for_paths(world.names, [role].into_iter())?;
        let texts = new.iter().copied().chain(super::roles::paths(role));
        if !world.names.has_room_for(texts) {
            return Err(Refusal::NamesFull);
        }
        let missing = super::roles::paths(role).filter(|path| {
            let at = world.names.find(path).and_then(|name| self.role(name));
            at.and_then(|at| self.quota(at)).is_none()
        });
        let missing = missing.fold(0u32, |n, _| n.saturating_add(1));
        if missing > self.quotas.room() { Err(Refusal::QuotasFull) } else { Ok(()) }
    }

    /// A row for the quota of a role and of each above it.
    fn open_quotas(&mut self, at: u32) {
        let mut line = heapless::Vec::<u32, ROLE_DEPTH_MAX>::new();
        let mut next = Some(at);
        while let Some(at) = next
            && let Some(node) = self.nodes.row(at)
            && node.kind == NodeKind::Role
        {
            next = node.above();
            let pushed = line.push(at);
            invariant!(pushed.is_ok(), "a role deeper than its limit");
        }
        // From the top: each row is counted by the one above it.
        for at in line.into_iter().rev() {
            let Some(node) = self.nodes.row(at).copied() else { return };
            if self.quota_index(at).is_some() {
                continue;
            }
            let quota =
                Quota { limit: Quantities::ENDLESS, node: at, ..bytemuck::Zeroable::zeroed() };
            let Ok(id) = self.quotas.insert(quota) else {
                invariant!(false, "a quota that was checked has no room");
                return;
            };
            if let Some(account) =
                node.account.checked_sub(1).and_then(|account| self.accounts.row_mut(account))
            {
                account.quota = id.index.saturating_add(1);
            }
            self.count_quota_above(&node, 1);
        }
    }

    fn count_quota_above(&mut self, node: &Node, by: i32) {
        let above = node.above().and_then(|above| self.quota_index(above));
        if let Some(above) = above.and_then(|above| self.quotas.row_mut(above)) {
            above.children = above.children.saturating_add_signed(by);
        }
    }

    /// Forgets the rows of quotas that nobody set and that have none below.
    fn close_quotas(&mut self, at: u32) {
        let mut next = Some(at);
        while let Some(at) = next
            && let Some(node) = self.nodes.row(at).copied()
            && let Some(index) = self.quota_index(at)
            && let Some(quota) = self.quotas.row(index).copied()
        {
            if quota.set || quota.children > 0 {
                return;
            }
            self.count_quota_above(&node, -1);
            if let Some(id) = self.quotas.id_at(index) {
                self.quotas.remove(id);
            }
            if let Some(account) =
                node.account.checked_sub(1).and_then(|account| self.accounts.row_mut(account))
            {
                account.quota = 0;
            }
            next = node.above();
        }
    }

    /// Guarantees below a role changed from one sum to another: those above promise that.
    fn promise(&mut self, at: u32, before: &Quantities, now: &Quantities) {
        let (mut before, mut now) = (*before, *now);
        let mut next = self.nodes.row(at).and_then(Node::above);
        while let Some(at) = next
            && let Some(index) = self.quota_index(at)
            && let Some(quota) = self.quotas.row_mut(index)
        {
            let was = quota.guaranteed();
            for kind in 0u8..16 {
                let sum = quota.promised.of(kind).saturating_add(now.of(kind));
                quota.promised.set(kind, sum.saturating_sub(before.of(kind)));
            }
            (before, now) = (was, quota.guaranteed());
            next = self.nodes.row(at).and_then(Node::above);
        }
        let all = &mut self.state.promised;
        for kind in 0u8..16 {
            let sum = all.of(kind).saturating_add(now.of(kind));
            all.set(kind, sum.saturating_sub(before.of(kind)));
        }
    }

    // ---------------------------------------------------------------- accounts

    pub(super) fn account(&self, node: &Node) -> Option<&Account> {
        self.accounts.row(node.account.checked_sub(1)?)
    }

    fn account_mut(&mut self, at: u32) -> Option<&mut Account> {
        let account = self.nodes.row(at)?.account.checked_sub(1)?;
        self.accounts.row_mut(account)
    }

    fn quota_index(&self, at: u32) -> Option<u32> {
        self.account(self.nodes.row(at)?)?.quota.checked_sub(1)
    }

    /// A role's quota, or the sums of those below it.
    pub(super) fn quota(&self, at: u32) -> Option<&Quota> {
        self.quotas.row(self.quota_index(at)?)
    }

    /// A client has more or less of what is anyone's and to keep. O(depth · kinds).
    pub(super) fn count_open(
        &mut self,
        names: &Names<'a>,
        client: u32,
        charge: &Charge,
        sign: Sign,
    ) {
        let Some(role) = self.role_slot(client) else { return };
        self.count_in(names, role, charge.kinds, sign, |account| {
            for kind in charge.kinds.iter() {
                match sign {
                    Sign::More => account.open.add(kind, charge.open_of(kind)),
                    Sign::Less => account.open.subtract(kind, charge.open_of(kind)),
                }
            }
        });
    }

    /// Reservations come or go with what is or was of an agent: roles are known for as long as
    /// anything is reserved for them. O(parts · depth).
    pub(super) fn count_reserved(&mut self, world: &mut World<'_, 'a>, of: Holding, sign: Sign) {
        if of.is_plain() {
            return;
        }
        let mut parts = heapless::Vec::<(Name, u8, u64, u64), 32>::new();
        let mut next = 0usize;
        loop {
            parts.clear();
            let reserved = world.pool.parts(of).skip(next).take(parts.capacity());
            let mut seen = 0usize;
            for part in reserved {
                seen = seen.saturating_add(1);
                let Some(ident) = world.pool.ident(part.ident) else { continue };
                if !ident.is(Class::RESERVED) {
                    continue;
                }
                let span = ident.is(Class::SPAN);
                let length = part.end.wrapping_sub(part.begin).wrapping_add(1);
                let (milli, numbers) = if span { (0, length) } else { (part.end, 0) };
                let _ = parts.push((ident.role, ident.kind, milli, numbers));
            }
            for (role, kind, milli, numbers) in &parts {
                self.count_reservation(world.names, *role, *kind, *milli, *numbers, sign);
            }
            if seen == 0 {
                return;
            }
            next = next.saturating_add(seen);
        }
    }

    fn count_reservation(
        &mut self,
        names: &mut Names<'a>,
        role: Name,
        kind: u8,
        milli: u64,
        numbers: u64,
        sign: Sign,
    ) {
        let at = match self.role(role) {
            Some(at) => at,
            None => {
                let path = names.text(role);
                let Ok(at) = self.add_role(names, &path) else {
                    invariant!(false, "a reservation that was checked has no room for its role");
                    return;
                };
                at
            }
        };
        let mut kinds = Kinds::NONE;
        kinds.insert(kind);
        self.count_in(names, at, kinds, sign, |account| match sign {
            Sign::More => {
                account.reserved.add(kind, milli);
                account.spans = account.spans.wrapping_add(numbers);
            }
            Sign::Less => {
                account.reserved.subtract(kind, milli);
                account.spans = account.spans.wrapping_sub(numbers);
            }
        });
        self.state.repark |= !self.quotas.is_empty();
        if sign == Sign::Less {
            self.prune(names, at);
        }
    }

    /// Changes the accounts of a role and of all above it, and what follows from them.
    fn count_in(
        &mut self,
        names: &Names<'a>,
        role: u32,
        kinds: Kinds,
        sign: Sign,
        mut change: impl FnMut(&mut Account),
    ) {
        let mut next = Some(role);
        while let Some(at) = next
            && let Some(account) = self.account_mut(at)
        {
            change(account);
            next = self.nodes.row(at).and_then(Node::above);
        }
        if !self.quotas.is_empty() {
            self.recount(names, role, kinds, sign == Sign::Less);
        }
    }

    /// A client with a minimum of its own came or went below a role.
    pub(super) fn count_picky(&mut self, client: u32, by: i32) {
        let mut next = self.role_slot(client);
        while let Some(at) = next
            && let Some(account) = self.account_mut(at)
        {
            account.picky = account.picky.saturating_add_signed(by);
            next = self.nodes.row(at).and_then(Node::above);
        }
        self.state.repark |= !self.quotas.is_empty();
    }

    // ------------------------------------------------------------------- needs

    /// Consumption of a role changed: its need and those above, whether it is parked, and who is
    /// woken by that. O(depth · (kinds + log siblings)).
    fn recount(&mut self, names: &Names<'a>, role: u32, kinds: Kinds, less: bool) {
        let mut next = Some(role);
        while let Some(at) = next {
            let Some(node) = self.nodes.row(at).copied() else { return };
            if node.kind != NodeKind::Role {
                return;
            }
            next = node.above();
            let Some(account) = self.account(&node).copied() else { return };
            let Some(index) = account.quota.checked_sub(1) else { continue };
            let Some(quota) = self.quotas.row_mut(index) else { return };
            let before = quota.need;
            for kind in kinds.iter() {
                let need = quota.gap(&account, kind).max(quota.below.of(kind));
                quota.need.set(kind, need);
            }
            let (now, cut) = (quota.need, less && core::mem::take(&mut quota.cut));
            let above = next.and_then(|above| self.quota_index(above));
            let sum = match above.and_then(|above| self.quotas.row_mut(above)) {
                Some(above) => &mut above.below,
                None => &mut self.state.required,
            };
            let mut grew = false;
            for kind in kinds.iter() {
                let (was, is) = (before.of(kind), now.of(kind));
                grew |= is > was;
                let all = sum.of(kind).saturating_add(is).saturating_sub(was);
                sum.set(kind, all);
            }
            // A cut may be less of one now; and what somebody is short of may lie held back.
            if cut || (grew && !self.state.held.is_empty()) {
                self.mark_all();
            }
            self.park(names, at);
            self.seat(names, at);
        }
    }

    /// True when a role is short of a guarantee.
    pub(super) fn is_short(&self, node: &Node) -> bool {
        let quota = self.account(node).and_then(|account| account.quota.checked_sub(1));
        let quota = quota.and_then(|index| self.quotas.row(index));
        node.kind == NodeKind::Role && quota.is_some_and(|quota| !quota.need.is_empty())
    }

    /// True when a role itself is short of more than those below it: whoever is in it, or below, may
    /// be served.
    pub(super) fn serves_all(&self, node: &Node) -> bool {
        let Some(account) = self.account(node).filter(|_| node.kind == NodeKind::Role) else {
            return false;
        };
        let quota = account.quota.checked_sub(1).and_then(|index| self.quotas.row(index));
        quota.is_some_and(|quota| {
            quota.guarantee.iter().any(|(kind, _)| quota.gap(account, kind) > quota.below.of(kind))
        })
    }

    /// What a role may have before anybody else: its own gap, and what each gap above leaves after
    /// the needs of its siblings, whichever is most. O(depth · kinds).
    pub(super) fn entitled(&self, role: u32) -> Quantities {
        let (mut entitled, mut child) = (Quantities::NONE, Quantities::NONE);
        let mut next = Some(role);
        while let Some(at) = next
            && let Some(node) = self.nodes.row(at)
            && node.kind == NodeKind::Role
        {
            next = node.above();
            let Some((quota, account)) = self.quota(at).zip(self.account(node)) else {
                child = Quantities::NONE;
                continue;
            };
            for (kind, _) in quota.guarantee.iter() {
                let siblings = quota.below.of(kind).saturating_sub(child.of(kind));
                let own = quota.gap(account, kind).saturating_sub(siblings);
                entitled.set(kind, entitled.of(kind).max(own));
            }
            child = quota.need;
        }
        entitled
    }

    /// How much of each kind a role may still be given, and by whose limit. O(depth · kinds).
    pub(super) fn limit_slack(&self, role: u32) -> (Quantities, [u32; 16]) {
        let mut slack = Quantities::ENDLESS;
        let mut whose = [0; 16];
        let mut next = Some(role);
        while let Some(at) = next
            && let Some(node) = self.nodes.row(at)
            && node.kind == NodeKind::Role
        {
            next = node.above();
            let Some((quota, account)) = self.quota(at).zip(self.account(node)) else { continue };
            for kind in quota.limited.iter() {
                let left = quota.limit.of(kind).saturating_sub(account.consumed(kind));
                if left < slack.of(kind) {
                    slack.set(kind, left);
                    if let Some(place) = whose.get_mut(usize::from(kind)) {
                        *place = at.saturating_add(1);
                    }
                }
            }
        }
        (slack, whose)
    }

    /// How much of a kind may be given beyond guarantees.
    pub(super) fn left_over(&self, kind: u8) -> u64 {
        self.state.available.of(kind).saturating_sub(self.state.required.of(kind))
    }

    /// True when anybody is short of a guarantee.
    pub(super) fn anybody_short(&self) -> bool {
        !self.quotas.is_empty() && !self.state.required.is_empty()
    }

    /// Something of a kind was held back for guarantees.
    pub(super) fn hold_back(&mut self, kind: u8) {
        let left = self.left_over(kind);
        self.state.held.insert(kind);
        if left < self.state.held_at.of(kind) {
            self.state.held_at.set(kind, left);
        }
    }

    /// True when less need be held back than when something was.
    pub(super) fn is_more_left_over(&self) -> bool {
        self.state.held.iter().any(|kind| self.left_over(kind) > self.state.held_at.of(kind))
    }

    /// Everything that was held back is asked about again.
    pub(super) fn wake_held(&mut self) {
        if self.is_more_left_over() {
            (self.state.held, self.state.held_at) = (Kinds::NONE, Quantities::ENDLESS);
            self.mark_all();
        }
    }

    /// A limit cut an offer.
    pub(super) fn note_cut(&mut self, role: u32) {
        if let Some(quota) = self.quota_index(role).and_then(|index| self.quotas.row_mut(index)) {
            quota.cut = true;
        }
    }

    // ----------------------------------------------------------------- parking

    /// A role that is at its limit in all that the master's minimum asks for can be offered nothing
    /// that suffices, unless something is reserved for it or may be taken back, or somebody below
    /// has a minimum of its own. It is passed over without being asked; the gates would say no.
    fn park(&mut self, names: &Names<'a>, at: u32) {
        let parked = self.is_full(at);
        let Some(node) = self.nodes.row_mut(at) else { return };
        if node.parked == parked {
            return;
        }
        node.parked = parked;
        self.seat(names, at);
        if !parked {
            self.mark_all();
        }
    }

    fn is_full(&self, at: u32) -> bool {
        let Some(node) = self.nodes.row(at) else { return false };
        let Some((quota, account)) = self.quota(at).zip(self.account(node)) else { return false };
        let (cpus, mem) = (self.config.min_cpus_milli, self.config.min_mem_milli);
        let left = |kind| quota.limit.of(kind).saturating_sub(account.consumed(kind));
        let enough = |kind, least| least > 0 && left(kind) >= least;
        if (cpus == 0 && mem == 0) || enough(CPUS, cpus) || enough(MEM, mem) {
            return false;
        }
        account.picky == 0 && self.state.revocable == 0 && self.top_reserves_nothing(at)
    }

    /// True when nothing is reserved for a role, for those below it, or for those above it.
    fn top_reserves_nothing(&self, mut at: u32) -> bool {
        while let Some(node) = self.nodes.row(at)
            && let Some(above) = node.above()
        {
            if above == self.state.root {
                let account = self.account(node);
                return account
                    .is_none_or(|account| account.spans == 0 && account.reserved.is_empty());
            }
            at = above;
        }
        true
    }

    /// Asks of every role with a quota whether it is parked. O(quotas · depth).
    pub(super) fn repark_all(&mut self, names: &Names<'a>) {
        if !core::mem::take(&mut self.state.repark) {
            return;
        }
        for index in 0..self.quotas.high_water() {
            if let Some(at) = self.quotas.row(index).map(|quota| quota.node) {
                self.park(names, at);
            }
        }
    }

    /// Every role with a quota, by its name: guarantee, limit, consumption of a kind.
    pub fn quotas(&self) -> impl Iterator<Item = (Name, &Quota, &Account)> {
        self.quotas.iter().filter(|(_, quota)| quota.set).filter_map(|(_, quota)| {
            let node = self.nodes.row(quota.node)?;
            Some((node.name, quota, self.account(node)?))
        })
    }
}
