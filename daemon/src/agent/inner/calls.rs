//! The calls of the operator API about containers. Who may do what: whoever operates the agent, and
//! whoever runs the task that it is about, as far as `--acls` let them.
//!
//! Mesos: `slave/http.cpp`, with its order of checks and its sentences.

use std::rc::Rc;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Request, StatusCode};
use mesita_core::acls::Action;
use mesita_core::doors::{Rights, may_run_as};
use mesita_core::wire::{ContainerId, FrameworkId, Scratch, Session};
use mesita_isolation::cgroups::At;
use mesita_isolation::isolators::{Cap, TaskLimits};
use mesita_isolation::sandbox;

use super::attach::{Form, Input, Written, said};
use super::chain::Chain;
use super::stdio::{Stdio, Window};
use super::{Class, Ending, Inner, SIGKILL, Start, State};
use crate::agent::AgentNode;
use crate::agent::build::asked as held;
use crate::agent::limited::Limited;
use crate::agent::walls;
use crate::alarm;
use crate::audit::calls::at_agent;
use crate::command::{Command, image_of};
use crate::doors::{Caller, Denied};
use crate::http::body::Body;
use crate::http::media::{Media, is_stream};
use crate::http::{Early, Reply, early, request, status};
use crate::pb::mesos::v1 as pb;
use crate::v1::amounts::amount;
use crate::v1::events;
use crate::v1::resources::to_wire;
use crate::v1::tasks::contained;
use pb::agent::call::Type;
use pb::agent::{Call, Response, response};
use pb::linux_info::IpcMode;

/// What the name of a caller begins with that is an executor here; its container follows.
const EXECUTOR: &str = "executor:";

/// Bytes in which resources of a container of its own are read.
const MEMORY: usize = 16 * 1024;

/// The calls that start one, those that wait for its end, and those that kill it.
#[allow(deprecated)] // Old clients make the old calls.
const STARTS: [Type; 3] =
    [Type::LaunchNestedContainer, Type::LaunchContainer, Type::LaunchNestedContainerSession];
#[allow(deprecated)]
const WAITS: [Type; 2] = [Type::WaitNestedContainer, Type::WaitContainer];
#[allow(deprecated)]
const KILLS: [Type; 2] = [Type::KillNestedContainer, Type::KillContainer];

/// Where a container is, or would be.
struct Place {
    /// What it ends with; none: it is of its own.
    root: Option<At>,
    /// The one around it that has limits of its own.
    within: Option<ContainerId>,
    framework: FrameworkId,
    /// Whose the root is.
    owner: String,
}

/// What is asked to be started.
struct Asked<'c> {
    id: &'c pb::ContainerId,
    command: Option<&'c pb::CommandInfo>,
    container: Option<&'c pb::ContainerInfo>,
    resources: &'c [pb::Resource],
    limits: Vec<(&'c str, f64)>,
    session: bool,
    /// The part of the call that is about one inside of another; none: it may be one of its own.
    nested: Option<&'static str>,
}

impl AgentNode {
    /// Answers a call about containers; none: it is about something else.
    pub(in crate::agent) async fn container_call(
        self: &Rc<Self>,
        call: &Call,
        headers: &HeaderMap,
        caller: &Caller,
    ) -> Option<Result<Reply, Early>> {
        let kind = call.r#type();
        if kind == Type::AttachContainerInput {
            let message = "Expecting 'Content-Type' to be application/recordio for \
                           ATTACH_CONTAINER_INPUT call";
            return Some(Err(early(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)));
        }
        if STARTS.contains(&kind) {
            return Some(match asked(call) {
                Some(asked) => self.start_inner(&asked, headers, caller).await,
                None => Err(part_of(kind)),
            });
        }
        let Some(id) = about(call)? else { return Some(Err(part_of(kind))) };
        Some(if WAITS.contains(&kind) {
            self.wait_for(id, kind, headers, caller)
        } else if KILLS.contains(&kind) {
            self.kill_named(id, signal(call), caller).await
        } else if kind == Type::AttachContainerOutput {
            self.attach_output(id, headers, caller).await
        } else {
            self.remove_named(id, caller).await
        })
    }

    async fn start_inner(
        self: &Rc<Self>,
        asked: &Asked<'_>,
        headers: &HeaderMap,
        caller: &Caller,
    ) -> Result<Reply, Early> {
        let chain = self.chain(asked.id)?;
        let start = start(asked, chain.depth()).map_err(|why| bad(&why))?;
        let form = if asked.session { Some(Form::asked(headers)?) } else { None };
        let place = self.place(&chain)?;
        let class = match (place.root, asked.session) {
            (None, _) => Class::Standalone,
            (Some(_), true) => Class::Session,
            (Some(_), false) => Class::Nested,
        };
        let user = asked.command.and_then(|command| command.user.clone());
        let user = user.filter(|user| !user.is_empty()).unwrap_or_else(|| place.owner.clone());
        self.may_start(caller, &place, class, &user)?;
        if self.inners.get(&chain).is_some() {
            return Ok(status(StatusCode::ACCEPTED));
        }
        self.is_ready_for(class)?;
        let inner = self.enlist(chain, &place, class, user, start);
        let begun = inner.begun().await;
        begun.map_err(|why| early(StatusCode::INTERNAL_SERVER_ERROR, why))?;
        let stdio = inner.stdio.borrow().clone();
        Ok(match (form, stdio) {
            (Some(form), Some(stdio)) => self.hold(&inner, &stdio, form),
            _ => status(StatusCode::OK),
        })
    }

    /// What the agent must have to start one at all.
    fn is_ready_for(&self, class: Class) -> Result<(), Early> {
        let unable = |why: String| early(StatusCode::SERVICE_UNAVAILABLE, why);
        self.beside.is_able(true).map_err(unable)?;
        if class == Class::Standalone && self.inners.session.get() == Session::default() {
            return Err(unable("the agent has not been registered with a master yet".to_owned()));
        }
        if self.inners.has_room() {
            return Ok(());
        }
        let max = self.inners.max;
        Err(unable(format!(
            "the agent knows {max} containers that were started by this API, and no more; remove \
             some that have ended, or raise --inner-containers-max"
        )))
    }

    fn enlist(
        self: &Rc<Self>,
        chain: Chain,
        place: &Place,
        class: Class,
        user: String,
        start: Start,
    ) -> Rc<Inner> {
        let (id, process) = self.beside.begin(true);
        let inner = Rc::new(Inner {
            root: place.root.unwrap_or_else(|| id.into()),
            framework: place.framework,
            owner: if class == Class::Standalone { user.clone() } else { place.owner.clone() },
            state: State::Starting.into(),
            unwanted: false.into(),
            limited: None.into(),
            apart: class == Class::Nested && !start.limits.shared,
            parted: false.into(),
            within: place.within,
            asked: (start.limits.cpus_milli, start.limits.mem_bytes),
            stdio: None.into(),
            changed: event_listener::Event::new(),
            chain: chain.clone(),
            id,
            class,
            user,
        });
        self.inners.known.borrow_mut().insert(chain, Rc::clone(&inner));
        self.tasks.go(Rc::clone(self).live(Rc::clone(&inner), process, start));
        inner
    }

    /// Finds what a container is inside of. Nothing is started inside of what is over.
    fn place(&self, chain: &Chain) -> Result<Place, Early> {
        let Some(parent) = chain.parent() else {
            // The id of a task's container is taken, and that is no container of its own.
            if self.task_container(chain).is_some() {
                return Err(bad("'container_id' is that of a task's or an executor's container"));
            }
            let owner = mesita_isolation::user::name_of(rustix::process::geteuid().as_raw());
            let (root, within, framework) = (None, None, FrameworkId::NONE);
            return Ok(Place { root, within, framework, owner: owner.unwrap_or_default() });
        };
        if let Some(id) = self.task_container(&parent) {
            return self.place_in(id, &parent);
        }
        let around = self.inners.get(&parent).ok_or_else(|| missing(&parent))?;
        if around.is_over() {
            return Err(missing(&parent));
        }
        let root = Some(around.root);
        let within = if around.apart { Some(around.id) } else { around.within };
        Ok(Place { root, within, framework: around.framework, owner: around.owner.clone() })
    }

    fn place_in(&self, id: ContainerId, parent: &Chain) -> Result<Place, Early> {
        let container = self.containers.get(id).filter(|one| !one.is_over());
        let container = container.ok_or_else(|| missing(parent))?;
        if container.is_empty() {
            return Err(bad(
                "the container of a task group's executor has no process; name that of a task in it",
            ));
        }
        if container.docker().is_some() {
            return Err(bad(
                "a container of type DOCKER is the Docker engine's, which starts none inside of it",
            ));
        }
        let framework = self.containers.framework_of(id).unwrap_or(FrameworkId::NONE);
        let owner = self.containers.names(id).user;
        Ok(Place { root: Some(self.containers.at(id)), within: None, framework, owner })
    }

    /// The names of an id. That of a task in an executor's container may be left to begin with it, as
    /// statuses tell it: no other container here has its name.
    fn chain(&self, id: &pb::ContainerId) -> Result<Chain, Early> {
        let chain = Chain::read(id);
        let chain = chain.map_err(|why| bad(&format!("'container_id' is invalid: {why}")))?;
        let first = chain.names().first().and_then(|name| ContainerId::parse(name));
        let around = first.and_then(|first| self.containers.at(first).inside);
        Ok(around.map_or(chain.clone(), |around| chain.in_executor(around)))
    }

    /// A task's or an executor's container of this name.
    fn task_container(&self, chain: &Chain) -> Option<ContainerId> {
        let id = ContainerId::parse(chain.name())?;
        self.containers.get(id)?;
        (Chain::from(self.containers.at(id)) == *chain).then_some(id)
    }

    /// An answer unless a caller may do something to what belongs to a framework, or to nobody.
    fn may_touch(
        &self,
        caller: &Caller,
        framework: FrameworkId,
        root: Option<At>,
    ) -> Result<(), Early> {
        let owner = self.executors.owner(framework);
        let owns = || owner.is_some_and(|owner| owner == caller.name);
        if caller.rights.has(Rights::OPERATE) || owns() || is_inside(caller, root) {
            return Ok(());
        }
        let message = "only who runs a task, or operates the agent, may do this to its containers";
        Err(early(StatusCode::FORBIDDEN, message))
    }

    fn may_start(
        &self,
        caller: &Caller,
        place: &Place,
        class: Class,
        user: &str,
    ) -> Result<(), Early> {
        self.may_touch(caller, place.framework, place.root)?;
        let own = class != Class::Standalone && user == place.owner;
        // An executor is nobody else, whatever whoever started it may be.
        let executor = caller.name.starts_with(EXECUTOR);
        let refused = |more: &str| {
            let who = user.escape_debug();
            let message = format!("you may not run anything as the user `{who}` here{more}");
            Err(early(StatusCode::FORBIDDEN, message))
        };
        if !own && (executor || !may_run_as(&caller.name, caller.rights, user)) {
            return refused("");
        }
        let (action, under) = match class {
            Class::Standalone => (Action::LaunchStandaloneContainer, None),
            Class::Nested => {
                (Action::LaunchNestedContainer, Some(Action::LaunchNestedContainerUnder))
            }
            Class::Session => (Action::LaunchNestedSession, Some(Action::LaunchNestedSessionUnder)),
        };
        // Which users the masters let it have tasks of, no agent knows.
        if !own && !self.options.access.lets_run_as(caller, action, user) {
            let list = action.list();
            return refused(&format!(": no rule of the agent's --acls names it in `{list}`"));
        }
        let check = |action, user: &str| self.check_container(caller, action, user);
        check(action, user)?;
        under.map_or(Ok(()), |under| check(under, &place.owner))
    }

    /// What `--acls` say, but to executors about what is their own. Mesos: implicit authorization.
    fn check_container(&self, caller: &Caller, action: Action, user: &str) -> Result<(), Early> {
        if caller.name.starts_with(EXECUTOR) {
            return Ok(());
        }
        self.options.access.check(caller, action, Some(user))
    }

    /// A container that is known, if a caller may do this to it.
    fn named(
        &self,
        id: &pb::ContainerId,
        caller: &Caller,
        [nested, standalone]: [Action; 2],
    ) -> Result<Rc<Inner>, Early> {
        let chain = self.chain(id)?;
        let Some(inner) = self.inners.get(&chain) else {
            if self.task_container(&chain).is_some() {
                return Err(bad("this is about what runs inside of a task's container, not it"));
            }
            return Err(missing(&chain));
        };
        self.may_touch(caller, inner.framework, Some(inner.root))?;
        let action = if inner.framework.is_none() { standalone } else { nested };
        self.check_container(caller, action, &inner.owner)?;
        Ok(inner)
    }

    /// Answers when it has ended; that it is known is told at once.
    fn wait_for(
        self: &Rc<Self>,
        id: &pb::ContainerId,
        kind: Type,
        headers: &HeaderMap,
        caller: &Caller,
    ) -> Result<Reply, Early> {
        let media = request::asked(headers)?;
        let actions = [Action::WaitNestedContainer, Action::WaitStandaloneContainer];
        let inner = self.named(id, caller, actions)?;
        let (sender, receiver) = async_channel::bounded::<Bytes>(1);
        self.tasks.go(async move {
            let ended = async {
                let told = media.write(&waited(kind, inner.ended().await));
                let _ = sender.send(told.into()).await;
            };
            futures_lite::future::or(ended, async { sender.closed().await }).await;
        });
        Ok(typed(Reply::new(Body::fed(receiver)), media))
    }

    async fn kill_named(
        &self,
        id: &pb::ContainerId,
        signal: Option<i32>,
        caller: &Caller,
    ) -> Result<Reply, Early> {
        let signal = match signal {
            None => SIGKILL,
            Some(signal) => u8::try_from(signal)
                .ok()
                .filter(|signal| (1..=64).contains(signal))
                .ok_or_else(|| bad(&format!("there is no signal {signal}")))?,
        };
        let actions = [Action::KillNestedContainer, Action::KillStandaloneContainer];
        let inner = self.named(id, caller, actions)?;
        if self.signal_inner(&inner, signal).await {
            return Ok(status(StatusCode::OK));
        }
        let chain = &inner.chain;
        let message = format!("Container {chain} cannot be found (or is already killed)");
        Err(early(StatusCode::NOT_FOUND, message))
    }

    async fn remove_named(&self, id: &pb::ContainerId, caller: &Caller) -> Result<Reply, Early> {
        let actions = [Action::RemoveNestedContainer, Action::RemoveStandaloneContainer];
        let inner = self.named(id, caller, actions)?;
        let failed = |why: String| early(StatusCode::INTERNAL_SERVER_ERROR, why);
        if !inner.is_over() {
            return Err(failed("Nested container has not terminated yet".to_owned()));
        }
        let (work_dir, below) = (self.work_dir.clone(), inner.below());
        let (root, own, class) = (inner.root, inner.id, inner.class);
        let (owner, user) = (inner.owner.clone(), inner.user.clone());
        let switch = self.containers.switches_user();
        let remove = move || match class {
            Class::Session => Ok(()),
            Class::Standalone => sandbox::remove(&work_dir, own).map_err(|error| error.to_string()),
            Class::Nested => {
                let resolved = |name: &str| crate::agent::build::resolved_begun(name, switch);
                let (owner, user) = (resolved(&owner)?, resolved(&user)?);
                let sandbox = sandbox::path(&work_dir, root);
                let removed = sandbox::remove_for(&sandbox, &below, owner.as_ref(), user.as_ref());
                removed.map_err(|error| error.to_string())
            }
        };
        self.containers.by_hand(remove).await.map_err(failed)?;
        self.forget_inner(&inner);
        Ok(status(StatusCode::OK))
    }

    async fn attach_output(
        self: &Rc<Self>,
        id: &pb::ContainerId,
        headers: &HeaderMap,
        caller: &Caller,
    ) -> Result<Reply, Early> {
        let form = Form::asked(headers)?;
        let chain = self.chain(id)?;
        let may = |framework: FrameworkId, root: At, user: &str| {
            self.may_touch(caller, framework, Some(root))?;
            self.check_container(caller, Action::AttachContainerOutput, user)
        };
        if let Some(id) = self.task_container(&chain) {
            let place = self.place_in(id, &chain)?;
            may(place.framework, self.containers.at(id), &place.owner)?;
            let container = self.containers.get(id).ok_or_else(|| missing(&chain))?;
            let sandbox = self.containers.sandbox(self.containers.at(id));
            let written = Written::Task(container);
            return Ok(self.follow(sandbox, Default::default(), written, form).await);
        }
        let inner = self.inners.get(&chain).ok_or_else(|| missing(&chain))?;
        may(inner.framework, inner.root, &inner.owner)?;
        let stdio = inner.stdio.borrow().clone();
        match stdio {
            _ if inner.is_over() => Err(missing(&chain)),
            Some(stdio) if !stdio.is_kept() => Ok(self.listen(&stdio, form)),
            _ => {
                let (sandbox, below) = (self.containers.sandbox(inner.root), inner.below());
                Ok(self.follow(sandbox, below, Written::Inner(inner), form).await)
            }
        }
    }

    /// A call of an executor, which may do everything inside of its own container and nothing else.
    pub(in crate::agent) async fn call_of_executor(
        self: Rc<Self>,
        request: Request<Incoming>,
        denied: Denied,
    ) -> Reply {
        match self.executor_calls(request, denied).await {
            Ok(reply) => reply,
            Err(reply) => *reply,
        }
    }

    async fn executor_calls(
        self: &Rc<Self>,
        request: Request<Incoming>,
        denied: Denied,
    ) -> Result<Reply, Early> {
        let forbidden = || early(StatusCode::FORBIDDEN, denied.to_string());
        let container = self.executor_behind(&denied, request.headers()).ok_or_else(forbidden)?;
        let caller = Caller::new(format!("{EXECUTOR}{container}"), Rights::NONE);
        if is_stream(request.headers()) {
            return self.attach_input(request, &caller).await;
        }
        let (call, headers) = request::message::<Call>(&self.port.bodies, request).await?;
        let answer = self.container_call(&call, &headers, &caller).await;
        answer.unwrap_or_else(|| Err(forbidden()))
    }

    /// `ATTACH_CONTAINER_INPUT`: a request that goes on for as long as somebody writes.
    pub(in crate::agent) async fn attach_input(
        &self,
        request: Request<Incoming>,
        caller: &Caller,
    ) -> Result<Reply, Early> {
        let (parts, body) = request.into_parts();
        let mut input = Input::of(&parts.headers, body)?;
        let answer = self.take_input(&mut input, caller).await;
        // Who still writes is to hear the answer, not that nobody reads any more.
        self.tasks.go(input.pass_over());
        answer
    }

    /// What somebody wants to write to, and whose it is.
    fn written_to(
        &self,
        id: &pb::ContainerId,
        caller: &Caller,
    ) -> Result<(Rc<Stdio>, Written), Early> {
        let without = || bad("only a session, and what has a terminal, can be written to");
        let chain = self.chain(id)?;
        if let Some(id) = self.task_container(&chain) {
            let place = self.place_in(id, &chain)?;
            self.may_touch(caller, place.framework, Some(self.containers.at(id)))?;
            self.check_container(caller, Action::AttachContainerInput, &place.owner)?;
            let container = self.containers.get(id).ok_or_else(|| missing(&chain))?;
            let stdio = container.stdio.borrow().clone().ok_or_else(without)?;
            return Ok((stdio, Written::Task(container)));
        }
        let inner = self.named(id, caller, [Action::AttachContainerInput; 2])?;
        let stdio = inner.stdio.borrow().clone();
        let stdio = stdio.ok_or_else(|| match inner.is_over() {
            // Clients know that by this: there is nothing to write to, and its output may go on.
            true => early(StatusCode::INTERNAL_SERVER_ERROR, "the container has ended"),
            false => without(),
        })?;
        Ok((stdio, Written::Inner(inner)))
    }

    async fn take_input(&self, input: &mut Input, caller: &Caller) -> Result<Reply, Early> {
        let first = alarm::within(request::BODY_US, input.next()).await.ok_or_else(|| {
            early(StatusCode::REQUEST_TIMEOUT, "the first record took longer than 30 s")
        })?;
        let first = first?.ok_or_else(|| bad("Received EOF while reading request body"))?;
        if first.r#type() != Type::AttachContainerInput {
            let name = first.r#type().as_str_name();
            let message = format!("Streaming 'Content-Type' is not supported for {name} call");
            return Err(early(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        if let Some((what, of)) = at_agent(&first) {
            caller.heed.asks(what, of);
        }
        let id = first.attach_container_input.as_ref().and_then(|one| one.container_id.as_ref());
        let id = id.ok_or_else(|| absent("attach_container_input.container_id"))?;
        let (stdio, of) = self.written_to(id, caller)?;
        let conflict = || {
            let message = "Multiple input connections are not allowed";
            early(StatusCode::CONFLICT, message)
        };
        let writer = stdio.attach().await.ok_or_else(conflict)?;
        let writing = async {
            while let Some(call) = input.next().await? {
                said(&stdio, &call).await.map_err(|why| bad(&why))?;
            }
            Ok(())
        };
        let over = async {
            of.ended().await;
            Ok(())
        };
        let ousted = async {
            stdio.ousted(writer).await;
            Err(conflict())
        };
        let ended = futures_lite::future::or(over, ousted);
        let written = futures_lite::future::or(writing, ended).await;
        stdio.detach(writer);
        written.map(|()| status(StatusCode::OK))
    }
}

/// True when a caller is the executor that everything in a container belongs to.
fn is_inside(caller: &Caller, root: Option<At>) -> bool {
    let own = caller.name.strip_prefix(EXECUTOR).and_then(ContainerId::parse);
    own.is_some() && root.is_some_and(|root| Some(root.inside.unwrap_or(root.id)) == own)
}

/// What a call asks to be started; none: it does not say.
#[allow(deprecated)] // Old clients make the old calls.
fn asked(call: &Call) -> Option<Asked<'_>> {
    let session = call.r#type() == Type::LaunchNestedContainerSession;
    if call.r#type() == Type::LaunchContainer {
        let one = call.launch_container.as_ref()?;
        let limits = one.limits.iter().map(|(name, limit)| (name.as_str(), limit.value));
        return Some(Asked {
            id: &one.container_id,
            command: one.command.as_ref(),
            container: one.container.as_ref(),
            resources: &one.resources,
            limits: limits.collect(),
            session,
            nested: None,
        });
    }
    let (id, command, container, nested) = if session {
        let one = call.launch_nested_container_session.as_ref()?;
        (&one.container_id, &one.command, &one.container, "launch_nested_container_session")
    } else {
        let one = call.launch_nested_container.as_ref()?;
        (&one.container_id, &one.command, &one.container, "launch_nested_container")
    };
    let (command, container, nested) = (command.as_ref(), container.as_ref(), Some(nested));
    Some(Asked { id, command, container, resources: &[], limits: Vec::new(), session, nested })
}

/// The container that a call is about, if it says; none: it is about none.
#[allow(deprecated)]
fn about(call: &Call) -> Option<Option<&pb::ContainerId>> {
    macro_rules! parts {
        ($($kind:ident $part:ident,)*) => {
            [$((Type::$kind, call.$part.as_ref().map(|one| &one.container_id)),)*]
        };
    }
    let parts = parts! {
        WaitNestedContainer wait_nested_container,
        WaitContainer wait_container,
        KillNestedContainer kill_nested_container,
        KillContainer kill_container,
        RemoveNestedContainer remove_nested_container,
        RemoveContainer remove_container,
        AttachContainerOutput attach_container_output,
    };
    parts.into_iter().find(|(kind, _)| *kind == call.r#type()).map(|(_, id)| id)
}

#[allow(deprecated)]
fn signal(call: &Call) -> Option<i32> {
    let nested = call.kill_nested_container.as_ref().and_then(|kill| kill.signal);
    nested.or_else(|| call.kill_container.as_ref().and_then(|kill| kill.signal))
}

/// Whether it is in the cgroups of what it is inside of, which is `depth` containers, as far as that
/// may be so. Mesos: `validation::agent::call::validate`.
fn shares(asked: &Asked<'_>, depth: usize) -> Result<bool, String> {
    let linux = asked.container.and_then(|container| container.linux_info.as_ref());
    let said = linux.and_then(|linux| linux.share_cgroups);
    if asked.session && said == Some(false) {
        return Err("'launch_nested_container_session.container.linux_info' is invalid: \
                    'share_cgroups' cannot be set to 'false' for nested container sessions"
            .to_owned());
    }
    let call = asked.nested.unwrap_or("launch_container");
    for (asks, what) in [
        (!asked.resources.is_empty(), "specify resources"),
        (!asked.limits.is_empty(), "specify resource limits"),
        (said == Some(false), "set 'share_cgroups' to 'false'"),
    ] {
        if asks && depth > 1 {
            return Err(format!(
                "'{call}' is invalid: containers nested at the second level or greater cannot {what}"
            ));
        }
    }
    match (depth, said) {
        (0, Some(true)) => {
            Err("'launch_container' is invalid: containers without a parent cannot \
                                set 'share_cgroups' to 'true'"
                .to_owned())
        }
        (0, _) | (_, Some(false)) => Ok(false),
        _ if asked.resources.is_empty() && asked.limits.is_empty() => Ok(true),
        _ => Err("Resources may only be specified when using separate cgroups".to_owned()),
    }
}

/// Checks what is to be started inside of so many others.
fn start(asked: &Asked<'_>, depth: usize) -> Result<Start, String> {
    let nested = depth > 0;
    if let Some(part) = asked.nested.filter(|_| !nested) {
        return Err(format!("Expecting '{part}.container_id.parent' to be present"));
    }
    let command =
        asked.command.ok_or("a container needs a command, for images are not supported")?;
    let command = Command::of(command).map_err(|why| why.to_string())?;
    if asked.session && !command.uris.is_empty() {
        return Err("a session fetches nothing: its directory is the task's".to_owned());
    }
    let container = asked.container;
    container.map_or(Ok(()), contained).map_err(|why| why.to_string())?;
    if image_of(container).is_some() {
        return Err(
            "The provided ContainerInfo is not supported: a container image is not supported \
                    but for tasks and executors"
                .to_owned(),
        );
    }
    if container.is_some_and(|container| !container.volumes.is_empty()) {
        return Err(
            "The provided ContainerInfo is not supported: volumes are those of the task".to_owned()
        );
    }
    let linux = container.and_then(|container| container.linux_info.as_ref());
    let private = |linux: &pb::LinuxInfo| linux.ipc_mode() == IpcMode::Private;
    if nested && linux.is_some_and(|linux| linux.shm_size.is_some() || private(linux)) {
        return Err("The provided ContainerInfo is not supported: a nested container shares the \
                    memory of its parent"
            .to_owned());
    }
    if nested && container.is_some_and(|container| container.hostname.is_some()) {
        return Err(
            "The provided ContainerInfo is not supported: a nested container finds the host \
                    called as its parent does"
                .to_owned(),
        );
    }
    let terminal = container.and_then(|container| container.tty_info.as_ref());
    let shared = shares(asked, depth)?;
    let window = |terminal: &pb::TtyInfo| {
        terminal.window_size.as_ref().map(|size| -> Window { (size.rows, size.columns) })
    };
    let mut limits = TaskLimits { shared, ..limits(asked, nested)? };
    container.map_or(Ok(()), |container| walls::add(container, &mut limits))?;
    // Mesos: a session is of the class DEBUG, which enters all namespaces of its parent.
    limits.shares_processes |= asked.session;
    Ok(Start { command, limits, terminal: terminal.map(window) })
}

/// What it may use: without a word about memory, as much as there is. One of its own is beside what is
/// offered, and so has nothing that belongs to a role.
#[allow(deprecated)] // Old clients reserve in the old form.
fn limits(asked: &Asked<'_>, nested: bool) -> Result<TaskLimits, String> {
    let reserved = |one: &pb::Resource| {
        let role = one.role.as_ref().is_some_and(|role| role != "*");
        role || !one.reservations.is_empty() || one.reservation.is_some()
    };
    let trouble = |one: &pb::Resource| match one {
        one if reserved(one) => Some("must be unreserved"),
        one if one.disk.is_some() || one.shared.is_some() => Some("may not use persistent volumes"),
        one => one.revocable.as_ref().map(|_| "must be non-revocable"),
    };
    let own = asked.resources.iter().filter(|_| !nested);
    if let Some(why) = own.into_iter().find_map(trouble) {
        return Err(format!("'launch_container.resources' {why}"));
    }
    let mut memory = vec![0; MEMORY];
    let mut scratch = Scratch::new(&mut memory);
    let resources = to_wire(asked.resources, &mut scratch);
    let resources = resources.map_err(|why| format!("Invalid resources: {why}"))?;
    let (cpus_milli, mem_bytes) = held(&resources);
    let mut limits = TaskLimits { cpus_milli, mem_bytes, ..TaskLimits::default() };
    if mem_bytes == 0 {
        limits.mem_limit = Some(Cap::Unlimited);
    }
    for (name, value) in &asked.limits {
        let cap = |unit: u64| match *value {
            f64::INFINITY => Ok(Cap::Unlimited),
            value => match amount(value) {
                Ok(amount) => Ok(Cap::At(amount.milli().saturating_mul(unit) / 1000)),
                Err(why) => Err(format!("The limit of '{name}' {why}")),
            },
        };
        match *name {
            "cpus" => limits.cpus_limit = Some(cap(1000)?),
            "mem" => limits.mem_limit = Some(cap(1 << 20)?),
            _ => return Err(format!("There is no limit of '{}'", name.escape_debug())),
        }
    }
    Ok(limits)
}

/// How one ended, as it is asked for.
#[allow(deprecated)]
fn waited(kind: Type, ending: Ending) -> Response {
    let Ending { status: exit_status, limited } = ending;
    let state = limited.as_ref().map(|_| pb::TaskState::TaskFailed.into());
    let reason = limited.as_ref().map(|limited| events::reason(limited.reason).into());
    let limitation = limited.as_ref().and_then(Limited::resources);
    let message = limited.map(|limited| limited.message);
    let mut told = Response::default();
    if kind == Type::WaitContainer {
        told.set_type(response::Type::WaitContainer);
        told.wait_container =
            Some(response::WaitContainer { exit_status, state, reason, limitation, message });
    } else {
        told.set_type(response::Type::WaitNestedContainer);
        told.wait_nested_container =
            Some(response::WaitNestedContainer { exit_status, state, reason, limitation, message });
    }
    told
}

fn typed(mut reply: Reply, media: Media) -> Reply {
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media.name()));
    reply
}

fn bad(why: &str) -> Early {
    early(StatusCode::BAD_REQUEST, format!("Failed to validate agent::Call: {why}"))
}

fn absent(what: &str) -> Early {
    bad(&format!("Expecting '{what}' to be present"))
}

/// The part of a call that carries what it is about is named as its type.
fn part_of(kind: Type) -> Early {
    absent(&kind.as_str_name().to_lowercase())
}

fn missing(chain: &Chain) -> Early {
    early(StatusCode::NOT_FOUND, format!("Container {chain} cannot be found"))
}

/// Judges a call about a container as far as it can be without an agent.
#[cfg(any(test, fuzzing))]
pub(crate) fn judge(call: &Call) -> Result<(), String> {
    if let Some(asked) = asked(call).filter(|_| STARTS.contains(&call.r#type())) {
        let chain = Chain::read(asked.id)?;
        start(&asked, chain.depth())?;
    }
    if let Some(Some(id)) = about(call) {
        Chain::read(id)?;
    }
    Ok(())
}
