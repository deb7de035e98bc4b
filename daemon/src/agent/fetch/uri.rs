//! What a command needs in its sandbox, and where that is. Mesos: `CommandInfo.URI`.

use std::path::{Component, Path, PathBuf};

use hyper::Uri as Url;

use crate::command::BadCommand;
use crate::pb::mesos::v1::command_info;

/// A file to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    /// As it was written.
    pub(crate) text: String,
    pub(crate) source: Source,
    /// Where it goes, below the sandbox.
    pub(crate) file: PathBuf,
    /// It may be executed; then it is not unpacked.
    pub(crate) executable: bool,
    /// It is unpacked if its name says how.
    pub(crate) extract: bool,
    /// It is kept for other tasks of the same user.
    pub(crate) cache: bool,
}

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file on the agent's machine.
    File(PathBuf),
    /// A server.
    Http(Url),
    /// HDFS.
    Hdfs(Hdfs),
}

/// A file of HDFS. Its path is as it is written: Hadoop knows no escapes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hdfs {
    /// The whole URI.
    pub(crate) text: String,
    /// hdfs, webhdfs or swebhdfs.
    pub(crate) scheme: String,
    /// The namenode with its port; empty = the one that Hadoop's client is configured for.
    pub(crate) authority: String,
    pub(crate) path: String,
}

impl Hdfs {
    /// Takes a URI of one of its schemes apart.
    pub(crate) fn of(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let slash = rest.find('/').ok_or("names no file")?;
        let (authority, path) = rest.split_at(slash);
        if text.chars().any(char::is_control) {
            return Err("has a control character in it".to_owned());
        }
        let own = |part: &str| part.to_owned();
        Ok(Self {
            text: own(text),
            scheme: own(scheme),
            authority: own(authority),
            path: own(path),
        })
    }
}

impl Uri {
    /// Reads and checks what a command asks for.
    pub(crate) fn of(uri: &command_info::Uri) -> Result<Self, BadCommand> {
        let bad = |why: &str| BadCommand::Uri(uri.value.clone(), why.to_owned());
        let source = source(&uri.value).map_err(|why| bad(&why))?;
        let named = match (&uri.output_file, &source) {
            (Some(file), _) if !file.is_empty() => file.clone(),
            (_, Source::File(path)) => name_of(&path.to_string_lossy()),
            (_, Source::Http(url)) => name_of(url.path()),
            (_, Source::Hdfs(of)) => name_of(&of.path),
        };
        let file = below(&named).ok_or_else(|| bad("names no file below the sandbox"))?;
        Ok(Self {
            text: uri.value.clone(),
            source,
            file,
            executable: uri.executable(),
            extract: uri.extract(),
            cache: uri.cache(),
        })
    }
}

/// Where a URI leads; else what is wrong with it, as the end of a sentence.
fn source(text: &str) -> Result<Source, String> {
    if text.contains('\0') {
        return Err("has a NUL byte in it".to_owned());
    }
    match text.split_once("://") {
        None if text.starts_with('/') => Ok(Source::File(text.into())),
        None => {
            Err("is a relative path; say https://, http://, file:// or an absolute path".to_owned())
        }
        Some(("file", path)) if path.starts_with('/') => Ok(Source::File(path.into())),
        Some(("file", _)) => Err("is of another host's file".to_owned()),
        #[cfg(not(feature = "tls"))]
        Some(("https" | "swebhdfs", _)) => Err(crate::tls::ABSENT.to_owned()),
        Some(("http" | "https", _)) => url(text).map(Source::Http),
        Some(("hdfs" | "webhdfs" | "swebhdfs", _)) => Hdfs::of(text).map(Source::Hdfs),
        Some((scheme, _)) => Err(format!(
            "is of the scheme {scheme}; http, https, hdfs, webhdfs, swebhdfs and file are fetched"
        )),
    }
}

/// An http URL with a host.
pub(crate) fn url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("cannot be read: {error}"))?;
    match url.host() {
        Some(host) if !host.is_empty() => Ok(url),
        _ => Err("names no host".to_owned()),
    }
}

/// The last part of a path.
fn name_of(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// A path that stays where it is put.
pub(super) fn below(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let mut parts = path.components();
    let stays = parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    (stays && path.file_name().is_some()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(value: &str, output: Option<&str>) -> Result<Uri, BadCommand> {
        let output_file = output.map(str::to_owned);
        Uri::of(&command_info::Uri { value: value.to_owned(), output_file, ..Default::default() })
    }

    #[test]
    fn a_file_has_the_last_name_of_its_uri_or_the_one_it_is_given() {
        let read = uri("http://h:80/a/b.tar.gz?x=/y", None).unwrap();
        assert_eq!(read.file, Path::new("b.tar.gz"));
        assert!(read.extract && !read.executable && !read.cache);
        assert_eq!(uri("file:///etc/hosts", Some("d/h")).unwrap().file, Path::new("d/h"));
        assert_eq!(uri("/etc/hosts", None).unwrap().source, Source::File("/etc/hosts".into()));
    }

    #[test]
    fn what_cannot_be_fetched_is_said_with_the_reason() {
        for (value, output, words) in [
            ("ftp://h/x", None, "the scheme ftp"),
            ("hdfs://h", None, "names no file"),
            ("hdfs://h/", None, "no file below"),
            ("https://h/", None, "no file below"),
            ("x/y", None, "relative path"),
            ("file://host/x", None, "another host's"),
            ("http:///x", None, "cannot be read"),
            ("http://h/", None, "no file below"),
            ("http://h/x", Some("../y"), "no file below"),
            ("http://h/x", Some("/etc/passwd"), "no file below"),
            ("http://h/..", None, "no file below"),
        ] {
            let why = uri(value, output).unwrap_err().to_string();
            assert!(why.contains(words), "{value}: {why}");
        }
    }
}
