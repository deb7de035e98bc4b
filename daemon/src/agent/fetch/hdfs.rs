//! Files of HDFS: by Hadoop's client where the operator has named one, else by WebHDFS, the namenode's
//! HTTP. Mesos: `HDFS::copyToLocal`; Hadoop: "WebHDFS REST API", op=OPEN.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;

use futures_lite::AsyncReadExt;
use hyper::Uri as Url;
use mesita_isolation::keeper::protocol::User;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use smol::Async;

use super::Means;
use super::http::Sink;
use super::uri::{Hdfs, url};
use crate::agent::AgentNode;
use crate::alarm;

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// Bytes of what a client says before it fails.
const WORDS_MAX: u64 = 512;

/// Where namenodes answer HTTP: `http:9870`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Web {
    secure: bool,
    port: u16,
}

impl Web {
    /// As Hadoop has it for its schemes webhdfs and swebhdfs.
    fn of(secure: bool) -> Self {
        Self { secure, port: if secure { 9871 } else { 9870 } }
    }
}

impl FromStr for Web {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = text.split_once(':').and_then(|(scheme, port)| {
            let secure = match scheme {
                "http" => false,
                "https" => true,
                _ => return None,
            };
            Some(Self { secure, port: port.parse().ok()? })
        });
        read.ok_or_else(|| format!("`{text}` is no scheme and port, as `http:9870` is"))
    }
}

impl AgentNode {
    /// Fetches a file of HDFS into one that is open; how long it is.
    pub(super) async fn fetch_hdfs(
        &self,
        means: &Means,
        from: &Hdfs,
        into: Arc<File>,
    ) -> Result<u64, String> {
        let options = &self.fetcher.options;
        let (scheme, web) = (from.scheme.as_str(), options.webhdfs);
        if let ("hdfs", Some(home)) = (scheme, &options.hadoop_home) {
            return self.by_client(means, home, &from.text, into).await;
        }
        let opened = match scheme {
            "hdfs" => from.open(web, false, &means.name),
            scheme => from.open(Web::of(scheme == "swebhdfs"), true, &means.name),
        };
        let fetched = match opened {
            Ok(opened) => self.fetch_from(means, &opened, into).await,
            Err(why) => Err(why),
        };
        fetched.map_err(|why| {
            format!(
                "by WebHDFS: {why}; --fetcher-webhdfs says where namenodes answer HTTP, and with \
                 --hadoop-home Hadoop's own client fetches what is hdfs://"
            )
        })
    }

    async fn by_client(
        &self,
        means: &Means,
        home: &Path,
        text: &str,
        into: Arc<File>,
    ) -> Result<u64, String> {
        let (home, text) = (home.to_owned(), text.to_owned());
        let (name, user) = (means.name.clone(), means.user.clone());
        let started = blocking::unblock(move || Client::start(&home, &text, &name, user.as_ref()));
        let mut client = started.await.map_err(|error| error.to_string())?;
        let stdout = client.child.stdout.take().ok_or("the client has no output")?;
        let mut stdout = Async::new(stdout).map_err(|error| error.to_string())?;
        let mut sink = Sink::new(means, into);
        let mut bytes = vec![0; CHUNK];
        let stall_us = self.fetcher.options.stall_us;
        loop {
            let read = alarm::within(stall_us, stdout.read(&mut bytes)).await;
            let len = read.ok_or_else(|| self.silent())?.map_err(|error| error.to_string())?;
            if len == 0 {
                break;
            }
            sink.put(&bytes[..len]).await?;
        }
        let ended = alarm::within(stall_us, blocking::unblock(move || client.end())).await;
        ended.ok_or_else(|| self.silent())??;
        sink.end().await
    }
}

impl Hdfs {
    /// What WebHDFS is asked, where it answers; `own` is for URIs whose port is that already.
    fn open(&self, web: Web, own: bool, user: &str) -> Result<Url, String> {
        let authority: Url = url(&format!("http://{}/", self.authority))?;
        let host = authority.host().unwrap_or_default();
        let port = authority.port_u16().filter(|_| own).unwrap_or(web.port);
        let scheme = if web.secure { "https" } else { "http" };
        let (path, user) = (encoded(&self.path, b"/"), encoded(user, b""));
        url(&format!("{scheme}://{host}:{port}/webhdfs/v1{path}?op=OPEN&user.name={user}"))
    }
}

/// Text as it may be in a URL, with these bytes as they are (RFC 3986 §2).
fn encoded(text: &str, plain: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Hadoop's client, which prints a file. It is killed with all that it started when nobody waits for
/// it any more.
struct Client {
    child: Child,
    words: File,
    program: PathBuf,
}

impl Client {
    fn start(home: &Path, text: &str, name: &str, user: Option<&User>) -> io::Result<Self> {
        let program = home.join("bin/hadoop");
        let words = File::from(memfd_create("hadoop", MemfdFlags::CLOEXEC)?);
        let mut command = Command::new(&program);
        command.args(["fs", "-cat", text]).current_dir("/").process_group(0);
        command.env("HADOOP_HOME", home).env("HADOOP_USER_NAME", name);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("MESITA_") {
                command.env_remove(variable);
            }
        }
        if let Some(user) = user.filter(|_| rustix::process::geteuid().is_root()) {
            // Its other groups go with that.
            command.uid(user.uid).gid(user.gid);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(words.try_clone()?);
        let child = command.spawn().map_err(|error| {
            let at = format!("--hadoop-home: {}: {error}", program.display());
            io::Error::new(error.kind(), at)
        })?;
        Ok(Self { child, words, program })
    }

    /// Waits for its end; what it said when that is no success.
    fn end(mut self) -> Result<(), String> {
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() {
            return Ok(());
        }
        let words = last_words(&mut self.words).unwrap_or_default();
        Err(format!("{} fs -cat: {status}: {}", self.program.display(), words.trim()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        // It is dead, and its parent takes note of that.
        let _ = self.child.wait();
    }
}

fn last_words(words: &mut File) -> io::Result<String> {
    let len = words.seek(SeekFrom::End(0))?;
    words.seek(SeekFrom::Start(len.saturating_sub(WORDS_MAX)))?;
    let mut bytes = Vec::new();
    words.take(WORDS_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namenodes_are_asked_where_they_answer_http() {
        let at = |text: &str, web: &str, own| {
            let from = Hdfs::of(text).unwrap();
            from.open(web.parse().unwrap(), own, "a b").map(|url| url.to_string())
        };
        let asked = "/webhdfs/v1/d/f?op=OPEN&user.name=a%20b";
        assert_eq!(
            at("hdfs://n:8020/d/f", "http:9870", false),
            Ok(format!("http://n:9870{asked}"))
        );
        assert_eq!(at("hdfs://[::1]/d/f", "https:1", false), Ok(format!("https://[::1]:1{asked}")));
        assert_eq!(at("webhdfs://n:7/d/f", "http:9870", true), Ok(format!("http://n:7{asked}")));
        let odd = at("webhdfs://n/a%b?c", "http:9870", true).unwrap();
        assert!(odd.starts_with("http://n:9870/webhdfs/v1/a%25b%3Fc?op=OPEN"), "{odd}");
        assert!(at("hdfs:///d/f", "http:9870", false).is_err());
        for bad in ["", "9870", "ftp:1", "http:x", "http:99999"] {
            assert!(bad.parse::<Web>().is_err(), "{bad}");
        }
    }
}
