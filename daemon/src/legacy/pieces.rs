//! An answer in JSON that is written while it is read: however large it is, a piece of it is in
//! memory. It is ASCII, as Mesos' is.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use hyper::body::Bytes;
use serde::Serialize;

use crate::http::transcode::ascii;

/// Bytes that are gathered before they are handed on.
const PIECE: usize = 32 * 1024;

/// One step of an answer.
type Step = Box<dyn FnOnce(&mut Vec<u8>)>;

/// One step that is taken until it says that there is no more.
type Steps = Box<dyn FnMut(&mut Vec<u8>) -> bool>;

/// An answer in pieces.
pub(crate) struct Pieces {
    steps: VecDeque<Source>,
    /// It is somebody else's turn before the next piece.
    rests: bool,
}

/// Where bytes come from.
enum Source {
    /// All at once.
    Once(Step),
    /// Until it says that there is no more.
    Many(Steps),
}

impl Pieces {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { steps: VecDeque::new(), rests: false }
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
        self.text(format!("\"{name}\":["));
        let mut first = true;
        self.steps.push_back(Source::Many(Box::new(move |into| {
            let Some(item) = next() else { return false };
            if !std::mem::take(&mut first) {
                into.push(b',');
            }
            // A vector takes everything, and our own rows have no way to fail.
            let _ = serde_json::to_writer(into, &item);
            true
        })));
        self.text("]");
    }

    /// Puts text before and behind everything.
    pub(crate) fn wrap(&mut self, before: String, behind: &'static str) {
        let before = move |into: &mut Vec<u8>| into.extend_from_slice(before.as_bytes());
        self.steps.push_front(Source::Once(Box::new(before)));
        self.text(behind);
    }

    /// The next piece, when everybody else who is ready has had a turn.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !self.has_rested(cx) {
            return Poll::Pending;
        }
        Poll::Ready(self.next())
    }

    /// False every other time: then whoever asks is woken to ask again.
    pub(crate) fn has_rested(&mut self, cx: &Context<'_>) -> bool {
        self.rests = !self.rests;
        if self.rests {
            cx.waker().wake_by_ref();
        }
        !self.rests
    }

    /// The next piece; none after the last.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let mut piece = Vec::new();
        while piece.len() < PIECE {
            match self.steps.pop_front() {
                None => break,
                Some(Source::Once(step)) => step(&mut piece),
                Some(Source::Many(mut more)) => {
                    if more(&mut piece) {
                        self.steps.push_front(Source::Many(more));
                    }
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
