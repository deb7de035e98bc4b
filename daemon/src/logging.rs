//! How much this process logs, and for how long it is to log more.
//!
//! Mesos: `process::Logging`: a level is how much more than usual, and goes back by itself.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use log::LevelFilter;

use crate::alarm;
use crate::flags::text::Duration;
use crate::io_thread::Tasks;
use crate::legacy;
use crate::pb::mesos::v1::DurationInfo;
use crate::v1::amounts::duration;

/// The highest level. Mesos' own log statements go up to it.
const LEVEL_MAX: u32 = 3;

/// What was chosen when the process began, by its number in [`LevelFilter`].
static USUAL: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// What goes back to that, while it is another; of the IO thread.
    static BACK: RefCell<Option<smol::Task<()>>> = const { RefCell::new(None) };
}

/// The process logs so much from now on, when nobody asks for more.
pub(crate) fn begin(usual: LevelFilter) {
    USUAL.store(usual as usize, Ordering::Relaxed);
    log::set_max_level(usual);
}

fn usual() -> LevelFilter {
    let all = LevelFilter::iter();
    let usual = USUAL.load(Ordering::Relaxed);
    all.into_iter().find(|level| *level as usize == usual).unwrap_or(LevelFilter::Info)
}

/// How much more is logged than usual.
pub(crate) fn level() -> u32 {
    let now = log::max_level();
    match now {
        now if now <= usual() => 0,
        LevelFilter::Trace => 2,
        LevelFilter::Debug
        | LevelFilter::Info
        | LevelFilter::Warn
        | LevelFilter::Error
        | LevelFilter::Off => 1,
    }
}

/// SET_LOGGING_LEVEL, or what is wrong with it.
pub(crate) fn asked(tasks: &Tasks, level: u32, of: &DurationInfo) -> Result<(), String> {
    let us = duration(of);
    let us = us.ok_or("'set_logging_level.duration' must be non-negative")?;
    set(tasks, level, us)
}

/// `/logging/toggle`: what it says, or what is wrong with it. Mesos: `Logging::toggle`.
pub(crate) fn toggled(tasks: &Tasks, query: Option<&str>) -> Result<String, String> {
    let query = legacy::query(query);
    let (level, us) = match (query.get("level"), query.get("duration")) {
        (None, None) => return Ok(format!("{}\n", level())),
        (Some(_), None) => return Err("Expecting 'duration=value' in query.\n".to_owned()),
        (None, Some(_)) => return Err("Expecting 'level=value' in query.\n".to_owned()),
        (Some(level), Some(duration)) => (level, duration.parse::<Duration>()),
    };
    let Ok(level) = level.parse() else {
        return Err(format!("Failed to convert '{}' to number.\n", level.escape_debug()));
    };
    let us = us.map_err(|why| format!("{why}\n"))?.us;
    set(tasks, level, us).map(|()| String::new())
}

/// Logs so much more for a while, in µs; 0 is as usual. The newest word counts. Refused beyond
/// [`LEVEL_MAX`], in a sentence.
pub(crate) fn set(tasks: &Tasks, level: u32, us: u64) -> Result<(), String> {
    let more = match level {
        0 => usual(),
        1 => usual().max(LevelFilter::Debug),
        2 | LEVEL_MAX => LevelFilter::Trace,
        level => return Err(format!("Invalid level '{level}': at most {LEVEL_MAX}")),
    };
    log::set_max_level(more);
    log::info!("the level of logging is {level} for {} s", us / 1_000_000);
    let back = tasks.spawn(async move {
        alarm::after(us).await;
        log::set_max_level(usual());
    });
    // What was to go back before does not any more.
    BACK.with(|own| own.replace((level > 0).then_some(back)));
    Ok(())
}
