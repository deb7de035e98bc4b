//! Who the masters are, and how an operator changes it: one at a time, each change committed by those
//! that are left. A new one follows without a vote until it has the registry; then the leader gives it
//! one.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use async_channel::Sender;
use mesita_core::Refusal;
use mesita_core::election::Input;
use mesita_core::registry::meta::{Change, Member, Roster, bit};
use mesita_core::time::Time;
use mesita_core::wire::Head;
use mesita_core::wire::gossip::{Gossip, Join, Joined};
use serde_json::{Value, json};

use super::begin::SIZES;
use super::join::{Asker, EVERY_US, NOBODY, SHOWN, fingerprint};
use super::node::SetNode;
use super::sealed::STRANGER;
use crate::master::joining::REVOKED;
use crate::{alarm, clock};

/// Those who ask to follow that are remembered; the one that was silent longest goes first.
const ASKERS_MAX: usize = 8;
/// One that asks no more is forgotten after so long, in µs.
const FORGOTTEN_US: u64 = 20 * EVERY_US;
/// The ticket of a change of the roster; those of rows are below.
pub(super) const TICKET: u32 = u32::MAX;
/// How often a change is tried again that something else was in the way of, in µs.
const AGAIN_US: u64 = 20_000;
/// How long it is tried, in µs.
const TRIED_US: u64 = 5_000_000;
/// Digits of a fingerprint that name a key at the least.
const DIGITS_MIN: usize = 16;

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The id of the master that is gone; 0 = none.
    pub(crate) remove: u8,
    /// How the fingerprint of the new one begins; empty = none.
    pub(crate) add: String,
    /// Also when the one that is to go answers.
    pub(crate) force: bool,
}

/// Why not: what a program goes by, and a sentence.
pub(crate) type No = (Refusal, String);

/// What is on its way.
#[derive(Default)]
pub(super) struct Changes {
    askers: RefCell<Vec<(Asker, Time)>>,
    /// An operator's wish is being done.
    busy: Cell<bool>,
    /// Who waits for the change that is on its way.
    waits: RefCell<Option<Sender<Result<(), Refusal>>>>,
    /// Somebody sees to the learner's vote.
    promotes: Cell<bool>,
    /// One that has joined by a token is let in.
    admits: Cell<bool>,
}

impl Changes {
    /// Those that ask to follow, and others that were forgotten.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 2] {
        let asking = self.askers.borrow().len() as u64;
        [("set_joining", asking), ("set_joining_max", ASKERS_MAX as u64)]
    }

    /// The answer to the change on its way.
    pub(super) fn answered(&self, result: Result<(), Refusal>) {
        if let Some(waits) = self.waits.borrow_mut().take() {
            // Whoever asked may be gone.
            let _ = waits.try_send(result);
        }
    }

    fn note(&self, asker: Asker, now: Time) {
        let mut askers = self.askers.borrow_mut();
        // One that begins anew, with another key, is still one.
        let other = |one: &Asker| one.key != asker.key && one.address != asker.address;
        askers.retain(|(one, at)| other(one) && now.since(*at) < FORGOTTEN_US);
        if askers.len() >= ASKERS_MAX {
            askers.remove(0);
        }
        askers.push((asker, now));
    }

    fn asking(&self, now: Time) -> Vec<Asker> {
        let askers = self.askers.borrow();
        let fresh = askers.iter().filter(|(_, at)| now.since(*at) < FORGOTTEN_US);
        fresh.map(|(asker, _)| asker.clone()).collect()
    }
}

/// What those are told that would follow.
impl SetNode {
    /// Somebody would follow.
    pub(super) fn asked_to_follow(&self, join: &Join<'_>, from: SocketAddr) {
        let (facts, now) = (self.facts.borrow().clone(), clock::now());
        if !facts.formed || facts.quarantined {
            return;
        }
        if join.key == NOBODY {
            return self.turn(from, OTHER_SIZE);
        }
        let asker =
            Asker { key: join.key, rows: join.rows, address: join.address.to_owned(), from };
        // Who asks for itself says where it is; the place may have been another master's before.
        let passed_on = asker.address != from.to_string() && self.is_peer(from);
        let fits = asker.rows == self.identity.rows;
        let known = facts.meta.roster.members.iter().find(|member| member.key == join.key);
        if known.is_none() && self.master.is_revoked(&join.key) {
            if !passed_on {
                self.turn(from, REVOKED);
            }
            return;
        }
        self.changes.note(asker, now);
        let is_new = known.is_none() && fits && self.leading.get();
        if is_new && self.master.may_follow(&join.key) {
            return self.lets_follow(join.key, (!passed_on).then_some(from));
        }
        if passed_on {
            return;
        }
        match known.filter(|_| self.knows_committed()) {
            Some(member) => self.welcome(member.id, join.key, from),
            None if !fits => self.turn(from, OTHER_SIZE),
            None => self.pass_on_to_leader(join),
        }
    }

    /// A node that has joined as a master is named by its token.
    fn lets_follow(&self, key: [u8; 32], asks_from: Option<SocketAddr>) {
        let Some(me) = self.me.upgrade() else { return };
        if self.changes.admits.replace(true) {
            return;
        }
        self.tasks.go(async move {
            let add = fingerprint(&key)[..SHOWN].to_owned();
            let done = me.change_masters(&Wish { remove: 0, add, force: false }).await;
            me.changes.admits.set(false);
            let no = done.err().filter(|(refusal, _)| *refusal != Refusal::Busy);
            if let (Some((_, why)), Some(place)) = (no, asks_from) {
                me.turn(place, &why);
            }
        });
    }

    fn welcome(&self, id: u8, key: [u8; 32], to: SocketAddr) {
        let facts = self.facts.borrow();
        let roster = postcard::to_allocvec(&facts.meta.roster).unwrap_or_default();
        let masters = self.standing.masters();
        let joined = Joined {
            key,
            id,
            cluster: facts.cluster,
            generation: facts.generation,
            epoch: facts.promised,
            t_us: facts.meta.t_us,
            roster: &roster,
            masters: &masters,
        };
        self.send_strange(&Gossip::Joined(joined), to);
    }

    /// Says why not, to somebody who is not one of them.
    pub(super) fn turn(&self, to: SocketAddr, message: &str) {
        self.send_strange(&Gossip::Turned { message }, to);
    }

    fn send_strange(&self, gossip: &Gossip<'_>, to: SocketAddr) {
        let head = postcard::to_allocvec(&Head::Gossip(*gossip)).unwrap_or_default();
        self.send_to(&self.keys.seal(STRANGER, &[0; 32], &head), to);
    }

    /// An operator asks the leader, who is to know who asks to follow.
    fn pass_on_to_leader(&self, join: &Join<'_>) {
        let leader = self.standing.leader().map(|leader| leader.id);
        let me = self.facts.borrow().me;
        let place = leader.filter(|id| *id != me).and_then(|id| self.peers.borrow().place_of(id));
        place.iter().for_each(|place| self.send_strange(&Gossip::Join(*join), *place));
    }

    /// Everything that it has accepted, the roster too, is known to be committed.
    fn knows_committed(&self) -> bool {
        if self.leading.get() {
            return self.changes.waits.borrow().is_none();
        }
        let accepted = self.facts.borrow().accepted.version;
        self.peers.borrow().committed() >= accepted
    }

    /// It was removed, and everybody who is left knows.
    pub(super) fn was_removed(&self) -> bool {
        let facts = self.facts.borrow();
        let out = facts.formed && !facts.meta.roster.has(facts.me);
        out && self.peers.borrow().committed() >= facts.accepted.version
    }
}

/// What an operator asks for.
impl SetNode {
    /// Changes who the masters are. Answered when a majority has it.
    pub(crate) async fn change_masters(self: &Rc<Self>, wish: &Wish) -> Result<(), No> {
        if self.changes.busy.replace(true) {
            return Err(busy("another change of the masters is on its way; retry"));
        }
        let done = self.change(wish).await;
        self.changes.busy.set(false);
        done
    }

    async fn change(self: &Rc<Self>, wish: &Wish) -> Result<(), No> {
        let roster = self.facts.borrow().meta.roster.clone();
        let add = match wish.add.as_str() {
            "" => None,
            name => self.named(&roster, name)?,
        };
        let remove = self.removable(&roster, wish)?;
        let learner = roster.learner().filter(|id| *id != wish.remove);
        if let (Some(id), true) = (learner, remove.is_some() || add.is_some()) {
            let why = format!(
                "master {id} is new and has no vote yet: one change at a time; retry when \
                 `mesita masters ls` says that it follows, or remove it"
            );
            return Err(busy(&why));
        }
        self.comes_to_rest(&roster, add, remove)?;
        if let Some(id) = remove {
            self.others_answer(&roster, id).await?;
            let left = roster.members.iter().find(|member| member.id == id);
            let revoked = left.is_some_and(|member| self.master.is_no_master(&member.key));
            let done = self.propose_change(Change::Remove { id }).await;
            let refused = |no: &No| no.0 != Refusal::OutcomeUnknown;
            let stays = revoked && self.facts.borrow().meta.roster.has(id);
            if done.as_ref().is_err_and(refused) && stays {
                left.iter().for_each(|member| self.master.is_master_still(&member.key));
            }
            done?;
            log::warn!("master {id} was removed by an operator");
            self.tell_of_unrest();
        }
        if let Some(key) = add {
            self.propose_change(Change::Add { key }).await?;
            let id = self.facts.borrow().meta.roster.learner().unwrap_or(0);
            log::info!("master {id} was added by an operator: it votes when it has the registry");
            self.see_to_the_learner();
        }
        Ok(())
    }

    /// Which of the masters has a key.
    pub(crate) fn id_of(&self, key: &[u8; 32]) -> Option<u8> {
        let facts = self.facts.borrow();
        facts.meta.roster.members.iter().find(|member| member.key == *key).map(|member| member.id)
    }

    /// The key that an operator has named; none when it is one of the masters already.
    fn named(&self, roster: &Roster, name: &str) -> Result<Option<[u8; 32]>, No> {
        let is = |key: &[u8; 32]| fingerprint(key).starts_with(name);
        let sound = name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if name.len() < DIGITS_MIN || !sound {
            let why = format!(
                "`{name}` names no key: give at least {DIGITS_MIN} digits of what \
                 `mesita masters ls` shows"
            );
            return Err((Refusal::Malformed, why));
        }
        if roster.members.iter().any(|member| is(&member.key)) {
            return Ok(None);
        }
        let asking = self.changes.asking(clock::now());
        let asker = asking.iter().find(|asker| is(&asker.key)).ok_or_else(|| {
            let why = "no master with that key asks to follow: start it with --masters and --join, \
                       and see `mesita masters ls`";
            (Refusal::UnknownMaster, why.to_owned())
        })?;
        if asker.rows != self.identity.rows {
            return Err((Refusal::Malformed, OTHER_SIZE.to_owned()));
        }
        // It may have been a moment ago.
        if self.master.is_revoked(&asker.key) {
            return Err((Refusal::UnknownMaster, REVOKED.to_owned()));
        }
        Ok(Some(asker.key))
    }

    /// The master that is to go, if it may; none when it is gone already.
    fn removable(&self, roster: &Roster, wish: &Wish) -> Result<Option<u8>, No> {
        let id = wish.remove;
        // The same asked again: its id is nobody else's.
        if id == 0 || !roster.has(id) && id < roster.next {
            return Ok(None);
        }
        if !roster.has(id) {
            let why = format!("there is no master {id}; `mesita masters ls` lists them");
            return Err((Refusal::UnknownMaster, why));
        }
        if id == self.facts.borrow().me {
            let why = format!("master {id} leads: stop it, so that another one does, and retry");
            return Err((Refusal::InUse, why));
        }
        if self.answers(id) && !wish.force {
            let why = format!(
                "master {id} answers: stop it first, or add --force if it is to go all the same"
            );
            return Err((Refusal::InUse, why));
        }
        Ok(Some(id))
    }

    /// Refuses what would leave a number of masters that is none to stay at, unless the next change is at
    /// hand: another new one asks to follow, or another one is gone.
    fn comes_to_rest(
        &self,
        roster: &Roster,
        add: Option<[u8; 32]>,
        remove: Option<u8>,
    ) -> Result<(), No> {
        let goes = |id: u8| roster.voters() & bit(id) != 0;
        let leaves = remove.is_some_and(goes);
        let count = roster.voters().count_ones() as usize;
        let after = (count + usize::from(add.is_some())).saturating_sub(leaves.into());
        if SIZES.contains(&after) || !leaves && add.is_none() {
            return Ok(());
        }
        let less = after - 1;
        let no = format!("{after} masters bear the loss of no more than {less} do");
        let (at_hand, instead) = match add {
            Some(key) => {
                let asking = self.changes.asking(clock::now());
                let other = |asker: &&Asker| {
                    let new = roster.members.iter().all(|member| member.key != asker.key);
                    new && asker.key != key && asker.rows == self.identity.rows
                };
                let instead = "have a second new master ask to follow, and add both, or put this one \
                               in the place of another with `mesita masters replace ID KEY`";
                (asking.iter().any(|asker| other(&asker)), instead)
            }
            None => {
                let gone = |member: &Member| Some(member.id) != remove && !self.answers(member.id);
                let instead = "stop the second one that is to go, and remove both, or put a new one in \
                               this one's place with `mesita masters replace ID KEY`";
                (roster.members.iter().any(gone), instead)
            }
        };
        if at_hand { Ok(()) } else { Err((Refusal::InUse, format!("{no}: {instead}"))) }
    }

    /// Those that would be left are heard now, so many of them that they can decide without the one
    /// that goes: they commit that it goes. One of them may have died a moment ago.
    async fn others_answer(&self, roster: &Roster, id: u8) -> Result<(), No> {
        let (asked, t) = (clock::now(), u64::from(self.facts.borrow().meta.t_us));
        let left = roster.changed(Change::Remove { id });
        let since = |member: &Member| {
            let heard = self.peers.borrow().heard_at(member.id).is_some_and(|at| at > asked);
            if heard || member.id == self.facts.borrow().me { bit(member.id) } else { 0 }
        };
        while clock::now().since(asked) < 2 * t {
            let heard = roster.members.iter().fold(0, |set, member| set | since(member));
            if left.as_ref().is_some_and(|left| left.is_majority(heard)) {
                return Ok(());
            }
            alarm::after(AGAIN_US).await;
        }
        Err((Refusal::NoMajority, Refusal::NoMajority.sentence().to_owned()))
    }

    /// It was heard not long ago.
    fn answers(&self, id: u8) -> bool {
        let (now, t) = (clock::now(), u64::from(self.facts.borrow().meta.t_us));
        id == self.facts.borrow().me || self.peers.borrow().heard(id, now, 2 * t)
    }

    /// Has the election make a change, and waits until a majority has it.
    async fn propose_change(&self, change: Change) -> Result<(), No> {
        let until = clock::now().after(TRIED_US);
        loop {
            let (sender, receiver) = async_channel::bounded(1);
            *self.changes.waits.borrow_mut() = Some(sender.clone());
            let input = Input::Change { ticket: TICKET, change };
            self.port.put_then(&input, Vec::new(), move |taken| {
                if let Err(refusal) = taken {
                    let _ = sender.try_send(Err(refusal));
                }
            });
            let result = receiver.recv().await.unwrap_or(Err(Refusal::OutcomeUnknown));
            self.changes.waits.borrow_mut().take();
            match result {
                Ok(()) => return Ok(()),
                // Rows of the registry are on their way.
                Err(Refusal::Busy) if clock::now() < until => alarm::after(AGAIN_US).await,
                Err(refusal) => return Err((refusal, refusal.sentence().to_owned())),
            }
        }
    }

    /// Gives the learner a vote as soon as it has the registry, as long as there is one.
    pub(super) fn see_to_the_learner(self: &Rc<Self>) {
        let learner = self.facts.borrow().meta.roster.learner();
        if learner.is_none() || self.changes.promotes.replace(true) {
            return;
        }
        let me = Rc::clone(self);
        self.tasks.go(async move {
            me.promote().await;
            me.changes.promotes.set(false);
        });
    }

    async fn promote(&self) {
        loop {
            let (learner, t) = {
                let facts = self.facts.borrow();
                (facts.meta.roster.learner(), u64::from(facts.meta.t_us))
            };
            let Some(id) = learner.filter(|_| self.leading.get()) else { return };
            // An operator may remove it meanwhile.
            if !self.changes.busy.replace(true) {
                let done = self.has_registry(id) && {
                    let promoted = self.propose_change(Change::Promote { id }).await;
                    promoted.is_ok()
                };
                self.changes.busy.set(false);
                if done {
                    log::info!("master {id} has the registry, and a vote from now on");
                    return self.tell_of_unrest();
                }
            }
            alarm::after(t / 2).await;
        }
    }

    /// There are as many as no set stays at: one more change is due.
    fn tell_of_unrest(&self) {
        let count = self.facts.borrow().meta.roster.voters().count_ones() as usize;
        if !SIZES.contains(&count) {
            log::warn!("there are {count} masters for now: add another one, or remove one");
        }
    }

    /// The newest that it was heard to hold is the newest that there is, or was a moment ago.
    fn has_registry(&self, id: u8) -> bool {
        let accepted = self.facts.borrow().accepted.version;
        self.answers(id) && self.peers.borrow().held(id) == Some(accepted)
    }
}

/// What people are shown.
impl SetNode {
    /// The masters, and those that ask to be one.
    pub(crate) fn rows_of_masters(&self) -> Vec<Value> {
        let roster = self.facts.borrow().meta.roster.clone();
        let mut rows: Vec<Value> = roster.members.iter().map(|one| self.row(one)).collect();
        let known = |key: &[u8; 32]| roster.members.iter().any(|member| member.key == *key);
        let asking = self.changes.asking(clock::now());
        let may = |asker: &&Asker| !known(&asker.key) && !self.master.is_revoked(&asker.key);
        rows.extend(asking.iter().filter(may).map(|asker| {
            let fits = asker.rows == self.identity.rows;
            json!({
                "address": asker.address,
                "key": &fingerprint(&asker.key)[..SHOWN],
                "state": if fits { "asks" } else { "asks, of another --size" },
            })
        }));
        rows
    }

    fn row(&self, member: &Member) -> Value {
        let (peers, now) = (self.peers.borrow(), clock::now());
        let facts = self.facts.borrow();
        let (me, id) = (facts.me, member.id);
        let leader = self.standing.leader().map(|leader| leader.id);
        let held = if id == me { Some(facts.held.version) } else { peers.held(id) };
        let state = match () {
            () if peers.is_quarantined(id) => "quarantined",
            () if id != me && !peers.heard(id, now, 2 * u64::from(facts.meta.t_us)) => "silent",
            // One by itself leads without having been elected.
            () if leader == Some(id) || id == me && !self.standing.in_set => "leads",
            () if member.voter => "follows",
            () => "learns",
        };
        let address = if id == me { Some(self.address.as_str()) } else { peers.address_of(id) };
        json!({
            "id": id,
            "address": address,
            "key": &fingerprint(&member.key)[..SHOWN],
            "votes": member.voter,
            "state": state,
            "registry": held.map(|version| format!("{}.{}", version.epoch, version.number)),
        })
    }
}

/// Said of a new master that has other tables.
const OTHER_SIZE: &str =
    "the new master was started with another --size or --capacity than the set";

/// Said to one whose id is over.
pub(crate) const REMOVED: &str = "this master was removed from the set: nobody counts it any more. \
                                  A machine comes back as a new master, with an empty work directory \
                                  and --join";

fn busy(why: &str) -> No {
    (Refusal::Busy, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(number: u8) -> Asker {
        Asker {
            key: [number; 32],
            rows: [1, 2, 3],
            address: format!("a:{number}"),
            from: "127.0.0.1:5".parse().unwrap(),
        }
    }

    #[test]
    fn so_many_ask_at_once_and_whoever_is_silent_is_forgotten() {
        let changes = Changes::default();
        for number in 0..=8 {
            changes.note(asker(number), Time(number.into()));
        }
        changes.note(asker(3), Time(20));
        let asking = changes.asking(Time(20));
        assert_eq!(asking.len(), ASKERS_MAX);
        assert_eq!(asking.last(), Some(&asker(3)));
        assert!(!asking.contains(&asker(0)));
        assert_eq!(changes.asking(Time(19 + FORGOTTEN_US)), [asker(3)]);
        let again = Asker { key: [33; 32], ..asker(3) };
        changes.note(again.clone(), Time(21 + FORGOTTEN_US));
        assert_eq!(changes.asking(Time(21 + FORGOTTEN_US)), [again], "it began anew");
    }
}
