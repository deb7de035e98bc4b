//! A registry as a text: taken out of a master that is stopped, put into a new one.
//!
//! What was put in lies in `meta/origin` until the new master has led and all of it is durable, so
//! that nothing is lost however often it is started before.

use std::io::{self, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesita_core::limits::{MASTERS_MAX, NAME_MAX, STORED_MAX};
use mesita_core::registry::body::Shape;
use mesita_core::registry::rows::Row;
use mesita_core::registry::store::Facts;
use mesita_core::wire::gossip::Table;
use mesita_core::wire::operator::OperatorVerb;
use mesita_core::wire::{Check, Generation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bootstrap::Refused;
use super::cells::Stored;

/// Reigns at most that a master which begins anew from what a survivor has never heard of: less than
/// what the election takes for a leap.
const UNSEEN_EPOCHS: u32 = 1 << 16;

/// The least and the largest T, in µs.
const T_MIN_US: u32 = 10_000;
const T_MAX_US: u32 = 60_000_000;
/// The version of the text.
const VERSION: u32 = 1;
/// Bytes of the longest text that is read.
pub(crate) const TEXT_MAX: u64 = 64 << 20;

/// The history of a cluster as far as a registry had it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    pub(crate) cluster: u64,
    pub(crate) generation: Generation,
    /// The newest epoch.
    pub(crate) epoch: u32,
}

/// A row: its bytes, and for people what is in them.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Told {
    row: String,
    #[serde(default)]
    is: Value,
}

/// A registry as a text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Origin {
    version: u32,
    /// 16 digits of hexadecimal.
    cluster: String,
    pub(crate) generation: u32,
    nonce: String,
    epoch: u32,
    pub(crate) t_us: u32,
    /// How many masters had a vote.
    pub(crate) masters: usize,
    rows: Vec<Told>,
    /// What frameworks have stored.
    #[serde(default)]
    store: Vec<ToldStored>,
}

/// What somebody has stored, its value in base64.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ToldStored {
    owner: Box<str>,
    key: Box<str>,
    version: u64,
    value: String,
}

impl Origin {
    /// What a stopped master has.
    pub(crate) fn of<'r>(
        facts: &Facts,
        rows: impl Iterator<Item = &'r [u8]>,
        is: impl Fn(&[u8]) -> Value,
        stored: Vec<Stored>,
    ) -> Self {
        let stored = stored.into_iter().map(|Stored { owner, key, version, value }| ToldStored {
            owner,
            key,
            version,
            value: STANDARD.encode(value),
        });
        let told = rows.map(|bytes| Told { row: STANDARD.encode(trimmed(bytes)), is: is(bytes) });
        Self {
            version: VERSION,
            cluster: format!("{:016x}", facts.cluster),
            generation: facts.generation.number,
            nonce: format!("{:016x}", facts.generation.nonce),
            epoch: facts.promised,
            t_us: facts.meta.t_us,
            masters: facts.meta.roster.members.iter().filter(|member| member.voter).count(),
            rows: told.collect(),
            store: stored.collect(),
        }
    }

    /// Reads a text; a sentence when it is none.
    pub(crate) fn parse(text: &[u8], name: &Path) -> Result<Self, Refused> {
        let bad = |why: String| Refused::Sentence(format!("{}: {why}", name.display()));
        let version = serde_json::from_slice::<Value>(text);
        let version = version.map_err(|error| bad(format!("not an exported registry: {error}")))?;
        if version["version"].as_u64().is_some_and(|version| version > VERSION.into()) {
            return Err(bad("written by a later release; use that one".to_owned()));
        }
        let origin: Self = serde_json::from_slice(text)
            .map_err(|error| bad(format!("not an exported registry: {error}")))?;
        if let Some(field) = origin.odd_field() {
            return Err(bad(format!("`{field}` is none that a registry has")));
        }
        for (number, told) in origin.rows.iter().enumerate() {
            let bytes = STANDARD.decode(&told.row).unwrap_or_default();
            if !Row::read(&bytes).is_some_and(|row| is_sound(&row)) {
                return Err(bad(format!("row {number} was changed, or is of a later release")));
            }
        }
        let stored = |one: &ToldStored| {
            let value = STANDARD.decode(&one.value).ok().filter(|value| value.len() <= STORED_MAX);
            let names = [&one.owner, &one.key];
            value.is_some() && names.iter().all(|name| (1..=NAME_MAX).contains(&name.len()))
        };
        if let Some(number) = origin.store.iter().position(|one| !stored(one)) {
            return Err(bad(format!("entry {number} of the store was changed")));
        }
        Ok(origin)
    }

    /// A field that no master has written.
    fn odd_field(&self) -> Option<&'static str> {
        let hex =
            |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let none = || Past { cluster: 0, ..Past::default() };
        let cluster = self.past().unwrap_or_else(|_| none()).cluster;
        [
            ("version", self.version == VERSION),
            ("cluster", hex(&self.cluster) && cluster != 0),
            ("nonce", hex(&self.nonce)),
            // A reign for each start, for as long as anybody may want.
            ("epoch", self.epoch < u32::MAX / 2),
            ("t_us", (T_MIN_US..=T_MAX_US).contains(&self.t_us)),
            ("masters", (1..=MASTERS_MAX).contains(&self.masters)),
        ]
        .into_iter()
        .find_map(|(name, sound)| (!sound).then_some(name))
    }

    /// What was put into a work directory and is not durable yet; none when there is nothing.
    pub(crate) fn read(meta: &Path) -> Result<Option<Self>, Refused> {
        let path = meta.join("origin");
        match std::fs::read(&path) {
            Ok(text) => Self::parse(&text, &path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Refused::Io(path, error)),
        }
    }

    /// Puts it into a work directory, durably.
    pub(crate) fn write(&self, meta: &Path) -> Result<(), Refused> {
        let (path, new) = (meta.join("origin"), meta.join("origin.new"));
        let write = || {
            let mut file = std::fs::File::create(&new)?;
            file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            std::fs::File::open(meta)?.sync_all()
        };
        write().map_err(|error| Refused::Io(path.clone(), error))
    }

    /// All of it is durable elsewhere: after a power cut, too, it is not put in once more.
    pub(crate) fn is_done(meta: &Path) {
        let path = meta.join("origin");
        let synced = || std::fs::File::open(meta)?.sync_all();
        if let Err(error) = std::fs::remove_file(&path).and_then(|()| synced()) {
            log::warn!("{}: {error}", path.display());
        }
    }

    /// A history of its own from now on: whoever is left of the old one is not obeyed any more.
    pub(crate) fn begins_anew(&mut self, nonce: u64) -> Result<(), Refused> {
        let next = self.generation.checked_add(1);
        let spent = || Refused::Sentence("no generation is left".to_owned());
        self.generation = next.ok_or_else(spent)?;
        // Ids are numbered within epochs, and others may have led after this was taken out.
        let epoch = self.epoch.checked_add(UNSEEN_EPOCHS);
        self.epoch = epoch.ok_or_else(|| Refused::Sentence("no epoch is left".to_owned()))?;
        // Zero is what a history has that never began anew.
        self.nonce = format!("{:016x}", nonce.max(1));
        Ok(())
    }

    /// The history that it is of.
    pub(crate) fn past(&self) -> Result<Past, Refused> {
        let number = |text: &str| {
            let number = u64::from_str_radix(text, 16);
            number.map_err(|_| Refused::Sentence(format!("`{text}` is no number")))
        };
        let generation = Generation { number: self.generation, nonce: number(&self.nonce)? };
        Ok(Past { cluster: number(&self.cluster)?, generation, epoch: self.epoch })
    }

    /// The bytes of its rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Vec<u8>> {
        self.rows.iter().map(|told| STANDARD.decode(&told.row).unwrap_or_default())
    }

    /// What frameworks have stored.
    pub(crate) fn stored(&self) -> impl Iterator<Item = Stored> {
        self.store.iter().map(|one| Stored {
            owner: one.owner.clone(),
            key: one.key.clone(),
            version: one.version,
            value: STANDARD.decode(&one.value).unwrap_or_default(),
        })
    }

    /// Why it has more than fits a registry of that shape.
    pub(crate) fn fits(&self, shape: Shape) -> Result<(), Refused> {
        let tables = [Table::Agents, Table::Frameworks, Table::Roles, Table::Windows];
        for table in tables {
            let here = |bytes: &Vec<u8>| Row::read(bytes).is_some_and(|row| row.table() == table);
            let (has, fits) = (self.rows().filter(here).count(), shape.slots(table) as usize);
            if has > fits {
                return Err(Refused::Sentence(format!(
                    "the registry that was imported has {has} rows of {table:?}, and {fits} fit: \
                     give a larger --size"
                )));
            }
        }
        let cells: u32 = self.stored().map(|stored| stored.entry().cells()).sum();
        if cells > shape.slots(Table::Store) {
            let text = "the registry that was imported has more in its store than fits: give a \
                        larger --size";
            return Err(Refused::Sentence(text.to_owned()));
        }
        Ok(())
    }
}

/// What a row says could have been said to a master.
fn is_sound(row: &Row<'_>) -> bool {
    match *row {
        Row::Weight { role, weight } => {
            weight > 0 && OperatorVerb::SetWeight { role, weight }.check().is_ok()
        }
        Row::Quota { role, guarantees, limits } => {
            OperatorVerb::SetQuota { role, guarantees, limits, force: true }.check().is_ok()
        }
        Row::Agent(admission) => !admission.agent.is_none(),
        Row::Host { agent, hostname } => !agent.is_none() && hostname.len() <= NAME_MAX,
        Row::Machine { planned, .. } => planned.check().is_ok(),
        Row::Removed(framework) => !framework.is_none(),
        Row::Framework(owned) => !owned.framework.is_none(),
        Row::Request(_) => true,
    }
}

/// A slot without what is behind its row.
fn trimmed(slot: &[u8]) -> &[u8] {
    let end = slot.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    slot.get(..(end + 16).min(slot.len())).unwrap_or_default()
}
