//! Directories of persistent volumes: made and removed in the order in which the core says so, and
//! shown to the tasks that hold them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use event_listener::Event;
use mesita_core::agent::{Input, VolumeOrder};
use mesita_core::limits::MESSAGE_MAX;
use mesita_core::wire::resource::Resource;
use mesita_core::wire::{ContainerId, FrameworkId, Seq};
use mesita_isolation::keeper::protocol::{User, path_text};
use mesita_isolation::keeper::wall::Bind;
use mesita_isolation::{Isolation, volumes};
use prost::Message as _;

use super::AgentNode;
use super::build::bytes_of;
use super::tally::Row;
use crate::pb::mesos::v1 as pb;
use crate::v1::docker::Bound;
use crate::v1::resources::role_of;

/// A volume that somebody holds, and where it is to appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    role: String,
    id: String,
    container_path: String,
    shared: bool,
    read_only: bool,
    /// Its size.
    bytes: u64,
}

impl Held {
    /// The volumes among resources.
    pub(super) fn among(list: &Seq<'_, Resource<'_>>) -> Vec<Self> {
        let held = list.iter().filter_map(|resource| {
            let disk = resource.traits.disk.filter(|disk| !disk.persistence.is_empty())?;
            Some(Self {
                role: resource.traits.reservations.iter().last()?.role.to_owned(),
                id: disk.persistence.to_owned(),
                container_path: disk.container_path.to_owned(),
                shared: resource.traits.shared,
                read_only: false,
                bytes: bytes_of(&resource),
            })
        });
        held.collect()
    }

    /// The same, at the places that the one who uses them asks for, and as it uses them.
    pub(super) fn placed(mut held: Vec<Self>, asked: &[pb::Resource]) -> Vec<Self> {
        for one in &mut held {
            let same = asked.iter().find_map(|resource| {
                let disk = resource.disk.as_ref()?;
                let same = disk.persistence.as_ref()?.id == one.id && role_of(resource) == one.role;
                disk.volume.as_ref().filter(|_| same)
            });
            if let Some(volume) = same {
                volume.container_path.clone_into(&mut one.container_path);
                one.read_only = volume.mode() == pb::volume::Mode::Ro;
            }
        }
        held
    }

    /// The volume's directory, given to whoever holds it, as a Docker engine mounts it. Blocks.
    pub(super) fn bound(&self, work_dir: &Path, user: Option<&User>) -> Result<Bound, String> {
        let from = self.given(work_dir, user)?.to_string_lossy().into_owned();
        Ok(Bound { from, name: self.container_path.clone(), read_only: self.read_only })
    }

    /// Holds it to its size. Blocks.
    pub(super) fn hold(&self, work_dir: &Path, isolation: &Isolation<'_>) -> Result<(), String> {
        let path = volumes::create(work_dir, &self.role, &self.id);
        let path = path.map_err(|failure| self.failed(&failure))?;
        isolation.hold_volume(&path, self.bytes).map_err(|error| self.failed(&error))
    }

    /// Whoever holds it only reads it.
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Makes the volume appear in the sandbox of whoever holds it. Blocks.
    pub(super) fn show(
        &self,
        work_dir: &Path,
        sandbox: &Path,
        user: Option<&User>,
    ) -> Result<PathBuf, String> {
        let path = self.given(work_dir, user)?;
        let linked = volumes::link(&path, sandbox, &self.container_path);
        linked.map_err(|failure| self.failed(&failure))?;
        Ok(path)
    }

    /// Lets it disappear from there. Blocks.
    fn hide(&self, work_dir: &Path, sandbox: &Path) -> Result<(), String> {
        let hidden = volumes::path(work_dir, &self.role, &self.id)
            .and_then(|path| volumes::unlink(&path, sandbox, &self.container_path));
        hidden.map_err(|failure| self.failed(&failure))
    }

    /// The same for who stands on an image, and finds there only what is mounted there. Blocks.
    pub(super) fn bind(&self, work_dir: &Path, user: Option<&User>) -> Result<Bind, String> {
        let root = path_text(&self.given(work_dir, user)?);
        let to = CString::new(self.container_path.as_str()).unwrap_or_default();
        Ok(Bind { root, from: CString::default(), to, read_only: self.read_only })
    }

    /// The same for who only reads it and sees the machine's own files: there it cannot be written to,
    /// either. Blocks.
    pub(super) fn bind_read_only(
        &self,
        work_dir: &Path,
        user: Option<&User>,
    ) -> Result<[Bind; 2], String> {
        let bind = self.bind(work_dir, user)?;
        Ok([Bind { to: bind.root.clone(), ..bind.clone() }, bind])
    }

    fn given(&self, work_dir: &Path, user: Option<&User>) -> Result<PathBuf, String> {
        let made = volumes::create(work_dir, &self.role, &self.id);
        let given = made.and_then(|path| {
            volumes::give(&path, user, self.shared)?;
            Ok(path)
        });
        given.map_err(|failure| self.failed(&failure))
    }

    fn failed(&self, failure: &dyn std::fmt::Display) -> String {
        format!("the persistent volume '{}': {failure}", self.id)
    }
}

/// What is to be done to directories, in order.
#[derive(Default)]
pub(super) struct Volumes {
    queue: RefCell<VecDeque<Job>>,
    busy: Cell<bool>,
    idle: Event,
}

struct Job {
    sequence: u64,
    order: VolumeOrder,
    volumes: Vec<Held>,
    /// Executors run here, which know directories of roles.
    known: bool,
}

impl Job {
    /// Does it; blocks. One that fails keeps none of the others from being done.
    fn run(&self, work_dir: &Path) -> Result<(), String> {
        let mut failed = Vec::new();
        for Held { role, id, .. } in &self.volumes {
            let done = match self.order {
                VolumeOrder::Make => volumes::create(work_dir, role, id).map(|_| ()),
                VolumeOrder::MakeNew => volumes::create_new(work_dir, role, id).map(|_| ()),
                VolumeOrder::Remove => volumes::remove(work_dir, role, id),
            };
            failed.extend(done.err().map(|failure| failure.to_string()));
            if self.order == VolumeOrder::Remove && !self.known {
                volumes::forget_role(work_dir, role);
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }
}

impl Volumes {
    /// Waits until everything that was asked for so far is done.
    pub(super) async fn settled(&self) {
        while self.busy.get() {
            let idle = self.idle.listen();
            if self.busy.get() {
                idle.await;
            }
        }
    }
}

impl AgentNode {
    /// Something to be done to directories of volumes, after all that was asked for before.
    pub(super) fn order_volumes(
        &self,
        sequence: u64,
        order: VolumeOrder,
        volumes: &Seq<'_, Resource<'_>>,
    ) {
        let known = self.containers.has_executors();
        let job = Job { sequence, order, volumes: Held::among(volumes), known };
        self.volumes.queue.borrow_mut().push_back(job);
        if self.volumes.busy.replace(true) {
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        self.tasks.go(async move { me.do_volumes().await });
    }

    async fn do_volumes(self: Rc<Self>) {
        loop {
            let job = self.volumes.queue.borrow_mut().pop_front();
            let Some(job) = job else { break };
            let (sequence, work_dir) = (job.sequence, self.work_dir.clone());
            let done = self.containers.by_hand(move || job.run(&work_dir)).await;
            let failed = done.err().unwrap_or_default();
            if !failed.is_empty() {
                log::error!("persistent volumes: {failed}");
            }
            if sequence != 0 {
                let failed = &failed[..failed.floor_char_boundary(MESSAGE_MAX)];
                self.port.put(&Input::Volumes { sequence, failed });
            }
        }
        self.volumes.busy.set(false);
        self.volumes.idle.notify(usize::MAX);
    }

    /// A task came to the executor in a container. Its volumes appear in the sandbox that both have,
    /// before the executor hears of it: a few calls of the kernel, so they are made at once. Where
    /// one cannot appear, the task is not given to the executor.
    pub(super) fn came_to_executor(&self, framework: FrameworkId, task: &str) {
        let Some(row) = self.tally.given(framework, task) else { return };
        let (container, held) = (row.container, row.volumes());
        self.resize(container);
        if held.is_empty() {
            return;
        }
        let others = self.shown_to_others(container, &row);
        let taken = held.iter().find(|one| {
            others.iter().any(|other| other.container_path == one.container_path && other != *one)
        });
        let why = match taken {
            Some(one) => {
                let Held { id, container_path, .. } = one;
                Some(format!("the persistent volume '{id}': another one is at '{container_path}'"))
            }
            None if self.containers.has_started(container) => self.show_all(container, &held),
            None => None,
        };
        if let Some(why) = why {
            self.make_unfit(container, task, why);
        }
    }

    /// A task of an executor is about to be over: what it alone has used is seen by nobody any more.
    pub(super) fn over_for_executor(&self, row: &Row) {
        self.resize(row.container);
        let Some(known) = self.containers.get(row.container) else { return };
        // One that never came to it has shown nothing.
        if known.unfit.borrow_mut().remove(&row.name).is_some() {
            return;
        }
        let held = row.volumes();
        if held.is_empty() {
            return;
        }
        let others = self.shown_to_others(row.container, row);
        let sandbox = self.containers.sandbox(row.container);
        for one in held.iter().filter(|one| !others.contains(one)) {
            if let Err(message) = one.hide(&self.work_dir, &sandbox) {
                log::error!("container {}: {message}", row.container);
            }
        }
    }

    /// An executor began: whatever tasks have come since it was asked for have their volumes, too.
    pub(super) fn show_given(&self, container: ContainerId) {
        if !self.containers.is_executor(container) {
            return;
        }
        for row in self.tally.given_in(container) {
            if !self.is_unfit(container, &row.name)
                && let Some(why) = self.show_all(container, &row.volumes())
            {
                self.make_unfit(container, &row.name, why);
            }
        }
        self.resize(container);
    }

    /// The volumes that tasks of the executor in a container bring.
    pub(super) fn brought(&self, container: ContainerId) -> Vec<Held> {
        let given = self.tally.given_in(container);
        let fit = given.iter().filter(|row| !self.is_unfit(container, &row.name));
        let mut brought = Vec::new();
        for one in fit.flat_map(Row::volumes) {
            if !brought.contains(&one) {
                brought.push(one);
            }
        }
        brought
    }

    /// What is in an executor's sandbox beside the volumes of one task: its own, and those of others.
    fn shown_to_others(&self, container: ContainerId, but: &Row) -> Vec<Held> {
        let executor = self.tally.executor_in(container);
        let mut shown = executor.map_or_else(Vec::new, |row| {
            let asked = pb::ExecutorInfo::decode(&*row.info).unwrap_or_default().resources;
            Held::placed(Held::among(&row.resources.list()), &asked)
        });
        let others = self.tally.given_in(container).into_iter().filter(|row| row.name != but.name);
        let others = others.filter(|row| !self.is_unfit(container, &row.name));
        shown.extend(others.flat_map(|row| row.volumes()));
        shown
    }

    /// Why one of them cannot appear; the others do not either then.
    fn show_all(&self, container: ContainerId, held: &[Held]) -> Option<String> {
        let sandbox = self.containers.sandbox(container);
        // Whose the executor is, it was given to when the executor began.
        let isolation = self.containers.isolation();
        held.iter().find_map(|one| {
            let held = one.hold(&self.work_dir, &isolation);
            held.and_then(|()| one.show(&self.work_dir, &sandbox, None)).err()
        })
    }

    fn is_unfit(&self, container: ContainerId, task: &str) -> bool {
        let known = self.containers.get(container);
        known.is_some_and(|known| known.unfit.borrow().contains_key(task))
    }

    fn make_unfit(&self, container: ContainerId, task: &str, why: String) {
        log::warn!("container {container}: task '{task}': {why}");
        self.containers.entry(container).unfit.borrow_mut().insert(task.to_owned(), why);
    }
}
