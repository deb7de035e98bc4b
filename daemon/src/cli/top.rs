//! `mesita top`: agents, frameworks and tasks as they are, out of the operator stream; drawn anew on
//! a terminal as they change, printed once elsewhere.

mod model;

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use event_listener::Event;

use super::{Failure, stream};
use crate::alarm;
use crate::flags::Top;
use crate::signals::{self, Signals};
use model::Model;

/// The other screen, without a cursor; and back.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l";
const END: &str = "\x1b[?25h\x1b[?1049l";
/// Lines and columns when nobody says.
const USUAL: (usize, usize) = (24, 80);
/// Lines of each table where there is no terminal to fit.
const LINES: usize = 1_000;

pub(super) fn main(flags: &Top) -> Result<ExitCode, Failure> {
    super::log_warnings();
    if !io::stdout().is_terminal() {
        return once(flags);
    }
    signals::block().map_err(Failure::plain)?;
    say(BEGIN);
    let ended = alarm::block_on(live(flags));
    say(END);
    ended.map(|()| ExitCode::SUCCESS)
}

/// Prints what there is.
fn once(flags: &Top) -> Result<ExitCode, Failure> {
    let mut model = Model::default();
    alarm::block_on(stream::follow(&flags.at, |event| Ok(!model.take(&event))))?;
    super::print(model.picture(LINES, usize::MAX).join("\n") + "\n");
    Ok(ExitCode::SUCCESS)
}

/// Draws until a signal comes. A master that is gone is looked for until then.
async fn live(flags: &Top) -> Result<(), Failure> {
    let signals = Signals::new().map_err(Failure::plain)?;
    let (model, changed, known) = (RefCell::new(Model::default()), Event::new(), Cell::new(false));
    let reading = async {
        loop {
            let followed = stream::follow(&flags.at, |event| {
                known.set(model.borrow_mut().take(&event) || known.get());
                changed.notify(usize::MAX);
                Ok(true)
            });
            let ended = followed.await;
            // Who never had an answer is told why at once.
            if let (Err(failure), false) = (ended, known.get()) {
                return Err(failure);
            }
            model.borrow_mut().lost();
            changed.notify(usize::MAX);
            alarm::after(flags.interval.us.max(100_000)).await;
        }
    };
    let drawing = async {
        loop {
            let listener = changed.listen();
            draw(&model.borrow());
            listener.await;
            alarm::after(flags.interval.us).await;
        }
    };
    let told = async {
        signals.next().await;
        Ok(())
    };
    futures_lite::future::or(futures_lite::future::or(reading, drawing), told).await
}

fn draw(model: &Model) {
    let (lines, columns) = size();
    let mut text = String::from("\x1b[H");
    for line in model.picture(lines, columns) {
        text.push_str(&line);
        // What was there before, to the end of the line.
        text.push_str("\x1b[K\r\n");
    }
    text.truncate(text.len().saturating_sub(2));
    text.push_str("\x1b[J");
    say(&text);
}

/// Lines and columns of the terminal.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let size = size.ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    size.map_or(USUAL, |size| (size.ws_row.into(), size.ws_col.into()))
}

/// Writes to the terminal. That it is gone is found out by a signal.
fn say(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
