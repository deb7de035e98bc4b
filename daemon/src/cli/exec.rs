//! `mesita exec` and `mesita attach`: commands in the containers of tasks, and what tasks write as
//! they do. Both speak to the task's agent as any client of Mesos does, by way of the leader.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::rc::Rc;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use prost::Message;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::Value;
use smol::LocalExecutor;

use super::{Failure, NO_MASTER, find, stream};
use crate::access::Credential;
use crate::alarm;
use crate::flags::{Attach, Exec, TaskAt};
use crate::http::body::Body;
use crate::http::media::{Media, RECORDIO};
use crate::http::records::{Pieces, framed};
use crate::pb::mesos::v1 as pb;
use crate::random;
use crate::signals::{self, Resized, Signals};
use crate::tls::Transport;
use pb::agent::call::{self, Type};
use pb::agent::{Call, ProcessIo, Response as Told, process_io};
use process_io::data::Type as Of;

/// Bytes of one record that are taken.
const RECORD_MAX: usize = 16 * 1024 * 1024;
/// Bytes of an answer that is read whole.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// Bytes that are read of the standard input at once.
const CHUNK: usize = 8 * 1024;
/// Redirections that are followed in a row.
const REDIRECTS_MAX: u32 = 8;
/// How often a task without a container is asked for, and after how long each, in µs.
const STARTING_TRIES: u32 = 50;
const STARTING_US: u64 = 100_000;

pub(super) fn main(flags: &Exec) -> Result<ExitCode, Failure> {
    super::log_warnings();
    // A terminal of its own is given back whatever ends this.
    let terminal = if flags.tty { Some(Terminal::raw()?) } else { None };
    let tasks = Rc::new(LocalExecutor::new());
    let run = exec(&tasks, flags);
    let ended = alarm::block_on(tasks.run(async {
        match flags.tty {
            true => futures_lite::future::or(run, told_to_end()).await,
            false => run.await,
        }
    }));
    drop(terminal);
    ended
}

/// `mesita attach`
pub(super) fn attach(flags: &Attach) -> Result<ExitCode, Failure> {
    super::log_warnings();
    let tasks = Rc::new(LocalExecutor::new());
    alarm::block_on(tasks.run(async {
        let api = Api::find(&tasks, &flags.at).await?;
        let container_id = api.container.clone();
        let mut call = Call {
            attach_container_output: Some(call::AttachContainerOutput { container_id }),
            ..Call::default()
        };
        call.set_type(Type::AttachContainerOutput);
        print_all(api.streams(&call).await?).await?;
        Ok(ExitCode::SUCCESS)
    }))
}

async fn exec(tasks: &Rc<LocalExecutor<'static>>, flags: &Exec) -> Result<ExitCode, Failure> {
    let api = Api::find(tasks, &flags.at).await?;
    let id = pb::ContainerId {
        value: format!("exec-{:016x}", random::number()),
        parent: Some(Box::new(api.container.clone())),
    };
    let output = api.streams(&session(&id, flags)).await?;
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
    ExitCode::from(u8::try_from(status & 0xff).unwrap_or(super::FAILED))
}

/// Waits for a signal that ends this: the terminal is to be given back first.
async fn told_to_end() -> Result<ExitCode, Failure> {
    Signals::new().map_err(Failure::plain)?.next().await;
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
        return io::stderr().write_all(bytes);
    }
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// A task's agent, by way of the leader.
struct Api {
    tasks: Rc<LocalExecutor<'static>>,
    address: RefCell<String>,
    /// How it is reached.
    over: Transport,
    credential: Option<Rc<Credential>>,
    /// The path of the agent's API.
    path: String,
    /// The task's container.
    container: pb::ContainerId,
}

impl Api {
    /// Finds the leader, the task, and where that is.
    async fn find(tasks: &Rc<LocalExecutor<'static>>, of: &TaskAt) -> Result<Self, Failure> {
        let (addresses, over) = find::addresses(&of.at)?;
        let mut api = Self {
            tasks: Rc::clone(tasks),
            address: RefCell::default(),
            over,
            credential: super::credential(of.at.credential.as_deref())?,
            path: String::new(),
            container: pb::ContainerId::default(),
        };
        let mut first = None;
        for address in addresses {
            *api.address.borrow_mut() = address;
            match api.tasks_called(&of.task).await {
                Ok(rows) => {
                    let (agent, framework) = chosen(&rows, of)?;
                    api.path = format!("/agent/{agent}/api/v1");
                    api.container = api.container_of(&of.task, &framework).await?;
                    return Ok(api);
                }
                Err(failure) => {
                    first.get_or_insert(failure);
                }
            }
        }
        Err(first.unwrap_or_else(|| Failure::new(NO_MASTER, "there is no master")))
    }

    /// The tasks of a name that the leader knows.
    async fn tasks_called(&self, task: &str) -> Result<Vec<Value>, Failure> {
        let path = format!("/tasks?task_id={}", escaped(task));
        for _ in 0..REDIRECTS_MAX {
            let request = Request::builder().method(Method::GET).uri(&path);
            let answer = self.ask(request, Body::of("")).await?;
            match stream::leader_of(&answer)? {
                Some(leader) => *self.address.borrow_mut() = leader,
                None => {
                    let told: Value =
                        serde_json::from_slice(&whole(answer).await?).map_err(Failure::plain)?;
                    return Ok(told["tasks"].as_array().cloned().unwrap_or_default());
                }
            }
        }
        Err(Failure::new(NO_MASTER, "every master names another one"))
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

    /// Sends a request on a connection of its own.
    async fn ask(
        &self,
        request: hyper::http::request::Builder,
        body: Body,
    ) -> Result<Response<Incoming>, Failure> {
        let address = self.address.borrow().clone();
        let (mut sender, connection) = stream::connect(&address, &self.over).await?;
        self.tasks.spawn(connection).detach();
        let mut request = request.header(HOST, &address);
        if let Some(credential) = &self.credential {
            request = request.header(AUTHORIZATION, credential.basic());
        }
        let request = request.body(body).map_err(Failure::plain)?;
        let failed = |error| Failure::new(NO_MASTER, format!("no master at {address}: {error}"));
        sender.send_request(request).await.map_err(failed)
    }

    /// Writes to a session what this process reads, if it is to, and how large its terminal is.
    fn write(&self, id: &pb::ContainerId, flags: &Exec) {
        let (sender, receiver) = async_channel::bounded::<Bytes>(2);
        let request = self.post().header(CONTENT_TYPE, RECORDIO);
        let request = request.header("Message-Content-Type", Media::Protobuf.name());
        let again = Self {
            tasks: Rc::clone(&self.tasks),
            address: self.address.clone(),
            over: self.over.clone(),
            credential: self.credential.clone(),
            path: String::new(),
            container: pb::ContainerId::default(),
        };
        let body = Body::fed(receiver);
        self.tasks.spawn(async move { again.ask(request, body).await }).detach();
        let first = call::AttachContainerInput {
            container_id: Some(id.clone()),
            r#type: Some(call::attach_container_input::Type::ContainerId.into()),
            ..Default::default()
        };
        let (interactive, tty) = (flags.interactive, flags.tty);
        self.tasks
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

/// A name in the query of a path.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let each = name.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    each.collect()
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
        signals::block().and_then(|()| signals::block_resized()).map_err(Failure::plain)?;
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
        let at =
            crate::flags::Where { master: None, credential: None, trusted: Default::default() };
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

    #[test]
    fn names_are_escaped_in_queries() {
        assert_eq!(escaped("a b&c=é"), "a%20b%26c%3D%C3%A9");
    }
}
