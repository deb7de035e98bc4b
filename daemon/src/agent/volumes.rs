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
use mesita_core::wire::{ContainerId, Seq};
use mesita_isolation::keeper::protocol::User;
use mesita_isolation::keeper::wall::Bind;
use mesita_isolation::sys::Failure;
use mesita_isolation::volumes;
use prost::Message;

use super::AgentNode;
use super::build::path;
use crate::pb::mesita::TaskPrivate;
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

    /// The same for who stands on an image, and finds there only what is mounted there. Blocks.
    pub(super) fn bind(&self, work_dir: &Path, user: Option<&User>) -> Result<Bind, String> {
        let root = path(&self.given(work_dir, user)?);
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

    fn failed(&self, failure: &Failure) -> String {
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
        let job = Job { sequence, order, volumes: Held::among(volumes) };
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

    /// A task of an executor brings volumes: they appear in the sandbox that both have, before the
    /// executor hears of the task. A few calls of the kernel, so they are made at once.
    pub(super) fn show_to_executor(
        &self,
        container: ContainerId,
        resources: &Seq<'_, Resource<'_>>,
        private: &[u8],
    ) {
        let held = Held::among(resources);
        if held.is_empty() {
            return;
        }
        let private = TaskPrivate::decode(private).unwrap_or_default();
        let held = Held::placed(held, &private.volumes);
        if self.containers.has_started(container) {
            let sandbox = self.containers.sandbox(container);
            for one in &held {
                // Whose the executor is, it was given to when the executor began.
                if let Err(message) = one.show(&self.work_dir, &sandbox, None) {
                    log::error!("container {container}: {message}");
                }
            }
        }
        self.containers.brings(container, held);
    }
}
