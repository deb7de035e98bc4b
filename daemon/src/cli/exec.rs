//! `mesita exec` and `mesita attach`: commands in the containers of tasks, and what tasks write as
//! they do. Both speak to the task's agent as any client of Mesos does, by way of the leader.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::rc::Rc;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use mesita_core::wire::FrameworkId;
use mesita_core::wire::svc::Output;
use mesita_isolation::keeper::protocol::{Step, Trouble};
use prost::Message;
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::Value;

use super::leader::Leader;
use super::output::{self, Followed};
use super::{FAILED, Failure};
use crate::alarm;
use crate::flags::{Attach, Exec, TaskAt};
use crate::http::body::Body;
use crate::http::media::{Media, RECORDIO};
use crate::legacy::encoded;
use crate::machines::recordio::{Pieces, framed};
use crate::pb::mesos::v1 as pb;
use crate::random;
use crate::signals::{self, Resized, Signals};
use pb::agent::call::{self, Type};
use pb::agent::{Call, ProcessIo, Response as Told, process_io};
use process_io::data::Type as Of;

/// Bytes of one record that are taken.
const RECORD_MAX: usize = 16 * 1024 * 1024;
/// Bytes of an answer that is read whole.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// Bytes that are read of the standard input at once.
const CHUNK: usize = 8 * 1024;
/// How this ends when there is no such program, and when it cannot be run. As a shell does.
const NO_PROGRAM: u8 = 127;
const NOT_RUN: u8 = 126;
/// How often a task without a container is asked for, and after how long each, in µs.
const STARTING_TRIES: u32 = 50;
const STARTING_US: u64 = 100_000;

pub(super) fn main(flags: &Exec) -> Result<ExitCode, Failure> {
    super::log_warnings();
    // A terminal of its own is given back whatever ends this.
    let terminal = if flags.tty { Some(Terminal::raw()?) } else { None };
    let ended = alarm::block_on(async {
        match flags.tty {
            true => futures_lite::future::or(exec(flags), told_to_end()).await,
            false => exec(flags).await,
        }
    });
    drop(terminal);
    ended
}

/// `mesita attach`
pub(super) fn attach(flags: &Attach) -> Result<ExitCode, Failure> {
    super::log_warnings();
    alarm::block_on(listen(&flags.at)).map(|()| ExitCode::SUCCESS)
}

async fn listen(of: &TaskAt) -> Result<(), Failure> {
    let leader = Rc::new(Leader::find(&of.at).await?);
    let framework = leader.during(Api::of_task(&leader, of)).await?;
    // Agents print ids below the cluster's, which is at the front of each.
    let cluster = framework.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let framework = FrameworkId::parse(&framework, cluster.unwrap_or(0));
    let framework = framework.ok_or_else(|| Failure::plain("the master names no framework"))?;
    let followed = |which| Followed {
        at: &of.at,
        framework,
        task: &of.task,
        which,
        offset: i64::MAX,
        patience_us: u64::from(STARTING_TRIES) * STARTING_US,
    };
    let out = output::follow(followed(Output::Stdout), |bytes| print_to(io::stdout(), bytes));
    let err = output::follow(followed(Output::Stderr), |bytes| print_to(io::stderr(), bytes));
    let (out, err) = futures_lite::future::zip(out, err).await;
    out.and(err)
}

fn print_to(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

async fn exec(flags: &Exec) -> Result<ExitCode, Failure> {
    let leader = Rc::new(Leader::find(&flags.at.at).await?);
    leader.during(run(&leader, flags)).await
}

async fn run(leader: &Rc<Leader>, flags: &Exec) -> Result<ExitCode, Failure> {
    let api = Api::find(leader, &flags.at).await?;
    let id = pb::ContainerId {
        value: format!("exec-{:016x}", random::number()),
        parent: Some(Box::new(api.container.clone())),
    };
    let output = api.streams(&session(&id, flags)).await.map_err(unstarted)?;
    api.write(&id, flags);
    print_all(output).await?;
    let status = api.status_of(&id).await?;
    match status {
        Some(status) if status & 0x7f == 0 => Ok(code(status >> 8)),
        Some(status) => Ok(code(128 + (status & 0x7f))),
        None => Err(Failure::plain(
            "nobody saw how the command ended: its task ended meanwhile, or its agent was restarted",
        )),
    }
}

fn code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status & 0xff).unwrap_or(FAILED))
}

/// A command that did not begin ends as it does in a shell.
fn unstarted(failure: Failure) -> Failure {
    let errno = Errno::NOENT.raw_os_error();
    let absent = Trouble { step: Step::Execute, errno }.to_string();
    let status = match failure.status {
        FAILED if failure.message.contains(&absent) => NO_PROGRAM,
        FAILED if failure.message.contains(Step::Execute.sentence()) => NOT_RUN,
        status => status,
    };
    Failure { status, ..failure }
}

/// Waits for a signal that ends this: the terminal is to be given back first.
async fn told_to_end() -> Result<ExitCode, Failure> {
    Signals::at_terminal().map_err(Failure::plain)?.next().await;
    Err(Failure::plain("ended by a signal"))
}

/// What is to be run.
fn session(id: &pb::ContainerId, flags: &Exec) -> Call {
    let mut command = pb::CommandInfo {
        shell: Some(false),
        value: flags.argv.first().cloned(),
        arguments: flags.argv.clone(),
        user: flags.user.clone(),
        ..pb::CommandInfo::default()
    };
    if let (true, Ok(value)) = (flags.tty, std::env::var("TERM")) {
        let variable = pb::environment::Variable {
            name: "TERM".to_owned(),
            value: Some(value),
            ..Default::default()
        };
        command.environment = Some(pb::Environment { variables: vec![variable] });
    }
    let container = flags.tty.then(|| {
        let mut container =
            pb::ContainerInfo { tty_info: Some(window()), ..pb::ContainerInfo::default() };
        container.set_type(pb::container_info::Type::Mesos);
        container
    });
    let session = call::LaunchNestedContainerSession {
        container_id: id.clone(),
        command: Some(command),
        container,
    };
    let mut call = Call { launch_nested_container_session: Some(session), ..Call::default() };
    call.set_type(Type::LaunchNestedContainerSession);
    call
}

/// How large the terminal is.
fn window() -> pb::TtyInfo {
    let size = tcgetwinsize(io::stdin()).ok();
    let window_size = size.filter(|size| size.ws_row > 0).map(|size| pb::tty_info::WindowSize {
        rows: size.ws_row.into(),
        columns: size.ws_col.into(),
    });
    pb::TtyInfo { window_size }
}

/// Prints what a stream says until it ends.
async fn print_all(mut output: Incoming) -> Result<(), Failure> {
    let mut pieces = Pieces::new(RECORD_MAX);
    while let Some(frame) = output.frame().await {
        let frame = frame.map_err(|_| Failure::plain("the connection to the task broke"))?;
        let Some(bytes) = frame.data_ref() else { continue };
        for record in pieces.take(bytes).map_err(Failure::plain)? {
            let said = ProcessIo::decode(&*record).map_err(Failure::plain)?;
            let Some(data) = said.data else { continue };
            let printed = blocking::unblock(move || print_one(&data)).await;
            match printed {
                // The reader has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                printed => printed.map_err(Failure::plain)?,
            }
        }
    }
    Ok(())
}

fn print_one(data: &process_io::Data) -> io::Result<()> {
    let bytes = data.data.as_deref().unwrap_or_default();
    if data.r#type() == Of::Stderr {
        print_to(io::stderr(), bytes)
    } else {
        print_to(io::stdout(), bytes)
    }
}

/// A task's agent, by way of the leader.
struct Api {
    leader: Rc<Leader>,
    /// The path of the agent's API.
    path: String,
    /// The task's container.
    container: pb::ContainerId,
}

impl Api {
    /// Finds the task, and where that is.
    async fn find(leader: &Rc<Leader>, of: &TaskAt) -> Result<Self, Failure> {
        let (leader, container) = (Rc::clone(leader), pb::ContainerId::default());
        let mut api = Self { leader, path: String::new(), container };
        let (agent, framework) = chosen(&api.tasks_called(&of.task).await?, of)?;
        api.path = format!("/agent/{agent}/api/v1");
        api.container = api.container_of(&of.task, &framework).await?;
        Ok(api)
    }

    /// The framework of a task that runs.
    async fn of_task(leader: &Rc<Leader>, of: &TaskAt) -> Result<String, Failure> {
        let (leader, container) = (Rc::clone(leader), pb::ContainerId::default());
        let api = Self { leader, path: String::new(), container };
        Ok(chosen(&api.tasks_called(&of.task).await?, of)?.1)
    }

    /// The tasks of a name that the leader knows.
    async fn tasks_called(&self, task: &str) -> Result<Vec<Value>, Failure> {
        let path = format!("/tasks?task_id={}", encoded(task));
        let answer = self.ask(Request::builder().method(Method::GET).uri(&path), Body::of(""));
        let told = whole(answer.await?).await?;
        let told: Value = serde_json::from_slice(&told).map_err(Failure::plain)?;
        Ok(told["tasks"].as_array().cloned().unwrap_or_default())
    }

    /// A task's container, as its agent knows it. A task that was launched just now has none yet.
    async fn container_of(&self, task: &str, framework: &str) -> Result<pb::ContainerId, Failure> {
        let mut tries = 0..STARTING_TRIES;
        loop {
            let found = self.container_now(task, framework).await?;
            match (found, tries.next()) {
                (Some(container), _) => return Ok(container),
                (None, Some(_)) => alarm::after(STARTING_US).await,
                (None, None) => {
                    let why = format!("task `{task}` is not on its agent, not yet or not any more");
                    return Err(Failure::plain(why));
                }
            }
        }
    }

    async fn container_now(
        &self,
        task: &str,
        framework: &str,
    ) -> Result<Option<pb::ContainerId>, Failure> {
        let mut call = Call::default();
        call.set_type(Type::GetTasks);
        let told = self.told(&call).await?.get_tasks.unwrap_or_default();
        let is = |one: &&pb::Task| one.task_id.value == task && one.framework_id.value == framework;
        // Its master may not have heard of its end yet.
        if let Some(over) = told.terminated_tasks.iter().find(is) {
            let state = over.state().as_str_name();
            return Err(Failure::plain(format!("task `{task}` does not run: {state}")));
        }
        let found = told.launched_tasks.iter().find(is);
        let status = found.and_then(|task| task.statuses.last());
        let container = status.and_then(|status| status.container_status.as_ref());
        Ok(container.and_then(|container| container.container_id.clone()))
    }

    /// Makes a call that is answered by a message.
    async fn told(&self, call: &Call) -> Result<Told, Failure> {
        Told::decode(whole(self.answer(call).await?).await?).map_err(Failure::plain)
    }

    async fn answer(&self, call: &Call) -> Result<Response<Incoming>, Failure> {
        let request = self.post().header(ACCEPT, Media::Protobuf.name());
        let request = request.header(CONTENT_TYPE, Media::Protobuf.name());
        self.ask(request, Body::of(call.encode_to_vec())).await
    }

    /// Makes a call that is answered by a stream.
    async fn streams(&self, call: &Call) -> Result<Incoming, Failure> {
        let request = self.post().header(CONTENT_TYPE, Media::Protobuf.name());
        let request = request.header(ACCEPT, RECORDIO);
        let request = request.header("Message-Accept", Media::Protobuf.name());
        let answer = self.ask(request, Body::of(call.encode_to_vec())).await?;
        if answer.status() == StatusCode::OK {
            return Ok(answer.into_body());
        }
        whole(answer).await?;
        Err(Failure::plain("the agent began no session"))
    }

    fn post(&self) -> hyper::http::request::Builder {
        Request::builder().method(Method::POST).uri(&self.path)
    }

    /// Sends a request on a stream of its own.
    async fn ask(
        &self,
        request: hyper::http::request::Builder,
        body: Body,
    ) -> Result<Response<Incoming>, Failure> {
        self.leader.ask(request.body(body).map_err(Failure::plain)?).await
    }

    /// Writes to a session what this process reads, if it is to, and how large its terminal is.
    fn write(&self, id: &pb::ContainerId, flags: &Exec) {
        let (sender, receiver) = async_channel::bounded::<Bytes>(2);
        let request = self.post().header(CONTENT_TYPE, RECORDIO);
        let request = request.header("Message-Content-Type", Media::Protobuf.name());
        let (leader, body) = (Rc::clone(&self.leader), Body::fed(receiver));
        let written = async move {
            if let Ok(request) = request.body(body) {
                // What becomes of it the session's own end tells.
                let _ = leader.ask(request).await;
            }
        };
        self.leader.tasks.spawn(written).detach();
        let first = call::AttachContainerInput {
            container_id: Some(id.clone()),
            r#type: Some(call::attach_container_input::Type::ContainerId.into()),
            ..Default::default()
        };
        let (interactive, tty) = (flags.interactive, flags.tty);
        self.leader
            .tasks
            .spawn(async move {
                say(&sender, first).await;
                let reading = async {
                    if interactive {
                        pass_on(&sender).await;
                    } else if !tty {
                        say(&sender, typed(Vec::new())).await;
                    }
                };
                if tty {
                    futures_lite::future::zip(reading, resizes(&sender)).await;
                } else {
                    reading.await;
                }
            })
            .detach();
    }

    /// How a session ended; its name is free then.
    async fn status_of(&self, id: &pb::ContainerId) -> Result<Option<i32>, Failure> {
        let wait = call::WaitContainer { container_id: id.clone() };
        let mut call = Call { wait_container: Some(wait), ..Call::default() };
        call.set_type(Type::WaitContainer);
        let answer = self.answer(&call).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            // It is forgotten with its task.
            return Ok(None);
        }
        let told = Told::decode(whole(answer).await?).map_err(Failure::plain)?;
        let ended = told.wait_container.unwrap_or_default();
        let remove = call::RemoveContainer { container_id: id.clone() };
        let mut call = Call { remove_container: Some(remove), ..Call::default() };
        call.set_type(Type::RemoveContainer);
        let request = self.post().header(CONTENT_TYPE, Media::Protobuf.name());
        // It would go by itself when there is no room.
        let _ = self.ask(request, Body::of(call.encode_to_vec())).await;
        Ok(ended.exit_status)
    }
}

/// The agent and the framework of the one task that is meant.
fn chosen(rows: &[Value], of: &TaskAt) -> Result<(String, String), Failure> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let framework = of.framework.as_deref();
    let meant = |row: &&Value| framework.is_none_or(|wanted| text(row, "framework_id") == wanted);
    let rows: Vec<&Value> = rows.iter().filter(meant).collect();
    let lives = |row: &&&Value| {
        let state = text(row, "state");
        ["TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING"].contains(&&*state)
    };
    let alive: Vec<&&Value> = rows.iter().filter(lives).collect();
    let task = &of.task;
    match (&*alive, rows.first()) {
        ([row], _) => Ok((text(row, "slave_id"), text(row, "framework_id"))),
        ([], None) => Err(Failure::plain(format!("there is no task `{task}`"))),
        ([], Some(row)) => {
            Err(Failure::plain(format!("task `{task}` does not run: {}", text(row, "state"))))
        }
        (several, _) => {
            let ids: Vec<String> = several.iter().map(|row| text(row, "framework_id")).collect();
            let ids = ids.join(", ");
            Err(Failure::plain(format!(
                "several frameworks have a task `{task}`; add --framework, one of {ids}"
            )))
        }
    }
}

/// An answer's whole body; one that is none is told.
async fn whole(answer: Response<Incoming>) -> Result<Bytes, Failure> {
    let status = answer.status();
    let body = http_body_util::Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(Failure::plain)?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let why = String::from_utf8_lossy(&body).trim().to_owned();
    Err(Failure::plain(if why.is_empty() { status.to_string() } else { why }))
}

/// Some of the standard input; empty at its end.
fn read() -> Vec<u8> {
    let mut bytes = vec![0; CHUNK];
    let len = io::stdin().lock().read(&mut bytes).unwrap_or(0);
    bytes.truncate(len);
    bytes
}

/// Passes the standard input on to its end.
async fn pass_on(sender: &async_channel::Sender<Bytes>) {
    loop {
        let bytes = blocking::unblock(read).await;
        let over = bytes.is_empty();
        say(sender, typed(bytes)).await;
        if over {
            return;
        }
    }
}

fn typed(bytes: Vec<u8>) -> call::AttachContainerInput {
    let mut data = process_io::Data { data: Some(bytes), ..Default::default() };
    data.set_type(Of::Stdin);
    let mut said = ProcessIo { data: Some(data), ..ProcessIo::default() };
    said.set_type(process_io::Type::Data);
    input(said)
}

fn input(said: ProcessIo) -> call::AttachContainerInput {
    let mut input = call::AttachContainerInput { process_io: Some(said), ..Default::default() };
    input.set_type(call::attach_container_input::Type::ProcessIo);
    input
}

async fn say(sender: &async_channel::Sender<Bytes>, input: call::AttachContainerInput) {
    let mut call = Call { attach_container_input: Some(input), ..Call::default() };
    call.set_type(Type::AttachContainerInput);
    // Who does not listen any more has ended, which is seen elsewhere.
    let _ = sender.send(framed(&call.encode_to_vec()).into()).await;
}

/// Says how large the terminal is, whenever that changes.
async fn resizes(sender: &async_channel::Sender<Bytes>) {
    let Ok(resized) = Resized::new() else { return };
    while resized.next().await {
        let mut control = process_io::Control { tty_info: Some(window()), ..Default::default() };
        control.set_type(process_io::control::Type::TtyInfo);
        let mut said = ProcessIo { control: Some(control), ..ProcessIo::default() };
        said.set_type(process_io::Type::Control);
        say(sender, input(said)).await;
    }
}

/// This process' terminal, which passes on every key until it is given back.
struct Terminal(Termios);

impl Terminal {
    fn raw() -> Result<Self, Failure> {
        let before = tcgetattr(io::stdin()).map_err(|_| {
            Failure::new(super::USAGE, "-t needs a terminal as standard input; leave it out")
        })?;
        signals::block_at_terminal().map_err(Failure::plain)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(Failure::plain)?;
        Ok(Self(before))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(framework: Option<&str>) -> TaskAt {
        let trusted = Default::default();
        let at = crate::flags::Where { master: None, credential: None, trusted, insecure: false };
        TaskAt { at, task: "web".to_owned(), framework: framework.map(str::to_owned) }
    }

    #[test]
    fn the_one_task_that_runs_is_meant() {
        let row = |framework: &str, state: &str| json!({"framework_id": framework, "slave_id": "S1", "state": state});
        let one = chosen(&[row("a", "TASK_FAILED"), row("b", "TASK_RUNNING")], &of(None));
        assert_eq!(one.unwrap(), ("S1".to_owned(), "b".to_owned()));
        let both = [row("a", "TASK_RUNNING"), row("b", "TASK_RUNNING")];
        assert_eq!(chosen(&both, &of(Some("a"))).unwrap().1, "a");
        for (rows, words) in [
            (&both[..], "add --framework, one of a, b"),
            (&[row("a", "TASK_LOST")], "does not run: TASK_LOST"),
            (&[], "there is no task `web`"),
        ] {
            let why = chosen(rows, &of(None)).unwrap_err().message;
            assert!(why.contains(words), "{why}");
        }
    }
}
