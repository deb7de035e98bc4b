//! A framework with an executor of its own, both in this program: the agent starts it once more, and
//! its environment says which of the two it is. The executor runs each task's bytes as a line of the
//! shell, and answers messages.
//!
//! `cargo run --example executor -- 127.0.0.1:5050 3 'echo hello; sleep 5'`

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesita::executor;
use mesita::framework::{self, Executor, Framework, Task, TaskState, Work};

const RESOURCES: &str = "cpus:0.1;mem:32";
const REFUSE: Duration = Duration::from_secs(5);

/// What runs under the executor: the process of each task.
type Running = Arc<Mutex<BTreeMap<String, u32>>>;

/// Runs a task to its end, in a thread of its own.
fn work(driver: &executor::Driver, task: &executor::Task, running: &Running) {
    let line = String::from_utf8_lossy(&task.data).into_owned();
    let tell = |state, message: &str| {
        // Nobody tells a thousand things that nobody hears.
        driver.status(&task.id, state, message, line.as_bytes()).expect("too much to tell");
    };
    let mut child = match Command::new("/bin/sh").args(["-c", &line]).spawn() {
        Ok(child) => child,
        Err(error) => return tell(TaskState::Failed, &error.to_string()),
    };
    running.lock().unwrap().insert(task.id.clone(), child.id());
    tell(TaskState::Running, "");
    let ended = child.wait();
    let killed = running.lock().unwrap().remove(&task.id).is_none();
    match ended {
        Ok(_) if killed => tell(TaskState::Killed, "as asked"),
        Ok(status) if status.success() => tell(TaskState::Finished, ""),
        Ok(status) => tell(TaskState::Failed, &status.to_string()),
        Err(error) => tell(TaskState::Failed, &error.to_string()),
    }
}

/// Ends what runs of a task; its own thread tells of it.
fn kill(task: &str, running: &Running) {
    if let Some(pid) = running.lock().unwrap().remove(task) {
        let _ = Command::new("/bin/kill").arg(pid.to_string()).status();
    }
}

fn be_executor() -> Result<(), executor::Error> {
    let running = Running::default();
    executor::run(move |driver, event| match event {
        executor::Event::Launch(task) => {
            let (driver, running) = (driver.clone(), Arc::clone(&running));
            std::thread::spawn(move || work(&driver, &task, &running));
        }
        executor::Event::LaunchGroup(_) => unreachable!("the framework launches none"),
        executor::Event::Kill { task, .. } => kill(&task, &running),
        executor::Event::Message(data) => {
            let _ = driver.message(&[b"heard: ", &data[..]].concat());
        }
        executor::Event::Subscribed { agent, .. } => println!("executor on {agent}"),
        executor::Event::Disconnected(why) => eprintln!("{why}; trying again"),
        executor::Event::Shutdown => {
            let tasks: Vec<String> = running.lock().unwrap().keys().cloned().collect();
            tasks.iter().for_each(|task| kill(task, &running));
        }
    })
}

fn be_framework(masters: &str, wanted: usize, line: &str) -> Result<(), framework::Error> {
    let me =
        std::env::current_exe().map_err(|error| framework::Error::Failed(error.to_string()))?;
    let executor = Executor {
        id: "shell".to_owned(),
        command: format!("exec '{}'", me.display()),
        resources: RESOURCES.to_owned(),
    };
    let framework = Framework {
        name: "shells".to_owned(),
        user: String::new(),
        roles: Vec::new(),
        failover: Duration::ZERO,
        credential: std::env::var_os("MESITA_CREDENTIAL").map(Into::into),
        insecure: std::env::var_os("MESITA_INSECURE").is_some(),
        resume: None,
    };
    let (line, mut launched, mut ended) = (line.to_owned(), 0, 0);
    framework::run(masters, &framework, move |driver, event| match event {
        framework::Event::Offer(offer) if launched < wanted => {
            let (id, data) = (format!("task-{}", launched + 1), line.clone().into_bytes());
            let work = Work::Under { executor: executor.clone(), data };
            let task = Task { id, resources: RESOURCES.to_owned(), work };
            // An offer that is too small is no use.
            match driver.accept(&offer, &[task], Duration::ZERO) {
                Ok(()) => launched += 1,
                Err(_) => driver.decline(&offer, REFUSE),
            }
        }
        framework::Event::Offer(offer) => driver.decline(&offer, REFUSE),
        framework::Event::Status(status) => {
            println!("{} {:?} {}", status.task, status.state, status.message);
            if status.state == TaskState::Running {
                driver.message(status.agent, &executor.id, status.task.as_bytes());
            }
            ended += usize::from(status.state.is_terminal());
            if ended == wanted {
                driver.teardown();
            }
        }
        framework::Event::Message { data, .. } => println!("{}", String::from_utf8_lossy(&data)),
        framework::Event::ExecutorLost { executor, exit, .. } => println!("{executor}: {exit:?}"),
        framework::Event::Disconnected(why) => eprintln!("{why}; trying again"),
        framework::Event::Subscribed { .. }
        | framework::Event::Rescinded(_)
        | framework::Event::Lost(_)
        | framework::Event::Stored(_) => {}
    })
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ended = match &words[..] {
        [] if std::env::var_os("MESOS_EXECUTOR_ID").is_some() => {
            be_executor().map_err(|error| error.to_string())
        }
        [masters, wanted, line] if wanted.parse::<usize>().is_ok() => {
            let wanted = wanted.parse().unwrap_or_default();
            be_framework(masters, wanted, line).map_err(|error| error.to_string())
        }
        _ => {
            eprintln!("usage: executor HOST:PORT,... TASKS LINE");
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
