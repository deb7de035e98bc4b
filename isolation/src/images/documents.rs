//! Manifests and configurations: what of them is needed, out of JSON that may be anybody's.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{DOCUMENT_MAX, Digest, Error, LAYERS_MAX, Name, malformed};

/// Manifests of one index that are looked at.
const INDEX_MAX: usize = 1024;
/// What names an image in an index.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// How an image is to be run. Empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// More arguments, or the program, unless the task has its own.
    pub cmd: Vec<String>,
    /// Variables, each as `NAME=value`.
    pub env: Vec<String>,
    /// Where it works.
    pub working_dir: String,
    /// Whom it runs as: `user`, `user:group`, by name or number.
    pub user: String,
}

/// What a machine runs, in the words of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// As in `amd64`.
    pub architecture: &'static str,
}

impl Platform {
    /// This machine.
    pub fn own() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { architecture }
    }
}

/// What a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The configuration.
    pub config: Digest,
    /// The layers as they come, the lowest first, with their bytes.
    pub layers: Vec<(Digest, u64)>,
}

/// A configuration: how to run it, and the digests of its layers as tars, the lowest first.
pub(super) struct Configuration {
    pub(super) config: Config,
    pub(super) layers: Vec<Digest>,
}

/// An image in the `manifest.json` of `docker save`.
pub(super) struct Saved {
    /// The path of its configuration, whose digest is part of it.
    pub(super) config: (String, Digest),
    /// The paths of its layers, the lowest first.
    pub(super) layers: Vec<String>,
}

/// What an index leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Led {
    /// To another index.
    Index(Digest),
    /// To the manifest of an image.
    Manifest(Digest),
}

pub(super) fn read(what: &str, bytes: &[u8]) -> Result<Value, Error> {
    if bytes.len() as u64 > DOCUMENT_MAX {
        return Err(malformed(format!("{what} takes more than 1 MiB")));
    }
    serde_json::from_slice(bytes).map_err(|error| malformed(format!("{what}: {error}")))
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    list(value, key).iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

fn digest(value: &Value) -> Result<Digest, Error> {
    let text = text(value, "digest");
    Digest::parse(text).ok_or_else(|| malformed(format!("`{text:.100}` is no digest of SHA-256")))
}

/// Which manifest of an index is meant: that of the name, for this machine. Of an index that another
/// has led to, all are of the name.
pub fn led(index: &[u8], name: Option<&Name>, platform: Platform) -> Result<Led, Error> {
    let index = read("the index of the image", index)?;
    let all = list(&index, "manifests");
    if all.len() > INDEX_MAX {
        return Err(malformed(format!("the index names more than {INDEX_MAX} manifests")));
    }
    let any_named = all.iter().any(|one| !ref_name(one).is_empty());
    let is_meant = |one: &&Value| match name.and_then(Name::digest) {
        Some(digest) => text(one, "digest") == digest.to_string(),
        None => name.is_none_or(|name| !any_named || is_named(one, name, all.len())),
    };
    let meant: Vec<&Value> = all.iter().filter(is_meant).collect();
    if meant.is_empty() {
        let name = name.map(Name::text).unwrap_or_default();
        return Err(Error::Missing(format!("image {name} in the index")));
    }
    let runs = |one: &&&Value| one.get("platform").is_none_or(|of| is_for(of, platform));
    let Some(one) = meant.iter().find(runs) else {
        let architecture = platform.architecture;
        return Err(Error::Platform(format!(
            "the image is not for this machine, a {architecture}"
        )));
    };
    let kind = text(one, "mediaType");
    let index = kind.contains("image.index") || kind.contains("manifest.list");
    digest(one).map(if index { Led::Index } else { Led::Manifest })
}

/// The manifest of an image that is made of these, by digest and bytes.
pub(super) fn manifest(config: (Digest, u64), layers: &[(Digest, u64)]) -> String {
    let of = |kind: &str, (digest, size): (Digest, u64)| {
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": kind, "digest": digest.to_string(), "size": size})
    };
    // How a layer is packed is told by its first bytes.
    let layers: Vec<Value> = layers.iter().map(|one| of("layer.v1.tar", *one)).collect();
    let config = of("config.v1+json", config);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}).to_string()
}

/// The index of one image alone, whatever it is called.
pub(super) fn index(manifest: (Digest, u64), platform: Platform) -> String {
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let of = json!({"os": "linux", "architecture": platform.architecture});
    let one = json!({"mediaType": kind, "digest": manifest.0.to_string(), "size": manifest.1,
                     "platform": of});
    json!({"schemaVersion": 2, "manifests": [one]}).to_string()
}

fn is_for(platform_of: &Value, platform: Platform) -> bool {
    let architecture = text(platform_of, "architecture");
    text(platform_of, "os") == "linux" && architecture == platform.architecture
}

fn note<'v>(one: &'v Value, key: &str) -> &'v str {
    one.get("annotations").map_or("", |notes| text(notes, key))
}

fn ref_name(one: &Value) -> &str {
    note(one, REF_NAME)
}

/// True for what an index lists under a name; who names no tag means the only one as well.
fn is_named(one: &Value, name: &Name, of: usize) -> bool {
    let (short, full) = (ref_name(one), note(one, FULL_NAME));
    if !full.is_empty() && name.is_called(full) {
        return true;
    }
    match name.tag() {
        Some(tag) => short == tag || name.is_called(short),
        None => of == 1 || short == "latest" || name.is_called(short),
    }
}

/// What a manifest names.
pub fn wanted(manifest: &[u8]) -> Result<Wanted, Error> {
    let manifest = read("the manifest of the image", manifest)?;
    let config = manifest.get("config").ok_or_else(|| malformed("the manifest has no config"))?;
    let layers = list(&manifest, "layers");
    count(layers.len())?;
    let layers = layers.iter().map(|one| {
        let size = one.get("size").and_then(Value::as_u64).unwrap_or(0);
        Ok((digest(one)?, size))
    });
    Ok(Wanted { config: digest(config)?, layers: layers.collect::<Result<_, Error>>()? })
}

fn count(layers: usize) -> Result<(), Error> {
    match layers {
        0 => Err(malformed("the image has no layers")),
        1..=LAYERS_MAX => Ok(()),
        _ => Err(malformed(format!("the image has {layers} layers; at most {LAYERS_MAX} may be"))),
    }
}

/// Reads a configuration, for a machine of ours.
pub(super) fn configuration(bytes: &[u8], platform: Platform) -> Result<Configuration, Error> {
    let value = read("the configuration of the image", bytes)?;
    let architecture = text(&value, "architecture");
    if !architecture.is_empty() && architecture != platform.architecture {
        let own = platform.architecture;
        let why = format!("the image is for {architecture:.50}, and this machine is a {own}");
        return Err(Error::Platform(why));
    }
    let layers = value.get("rootfs").map_or(&[][..], |rootfs| list(rootfs, "diff_ids"));
    count(layers.len())?;
    let layers = layers.iter().map(|one| {
        let text = one.as_str().unwrap_or_default();
        Digest::parse(text)
            .ok_or_else(|| malformed(format!("`{text:.100}` is no digest of a layer")))
    });
    let layers = layers.collect::<Result<_, Error>>()?;
    let own = value.get("config").unwrap_or(&Value::Null);
    let config = Config {
        entrypoint: texts(own, "Entrypoint"),
        cmd: texts(own, "Cmd"),
        env: texts(own, "Env"),
        working_dir: text(own, "WorkingDir").to_owned(),
        user: text(own, "User").to_owned(),
    };
    Ok(Configuration { config, layers })
}

/// The digests of the layers of a configuration, as tars, the lowest first.
pub fn layers_of(bytes: &[u8]) -> Result<Vec<Digest>, Error> {
    Ok(configuration(bytes, Platform::own())?.layers)
}

/// The image of a name in the `manifest.json` of `docker save`.
pub(super) fn saved(bytes: &[u8], name: &Name) -> Result<Saved, Error> {
    let value = read("the manifest.json of the archive", bytes)?;
    let all = value.as_array().map_or(&[][..], Vec::as_slice);
    let is_it = |one: &&Value| {
        let tags = list(one, "RepoTags");
        let only = all.len() == 1 && (tags.is_empty() || name.tag().is_none());
        let named = |tag: &Value| tag.as_str().is_some_and(|tag| is_tagged(tag, name));
        only || tags.iter().any(named)
    };
    let one = all.iter().find(is_it);
    let one = one.ok_or_else(|| Error::Missing(format!("image {name} in the archive")))?;
    let path = text(one, "Config").to_owned();
    let stem = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    let digest = Digest::of_hex(stem)
        .ok_or_else(|| malformed("the archive does not say the digest of the configuration"))?;
    let layers = texts(one, "Layers");
    count(layers.len())?;
    Ok(Saved { config: (path, digest), layers })
}

/// True for a tag that an archive gives an image of this name; of a path the tag alone counts.
fn is_tagged(tag: &str, name: &Name) -> bool {
    let own = name.tag().unwrap_or("latest");
    let path = matches!(name.place(), super::Place::Path(_));
    name.is_called(tag) || path && tag.rsplit(':').next() == Some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    const AMD: Platform = Platform { architecture: "amd64" };

    #[test]
    fn an_index_leads_to_the_manifest_of_the_name_for_this_machine() {
        let (one, two, three) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3"));
        let index = format!(
            r#"{{"manifests":[
            {{"digest":"{one}","annotations":{{"{REF_NAME}":"v1"}},
              "platform":{{"os":"linux","architecture":"arm64"}}}},
            {{"digest":"{two}","annotations":{{"{REF_NAME}":"v1"}},
              "platform":{{"os":"linux","architecture":"amd64"}}}},
            {{"digest":"{three}","annotations":{{"{REF_NAME}":"v2"}},
              "mediaType":"application/vnd.oci.image.index.v1+json"}}]}}"#
        );
        let led = |text: &str| led(index.as_bytes(), Some(&name(text)), AMD);
        assert_eq!(led("a/b:v1").unwrap(), Led::Manifest(two));
        assert_eq!(led("a/b:v2").unwrap(), Led::Index(three));
        assert!(matches!(led("a/b:v3"), Err(Error::Missing(_))));
        assert!(matches!(led(&format!("a@{one}")), Err(Error::Platform(_))));
        let inner = format!(
            r#"{{"manifests":[{{"digest":"{one}","platform":{{"os":"linux","architecture":"arm64"}}}},
            {{"digest":"{two}","platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
        );
        let inner = super::led(inner.as_bytes(), None, AMD);
        assert_eq!(inner.unwrap(), Led::Manifest(two));
    }

    #[test]
    fn documents_that_make_no_sense_are_refused_by_name() {
        let why = |bad: Result<Wanted, Error>| bad.unwrap_err().to_string();
        assert!(why(wanted(b"{")).contains("manifest of the image: EOF"));
        assert!(why(wanted(b"{}")).contains("no config"));
        let none = format!(r#"{{"config":{{"digest":"{}"}}}}"#, Digest::of(b""));
        assert!(why(wanted(none.as_bytes())).contains("no layers"));
        let traversal = br#"{"config":{"digest":"sha256:../../etc/passwd"},"layers":[{}]}"#;
        assert!(why(wanted(traversal)).contains("no digest"));
        let deep = "[".repeat(100_000);
        assert!(why(wanted(deep.as_bytes())).contains("recursion"));
        let other = br#"{"architecture":"s390x","rootfs":{"diff_ids":[]}}"#;
        assert!(matches!(configuration(other, AMD), Err(Error::Platform(_))));
        let many = format!(r#"[{{"Config":"x.json","Layers":[{}"a"]}}]"#, r#""a","#.repeat(127));
        assert!(saved(many.as_bytes(), &name("a")).is_err());
    }
}
