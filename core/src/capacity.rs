//! How much a node can hold, chosen when it starts, and who lends the memory.
//!
//! Everything is bounded by a field of [`Capacity`]; a full table is a [`Refusal`](crate::Refusal)
//! that names it. A profile sets all fields; the flags of a daemon change single ones.

use crate::record::Zero;

/// Lends zeroed memory for as long as `'a`. A daemon takes pages, a microcontroller its statics.
pub trait Lender<'a> {
    /// `rows` rows, all zero.
    fn lend<T: Zero + 'static>(&mut self, rows: u32) -> &'a mut [T];
}

/// Rows of every table of a master or agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Capacity {
    /// Agents, among them those that are unreachable.
    pub agents: u32,
    /// Frameworks.
    pub frameworks: u32,
    /// Roles, each component of a path one.
    pub roles: u32,
    /// Frameworks in roles: at least one for each framework.
    pub clients: u32,
    /// Tasks that did not end, or whose end was not acknowledged.
    pub tasks: u32,
    /// Custom executors.
    pub executors: u32,
    /// Outstanding offers.
    pub offers: u32,
    /// Machines in the maintenance schedule.
    pub machines: u32,
    /// Requests to frameworks to give back what they have of agents on such machines.
    pub requests: u32,
    /// Refusals that are remembered one by one; the rest of them is offered again early.
    pub filters: u32,
    /// Roles with a quota, and roles above them.
    pub quotas: u32,
    /// Amounts in the minimums of all frameworks.
    pub minimums: u32,
    /// Predicates in the offer constraints of all frameworks.
    pub constraints: u32,
    /// Patterns among them.
    pub patterns: u32,
    /// Frameworks that have a shared volume, for each volume.
    pub claims: u32,
    /// Status updates on an agent that nobody acknowledged.
    pub updates: u32,
    /// Operations on resources whose end was not told, or not acknowledged.
    pub operations: u32,
    /// Different names: tasks, executors, roles, hosts, attributes.
    pub names: u32,
    /// 28-byte cells of text of those names.
    pub cells: u32,
    /// Attributes of all agents.
    pub attributes: u32,
    /// Identities of resources: kinds with their reservations, disks and so on. At most 65,534.
    pub idents: u32,
    /// Layers of reservation stacks in those identities.
    pub layers: u32,
    /// Amounts in everything that holds resources.
    pub pieces: u32,
    /// Port ranges and set items in everything that holds resources.
    pub spans: u32,
    /// Connections that said who they are.
    pub conns: u32,
    /// Different callers behind them.
    pub callers: u32,
    /// The largest head that is written.
    pub head_max: u32,
}

/// Rows of the table of operations at the most: all of them are told in one step.
pub const OPERATIONS_MAX: u32 = 256;

impl Capacity {
    /// 16 agents, 4 frameworks, 64 tasks: a node with 64 MB, or a microcontroller.
    pub const fn tiny() -> Self {
        Self {
            agents: 16,
            frameworks: 4,
            roles: 6,
            clients: 6,
            tasks: 64,
            executors: 4,
            offers: 16,
            machines: 4,
            requests: 8,
            filters: 16,
            quotas: 2,
            minimums: 6,
            constraints: 4,
            patterns: 1,
            claims: 2,
            updates: 96,
            operations: 8,
            names: 112,
            cells: 128,
            attributes: 16,
            idents: 16,
            layers: 12,
            pieces: 256,
            spans: 48,
            conns: 24,
            callers: 4,
            head_max: 1024,
        }
    }

    /// 256 agents, 32 frameworks, 2,048 tasks: the default.
    pub const fn edge() -> Self {
        Self {
            agents: 256,
            frameworks: 32,
            roles: 64,
            clients: 64,
            tasks: 2_048,
            executors: 256,
            offers: 512,
            machines: 64,
            requests: 256,
            filters: 512,
            quotas: 32,
            minimums: 64,
            constraints: 64,
            patterns: 16,
            claims: 64,
            updates: 4_096,
            operations: 64,
            names: 3_072,
            cells: 3_584,
            attributes: 1_024,
            idents: 256,
            layers: 256,
            pieces: 4_096,
            spans: 2_048,
            conns: 512,
            callers: 32,
            head_max: 64 * 1024,
        }
    }

    /// 1,000 agents, 200 frameworks, 10,000 tasks.
    pub const fn rack() -> Self {
        Self {
            agents: 1_000,
            frameworks: 200,
            roles: 256,
            clients: 400,
            tasks: 10_000,
            executors: 1_000,
            offers: 2_000,
            machines: 128,
            requests: 1_024,
            filters: 2_048,
            quotas: 128,
            minimums: 400,
            constraints: 256,
            patterns: 32,
            claims: 256,
            updates: 8_192,
            operations: 128,
            names: 14_000,
            cells: 16_000,
            attributes: 4_000,
            idents: 1_024,
            layers: 1_024,
            pieces: 24_000,
            spans: 12_000,
            conns: 2_000,
            callers: 128,
            head_max: 64 * 1024,
        }
    }

    /// 10,000 agents, 1,000 frameworks, 100,000 tasks.
    pub const fn large() -> Self {
        Self {
            agents: 10_000,
            frameworks: 1_000,
            roles: 1_024,
            clients: 2_000,
            tasks: 100_000,
            executors: 8_000,
            offers: 16_000,
            machines: 512,
            requests: 4_096,
            filters: 16_000,
            quotas: 512,
            minimums: 2_000,
            constraints: 1_024,
            patterns: 64,
            claims: 1_024,
            updates: 8_192,
            operations: 256,
            names: 130_000,
            cells: 140_000,
            attributes: 20_000,
            idents: 4_096,
            layers: 4_096,
            pieces: 160_000,
            spans: 60_000,
            conns: 12_000,
            callers: 512,
            head_max: 64 * 1024,
        }
    }

    /// 50,000 agents, 200 frameworks, 100,000 tasks.
    pub const fn max() -> Self {
        Self {
            agents: 50_000,
            frameworks: 200,
            roles: 256,
            clients: 400,
            offers: 60_000,
            filters: 16_000,
            quotas: 128,
            minimums: 400,
            patterns: 32,
            attributes: 50_000,
            names: 180_000,
            cells: 190_000,
            conns: 52_000,
            pieces: 400_000,
            ..Self::large()
        }
    }

    /// Nodes of the allocator's tree: the root, roles with a node of their own, clients.
    pub const fn nodes(&self) -> u32 {
        self.roles.saturating_mul(2).saturating_add(self.clients).saturating_add(1)
    }

    /// Parts of holdings: amounts, ranges and items, in one table.
    pub const fn parts(&self) -> u32 {
        self.pieces.saturating_add(self.spans)
    }

    /// Bytes for the lists of one message and the lists within.
    pub const fn scratch(&self) -> u32 {
        self.head_max.saturating_mul(2)
    }

    /// Bytes of memory that a master of this capacity borrows.
    pub fn master_bytes(&self) -> u64 {
        let mut count = Count(0);
        crate::master::Storage::lend(self, &mut count);
        count.0
    }
}

/// Lends nothing, and adds up what was asked for.
struct Count(u64);

impl Lender<'_> for Count {
    fn lend<T: Zero + 'static>(&mut self, rows: u32) -> &'static mut [T] {
        let size = u64::try_from(size_of::<T>()).unwrap_or(u64::MAX);
        self.0 = self.0.saturating_add(size.saturating_mul(rows.into()));
        &mut []
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each profile takes, in KiB: a table that grows is a decision, not an accident.
    #[test]
    fn no_profile_takes_more_memory_than_is_written_down() {
        for (profile, capacity, kib) in [
            ("tiny", Capacity::tiny(), 48),
            ("edge", Capacity::edge(), 1_099),
            ("rack", Capacity::rack(), 4_650),
            ("large", Capacity::large(), 36_635),
            ("max", Capacity::max(), 64_356),
        ] {
            let bytes = capacity.master_bytes();
            std::println!("{profile}: {bytes} bytes");
            assert!(bytes <= kib * 1024, "{profile}: {bytes} bytes are more than {kib} KiB");
        }
    }
}
