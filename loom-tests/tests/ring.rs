//! The ring and the doorbell under every interleaving that loom can find within its bound.
//!
//! `ci/loom` runs this, then once for each planted bug, which must make some test fail.
#![cfg(mesita_loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use mesita_loom_tests::sync::{Consumer, Doorbell, Producer, Ring, Word};

/// A ring of `words` words, both ends of it alive until the end of the model.
fn ring(words: usize) -> (Producer<'static>, Consumer<'static>) {
    let words: Vec<Word> = (0..words).map(|_| Word::new()).collect();
    let ring = Box::leak(Box::new(Ring::new(Box::leak(words.into_boxed_slice()))));
    ring.split()
}

fn push(producer: &mut Producer<'_>, byte: u8) {
    while producer.push(&[&[byte]]).is_err() {
        thread::yield_now();
    }
}

fn pop(consumer: &mut Consumer<'_>) -> u8 {
    let mut into = [0; 8];
    loop {
        if let Some(record) = consumer.pop(&mut into) {
            assert_eq!(record.len(), 1);
            return record[0];
        }
        thread::yield_now();
    }
}

#[test]
fn records_arrive_whole_and_in_order() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(4);
        let writer = thread::spawn(move || {
            for byte in 1..=3 {
                push(&mut producer, byte);
            }
        });
        for byte in 1..=3 {
            assert_eq!(pop(&mut consumer), byte);
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_word_is_not_written_again_before_it_was_read() {
    // A ring of one record: the second push needs the words of the first.
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2);
        let writer = thread::spawn(move || {
            push(&mut producer, 1);
            push(&mut producer, 2);
        });
        assert_eq!(pop(&mut consumer), 1);
        assert_eq!(pop(&mut consumer), 2);
        writer.join().unwrap();
    });
}

#[test]
fn a_record_never_overwrites_one_that_waits() {
    // Two words wait in a ring of four: three more would reach the first of them.
    loom::model(|| {
        let (mut producer, mut consumer) = ring(4);
        let writer = thread::spawn(move || {
            push(&mut producer, 1);
            while producer.push(&[&[2; 9]]).is_err() {
                thread::yield_now();
            }
        });
        assert_eq!(pop(&mut consumer), 1);
        let mut into = [0; 16];
        loop {
            if let Some(record) = consumer.pop(&mut into) {
                assert_eq!(record, [2; 9]);
                break;
            }
            thread::yield_now();
        }
        writer.join().unwrap();
    });
}

#[test]
fn what_was_written_before_a_record_is_seen_after_it() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2);
        let beside = Arc::new(AtomicU32::new(0));
        let theirs = Arc::clone(&beside);
        let writer = thread::spawn(move || {
            theirs.store(7, Ordering::Relaxed);
            push(&mut producer, 1);
        });
        assert_eq!(pop(&mut consumer), 1);
        assert_eq!(beside.load(Ordering::Relaxed), 7);
        writer.join().unwrap();
    });
}

/// A parking place with a token, like `std::thread::park`.
#[derive(Default)]
struct Parking {
    token: Mutex<bool>,
    changed: Condvar,
}

impl Parking {
    fn park(&self) {
        let mut token = self.token.lock().unwrap();
        while !*token {
            token = self.changed.wait(token).unwrap();
        }
        *token = false;
    }

    fn unpark(&self) {
        *self.token.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

#[test]
fn no_ring_of_the_doorbell_is_lost() {
    // A lost ring is a sleeper that nobody wakes: loom calls that a deadlock.
    loom::model(|| {
        let doorbell = Arc::new(Doorbell::new());
        let parking = Arc::new(Parking::default());
        let work = Arc::new(AtomicBool::new(false));
        let (bell, place, done) = (Arc::clone(&doorbell), Arc::clone(&parking), Arc::clone(&work));
        let ringer = thread::spawn(move || {
            done.store(true, Ordering::Relaxed);
            bell.ring(|| place.unpark());
        });
        while !work.load(Ordering::Relaxed) {
            doorbell.rest(|| work.load(Ordering::Relaxed), || parking.park());
        }
        ringer.join().unwrap();
    });
}

#[test]
fn a_sleeper_is_woken_for_each_of_two_ringers() {
    loom::model(|| {
        let doorbell = Arc::new(Doorbell::new());
        let parking = Arc::new(Parking::default());
        let work = Arc::new(AtomicU32::new(0));
        let ringers: Vec<_> = (0..2)
            .map(|_| {
                let (bell, place, done) =
                    (Arc::clone(&doorbell), Arc::clone(&parking), Arc::clone(&work));
                thread::spawn(move || {
                    done.fetch_add(1, Ordering::Relaxed);
                    bell.ring(|| place.unpark());
                })
            })
            .collect();
        let mut seen = 0;
        while seen < 2 {
            doorbell.rest(|| work.load(Ordering::Relaxed) > seen, || parking.park());
            seen = work.load(Ordering::Relaxed);
        }
        for ringer in ringers {
            ringer.join().unwrap();
        }
    });
}

#[test]
fn a_producer_that_waits_for_room_is_woken_by_it() {
    // The ring holds one record: the second has to wait until the first was taken.
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2);
        let doorbell = Arc::new(Doorbell::new());
        let parking = Arc::new(Parking::default());
        let (bell, place) = (Arc::clone(&doorbell), Arc::clone(&parking));
        let writer = thread::spawn(move || {
            producer.push(&[&[1]]).unwrap();
            while producer.push(&[&[2]]).is_err() {
                bell.rest(|| producer.can_take(1), || place.park());
            }
        });
        assert_eq!(pop(&mut consumer), 1);
        doorbell.ring(|| parking.unpark());
        assert_eq!(pop(&mut consumer), 2);
        writer.join().unwrap();
    });
}
