//! A whole framework: runs a command so many times on whatever is offered, keeps its id and what it
//! launched in a file, and takes its tasks up again when it is started anew.
//!
//! `cargo run --example framework -- 127.0.0.1:5050 STATE-FILE 3 'echo hello; sleep 5'`

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use mesita::framework::{self, Driver, Error, Event, Framework, Offer, Task, TaskState, run};

const RESOURCES: &str = "cpus:0.1;mem:32";
const REFUSE: Duration = Duration::from_secs(5);

/// What is to be done, and what was heard of it.
struct Work {
    state: String,
    id: String,
    command: String,
    wanted: usize,
    tasks: BTreeMap<String, TaskState>,
}

impl Work {
    fn event(&mut self, driver: &Driver, event: Event) {
        match event {
            Event::Subscribed { id } => {
                println!("framework {id}");
                self.id = id;
                self.save();
                // What became of the tasks meanwhile.
                let known: Vec<&str> = self.tasks.keys().map(String::as_str).collect();
                driver.reconcile(&known);
            }
            Event::Offer(offer) => self.offered(driver, &offer),
            Event::Status(status) => {
                println!("{} {:?} {}", status.task, status.state, status.message);
                self.tasks.insert(status.task, status.state);
                self.end_when_done(driver);
            }
            Event::Rescinded(_)
            | Event::Lost(_)
            | Event::Stored(_)
            | Event::ExecutorLost { .. }
            | Event::Message { .. } => {}
            Event::Disconnected(why) => eprintln!("{why}; trying again"),
        }
    }

    /// Launches as many of the tasks that are left as fit.
    fn offered(&mut self, driver: &Driver, offer: &Offer) {
        let mut new = Vec::new();
        let (mut cpus, mut mem) = (offer.scalar("cpus"), offer.scalar("mem"));
        while self.tasks.len() + new.len() < self.wanted && cpus >= 0.1 && mem >= 32.0 {
            let id = format!("task-{}", self.tasks.len() + new.len() + 1);
            (cpus, mem) = (cpus - 0.1, mem - 32.0);
            let work = framework::Work::Command(self.command.clone());
            new.push(Task { id, resources: RESOURCES.to_owned(), work });
        }
        // What is launched is written down first: nothing is launched twice.
        self.tasks.extend(new.iter().map(|task| (task.id.clone(), TaskState::Staging)));
        self.save();
        let launched = driver.accept(offer, &new, REFUSE);
        launched.unwrap_or_else(|error| panic!("what was offered is not there: {error}"));
    }

    fn end_when_done(&self, driver: &Driver) {
        let over = |state: &TaskState| state.is_terminal() || *state == TaskState::Unknown;
        if self.tasks.len() >= self.wanted && self.tasks.values().all(over) {
            driver.teardown();
        }
    }

    fn save(&self) {
        let written = std::fs::write(&self.state, format!("{} {}", self.id, self.tasks.len()));
        written.unwrap_or_else(|error| panic!("{}: {error}", self.state));
    }
}

/// The id of an earlier run, and the tasks that it launched.
fn saved(state: &str) -> (Option<String>, BTreeMap<String, TaskState>) {
    let text = std::fs::read_to_string(state).unwrap_or_default();
    let mut words = text.split(' ').map(str::to_owned);
    let id = words.next().filter(|id| !id.is_empty());
    let launched = words.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    (id, (1..=launched).map(|number: u32| (format!("task-{number}"), TaskState::Staging)).collect())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [masters, state, wanted, command] = &words[..] else {
        eprintln!("usage: framework HOST:PORT,... STATE-FILE TASKS COMMAND");
        return ExitCode::from(2);
    };
    let Ok(wanted) = wanted.parse() else {
        eprintln!("`{wanted}` is no number of tasks");
        return ExitCode::from(2);
    };
    let (resume, tasks) = saved(state);
    let framework = Framework {
        name: "example".to_owned(),
        user: String::new(),
        roles: Vec::new(),
        failover: Duration::from_secs(3_600),
        credential: std::env::var_os("MESITA_CREDENTIAL").map(Into::into),
        insecure: std::env::var_os("MESITA_INSECURE").is_some(),
        resume,
    };
    let (id, command) = (String::new(), command.clone());
    let mut work = Work { state: state.clone(), id, command, wanted, tasks };
    let ended: Result<(), Error> =
        run(masters, &framework, move |driver, event| work.event(driver, event));
    match ended {
        Ok(()) => {
            // Its tasks ended: nothing is left to take up.
            let _ = std::fs::remove_file(state);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
