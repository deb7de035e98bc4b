//! A framework that keeps a number with the masters: counts how often it ran, and ends.
//!
//! `cargo run --example counter -- 127.0.0.1:5050`

use std::process::ExitCode;
use std::time::Duration;

use mesita::framework::{Driver, Error, Event, Framework, Outcome, Stored, run};

const KEY: &str = "runs";

fn event(driver: &Driver, event: Event) {
    match event {
        Event::Subscribed { .. } => driver.store_get(KEY),
        Event::Stored(Stored { outcome, .. }) => stored(driver, outcome),
        Event::Offer(offer) => driver.decline(&offer, Duration::from_secs(60)),
        Event::Disconnected(why) => eprintln!("{why}; trying again"),
        Event::Rescinded(_)
        | Event::Status(_)
        | Event::Lost(_)
        | Event::ExecutorLost { .. }
        | Event::Message { .. } => {}
    }
}

fn stored(driver: &Driver, outcome: Outcome) {
    let put = |runs: u64, expected| {
        let put = driver.store_put(KEY, runs.to_string().as_bytes(), Some(expected));
        put.unwrap_or_else(|error| panic!("a number is short: {error}"));
    };
    match outcome {
        Outcome::Absent => put(1, 0),
        Outcome::Value { version, value } => {
            let runs: u64 = String::from_utf8_lossy(&value).parse().unwrap_or(0);
            println!("{runs}");
            put(runs + 1, version);
        }
        Outcome::Written { version } => {
            println!("written as {version}");
            driver.teardown();
        }
        // Another one of them was faster, or nobody knows: what is there now?
        Outcome::Conflict(_) => driver.store_get(KEY),
        // It is asked again when it is subscribed again.
        Outcome::Unknown(why) => eprintln!("{why}"),
        Outcome::Removed => {}
        Outcome::Refused(why) => {
            eprintln!("{why}");
            driver.teardown();
        }
    }
}

fn main() -> ExitCode {
    let Some(masters) = std::env::args().nth(1) else {
        eprintln!("counter MASTER[,MASTER...]");
        return ExitCode::from(2);
    };
    let framework = Framework {
        name: "counter".to_owned(),
        user: String::new(),
        roles: Vec::new(),
        failover: Duration::ZERO,
        credential: std::env::var_os("MESITA_CREDENTIAL").map(Into::into),
        insecure: std::env::var_os("MESITA_INSECURE").is_some(),
        resume: None,
    };
    match run(&masters, &framework, event) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Invalid(why) | Error::Ended(why) | Error::Failed(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
