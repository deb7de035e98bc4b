//! An answer in JSON that is written while it is read: however large it is, a piece of it is in
//! memory. It is ASCII, as Mesos' is.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::Bytes;
use serde::Serialize;

use super::moments::Moment;
use crate::alarm::{self, Turn};
use crate::http::transcode::ascii;

/// Bytes that are gathered before they are handed on. A connection has one piece at a time, and as much
/// again in what is being written.
const PIECE: usize = 8 * 1024;
/// The room that a piece has beside that: what a row is longer than what is left of it, as a rule.
const BESIDE: usize = 1024;

/// One step of an answer.
type Step = Box<dyn FnOnce(&mut Vec<u8>)>;

/// One step that is taken until it says that there is no more.
type Steps = Box<dyn FnMut(&mut Vec<u8>) -> bool>;

/// An answer in pieces.
pub(crate) struct Pieces {
    steps: VecDeque<Source>,
    /// Waited for before the next piece.
    turn: Option<Turn>,
    /// Held as long as it is read.
    moment: Option<Moment>,
}

/// Parts of an answer, one after the other until it says that there is no more.
type Parts = Box<dyn FnMut(&mut Pieces) -> bool>;

/// Where bytes come from.
enum Source {
    /// All at once.
    Once(Step),
    /// Until it says that there is no more.
    Many(Steps),
    /// From parts, each of which is made when those before it were read.
    Parts(Parts),
}

impl Pieces {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { steps: VecDeque::new(), turn: None, moment: None }
    }

    /// Text as it is.
    pub(crate) fn text(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.steps.push_back(Source::Once(Box::new(move |into| {
            into.extend_from_slice(text.as_bytes());
        })));
    }

    /// `"name":` and an array of what `next` gives, one after the other; none ends it.
    pub(crate) fn array<T: Serialize>(
        &mut self,
        name: &str,
        mut next: impl FnMut() -> Option<T> + 'static,
    ) {
        self.rows(name, move |into| {
            let Some(item) = next() else { return false };
            // A vector takes everything, and our own rows have no way to fail.
            let _ = serde_json::to_writer(into, &item);
            true
        });
    }

    /// `"name":` and an array of what `next` writes, one after the other; when it is false, nothing
    /// was written and that is the end.
    pub(crate) fn rows(
        &mut self,
        name: &str,
        mut next: impl FnMut(&mut Vec<u8>) -> bool + 'static,
    ) {
        self.text(format!("\"{name}\":["));
        let mut first = true;
        self.steps.push_back(Source::Many(Box::new(move |into| {
            let before = into.len();
            if !first {
                into.push(b',');
            }
            let is_one = next(into);
            if !is_one {
                into.truncate(before);
            }
            first = false;
            is_one
        })));
        self.text("]");
    }

    /// Parts that `next` adds, one after the other; when it is false, that was the end.
    pub(crate) fn parts(&mut self, next: impl FnMut(&mut Self) -> bool + 'static) {
        self.steps.push_back(Source::Parts(Box::new(next)));
    }

    /// What it tells is of a moment, which it holds until it was read.
    pub(crate) fn hold(&mut self, moment: Moment) {
        self.moment = Some(moment);
    }

    /// Puts text before and behind everything.
    pub(crate) fn wrap(&mut self, before: String, behind: &'static str) {
        let before = move |into: &mut Vec<u8>| into.extend_from_slice(before.as_bytes());
        self.steps.push_front(Source::Once(Box::new(before)));
        self.text(behind);
    }

    /// The next piece, when everybody else who is ready has had a turn.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        ready!(self.poll_turn(cx));
        Poll::Ready(self.next())
    }

    /// Ready once before each piece, when it may be made.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(Pin::new(self.turn.get_or_insert_with(alarm::turn)).poll(cx));
        self.turn = None;
        if let Some(moment) = &self.moment {
            moment.is_read();
        }
        Poll::Ready(())
    }

    /// The next piece; none after the last.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let mut piece = Vec::with_capacity(PIECE.saturating_add(BESIDE));
        while piece.len() < PIECE {
            match self.steps.pop_front() {
                None => break,
                Some(Source::Once(step)) => step(&mut piece),
                Some(Source::Many(mut more)) => {
                    if more(&mut piece) {
                        self.steps.push_front(Source::Many(more));
                    }
                }
                Some(Source::Parts(mut more)) => {
                    let mut part = Self::new();
                    if more(&mut part) {
                        self.steps.push_front(Source::Parts(more));
                    }
                    part.steps.append(&mut self.steps);
                    self.steps = part.steps;
                }
            }
        }
        (!piece.is_empty()).then(|| ascii(piece).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_in_pieces_and_whole() {
        let mut pieces = Pieces::new();
        pieces.text("{");
        let mut numbers = 0..20_000u32;
        pieces.array("numbers", move || numbers.next());
        pieces.text(",\"name\":\"\u{e9}\"}");
        let mut whole = Vec::new();
        let mut count = 0;
        while let Some(piece) = pieces.next() {
            assert!(piece.len() < PIECE + 16);
            whole.extend_from_slice(&piece);
            count += 1;
        }
        assert!(count > 2);
        assert!(whole.ends_with(br#""name":"\u00e9"}"#));
        let value: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(value["numbers"].as_array().unwrap().len(), 20_000);
    }
}
