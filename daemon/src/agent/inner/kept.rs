//! What is on disk of containers inside of others, for the agent that comes after this one: a file
//! for each in `meta/inner`, named as the keeper knows it. Sessions have none: they end with their
//! agent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mesita_core::wire::{ContainerId, FrameworkId};
use serde::{Deserialize, Serialize};

use super::{Chain, Ending};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) chain: Chain,
    pub(super) id: ContainerId,
    /// Where the container is that it is inside of; of one that is inside of none, its own id.
    pub(super) around: Option<ContainerId>,
    pub(super) root: ContainerId,
    /// It has limits of its own, or is inside of one that has.
    pub(super) apart: bool,
    pub(super) within: Option<ContainerId>,
    pub(super) asked: (u64, u64),
    pub(super) framework: FrameworkId,
    pub(super) user: String,
    pub(super) owner: String,
    /// Once it ended.
    pub(super) ending: Option<Ending>,
    /// It has processes of its own.
    pub(super) parted: bool,
}

fn directory(work_dir: &Path) -> PathBuf {
    work_dir.join("meta").join("inner")
}

/// Writes one down, in place of what was there of it. Blocks.
pub(super) fn write(work_dir: &Path, kept: &Kept) -> io::Result<()> {
    let directory = directory(work_dir);
    fs::create_dir_all(&directory)?;
    let path = directory.join(kept.id.to_string());
    let new = path.with_extension("new");
    // Our own types have no way to fail.
    fs::write(&new, postcard::to_allocvec(kept).unwrap_or_default())?;
    fs::rename(new, path)
}

/// Forgets one. One that is not there is as good. Blocks.
pub(super) fn forget(work_dir: &Path, id: ContainerId) -> io::Result<()> {
    match fs::remove_file(directory(work_dir).join(id.to_string())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// All that an earlier agent wrote; what cannot be read goes. Blocks.
pub(super) fn read(work_dir: &Path) -> Vec<Kept> {
    let entries = fs::read_dir(directory(work_dir)).into_iter().flatten().flatten();
    let mut all = Vec::new();
    for entry in entries {
        let mut bytes = fs::read(entry.path()).unwrap_or_default();
        // Agents before this one wrote no last field, which says no then; what is more is not looked at.
        bytes.push(0);
        match postcard::from_bytes::<Kept>(&bytes).ok() {
            Some(kept) if entry.file_name().to_str() == Some(&kept.id.to_string()) => {
                all.push(kept);
            }
            _ => {
                log::warn!("{} cannot be read, and goes", entry.path().display());
                let _ = fs::remove_file(entry.path());
            }
        }
    }
    all
}
