//! What waits for a reader: the conversation first, the data of streams when none of that waits.
//!
//! A reader that does not keep up costs at most the bound: at half of it whoever fills it is told,
//! at all of it the reader is cut off. Nothing is dropped from the middle.

use std::collections::VecDeque;

/// What the level of what waits means to whoever fills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Half full: hold back.
    Congested,
    /// Empty again.
    Drained,
    /// Full: it was cut.
    Overrun,
}

/// How it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// More may come.
    Open,
    /// To be ended when all was read.
    Closing,
    /// To be ended now.
    Cut,
}

/// Something of a size.
pub(crate) trait Weighs {
    /// Its bytes.
    fn bytes(&self) -> usize;
}

/// Which of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// The conversation.
    Control,
    /// The data of streams.
    Data,
}

/// Two queues under one bound.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    control: VecDeque<T>,
    data: VecDeque<T>,
    bytes: usize,
    max: usize,
    state: State,
    congested: bool,
}

impl<T: Weighs> Waiting<T> {
    /// At most `max` bytes wait.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            control: VecDeque::new(),
            data: VecDeque::new(),
            bytes: 0,
            max,
            state: State::Open,
            congested: false,
        }
    }

    /// Takes one more; nothing of what comes after the end. The level, if it is another one.
    pub(crate) fn push(&mut self, sort: Sort, one: T) -> Option<Level> {
        if self.state != State::Open {
            return None;
        }
        let bytes = self.bytes + self.weight(&one);
        if bytes > self.max && self.bytes > 0 {
            self.cut();
            return Some(Level::Overrun);
        }
        self.bytes = bytes;
        match sort {
            Sort::Control => self.control.push_back(one),
            Sort::Data => self.data.push_back(one),
        }
        let congested = bytes > self.max / 2 && !std::mem::replace(&mut self.congested, true);
        congested.then_some(Level::Congested)
    }

    /// What one counts for: its bytes, but a large one no more than a quarter of the bound. Its
    /// receiver said that it takes it, and little is what waits behind it while it is on its way.
    pub(crate) fn weight(&self, one: &T) -> usize {
        one.bytes().min(self.max / 4)
    }

    /// The next one. It counts until it was [`read`](Self::read).
    pub(crate) fn next(&mut self) -> Option<T> {
        self.control.pop_front().or_else(|| self.data.pop_front())
    }

    /// So much is with the reader. The level, if it is another one.
    pub(crate) fn read(&mut self, weight: usize) -> Option<Level> {
        self.bytes = self.bytes.saturating_sub(weight);
        let drained = self.bytes == 0 && std::mem::take(&mut self.congested);
        drained.then_some(Level::Drained)
    }

    /// Ends it when everything was read; true if it was open.
    pub(crate) fn close(&mut self) -> bool {
        let open = self.state == State::Open;
        if open {
            self.state = State::Closing;
        }
        open
    }

    /// Ends it now.
    pub(crate) fn cut(&mut self) {
        self.state = State::Cut;
        self.control.clear();
        self.data.clear();
        self.bytes = 0;
    }

    /// Nobody reads any more: what waits is not thrown away, and nothing comes to it.
    pub(crate) fn leave(&mut self) {
        self.state = State::Cut;
    }

    /// How it goes on.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weighs for &str {
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    #[test]
    fn the_conversation_comes_first_and_its_end_last() {
        let mut waiting = Waiting::new(100);
        assert_eq!(waiting.push(Sort::Data, "data"), None);
        assert_eq!(waiting.push(Sort::Control, "one"), None);
        assert!(waiting.close() && !waiting.close());
        assert_eq!(waiting.push(Sort::Control, "too late"), None);
        assert_eq!(
            [waiting.next(), waiting.next(), waiting.next()],
            [Some("one"), Some("data"), None]
        );
        assert_eq!((waiting.bytes(), waiting.read(7), waiting.bytes()), (7, None, 0));
    }

    #[test]
    fn a_reader_that_does_not_keep_up_is_told_of_once_and_cut() {
        let mut waiting = Waiting::new(20);
        // However large one is, it is a quarter of the bound at most.
        let large = "0123456789";
        let push = |waiting: &mut Waiting<_>| waiting.push(Sort::Control, large);
        assert_eq!([push(&mut waiting), push(&mut waiting)], [None, None]);
        assert_eq!([push(&mut waiting), push(&mut waiting)], [Some(Level::Congested), None]);
        assert_eq!((waiting.read(15), waiting.read(5)), (None, Some(Level::Drained)));
        for _ in 0..4 {
            push(&mut waiting);
        }
        assert_eq!(push(&mut waiting), Some(Level::Overrun));
        assert_eq!((waiting.state(), waiting.bytes()), (State::Cut, 0));
    }
}
