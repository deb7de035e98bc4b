//! What an agent's core is told first: what it is, what its ledger says, and what still runs.

use std::rc::Rc;
use std::sync::Arc;

use event_listener::Event;
use mesita_core::Refusal;
use mesita_core::agent::Input;
use mesita_core::agent::ledger::Record;
use mesita_core::wire::agent::Register;
use mesita_core::wire::hello::Role;
use mesita_core::wire::{AgentId, BodyRef, Fence, Scratch, Session, decode};
use mesita_isolation::keeper::protocol::{Held, Request};

use super::containers::Containers;
use super::{AgentNode, Options, Over, Prepared, keeper};
use crate::audit::Audit;
use crate::conn::hello::Own;
use crate::conns::Conns;
use crate::describe::{MEMORY, attributes, resources_and};
use crate::disk_thread::{Store, ToDisk};
use crate::doors::Doors;
use crate::http::idle::Idle;
use crate::io_thread::Tasks;
use crate::ledger::Entry;
use crate::port::{Port, with_refs};

/// What is left of a prepared agent when its ledger has gone to the disk thread.
pub(crate) struct Ready {
    prepared: Rest,
    records: Vec<Entry>,
}

struct Rest {
    work_dir: std::path::PathBuf,
    key: [u8; 32],
    keeper: mesita_isolation::keeper::Client,
    isolation: Arc<mesita_isolation::Isolation<'static>>,
    images: super::images::Images,
    resources: String,
    attributes: String,
    hostname: String,
    docker: super::docker::Prepared,
    lock: std::fs::File,
    keys: super::rekey::Keys,
    tokens: super::tokens::Tokens,
}

impl Ready {
    /// Where its records go, and everything else. A ledger of an agent that ends with this process
    /// is of no use to anybody.
    pub(crate) fn part(prepared: Prepared, life: super::Life) -> (Store, Self) {
        let Prepared {
            work_dir,
            key,
            ledger,
            records,
            keeper,
            isolation,
            provisioner,
            registry,
            resources,
            attributes,
            hostname,
            docker,
            lock,
            proof,
            next,
            tokens,
            total_mem_bytes: _,
        } = prepared;
        let images = super::images::Images::new(provisioner, registry);
        let rest = Rest {
            work_dir,
            key,
            keeper,
            isolation,
            images,
            resources,
            attributes,
            hostname,
            docker,
            lock,
            keys: super::rekey::Keys::of(proof, next),
            tokens,
        };
        let store = match life {
            super::Life::OfItsOwn => Store::Ledger(ledger),
            super::Life::OfThisProcess => Store::Memory,
        };
        (store, Self { prepared: rest, records })
    }
}

/// What went wrong with the keeper.
fn of_keeper(error: impl std::fmt::Display) -> std::io::Error {
    std::io::Error::other(format!("keeper: {error}"))
}

impl AgentNode {
    /// The IO side of the agent in the seat of `port`; tells its core everything it starts with.
    pub(crate) fn start(
        ready: Ready,
        port: Port,
        tasks: Tasks,
        to_disk: Rc<ToDisk>,
        options: Options,
    ) -> std::io::Result<Rc<Self>> {
        let Ready { prepared, records } = ready;
        let held = prepared.keeper.held().to_vec();
        let boot = prepared.keeper.welcome().boot;
        let version = prepared.keeper.welcome().version;
        let mut keeper = prepared.keeper;
        let own = Own {
            key: prepared.key,
            tasks_max: options.tasks_max,
            task_kinds: options.task_kinds,
            credential: options.credential.clone(),
            ..Own::new(Role::Agent)
        };
        let containers = Containers::new(
            prepared.isolation,
            prepared.images.provisioner.as_ref().ok().map(Arc::clone),
            prepared.work_dir.clone(),
            prepared.tokens,
            options.hands,
            options.switch_user,
            options.for_tasks.clone(),
        );
        let terminals = keeper.terminals().map_err(of_keeper)?;
        let link = keeper::Link::new(keeper).map_err(of_keeper)?;
        let bounds = super::bounds::Bounds::new(options.log_bytes_max);
        let fetcher = super::fetch::Fetcher::new(options.fetch.clone(), &prepared.work_dir);
        let docker = super::docker::Docker::new(prepared.docker, tasks.clone());
        let node = Rc::new_cyclic(|me| Self {
            port,
            tasks,
            to_disk,
            key: prepared.key,
            work_dir: prepared.work_dir,
            hostname: prepared.hostname,
            resources: prepared.resources,
            has: std::cell::RefCell::default(),
            attributes: prepared.attributes,
            conns: Conns::new(options.conns_max),
            idle: Idle::of(options.conns_max as usize),
            doors: Doors::new(options.insecure),
            audit: Audit::open(&options.audit).unwrap_or_else(|why| {
                // It could be opened when the flags were looked at.
                log::error!("{why}");
                Audit::default()
            }),
            own: std::cell::RefCell::new(own),
            containers,
            executors: super::executors::Executors::default(),
            tally: super::tally::Tally::default(),
            outcomes: super::metrics::Outcomes::default(),
            started_us: crate::clock::wall_us(),
            recovery_us: std::cell::Cell::default(),
            keeper: link,
            beside: super::beside::Beside::new(version),
            inners: super::inner::Inners::new(options.inner_max),
            fetcher,
            docker,
            spare: super::spare::Spare::new(options.spare.clone()),
            devices: super::devices::Devices::new(options.devices.as_deref()),
            images: prepared.images,
            pulls: Default::default(),
            volumes: super::volumes::Volumes::default(),
            bounds,
            master: std::cell::Cell::default(),
            timeout_us: std::cell::Cell::default(),
            session_changed: Event::new(),
            contact: std::cell::Cell::default(),
            news: super::news::News::default(),
            transport: Default::default(),
            keys: prepared.keys,
            learned: Default::default(),
            renews: std::cell::Cell::default(),
            seen: std::cell::Cell::default(),
            leader: std::cell::RefCell::default(),
            called: std::cell::RefCell::default(),
            terminals: std::cell::RefCell::new(terminals.into_iter().collect()),
            disk_full: std::cell::Cell::default(),
            over: Over::default(),
            _lock: prepared.lock,
            options,
            me: me.clone(),
        });
        node.describe();
        let began = crate::clock::now();
        for entry in records {
            node.recover(&entry)?;
        }
        node.recovery_us.set(crate::clock::now().since(began));
        node.tally.count_from_here();
        let inner = node.recover_inner(&held);
        let held: Vec<Held> =
            held.into_iter().filter(|held| !inner.contains(&held.container())).collect();
        node.tell_held(&held);
        let of_docker = node.docker_survivors();
        for container in of_docker.iter().copied() {
            node.containers.runs(container);
            node.port.put(&Input::Container { container, ended: None });
        }
        node.tell_clock();
        node.port.put_then(&Input::Recovered { boot }, Vec::new(), node.or_unfit());
        node.take_up(&held);
        node.take_up_docker(&of_docker);
        node.serve_keeper();
        node.collect_garbage();
        node.bound_logs();
        node.share_out();
        node.watch_devices();
        Ok(node)
    }

    /// What the kernel says of its clock.
    pub(super) fn tell_clock(&self) {
        let synchronised = crate::clock::is_synchronised();
        self.port.put(&Input::Clock { synchronised });
    }

    /// Ends the agent when what its ledger says does not fit: else that would be given up.
    fn or_unfit(&self) -> impl FnOnce(Result<(), Refusal>) + 'static {
        let of = self.me.clone();
        move |result| {
            let (Err(refusal), Some(node)) = (result, of.upgrade()) else { return };
            if refusal == Refusal::LedgerOutlived {
                log::error!("{refusal}");
            } else {
                log::error!(
                    "this agent has less than what frameworks have reserved of it and keep on it, or less \
                     room for what its ledger knows ({refusal}): start it with --resources, --size and \
                     --capacity of at least as much as before"
                );
            }
            node.over.tell(super::Why::Unfit);
        }
    }

    /// What it is and has; said again when that changes.
    pub(super) fn describe(&self) {
        let mut memory = vec![0; 4 * MEMORY];
        let (lists, parts) = memory.split_at_mut(2 * MEMORY);
        let (parts, more_parts) = parts.split_at_mut(MEMORY);
        let mut lists = Scratch::new(lists);
        // The flags are far shorter than this memory: the kernel bounds a command line.
        let attributes = attributes(&self.attributes, &mut lists, parts).unwrap_or_default();
        let spare = self.spare.told();
        let own = format!("{};{}", self.resources, self.devices.told());
        let all = resources_and(&own, &spare, &mut lists, more_parts);
        let resources = all.unwrap_or_default();
        self.port.put_then(
            &Input::Describe(Register {
                session: Session::default(),
                agent: AgentId::NONE,
                seen: Fence::default(),
                cluster: 0,
                key: self.key,
                hostname: &self.hostname,
                region: &self.options.region,
                zone: &self.options.zone,
                address: &self.options.address,
                attributes,
                resources,
                tasks_max: self.options.tasks_max,
                task_kinds: self.options.task_kinds,
                reports: 0,
            }),
            Vec::new(),
            |result| {
                if let Err(refusal) = result {
                    log::error!("what this agent is told to be or to have: {refusal}");
                }
            },
        );
    }

    /// A record of the ledger. One that is not understood, or has no room, keeps the agent from
    /// starting: what it knew no more it would end.
    fn recover(&self, entry: &Entry) -> std::io::Result<()> {
        let record = decode::<Record<'_>>(&entry.record).map_err(|malformed| {
            std::io::Error::other(format!(
                "a record of meta/ledger is not understood ({malformed}): use the release that wrote \
                 it; to start without what it knew, end this agent's tasks and move its work dir away"
            ))
        })?;
        let refs = self.store(entry);
        self.containers.recovered(&record);
        if let Record::Task { launch, .. } = record {
            self.stops(launch.restart.stop_after_us);
        }
        if let Record::Admitted { cluster, .. } = record {
            self.own.borrow_mut().cluster = cluster;
        }
        {
            let store = self.port.bodies.borrow();
            let cluster = self.own.borrow().cluster;
            self.executors.noted(&record, cluster, |body| store.bytes(body.of(&refs)));
            self.tally.noted(&record, |body| store.bytes(body.of(&refs)));
        }
        with_refs(&refs, |bodies| {
            let input = Input::Record { record: &entry.record, bodies };
            self.port.put_with(&input, refs.clone());
        });
        Ok(())
    }

    /// Puts a record's bodies into the store, also those that others took the place of long ago: they
    /// go as the core has read on.
    fn store(&self, entry: &Entry) -> Vec<BodyRef> {
        let mut store = self.port.bodies.borrow_mut();
        let bytes = entry.bodies.iter().map(|(body, _)| body.len() as u64).sum();
        let mut reserved = store.reserve_again(bytes);
        let bodies = entry.bodies.iter();
        bodies.map(|(body, hash)| store.store(&mut reserved, body.clone(), *hash)).collect()
    }

    /// What the keeper still has. What a keeper before it left is ended: nobody knows how it ends.
    fn tell_held(&self, held: &[Held]) {
        for held in held {
            let container = held.container();
            match held {
                Held::Starting { .. } | Held::Running { .. } | Held::Ended(_) => {
                    self.containers.runs(container);
                    // One that ended is told to have ended later, with what it ran into.
                    self.port.put(&Input::Container { container, ended: None });
                }
                Held::Left(left) => {
                    if let Err(error) = self.containers.kill_left(left) {
                        log::error!("container {container} of a dead keeper: {error}");
                    }
                    self.keeper.send(&Request::Forget { container });
                }
            }
        }
    }

    /// What ended while the agent was away, and what runs on.
    fn take_up(&self, held: &[Held]) {
        for held in held {
            match held {
                Held::Ended(ended) => self.ended(*ended),
                Held::Running { container, pid, .. } => self.runs_on(*container, *pid),
                Held::Starting { .. } | Held::Left(_) => {}
            }
        }
    }
}
