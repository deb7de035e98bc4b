//! Who was heard, from where, and which of them leads.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesita_core::time::Time;
use mesita_core::wire::gossip::{Envelope, Row, Version};

use super::sealed::Dropped;

/// Copies of one master's directory whose datagrams are told apart.
const COPIES_MAX: usize = 4;

/// One start of one master, as its datagrams come.
#[derive(Debug)]
struct Start {
    incarnation: u32,
    nonce: u32,
    /// Of its newest datagram.
    counter: u64,
    /// Where that came from.
    from: SocketAddr,
    /// Where it answers others.
    address: String,
    /// What its host is called there; none: it has no other name.
    hostname: Option<String>,
}

/// What is known of the other masters.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Starts of each, the one that was heard last in front.
    starts: BTreeMap<u8, Vec<Start>>,
    /// The newest row of each, and when it came.
    rows: BTreeMap<u8, (Row, Time)>,
}

impl Peers {
    /// A datagram came: news, unless it or a later one came before.
    pub(super) fn note(
        &mut self,
        sender: u8,
        envelope: &Envelope<'_>,
        from: SocketAddr,
    ) -> Result<(), Dropped> {
        let starts = self.starts.entry(sender).or_default();
        let newest = starts.iter().map(|start| start.incarnation).max().unwrap_or(0);
        if envelope.incarnation < newest {
            return Err(Dropped::Replayed);
        }
        let same = |start: &Start| {
            (start.incarnation, start.nonce) == (envelope.incarnation, envelope.nonce)
        };
        let known = starts.iter().position(same);
        if known.is_some_and(|at| envelope.counter <= starts[at].counter) {
            return Err(Dropped::Replayed);
        }
        let hostname = known.and_then(|at| starts.remove(at).hostname);
        // What an earlier start said is over.
        starts.retain(|start| start.incarnation == envelope.incarnation);
        starts.truncate(COPIES_MAX - 1);
        let start = Start {
            incarnation: envelope.incarnation,
            nonce: envelope.nonce,
            counter: envelope.counter,
            from,
            address: envelope.address.to_owned(),
            hostname,
        };
        starts.insert(0, start);
        Ok(())
    }

    /// A row came, from whomever.
    pub(super) fn see(&mut self, row: Row, now: Time) {
        let news = self.rows.get(&row.id).is_none_or(|(old, _)| {
            (row.incarnation, row.sequence) > (old.incarnation, old.sequence)
        });
        if news {
            self.rows.insert(row.id, (row, now));
        }
    }

    /// The epoch and the id of whoever leads and is open, and when it was heard; silent ones do not.
    pub(super) fn leader(&self, now: Time, within_us: u64) -> Option<(u32, u8, Time)> {
        let rows = self.rows.values().filter(|(row, at)| {
            let open = row.leads > 0 && row.commit.epoch == row.leads;
            open && row.counts() && now.since(*at) < within_us
        });
        rows.map(|(row, at)| (row.leads, row.id, *at)).max()
    }

    /// The newest value that whoever leads has said to be committed.
    pub(super) fn committed(&self) -> Version {
        let leading = self.rows.values().filter(|(row, _)| row.leads > 0 && row.counts());
        leading.map(|(row, _)| row.commit).max().unwrap_or_default()
    }

    /// When something new of a master was heard last.
    pub(super) fn heard_at(&self, id: u8) -> Option<Time> {
        self.rows.get(&id).map(|(_, at)| *at)
    }

    /// Something new of a master was heard within so long.
    pub(super) fn heard(&self, id: u8, now: Time, within_us: u64) -> bool {
        self.heard_at(id).is_some_and(|at| now.since(at) < within_us)
    }

    /// The newest registry that a master has said to hold.
    pub(super) fn held(&self, id: u8) -> Option<Version> {
        self.rows.get(&id).map(|(row, _)| row.held)
    }

    /// A master has said that its id is over.
    pub(super) fn is_quarantined(&self, id: u8) -> bool {
        self.rows.get(&id).is_some_and(|(row, _)| row.is(Row::QUARANTINED))
    }

    /// Where a master was heard last.
    pub(super) fn place_of(&self, id: u8) -> Option<SocketAddr> {
        self.starts.get(&id)?.first().map(|start| start.from)
    }

    /// Where a master answers others.
    pub(super) fn address_of(&self, id: u8) -> Option<&str> {
        self.starts.get(&id)?.first().map(|start| start.address.as_str())
    }

    /// A master that was just heard says what its host is called.
    pub(super) fn call(&mut self, id: u8, hostname: &str) {
        if let Some(start) = self.starts.get_mut(&id).and_then(|starts| starts.first_mut()) {
            start.hostname = Some(hostname.to_owned()).filter(|name| !name.is_empty());
        }
    }

    /// What a master's host is called, if it has said so.
    pub(super) fn name_of(&self, id: u8) -> Option<&str> {
        self.starts.get(&id)?.first()?.hostname.as_deref()
    }

    /// Everywhere that somebody was heard.
    pub(super) fn places(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.starts.values().flatten().map(|start| start.from)
    }

    /// True when one of those was heard there.
    pub(super) fn is_place_of(&self, place: SocketAddr, counts: impl Fn(u8) -> bool) -> bool {
        let mut some = self.starts.iter().filter(|(id, _)| counts(**id));
        some.any(|(_, starts)| starts.iter().any(|start| start.from == place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(incarnation: u32, nonce: u32, counter: u64) -> Envelope<'static> {
        Envelope { incarnation, nonce, counter, address: "a:1", head: &[] }
    }

    #[test]
    fn a_datagram_counts_once_and_a_new_start_ends_what_the_old_one_said() {
        let mut peers = Peers::default();
        let from: SocketAddr = "127.0.0.1:5".parse().unwrap();
        assert_eq!(peers.note(2, &envelope(1, 7, 5), from), Ok(()));
        assert_eq!(peers.note(2, &envelope(1, 7, 5), from), Err(Dropped::Replayed));
        assert_eq!(peers.note(2, &envelope(1, 7, 4), from), Err(Dropped::Replayed));
        assert_eq!(peers.note(2, &envelope(1, 8, 1), from), Ok(()), "a copy of its directory");
        assert_eq!(peers.places().count(), 2);
        assert_eq!(peers.note(2, &envelope(2, 9, 1), from), Ok(()));
        assert_eq!(peers.note(2, &envelope(1, 7, 6), from), Err(Dropped::Replayed));
        assert_eq!((peers.places().count(), peers.address_of(2)), (1, Some("a:1")));
        peers.call(2, "pi2.example");
        assert_eq!(peers.note(2, &envelope(2, 9, 2), from), Ok(()));
        assert_eq!(peers.name_of(2), Some("pi2.example"));
        assert_eq!(peers.note(2, &envelope(3, 1, 1), from), Ok(()), "it has begun anew");
        assert_eq!(peers.name_of(2), None);
    }

    #[test]
    fn a_row_that_only_goes_round_leads_nobody() {
        let mut peers = Peers::default();
        let elected = Row { id: 3, leads: 4, flags: Row::FORMED, ..Row::default() };
        peers.see(elected, Time(0));
        assert_eq!(peers.leader(Time(0), 10), None, "it is not open yet");
        let commit = Version { epoch: 4, number: 1 };
        let row = Row { sequence: 1, commit, ..elected };
        peers.see(row, Time(0));
        assert_eq!(peers.leader(Time(9), 10), Some((4, 3, Time(0))));
        peers.see(row, Time(10));
        assert_eq!(peers.leader(Time(10), 10), None);
        peers.see(Row { sequence: 2, ..row }, Time(11));
        assert_eq!(peers.leader(Time(12), 10), Some((4, 3, Time(11))));
    }
}
