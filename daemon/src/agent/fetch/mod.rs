//! Fetching what a command needs into its sandbox, before it starts (Mesos: `mesos-fetcher`).
//!
//! URIs of one task come one after the other, those of several tasks beside each other. Files are read
//! and written, and servers are asked, with the rights of the task's user, so that nobody gets by the
//! agent what they do not get by themselves. Everything has a bound: bytes as they come and unpacked,
//! time in all, silence of a server.
//!
//! | file | concern |
//! |---|---|
//! | `uri` | what is asked for, and where it goes |
//! | `budget` | how much one task may still bring in |
//! | `http` | servers |
//! | `pace` | how fast something may come |
//! | `hdfs` | files of HDFS |
//! | `cache` | what is kept for others |
//! | `unpack` | archives |

mod budget;
mod cache;
pub(crate) mod hdfs;
mod http;
mod pace;
mod unpack;
pub(crate) mod uri;

use std::cell::{Cell, OnceCell};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use budget::Budget;
use cache::Cache;
pub(super) use http::{Part, write};
use mesita_isolation::keeper::protocol::User;
use mesita_isolation::user::with_files_of;
pub(super) use pace::Pace;
use rustix::fs::OFlags;
use smol::lock::Semaphore;
use uri::{Source, Uri};

use super::AgentNode;
use super::containers::Container;
use crate::alarm;
use crate::tls::Outside;

/// Tasks that are fetched for at once; the others wait.
const TASKS_MAX: usize = 8;

/// What an operator chose about fetching.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Bytes for one task, as they come and unpacked.
    pub(crate) bytes_max: u64,
    /// How long it may take for one task, in µs.
    pub(crate) timeout_us: u64,
    /// How long a server may say nothing, in µs.
    pub(crate) stall_us: u64,
    /// Bytes that are kept for others.
    pub(crate) cache_bytes_max: u64,
    /// Authorities that vouch for servers; none = this machine's.
    pub(crate) ca_file: Option<PathBuf>,
    /// Where Hadoop is; none = HDFS is asked by its HTTP.
    pub(crate) hadoop_home: Option<PathBuf>,
    /// Where that answers.
    pub(crate) webhdfs: hdfs::Web,
}

/// The fetcher of one agent.
pub(super) struct Fetcher {
    options: Options,
    hands: Semaphore,
    busy: Cell<u64>,
    cache: Cache,
    succeeded: Cell<u64>,
    failed: Cell<u64>,
}

impl Fetcher {
    /// A fetcher whose cache is below the agent's own files, and empty.
    pub(super) fn new(options: Options, work_dir: &Path) -> Self {
        let cache = Cache::new(work_dir.join("meta/fetched"), options.cache_bytes_max);
        Self {
            options,
            hands: Semaphore::new(TASKS_MAX),
            busy: Cell::default(),
            cache,
            succeeded: Cell::default(),
            failed: Cell::default(),
        }
    }

    /// The same under the names of Mesos' metrics.
    pub(super) fn metrics(&self) -> [(&'static str, u64); 4] {
        [
            ("task_fetches_succeeded", self.succeeded.get()),
            ("task_fetches_failed", self.failed.get()),
            ("cache_size_used_bytes", self.cache.bytes()),
            ("cache_size_total_bytes", self.options.cache_bytes_max),
        ]
    }

    /// What is fetched and kept.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 6] {
        [
            ("fetches_len", self.busy.get()),
            ("fetches_max", TASKS_MAX as u64),
            ("fetches_succeeded", self.succeeded.get()),
            ("fetches_failed", self.failed.get()),
            ("fetch_cache_bytes", self.cache.bytes()),
            ("fetch_cache_bytes_max", self.options.cache_bytes_max),
        ]
    }
}

/// For whom something is fetched.
pub(super) struct Job {
    pub(super) sandbox: PathBuf,
    /// The name of the user, and who that is if the agent becomes it.
    pub(super) user: (String, Option<User>),
    pub(super) uris: Vec<Uri>,
}

/// What a job has left, and whose rights it has.
pub(super) struct Means {
    /// The user's name, and who that is if the agent becomes it.
    name: String,
    pub(super) user: Option<User>,
    budget: Budget,
    /// Who vouches for servers, once that was read.
    outside: OnceCell<Outside>,
}

impl Means {
    /// Of who has these rights, and may bring so much.
    pub(super) fn new(user: &(String, Option<User>), budget: Budget) -> Self {
        let (name, user) = user.clone();
        Self { name, user, budget, outside: OnceCell::new() }
    }

    /// The same rights with a budget of their own.
    fn with(&self, budget: Budget) -> Self {
        Self::new(&(self.name.clone(), self.user.clone()), budget)
    }

    /// Does something blocking with the rights of the user.
    async fn as_user<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let user = self.user.clone();
        let done = blocking::unblock(move || {
            with_files_of(user.as_ref(), work).map_err(io::Error::other).and_then(|done| done)
        });
        done.await.map_err(|error| error.to_string())
    }
}

impl AgentNode {
    /// Fetches everything of a job, or says why not. Nothing is begun any more when the container is
    /// not to be started any more.
    pub(super) async fn fetch(&self, container: &Container, job: Job) -> Result<(), String> {
        self.fetch_unless(container.abandoned(), job).await
    }

    /// The same until somebody wants it no more.
    pub(super) async fn fetch_unless(
        &self,
        unwanted: impl Future<Output = ()>,
        job: Job,
    ) -> Result<(), String> {
        let options = &self.fetcher.options;
        let budget = Budget::new(options.bytes_max);
        let means = Means::new(&job.user, budget.clone());
        let all = async {
            let _hand = self.fetcher.hands.acquire().await;
            let _busy = Busy::of(&self.fetcher.busy);
            for uri in &job.uris {
                let fetched = self.fetch_one(&means, &job, uri).await;
                fetched.map_err(|why| format!("Failed to fetch '{}': {why}", uri.text))?;
            }
            Ok(())
        };
        let late = || {
            let ms = options.timeout_us / 1000;
            Err(format!("Failed to fetch within the {ms} ms of --fetcher-timeout"))
        };
        let in_time = async { alarm::within(options.timeout_us, all).await.unwrap_or_else(late) };
        let dropped = async {
            unwanted.await;
            Err("Killed while its URIs were fetched".to_owned())
        };
        let fetched = futures_lite::future::or(in_time, dropped).await;
        // Whoever still reads or writes for it stops.
        budget.close();
        let count = if fetched.is_ok() { &self.fetcher.succeeded } else { &self.fetcher.failed };
        count.set(count.get() + 1);
        fetched
    }

    async fn fetch_one(&self, means: &Means, job: &Job, uri: &Uri) -> Result<(), String> {
        let file = job.sandbox.join(&uri.file);
        let mode = if uri.executable { 0o755 } else { 0o644 };
        match &uri.source {
            Source::File(from) => {
                let (from, to, budget) = (from.clone(), file.clone(), means.budget.clone());
                means.as_user(move || copy(open(&from)?, &to, mode, &budget)).await?;
            }
            Source::Http(_) | Source::Hdfs(_) if uri.cache => {
                let kept = self.cached(means, uri).await?;
                let (to, budget) = (file.clone(), means.budget.clone());
                means.as_user(move || copy(kept, &to, mode, &budget)).await?;
            }
            Source::Http(_) | Source::Hdfs(_) => {
                let to = file.clone();
                let into = means.as_user(move || make(&to, mode)).await?;
                self.bring(means, uri, into).await?;
            }
        }
        if uri.extract && !uri.executable {
            let (directory, budget) = (job.sandbox.clone(), means.budget.clone());
            means.as_user(move || unpack::unpack(&file, &directory, &budget)).await?;
        }
        Ok(())
    }
}

impl AgentNode {
    /// Brings what is elsewhere into a file that is open; how long it is.
    async fn bring(&self, means: &Means, uri: &Uri, into: File) -> Result<u64, String> {
        let into = Arc::new(into);
        match &uri.source {
            Source::Http(url) => self.fetch_from(means, url, into).await,
            Source::Hdfs(from) => self.fetch_hdfs(means, from, into).await,
            Source::File(_) => Err("it is on this machine".to_owned()),
        }
    }
}

/// Counts who is at work.
struct Busy<'b>(&'b Cell<u64>);

impl<'b> Busy<'b> {
    fn of(count: &'b Cell<u64>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Opens a file, and nothing that could be waited for.
fn open(path: &Path) -> io::Result<File> {
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblock).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}

/// Makes a file in a sandbox, with the directories above it.
fn make(path: &Path, mode: u32) -> io::Result<File> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    let file = unpack::create(path, mode)?;
    // Whatever the mask of this process is.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

fn copy(from: File, to: &Path, mode: u32, budget: &Budget) -> io::Result<()> {
    budget.has(from.metadata()?.len())?;
    let mut into = make(to, mode)?;
    io::copy(&mut budget.reader(from), &mut into)?;
    into.flush()
}
