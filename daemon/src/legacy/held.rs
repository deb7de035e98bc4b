//! What tasks, executors and offers hold, and whose they are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use mesita_core::table::Id;

use super::amounts::Sum;
use crate::catalog::rows::{Executor, Offer, Task};
use crate::catalog::{Table, Tables};

/// Slots of a table by the slots of those whose rows they are: eight bytes a row.
#[derive(Debug, Default)]
pub(crate) struct Grouped(Vec<(u32, u32)>);

impl Grouped {
    /// All rows of a table by what `owner` says. O(n log n).
    pub(super) fn of<T: Clone>(table: &Table<T>, owner: impl Fn(&T) -> Id) -> Self {
        let mut all: Vec<_> = table.iter().map(|(id, row)| (owner(row).index, id.index)).collect();
        all.sort_unstable();
        Self(all)
    }

    /// Where the slots are of the rows of one owner, and of those who had its slot before; in order.
    fn places(&self, owner: Id) -> Range<usize> {
        let begin = self.0.partition_point(|(of, _)| *of < owner.index);
        let end = self.0.partition_point(|(of, _)| *of <= owner.index);
        begin..end
    }

    fn slots(&self, owner: Id) -> &[(u32, u32)] {
        self.0.get(self.places(owner)).unwrap_or_default()
    }

    fn slot(&self, place: usize) -> Option<u32> {
        self.0.get(place).map(|(_, slot)| *slot)
    }
}

/// What the tasks and executors of one moment hold. It is made for the first reader, and serves all
/// until one of them changes: see [`Tables::held`].
#[derive(Debug, Default)]
pub(crate) struct Held {
    by_agent: BTreeMap<Id, Sum>,
    by_framework: BTreeMap<Id, Sum>,
    tasks: Grouped,
}

impl Held {
    fn of(tables: &Tables) -> Self {
        let mut held =
            Self { tasks: Grouped::of(&tables.tasks, |task| task.framework), ..Self::default() };
        for (_, task) in tables.tasks.iter().filter(|(_, task)| !task.latest.is_terminal()) {
            let Task { agent, framework, resources, .. } = task;
            held.add(*agent, *framework, &Sum::of(&resources.list()));
        }
        for (_, Executor { agent, framework, resources, .. }) in tables.executors.iter() {
            held.add(*agent, *framework, &Sum::of(&resources.list()));
        }
        held
    }

    fn add(&mut self, agent: Id, framework: Id, sum: &Sum) {
        self.by_agent.entry(agent).or_default().join(sum);
        self.by_framework.entry(framework).or_default().join(sum);
    }
}

impl Tables {
    /// What all tasks and executors hold, whoever sees them. O(tasks) for the first who asks.
    pub(super) fn all_held(&self) -> &Held {
        let whole = self.whole();
        whole.held.get_or_init(|| Held::of(whole))
    }
}

/// What there is of all at one moment, for one answer.
#[derive(Debug)]
pub(super) struct Holdings {
    seen: Rc<Tables>,
    agents_offers: Grouped,
    frameworks_offers: Grouped,
}

impl Holdings {
    pub(super) fn of(tables: &Rc<Tables>) -> Self {
        let offers = &tables.whole().offers;
        Self {
            agents_offers: Grouped::of(offers, |offer| offer.agent),
            frameworks_offers: Grouped::of(offers, |offer| offer.framework),
            seen: Rc::clone(tables),
        }
    }

    /// What an agent's tasks and executors hold.
    pub(super) fn used_of_agent(&self, agent: Id) -> Sum {
        self.seen.all_held().by_agent.get(&agent).cloned().unwrap_or_default()
    }

    /// What a framework's tasks and executors hold.
    pub(super) fn used_of_framework(&self, framework: Id) -> Sum {
        self.seen.all_held().by_framework.get(&framework).cloned().unwrap_or_default()
    }

    /// What is offered of an agent.
    pub(super) fn offered_of_agent(&self, agent: Id) -> Sum {
        self.offered(&self.agents_offers, agent, |offer| offer.agent)
    }

    /// What is offered to a framework.
    pub(super) fn offered_of_framework(&self, framework: Id) -> Sum {
        self.offered(&self.frameworks_offers, framework, |offer| offer.framework)
    }

    fn offered(&self, offers: &Grouped, of: Id, owner: impl Fn(&Offer) -> Id) -> Sum {
        let mut sum = Sum::default();
        for (_, slot) in offers.slots(of) {
            if let Some((_, offer)) =
                self.seen.whole().offers.at(*slot).filter(|(_, one)| owner(one) == of)
            {
                sum.add(&offer.resources.list());
            }
        }
        sum
    }

    /// Where a framework's tasks are: see [`Holdings::task_at`].
    pub(super) fn tasks_of(&self, framework: Id) -> Range<usize> {
        self.seen.all_held().tasks.places(framework)
    }

    /// The slot of the task in a place, which may be another's or of nobody seen.
    pub(super) fn task_at(&self, place: usize) -> Option<u32> {
        self.seen.all_held().tasks.slot(place)
    }

    /// Where a framework's offers are: see [`Holdings::offer_at`].
    pub(super) fn offers_of(&self, framework: Id) -> Range<usize> {
        self.frameworks_offers.places(framework)
    }

    /// The slot of the offer in a place, which may be another's or of nobody seen.
    pub(super) fn offer_at(&self, place: usize) -> Option<u32> {
        self.frameworks_offers.slot(place)
    }
}

/// What all tasks and executors hold.
pub(super) fn all_used(tables: &Tables) -> Sum {
    let mut all = Sum::default();
    tables.all_held().by_agent.values().for_each(|sum| all.join(sum));
    all
}

#[cfg(test)]
mod tests {
    use mesita_core::master::Fact;
    use mesita_core::wire::Scratch;
    use mesita_core::wire::task::TaskState;

    use super::*;
    use crate::catalog::Catalog;

    const fn id(index: u32) -> Id {
        Id { index, generation: 1 }
    }

    #[test]
    fn what_is_held_is_that_of_the_moment_that_is_read() {
        let (mut list, mut parts) = (vec![0; 1024], vec![0; 1024]);
        let mut scratch = Scratch::new(&mut list);
        let resources = crate::describe::resources("cpus:1", &mut scratch, &mut parts).unwrap();
        let mut catalog = Catalog::default();
        let fold = |catalog: &mut Catalog, fact: Fact<'_>| {
            catalog.fold(&fact, 1, &[], |_| std::sync::Arc::from([]));
        };
        let task = |row, framework| Fact::Task {
            row: id(row),
            framework: id(framework),
            agent: id(0),
            task: "t",
            executor: "",
            role: "*",
            state: TaskState::Staging,
            container: Default::default(),
            resources,
            public: Default::default(),
        };
        fold(&mut catalog, task(0, 0));
        fold(&mut catalog, task(1, 1));
        fold(&mut catalog, task(2, 0));
        let moment = |catalog: &Catalog| Holdings::of(&Rc::new(catalog.now.clone()));
        let before = moment(&catalog);
        let cpus = |of: &Holdings| {
            let all = [of.used_of_agent(id(0)), of.used_of_framework(id(0))];
            all.map(|sum| sum.scalar("cpus").to_string())
        };
        // Not asked before the next change: those of before are still told to who reads them.
        fold(&mut catalog, Fact::TaskGone { row: id(2) });
        assert_eq!(cpus(&moment(&catalog)), ["2", "1"]);
        assert_eq!(cpus(&before), ["3", "2"]);
        let slots = |of: &Holdings| -> Vec<u32> {
            of.tasks_of(id(0)).filter_map(|place| of.task_at(place)).collect()
        };
        assert_eq!(slots(&before), [0, 2]);
        assert_eq!(slots(&moment(&catalog)), [0]);
    }
}
