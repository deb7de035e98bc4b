//! What agents say of themselves: hosts, regions, zones, attributes. Frameworks choose by it.

use super::Allocator;
use crate::image::{BadImage, Image, Reader, Writer};
use crate::names::{Name, Names};
use crate::slab::{self, List, Slab};
use crate::wire::Seq;
use crate::wire::call::Selector;
use crate::wire::resource::{Attribute as WireAttribute, AttributeValue, Range};

record! {
    /// What one agent says of itself. 20 bytes.
    #[derive(Default)]
    pub struct HostRow {
        /// Its host's name.
        pub hostname: Name,
        /// Its region.
        pub region: Name,
        /// Its zone.
        pub zone: Name,
        /// Its attributes.
        attributes: List,
    }

    /// An attribute of an agent, or one more range of the attribute before it. 32 bytes in its list.
    pub struct Attribute {
        /// Its name.
        name: Name,
        /// Its text, when it is text.
        text: Name,
        /// 0 = text, 1 = a number of thousandths in `low`, 2 = a range, 3 = one more range.
        shape: u32,
        /// The number, or where the range begins, in halves.
        low: [u32; 2],
        /// Where the range ends.
        high: [u32; 2],
    }
}

const _: () = assert!(size_of::<slab::Node<Attribute>>() == 32);

/// What an agent says of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing.
    Nothing,
    /// Something that is no text.
    Other,
    /// This.
    Text(Name),
}

/// What a registration says of an agent.
#[derive(Clone, Copy, Debug)]
pub struct Description<'d> {
    /// Its host's name.
    pub hostname: &'d str,
    /// Its region; empty = not said.
    pub region: &'d str,
    /// Its zone; empty = not said.
    pub zone: &'d str,
    /// Its attributes.
    pub attributes: Seq<'d, WireAttribute<'d>>,
}

/// What all agents say of themselves.
#[derive(Debug)]
pub struct Hosts<'a> {
    rows: &'a mut [HostRow],
    attributes: Slab<'a, Attribute>,
}

impl<'a> Hosts<'a> {
    /// Nobody says anything. All memory must be zero; a row for each agent.
    pub fn new(rows: &'a mut [HostRow], attributes: &'a mut [slab::Node<Attribute>]) -> Self {
        Self { rows, attributes: Slab::new(attributes) }
    }

    /// Gives the memory back.
    pub fn release(self) -> (&'a mut [HostRow], &'a mut [slab::Node<Attribute>]) {
        (self.rows, self.attributes.release())
    }

    fn row(&self, agent: u32) -> HostRow {
        self.rows.get(agent as usize).copied().unwrap_or_default()
    }

    /// The first attribute of a name, or the host, region or zone, of an agent.
    pub(super) fn said(&self, agent: u32, selector: Selector, attribute: Name) -> Said {
        let row = self.row(agent);
        let text = |name: Name| if name.is_empty() { Said::Nothing } else { Said::Text(name) };
        match selector {
            Selector::Hostname => text(row.hostname),
            Selector::Region => text(row.region),
            Selector::Zone => text(row.zone),
            Selector::Attribute => {
                let mut all = self.attributes.iter(row.attributes);
                all.find(|one| one.name == attribute && one.shape < 3).map_or(
                    Said::Nothing,
                    |one| {
                        if one.shape == 0 { Said::Text(one.text) } else { Said::Other }
                    },
                )
            }
        }
    }
}

impl<'a> Allocator<'a> {
    /// True when there is room for an agent's attributes.
    pub fn has_room_for_attributes(&self, attributes: &Seq<'_, WireAttribute<'_>>) -> bool {
        let needed = attributes.iter().fold(0u32, |sum, attribute| {
            sum.saturating_add(match attribute.value {
                AttributeValue::Text(_) | AttributeValue::Scalar(_) => 1,
                AttributeValue::Ranges(ranges) => ranges.len(),
            })
        });
        needed <= self.hosts.attributes.room()
    }

    /// Keeps what an agent says of itself; the caller checked that there is room for it. Other
    /// attributes, or another place, than before lift the filters of a row that was kept, and with
    /// them the verdicts on it: true then.
    pub fn describe(
        &mut self,
        names: &mut Names<'a>,
        agent: u32,
        description: &Description<'_>,
    ) -> bool {
        let old = self.hosts.row(agent);
        let same = self.says(names, &old, description);
        if same {
            return false;
        }
        self.undescribe(names, agent);
        let mut intern = |text: &str| {
            let name = names.intern(text);
            invariant!(name.is_ok(), "a name that was checked finds no room");
            name.unwrap_or(Name::EMPTY)
        };
        let [hostname, region, zone] =
            [description.hostname, description.region, description.zone].map(&mut intern);
        let mut list = List::EMPTY;
        let mut push = |row: Attribute| {
            let pushed = self.hosts.attributes.push(&mut list, row);
            invariant!(pushed.is_ok(), "an attribute that was counted has no room");
        };
        let empty = |value: &AttributeValue<'_>| match value {
            AttributeValue::Ranges(ranges) => ranges.is_empty(),
            AttributeValue::Text(_) | AttributeValue::Scalar(_) => false,
        };
        // An attribute without ranges says nothing.
        for attribute in description.attributes.iter().filter(|one| !empty(&one.value)) {
            let name = intern(attribute.name);
            let row = Attribute { name, ..bytemuck::Zeroable::zeroed() };
            match attribute.value {
                AttributeValue::Text(text) => push(Attribute { text: intern(text), ..row }),
                AttributeValue::Scalar(amount) => {
                    push(Attribute { shape: 1, low: halves(amount.milli()), ..row });
                }
                AttributeValue::Ranges(ranges) => {
                    let mut shape = 2;
                    for Range { begin, end } in ranges.iter() {
                        // The name is held once, by the first range.
                        let name = if shape == 2 { name } else { Name::EMPTY };
                        let (low, high) = (halves(begin), halves(end));
                        push(Attribute { name, shape, low, high, ..row });
                        shape = 3;
                    }
                }
            }
        }
        if let Some(row) = self.hosts.rows.get_mut(agent as usize) {
            *row = HostRow { hostname, region, zone, attributes: list };
        }
        self.forget_verdicts(agent);
        true
    }

    /// True when an agent says just what it said before.
    pub fn says_the_same(
        &self,
        names: &Names<'_>,
        agent: u32,
        description: &Description<'_>,
    ) -> bool {
        self.says(names, &self.hosts.row(agent), description)
    }

    fn says(&self, names: &Names<'_>, old: &HostRow, new: &Description<'_>) -> bool {
        let mut rows = self.hosts.attributes.iter(old.attributes);
        let mut same = |name: &str, text: &str, shape: u32, low: u64, high: u64| {
            rows.next().is_some_and(|row| {
                names.is(row.name, name)
                    && names.is(row.text, text)
                    && (row.shape, row.low, row.high) == (shape, halves(low), halves(high))
            })
        };
        let attributes = new.attributes.iter().all(|attribute| match attribute.value {
            AttributeValue::Text(text) => same(attribute.name, text, 0, 0, 0),
            AttributeValue::Scalar(amount) => same(attribute.name, "", 1, amount.milli(), 0),
            AttributeValue::Ranges(ranges) => {
                let mut shape = 2;
                ranges.iter().all(|range| {
                    let name = if shape == 2 { attribute.name } else { "" };
                    let is = same(name, "", shape, range.begin, range.end);
                    shape = 3;
                    is
                })
            }
        });
        attributes
            && rows.next().is_none()
            && names.is(old.hostname, new.hostname)
            && names.is(old.region, new.region)
            && names.is(old.zone, new.zone)
    }

    /// Forgets what an agent said of itself.
    pub fn undescribe(&mut self, names: &mut Names<'a>, agent: u32) {
        let Some(row) = self.hosts.rows.get_mut(agent as usize).map(core::mem::take) else {
            return;
        };
        for name in [row.hostname, row.region, row.zone] {
            names.release_one(name);
        }
        let mut attributes = row.attributes;
        while let Some(attribute) = self.hosts.attributes.pop(&mut attributes) {
            names.release_one(attribute.name);
            names.release_one(attribute.text);
        }
    }

    /// What an agent says of itself.
    pub fn host(&self, agent: u32) -> HostRow {
        self.hosts.row(agent)
    }
}

const fn halves(number: u64) -> [u32; 2] {
    // The cut is what is wanted.
    #[allow(clippy::cast_possible_truncation)]
    [number as u32, (number >> 32) as u32]
}

impl Image for Hosts<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        let said = self.rows.iter().zip(0u32..).filter(|(row, _)| **row != HostRow::default());
        to.put(&said.clone().fold(0u32, |n, _| n.saturating_add(1)));
        said.for_each(|(row, agent)| to.put(&(agent, row)));
        self.attributes.export(to);
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        let said: u32 = from.take()?;
        for _ in 0..said {
            let (agent, row): (u32, HostRow) = from.take()?;
            *self.rows.get_mut(agent as usize).ok_or(BadImage::TooLarge)? = row;
        }
        self.attributes.import(from)
    }
}
