//! What images are called.
//!
//! `[registry/]repository[:tag][@sha256:digest]` as everywhere, or a path of this machine, which
//! begins with `/`: `/images/app.tar`, `/images/layout:tag`. Where a path is there with its colon and what
//! comes after it, that is no tag.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Digest;

/// Bytes of a name.
const NAME_MAX: usize = 1024;
/// The tag of who names none.
const LATEST: &str = "latest";

/// The name of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// All of it, as it was given.
    text: String,
    place: Place,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Where an image of a name is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the registry, under this repository: `library/busybox`, `registry.example:5000/a/b`.
    Registry(String),
    /// At this path.
    Path(PathBuf),
}

/// Not a name of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadName(String);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` names no image: give [registry/]repository[:tag][@sha256:...], or a path from /",
            self.0
        )
    }
}

impl std::error::Error for BadName {}

impl Name {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        Self::read(text).ok_or_else(|| BadName(text.chars().take(200).collect()))
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > NAME_MAX || text.chars().any(|one| one.is_control() || one == '\\') {
            return None;
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        // A colon before the last slash is that of a port.
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((before, tag)) if !tag.contains('/') => (before, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return None;
        }
        let place = if rest.starts_with('/') {
            Place::Path(path(rest)?)
        } else {
            // A registry may have a port.
            let (first, rest_of) = rest.split_once('/').unwrap_or(("", rest));
            let registry = first.split_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
            let first = registry.map_or(first, |(host, _)| host);
            let sound = (first.is_empty() && !rest.starts_with('/')) || is_component(first);
            let sound = sound && rest_of.split('/').all(is_component);
            sound.then(|| Place::Registry(rest.to_owned()))?
        };
        Some(Self { text: text.to_owned(), place, tag: tag.map(str::to_owned), digest })
    }

    /// The same, but for a path that is there as it was given: a colon in it begins no tag.
    pub fn or_path(self) -> Self {
        let whole = match &self.place {
            Place::Path(_) if self.tag.is_some() => self.text.split('@').next().and_then(path),
            Place::Registry(_) | Place::Path(_) => None,
        };
        match whole.filter(|path| path.exists()) {
            Some(path) => Self { place: Place::Path(path), tag: None, ..self },
            None => self,
        }
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its tag, if it has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of its manifest, if it says one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Without the digest, and with the tag that it has or would have: what an archive calls it.
    pub fn tagged(&self) -> String {
        let place = match &self.place {
            Place::Registry(repository) => repository.as_str(),
            Place::Path(path) => path.to_str().unwrap_or_default(),
        };
        format!("{place}:{}", self.tag.as_deref().unwrap_or(LATEST))
    }

    /// True for what another calls an image of this name: with or without the parts that Docker adds.
    pub fn is_called(&self, other: &str) -> bool {
        let plain = |text: &str| {
            let text = text.strip_prefix("docker.io/").unwrap_or(text);
            text.strip_prefix("library/").unwrap_or(text).to_owned()
        };
        let tagged = self.tagged();
        let other = if other.rsplit('/').next().is_some_and(|last| last.contains(':')) {
            plain(other)
        } else {
            format!("{}:{LATEST}", plain(other))
        };
        plain(&tagged) == other
    }

    /// Files of a directory of archives that may be it, the likeliest first. Mesos:
    /// `--docker_registry` as a path.
    pub fn archives(&self) -> Vec<String> {
        let Place::Registry(repository) = &self.place else { return Vec::new() };
        let mut names = vec![format!("{}.tar", self.tagged())];
        if self.tag.as_deref().is_none_or(|tag| tag == LATEST) {
            names.push(format!("{repository}.tar"));
        }
        names
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_tag(tag: &str) -> bool {
    let plain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '_' | '.' | '-');
    !tag.is_empty() && tag.len() <= 128 && tag.chars().all(plain) && !tag.starts_with(['.', '-'])
}

/// One part of a repository, or the host of a registry.
fn is_component(text: &str) -> bool {
    let plain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '_' | '.' | '-');
    !text.is_empty() && text.chars().all(plain) && !text.starts_with(['.', '-'])
}

/// A path that leads nowhere but down.
fn path(text: &str) -> Option<PathBuf> {
    let down = !text.split('/').any(|part| matches!(part, "." | ".."));
    (down && text.len() > 1).then(|| Path::new(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_place_a_tag_and_a_digest() {
        let name = Name::parse("registry.example:5000/a/b:1.2").unwrap();
        assert_eq!(name.place(), &Place::Registry("registry.example:5000/a/b".into()));
        assert_eq!(name.tag(), Some("1.2"));
        let digest = Digest::of(b"x");
        let name = Name::parse(&format!("busybox@{digest}")).unwrap();
        assert_eq!((name.tag(), name.digest()), (None, Some(digest)));
        assert_eq!(name.archives(), ["busybox:latest.tar", "busybox.tar"]);
        let name = Name::parse("/images/layout:v1").unwrap();
        assert_eq!((name.place(), name.tag()), (&Place::Path("/images/layout".into()), Some("v1")));
    }

    #[test]
    fn a_path_that_is_there_as_it_was_given_has_no_tag() {
        let directory = crate::testing::Directory::new("or-path");
        let there = directory.path().join("usr:v1.tar");
        std::fs::write(&there, "").unwrap();
        let name = Name::parse(there.to_str().unwrap()).unwrap().or_path();
        assert_eq!((name.place(), name.tag()), (&Place::Path(there), None));
        let other = directory.path().join("usr:v2.tar");
        let name = Name::parse(other.to_str().unwrap()).unwrap().or_path();
        assert_eq!(name.place(), &Place::Path(directory.path().join("usr")));
        assert_eq!(name.tag(), Some("v2.tar"));
    }

    #[test]
    fn what_leads_elsewhere_is_no_name() {
        let long = "x".repeat(NAME_MAX + 1);
        for bad in [
            "",
            "/",
            "../x",
            "a/../b",
            "/a/../b",
            "a//b",
            "a:b:c",
            "x:",
            "a b",
            "x@sha256:12",
            "-x",
            "x\n",
            "http://x/y",
            &long,
        ] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_image_has_the_names_that_docker_gives_it() {
        let name = Name::parse("busybox").unwrap();
        for same in ["busybox:latest", "busybox", "docker.io/library/busybox:latest"] {
            assert!(name.is_called(same), "{same}");
        }
        for other in ["busybox:1", "alpine", "x/busybox:latest"] {
            assert!(!name.is_called(other), "{other}");
        }
    }
}
