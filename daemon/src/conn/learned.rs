//! Where the masters are by now: beside the addresses that were given, those that masters tell.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use mesita_core::limits::MASTERS_TEXT_MAX;

/// Addresses of masters.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// What its flags say.
    given: RefCell<Vec<String>>,
    /// What masters say, of others than those.
    told: RefCell<Vec<String>>,
    /// Those that somebody keeps in touch with.
    touched: RefCell<BTreeSet<String>>,
    /// Where what was told outlives the process.
    file: RefCell<Option<PathBuf>>,
}

impl Learned {
    /// These addresses were given.
    pub(crate) fn given(&self, addresses: &[String]) {
        addresses.clone_into(&mut self.given.borrow_mut());
    }

    /// The same, and what was told before is in a file. Losing it loses a hint.
    pub(crate) fn read(&self, file: PathBuf, addresses: &[String]) {
        self.given(addresses);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if text.len() <= MASTERS_TEXT_MAX {
            self.tell(&text);
        }
        *self.file.borrow_mut() = Some(file);
    }

    /// All masters, parted by commas. True when that is news.
    pub(crate) fn tell(&self, addresses: &str) -> bool {
        let given = self.given.borrow();
        let other = |one: &&str| !one.is_empty() && !given.iter().any(|known| known == one);
        let told: Vec<String> = addresses.split(',').filter(other).map(str::to_owned).collect();
        if *self.told.borrow() == told {
            return false;
        }
        *self.told.borrow_mut() = told;
        if let Some(file) = &*self.file.borrow()
            && let Err(error) = std::fs::write(file, addresses)
        {
            log::warn!("{}: {error}", file.display());
        }
        true
    }

    /// Where the next attempt goes, if not to an address that was given.
    pub(crate) fn turn(&self, attempt: usize) -> Option<String> {
        let (given, told) = (self.given.borrow().len(), self.told.borrow());
        let turn = attempt % (given + told.len()).max(1);
        told.get(turn.checked_sub(given)?).cloned()
    }

    /// Of several masters those that nobody keeps in touch with; somebody does from now on.
    pub(crate) fn untouched(&self) -> Vec<String> {
        let (given, told) = (self.given.borrow(), self.told.borrow());
        if given.len() + told.len() < 2 {
            return Vec::new();
        }
        let mut touched = self.touched.borrow_mut();
        given.iter().chain(&*told).filter(|one| touched.insert((*one).clone())).cloned().collect()
    }

    /// True when a master is there no more; nobody keeps in touch with it then.
    pub(crate) fn is_left(&self, address: &str) -> bool {
        let is = |one: &String| one == address;
        let stays = self.given.borrow().iter().any(is) || self.told.borrow().iter().any(is);
        if !stays {
            self.touched.borrow_mut().remove(address);
        }
        !stays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_turn_and_those_that_left_are_forgotten() {
        let learned = Learned::default();
        learned.given(&["a:1".to_owned()]);
        assert_eq!(learned.untouched(), [""; 0], "the only one is where it is connected");
        assert!(learned.tell("a:1,b:1,c:1"));
        assert!(!learned.tell("a:1,b:1,c:1"));
        let turns: Vec<_> = (0..4).map(|attempt| learned.turn(attempt)).collect();
        let of = |text: &str| Some(text.to_owned());
        assert_eq!(turns, [None, of("b:1"), of("c:1"), None]);
        assert_eq!(learned.untouched(), ["a:1", "b:1", "c:1"]);
        assert!(learned.tell("a:1,c:1,d:1"));
        assert_eq!(learned.untouched(), ["d:1"]);
        assert!(learned.is_left("b:1") && !learned.is_left("c:1"));
        assert!(learned.tell("b:1,d:1"));
        assert!(!learned.is_left("a:1"), "it was given");
    }
}
