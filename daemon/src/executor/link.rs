//! An executor's connections to its agent: one for the stream of events, one for its calls.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, Response};
use prost::Message;
use smol::net::TcpStream;
use smol_hyper::rt::FuturesIo;

use super::given::Given;
use super::kept::{Kept, Next};
use super::{Driver, Error, Event, Task};
use crate::machines::recordio::Pieces;
use crate::pb::mesos::v1 as pb;
use crate::v1::amounts;
use crate::{alarm, clock, random};
use pb::executor::call::{self, Type};
use pb::executor::{self, event};

const PROTOBUF: &str = "application/x-protobuf";
/// Bytes of one event that are taken.
const RECORD_MAX: usize = 256 * 1024 * 1024;
/// How long the agent may take to answer a call, in µs.
const ANSWER_US: u64 = 15_000_000;

/// Why a connection ended.
enum Ended {
    /// As it should.
    Done,
    /// The agent wants no other.
    Refused(String),
    /// It may come back.
    Broken(String),
}

impl Ended {
    fn broken(why: &dyn fmt::Display) -> Self {
        Self::Broken(why.to_string())
    }
}

/// Subscribes until it is over.
pub(super) async fn live<F: FnMut(&Driver, Event)>(
    given: &Given,
    driver: &Driver,
    executor: F,
) -> Result<(), Error> {
    let link = Link { given, driver, executor: RefCell::new(executor), alive: Cell::new(true) };
    let mut since = clock::now();
    loop {
        link.alive.set(false);
        let ended = link.connect().await;
        if link.alive.get() {
            since = clock::now();
        }
        match ended {
            Ended::Done => return Ok(()),
            Ended::Refused(why) => return Err(Error::Ended(why)),
            // Who is being ended has nobody to tell any more.
            Ended::Broken(_) if driver.kept(|kept| kept.stops()) => return Ok(()),
            Ended::Broken(why) => {
                if clock::now() >= since.after(given.recovery_us) {
                    return Err(Error::Lost(why));
                }
                link.tell(Event::Disconnected(why));
                alarm::after(random::below(given.backoff_us)).await;
            }
        }
    }
}

struct Link<'a, F> {
    given: &'a Given,
    driver: &'a Driver,
    executor: RefCell<F>,
    /// The agent took its subscription.
    alive: Cell<bool>,
}

impl<F: FnMut(&Driver, Event)> Link<'_, F> {
    fn tell(&self, event: Event) {
        (self.executor.borrow_mut())(self.driver, event);
    }

    /// One connection, from its beginning to its end.
    async fn connect(&self) -> Ended {
        let subscribe = self.driver.kept(Kept::subscribe);
        let call = self.call(Type::Subscribe, |call| call.subscribe = Some(subscribe));
        let life = async {
            let (mut stream, one) = open(&self.given.endpoint).await?;
            let (mut calls, two) = open(&self.given.endpoint).await?;
            let talk = async {
                let answer = self.send(&mut stream, &call).await?;
                self.alive.set(true);
                let reading = self.read(answer);
                let writing = self.write(&mut calls);
                futures_lite::future::or(reading, writing).await
            };
            // What drives the connections ends with them.
            futures_lite::future::or(talk, futures_lite::future::or(one, two)).await
        };
        match life.await {
            Ok(()) => Ended::Done,
            Err(ended) => ended,
        }
    }

    async fn read(&self, mut answer: Response<Incoming>) -> Result<(), Ended> {
        let mut records = Pieces::new(RECORD_MAX);
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|error| Ended::broken(&error))?;
            let Some(bytes) = frame.data_ref() else { continue };
            for record in records.take(bytes).map_err(|error| Ended::broken(&error))? {
                let event = executor::Event::decode(&record[..]);
                self.event(event.map_err(|error| Ended::broken(&error))?)?;
            }
        }
        Err(Ended::broken(&"the agent ended the stream"))
    }

    fn event(&self, event: executor::Event) -> Result<(), Ended> {
        match event.r#type() {
            event::Type::Subscribed => {
                let told = event.subscribed.unwrap_or_default();
                let agent = told.agent_info.id.map_or_else(String::new, |id| id.value);
                let container = told.container_id.map_or_else(String::new, |id| id.value);
                self.tell(Event::Subscribed { agent, container });
            }
            event::Type::Launch => {
                let task = self.launched(event.launch.unwrap_or_default().task);
                self.tell(Event::Launch(task));
            }
            event::Type::LaunchGroup => {
                let tasks = event.launch_group.unwrap_or_default().task_group.tasks;
                let tasks = tasks.into_iter().map(|task| self.launched(task)).collect();
                self.tell(Event::LaunchGroup(tasks));
            }
            event::Type::Kill => {
                let kill = event.kill.unwrap_or_default();
                let grace = kill.kill_policy.and_then(|policy| policy.grace_period);
                let grace = grace.as_ref().and_then(amounts::duration);
                let grace = grace.map(std::time::Duration::from_micros);
                self.tell(Event::Kill { task: kill.task_id.value, grace });
            }
            event::Type::Acknowledged => {
                let of = event.acknowledged.unwrap_or_default();
                self.driver.change(|kept| kept.acknowledged(&of.task_id.value, &of.uuid));
            }
            event::Type::Message => {
                self.tell(Event::Message(event.message.unwrap_or_default().data));
            }
            event::Type::Error => {
                return Err(Ended::Refused(event.error.unwrap_or_default().message));
            }
            event::Type::Shutdown => {
                self.tell(Event::Shutdown);
                self.driver.stop();
            }
            event::Type::Heartbeat | event::Type::Unknown => {}
        }
        Ok(())
    }

    fn launched(&self, info: pb::TaskInfo) -> Task {
        self.driver.kept(|kept| kept.launched(&info));
        Task::of(info)
    }

    /// Sends what the executor tells, until it stops and the agent has it all.
    async fn write(&self, calls: &mut SendRequest<Full<Bytes>>) -> Result<(), Ended> {
        loop {
            let changed = self.driver.0.changed.listen();
            let call = match self.driver.kept(Kept::next) {
                Next::Status(status) => {
                    self.call(Type::Update, |call| call.update = Some(call::Update { status }))
                }
                Next::Message(data) => {
                    self.call(Type::Message, |call| call.message = Some(call::Message { data }))
                }
                Next::Done => return Ok(()),
                Next::Nothing if self.driver.kept(|kept| kept.stops()) => {
                    // The agent kills what stays for longer.
                    match alarm::within(self.given.grace_us, changed).await {
                        Some(()) => continue,
                        None => return Ok(()),
                    }
                }
                Next::Nothing => {
                    changed.await;
                    continue;
                }
            };
            self.send(calls, &call).await?;
        }
    }

    fn call(&self, kind: Type, fill: impl FnOnce(&mut executor::Call)) -> executor::Call {
        let mut call = executor::Call {
            executor_id: pb::ExecutorId { value: self.given.executor.clone() },
            framework_id: pb::FrameworkId { value: self.given.framework.clone() },
            r#type: Some(kind.into()),
            ..executor::Call::default()
        };
        fill(&mut call);
        call
    }

    /// Makes a call. What the agent finds wrong with one is the end of this executor: said again,
    /// it would be as wrong.
    async fn send(
        &self,
        to: &mut SendRequest<Full<Bytes>>,
        call: &executor::Call,
    ) -> Result<Response<Incoming>, Ended> {
        let mut request = Request::post("/api/v1/executor")
            .header(HOST, &self.given.endpoint)
            .header(CONTENT_TYPE, PROTOBUF)
            .header(ACCEPT, PROTOBUF);
        if let Some(token) = &self.given.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(call.encode_to_vec())));
        let request = request.map_err(|error| Ended::Refused(error.to_string()))?;
        let answer = alarm::within(ANSWER_US, to.send_request(request)).await;
        let answer = answer.ok_or_else(|| Ended::broken(&"the agent does not answer"))?;
        let answer = answer.map_err(|error| Ended::broken(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| Ended::broken(&error))?;
        let body = body.to_bytes();
        let why = String::from_utf8_lossy(&body).trim().to_owned();
        let why = if why.is_empty() { status.to_string() } else { why };
        Err(if status.is_client_error() { Ended::Refused(why) } else { Ended::Broken(why) })
    }
}

type Opened<D> = (SendRequest<Full<Bytes>>, D);

/// A connection, and what drives it until it ends.
async fn open(
    endpoint: &str,
) -> Result<Opened<impl Future<Output = Result<(), Ended>> + use<>>, Ended> {
    let stream = TcpStream::connect(endpoint).await.map_err(|error| Ended::broken(&error))?;
    let shaken = handshake(FuturesIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| Ended::broken(&error))?;
    let driving = async {
        let ended = connection.await;
        // What it still has to say is read by then.
        alarm::after(100_000).await;
        Err(match ended {
            Ok(()) => Ended::broken(&"the agent ended the connection"),
            Err(error) => Ended::broken(&error),
        })
    };
    Ok((sender, driving))
}
