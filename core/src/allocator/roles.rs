//! Clients and what they want; weights; and the upkeep of the tree that both are in.

use super::node::{self, NodeKind};
use super::quota::Account;
use super::sorter::under;
use super::tree::{Field, NEEDY, WANTING};
use super::{Allocator, Node, Policy, World};
use crate::Refusal;
use crate::limits::WEIGHT_MAX;
use crate::names::{Name, Names, Text};
use crate::resources::Quantities;
use crate::wire::Seq;
use crate::wire::call::{Capability, Minimum, Quantity};

record! {
    /// One amount of a client's least acceptable offer.
    pub struct Least {
        /// Which alternative it belongs to.
        pub alternative: u16,
        /// The resource's name.
        pub name: Name,
        /// Thousandths.
        pub milli: u64,
    }
}

impl<'a> Allocator<'a> {
    // ----------------------------------------------------------------- clients

    /// Adds a framework to a role and returns the client. It wants offers unless `suppressed`, once
    /// it is there: see [`Allocator::set_away`].
    ///
    /// O(depth of the role · log roles). `RolesFull` or `NamesFull` when there is no room for the
    /// role's nodes: at most its depth and two more.
    pub fn add_client(
        &mut self,
        names: &mut Names<'a>,
        role: &str,
        framework: u32,
        capabilities: u32,
        suppressed: bool,
    ) -> Result<u32, Refusal> {
        let at = self.add_role(names, role)?;
        let own = match self.find_node(OWN, u64::from(at)) {
            Some(own) => Ok(own),
            None => {
                let mut own = Node::new(NodeKind::Own, at);
                own.rank.order = node::order_of(".");
                self.insert_node(own, OWN, u64::from(at)).inspect_err(|_| self.prune(names, at))
            }
        }?;
        let Some(number) = self.take_number() else {
            self.prune(names, own);
            return Err(Refusal::RolesFull);
        };
        let mut client = Node::new(NodeKind::Client, own);
        client.framework = framework;
        client.rank.order = u64::from(framework);
        client.suppressed = suppressed;
        client.number = number;
        let key = client_key(own, framework);
        invariant!(self.find_node(CLIENT, key).is_none(), "a framework is in a role twice");
        match self.insert_node(client, CLIENT, key) {
            Ok(client) => {
                self.name_number(number, client);
                self.set_capabilities(client, capabilities);
                Ok(client)
            }
            Err(refusal) => {
                self.give_number(number);
                self.prune(names, own);
                Err(refusal)
            }
        }
    }

    /// The client that a framework is in a role, if it is in it.
    pub fn client(&self, names: &Names<'_>, role: &str, framework: u32) -> Option<u32> {
        let own = self.find_node(OWN, u64::from(self.role(names.find(role)?)?))?;
        self.find_node(CLIENT, client_key(own, framework))
    }

    /// Whether [`Allocator::add_client`] would find room for all of `roles`: a check ahead.
    pub fn has_room_for_roles<'r>(
        &self,
        names: &Names<'_>,
        roles: impl Iterator<Item = &'r str> + Clone,
    ) -> Result<(), Refusal> {
        let clients = roles.clone().fold(0u32, |n, _| n.saturating_add(1));
        let components = self.unknown_paths(names, roles.clone());
        let vacant = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        let vacant = vacant.saturating_sub(self.state.clients);
        let nodes = components.saturating_add(clients.saturating_mul(2));
        if self.nodes.room() < nodes || vacant < clients {
            return Err(Refusal::RolesFull);
        }
        self.has_room_for_paths(names, roles)
    }

    /// Whether there is room for roles that nobody need be in: for weights, quotas, reservations.
    pub fn has_room_for_paths<'r>(
        &self,
        names: &Names<'_>,
        roles: impl Iterator<Item = &'r str> + Clone,
    ) -> Result<(), Refusal> {
        let components = self.unknown_paths(names, roles.clone());
        if self.nodes.room() < components || self.accounts.room() < components {
            return Err(Refusal::RolesFull);
        }
        if !names.has_room_for(roles.flat_map(paths)) {
            return Err(Refusal::NamesFull);
        }
        Ok(())
    }

    /// Components of `roles` that are no nodes yet; what comes twice is counted twice.
    fn unknown_paths<'r>(&self, names: &Names<'_>, roles: impl Iterator<Item = &'r str>) -> u32 {
        let unknown = roles.flat_map(paths).filter(|path| !self.knows(names, path));
        unknown.fold(0u32, |n, _| n.saturating_add(1))
    }

    fn knows(&self, names: &Names<'_>, path: &str) -> bool {
        names.find(path).is_some_and(|name| self.role(name).is_some())
    }

    /// Removes a client that is charged for nothing, with its filters, and its role if it was the
    /// last there. O(filters of the client + depth · log roles).
    pub fn remove_client(&mut self, world: &mut World<'_, 'a>, client: u32) {
        self.want(world.names, client, false);
        self.lift_filters(world, client);
        self.set_constraints(world.names, client, None);
        self.set_minimum(world.names, client, None);
        let Some(node) = self.nodes.row(client).copied() else { return };
        invariant!(node.allocated.is_empty(), "a client that has something is removed");
        for set in [&mut self.gpu_users, &mut self.travellers] {
            set.remove(node.number);
        }
        self.give_number(node.number);
        self.prune(world.names, client);
    }

    /// Sets what a client takes at the least; none = the master's minimum. The caller checked that
    /// there is room for it.
    pub fn set_minimum(
        &mut self,
        names: &mut Names<'a>,
        client: u32,
        minimum: Option<&Minimum<'_>>,
    ) {
        let Some(node) = self.nodes.row(client) else { return };
        let (mut list, had) = (node.minimums, node.takes_anything || !node.minimums.is_empty());
        while let Some(least) = self.minimums.pop(&mut list) {
            names.release_one(least.name);
        }
        let alternatives = minimum.map_or(Seq::EMPTY, |minimum| minimum.alternatives);
        let mut anything = minimum.is_some() && alternatives.is_empty();
        for (alternative, quantities) in (0u16..).zip(alternatives.iter()) {
            // An alternative that asks nothing is always met.
            anything |= quantities.amounts.is_empty();
            for Quantity { name, amount } in quantities.amounts.iter() {
                let Ok(name) = names.intern(name) else { continue };
                let least = Least { alternative, name, milli: amount.milli() };
                if self.minimums.push(&mut list, least).is_err() {
                    names.release_one(name);
                }
            }
        }
        let has = anything || !list.is_empty();
        if let Some(node) = self.nodes.row_mut(client) {
            node.minimums = list;
            node.takes_anything = anything;
        }
        if had != has {
            self.count_picky(client, if has { 1 } else { -1 });
        }
        if had || has {
            self.mark_all();
        }
    }

    /// Sets what a client's framework understands.
    pub fn set_capabilities(&mut self, client: u32, capabilities: u32) {
        let Some(node) = self.nodes.row_mut(client) else { return };
        let number = node.number;
        if core::mem::replace(&mut node.capabilities, capabilities) == capabilities {
            return;
        }
        for (set, capability) in [
            (&mut self.gpu_users, Capability::GpuResources),
            (&mut self.travellers, Capability::RegionAware),
        ] {
            if capabilities & capability.bit() == 0 {
                set.remove(number);
            } else {
                set.insert(number);
            }
        }
        self.mark_all();
    }

    /// Amounts that minimums can still hold.
    pub fn minimums_room(&self) -> u32 {
        self.minimums.room()
    }

    /// The framework of a client is there and takes offers, or does not. O(depth · log roles).
    pub fn set_away(&mut self, names: &Names<'a>, client: u32, away: bool) {
        let suppressed = self.nodes.row(client).is_some_and(|node| node.suppressed);
        self.want(names, client, !away && !suppressed);
    }

    /// A client wants no offers until it is revived. O(depth · log roles).
    pub fn suppress(&mut self, names: &Names<'a>, client: u32) {
        if let Some(node) = self.nodes.row_mut(client) {
            node.suppressed = true;
        }
        self.want(names, client, false);
    }

    /// A client wants offers again, of everything: its filters are lifted.
    ///
    /// O(agents / 64 + filters of the client). `away` = its framework is not there to be offered.
    pub fn revive(&mut self, world: &mut World<'_, 'a>, client: u32, away: bool) {
        self.lift_filters(world, client);
        if let Some(node) = self.nodes.row_mut(client) {
            node.suppressed = false;
        }
        self.want(world.names, client, !away);
        self.mark_all();
    }

    /// True when a client suppressed its role.
    pub fn is_suppressed(&self, client: u32) -> bool {
        self.nodes.row(client).is_some_and(|node| node.suppressed)
    }

    /// The role of a client, as it was subscribed.
    pub fn role_of(&self, names: &Names<'_>, client: u32) -> Text {
        self.role_name(client).map_or(Text::new(), |name| names.text(name))
    }

    /// The name of a client's role.
    pub fn role_name(&self, client: u32) -> Option<Name> {
        self.nodes.row(self.role_slot(client)?).map(|role| role.name)
    }

    /// What a client has, and how often it was offered something.
    pub fn usage(&self, client: u32) -> Option<(Quantities, u64)> {
        self.nodes.row(client).map(|node| (node.allocated, node.rank.count))
    }

    // ----------------------------------------------------------------- weights

    /// Sets the weight of a role, which stays known when nobody is in it. Thousandths; 1,000 takes
    /// it back.
    pub fn set_weight(
        &mut self,
        names: &mut Names<'a>,
        role: &str,
        weight: u32,
    ) -> Result<(), Refusal> {
        if weight == 0 || weight > WEIGHT_MAX {
            return Err(Refusal::BadWeight);
        }
        self.has_room_for_paths(names, [role].into_iter())?;
        let role = self.add_role(names, role)?;
        let Some(node) = self.nodes.row_mut(role) else { return Ok(()) };
        let old = core::mem::replace(&mut node.rank.weight, weight);
        node.weighted = weight != node::WEIGHT_ONE;
        let above = node.above().filter(|_| node.inside);
        if let Some(above) = above.and_then(|above| self.nodes.row_mut(above)) {
            let rest = above.weights.saturating_sub(old.into());
            above.weights = rest.saturating_add(weight.into());
        }
        self.state.stale = true;
        self.prune(names, role);
        Ok(())
    }

    // ---------------------------------------------------------------- the tree

    /// The policy that orders what is below a node of this kind.
    pub(super) fn policy_below(&self, kind: NodeKind) -> Policy {
        match kind {
            NodeKind::Own => self.config.framework_sorter,
            NodeKind::Root | NodeKind::Role | NodeKind::Client => self.config.role_sorter,
        }
    }

    /// A node's key, weight or wish changed: its matches are played again.
    #[inline]
    pub(super) fn changed(&mut self, names: &Names<'a>, slot: u32, kind_above: NodeKind) {
        let Some(seats) = self.nodes.row(slot).map(|node| node.seats) else { return };
        under!(self.policy_below(kind_above), sorter => {
            for (list, seat) in seats.into_iter().enumerate() {
                if seat.is_some() {
                    let mut field = Field { nodes: &mut self.nodes, names, sorter, list };
                    self.forest.changed(&mut field, slot);
                }
            }
        });
    }

    /// A client that wants offers is in its group, and so is every node above it.
    pub(super) fn want(&mut self, names: &Names<'a>, client: u32, wants: bool) {
        let Some(node) = self.nodes.row_mut(client) else { return };
        if node.wants == wants {
            return;
        }
        node.wants = wants;
        if wants {
            self.wanting.insert(node.number);
        } else {
            self.wanting.remove(node.number);
        }
        self.seat(names, client);
        if wants {
            self.mark_all();
        }
    }

    /// Brings a node's membership of its parent's groups in line with what it wants and needs, and
    /// that of those above. O(depth · log siblings).
    pub(super) fn seat(&mut self, names: &Names<'a>, mut at: u32) {
        while let Some(node) = self.nodes.row(at)
            && let Some(above) = node.above()
        {
            let inside = match node.kind {
                NodeKind::Client => node.wants,
                NodeKind::Root | NodeKind::Role | NodeKind::Own => {
                    let [wanting, _] = node.groups;
                    !wanting.is_empty() && !node.parked
                }
            };
            let in_need = inside && self.is_short(node);
            let was = (node.inside, node.in_need);
            if was == (inside, in_need) {
                return;
            }
            if was.0 != inside {
                self.set_member(names, at, above, WANTING, inside);
            }
            if was.1 != in_need {
                self.set_member(names, at, above, NEEDY, in_need);
            }
            if let Some(node) = self.nodes.row_mut(at) {
                (node.inside, node.in_need) = (inside, in_need);
            }
            at = above;
        }
    }

    fn set_member(&mut self, names: &Names<'a>, at: u32, above: u32, list: usize, member: bool) {
        let Some(parent) = self.nodes.row(above) else { return };
        let (kind, groups) = (parent.kind, parent.groups);
        let mut group = groups.get(list).copied().unwrap_or_default();
        // From now on they compete: keys that nobody asked for are brought up to date.
        self.rekey_if_old(at);
        if let Some(only) = group.only() {
            self.rekey_if_old(only);
        }
        under!(self.policy_below(kind), sorter => {
            let mut field = Field { nodes: &mut self.nodes, names, sorter, list };
            if member {
                let joined = self.forest.join(&mut field, &mut group, at);
                invariant!(joined.is_ok(), "as many matches as nodes do not suffice");
            } else {
                self.forest.leave(&mut field, &mut group, at);
            }
        });
        let weight = self.nodes.row(at).map_or(0, |node| u64::from(node.rank.weight));
        if let Some(parent) = self.nodes.row_mut(above) {
            if list == WANTING {
                let (sum, less) = (parent.weights, parent.weights.saturating_sub(weight));
                parent.weights = if member { sum.saturating_add(weight) } else { less };
            }
            if let Some(place) = parent.groups.get_mut(list) {
                *place = group;
            }
        }
    }

    fn rekey_if_old(&mut self, at: u32) {
        if let Some(node) = self.nodes.row_mut(at).filter(|node| node.old) {
            node.rekey(&self.totals);
        }
    }

    /// All keys anew, and all matches. O(nodes · kinds).
    pub(super) fn rekey_all(&mut self, names: &Names<'a>) {
        self.state.stale = false;
        for slot in 0..self.nodes.high_water() {
            if let Some(node) = self.nodes.row_mut(slot) {
                node.rekey(&self.totals);
            }
        }
        for slot in 0..self.nodes.high_water() {
            let Some((kind, groups)) = self.nodes.row(slot).map(|node| (node.kind, node.groups))
            else {
                continue;
            };
            under!(self.policy_below(kind), sorter => {
                for (list, group) in groups.into_iter().enumerate() {
                    let field = Field { nodes: &mut self.nodes, names, sorter, list };
                    self.forest.replay_all(&field, group);
                }
            });
        }
    }

    /// The node of a role, made with all above it if need be.
    pub(super) fn add_role(&mut self, names: &mut Names<'a>, role: &str) -> Result<u32, Refusal> {
        let mut at = self.state.root;
        for path in paths(role) {
            let known = names.find(path).and_then(|name| self.role(name));
            at = match known {
                Some(known) => known,
                None => self.new_role(names, at, path).inspect_err(|_| self.prune(names, at))?,
            };
        }
        Ok(at)
    }

    fn new_role(&mut self, names: &mut Names<'a>, above: u32, path: &str) -> Result<u32, Refusal> {
        if self.nodes.room() == 0 || self.accounts.room() == 0 {
            return Err(Refusal::RolesFull);
        }
        let mut role = Node::new(NodeKind::Role, above);
        role.name = names.intern(path).map_err(|_| Refusal::NamesFull)?;
        role.rank.order = node::order_of(path.rsplit(['/']).next().unwrap_or(path));
        let account: Account = bytemuck::Zeroable::zeroed();
        let account = self.accounts.insert(account).map_err(|_| Refusal::RolesFull)?;
        role.account = account.index.saturating_add(1);
        self.insert_node(role, ROLE, u64::from(role.name.place()))
    }

    fn insert_node(&mut self, node: Node, index: u64, key: u64) -> Result<u32, Refusal> {
        let id = self.nodes.insert(node).map_err(|_| Refusal::RolesFull)?;
        let hash = self.by_name.hash(index, key);
        self.by_name.insert(&mut self.nodes, 0, hash, id);
        if let Some(parent) = node.above().and_then(|above| self.nodes.row_mut(above)) {
            parent.children = parent.children.saturating_add(1);
        }
        Ok(id.index)
    }

    /// The node of a role, by the name of its path.
    pub(super) fn role(&self, name: Name) -> Option<u32> {
        self.find_node(ROLE, u64::from(name.place()))
    }

    fn find_node(&self, index: u64, key: u64) -> Option<u32> {
        let hash = self.by_name.hash(index, key);
        let found = self.by_name.find(&self.nodes, 0, hash, |node| key_of(node) == (index, key));
        found.map(|id| id.index)
    }

    /// Removes a node and those above it that nothing keeps any more.
    pub(super) fn prune(&mut self, names: &mut Names<'a>, mut at: u32) {
        while let Some(node) = self.nodes.row(at).copied() {
            let kept = node.children > 0 || node.weighted || node.kind == NodeKind::Root;
            if kept || self.account(&node).is_some_and(Account::is_used) {
                return;
            }
            let (index, key) = key_of(&node);
            let (Some(id), hash) = (self.nodes.id_at(at), self.by_name.hash(index, key)) else {
                return;
            };
            self.by_name.remove(&mut self.nodes, 0, hash, id);
            self.nodes.remove(id);
            if let Some(account) = node.account.checked_sub(1)
                && let Some(account) = self.accounts.id_at(account)
            {
                self.accounts.remove(account);
            }
            names.release_one(node.name);
            let Some(above) = node.above() else { return };
            if let Some(parent) = self.nodes.row_mut(above) {
                parent.children = parent.children.saturating_sub(1);
            }
            at = above;
        }
    }

    /// The node of a client's role.
    pub(super) fn role_slot(&self, client: u32) -> Option<u32> {
        let own = self.nodes.row(client)?.above()?;
        self.nodes.row(own)?.above()
    }

    /// A number that no client has.
    fn take_number(&mut self) -> Option<u32> {
        let number = match self.state.number.checked_sub(1) {
            Some(number) => {
                self.state.number = self.clients.get(number as usize).copied()?;
                number
            }
            None => {
                let number = self.state.numbers;
                self.clients.get(number as usize)?;
                self.state.numbers = number.saturating_add(1);
                number
            }
        };
        self.state.clients = self.state.clients.saturating_add(1);
        Some(number)
    }

    fn name_number(&mut self, number: u32, client: u32) {
        if let Some(place) = self.clients.get_mut(number as usize) {
            *place = client.saturating_add(1);
        }
    }

    fn give_number(&mut self, number: u32) {
        let next = core::mem::replace(&mut self.state.number, number.saturating_add(1));
        if let Some(place) = self.clients.get_mut(number as usize) {
            *place = next;
        }
        self.state.clients = self.state.clients.saturating_sub(1);
    }

    pub(super) fn index_again(&mut self) {
        self.by_name.clear();
        for slot in 0..self.nodes.high_water() {
            if let Some((id, node)) = self.nodes.at(slot) {
                let (index, key) = key_of(&node);
                let hash = self.by_name.hash(index, key);
                self.by_name.insert(&mut self.nodes, 0, hash, id);
            }
        }
    }
}

/// The indexes of nodes: roles by the name of their path, own nodes by their role, clients by own
/// node and framework.
const ROLE: u64 = 0;
const OWN: u64 = 1;
const CLIENT: u64 = 2;

fn client_key(own: u32, framework: u32) -> u64 {
    (u64::from(own) << 32) | u64::from(framework)
}

fn key_of(node: &Node) -> (u64, u64) {
    let above = node.above().unwrap_or(0);
    match node.kind {
        NodeKind::Root | NodeKind::Role => (ROLE, u64::from(node.name.place())),
        NodeKind::Own => (OWN, u64::from(above)),
        NodeKind::Client => (CLIENT, client_key(above, node.framework)),
    }
}

/// The paths from a role's first component to the whole of it: `a`, `a/b`, `a/b/c`.
pub(super) fn paths(role: &str) -> impl Iterator<Item = &str> + Clone {
    let ends = role.match_indices(['/']).map(|(at, _)| at).chain([role.len()]);
    ends.filter_map(|end| role.get(..end))
}
