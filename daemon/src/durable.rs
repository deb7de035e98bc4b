//! What is written is on disk, and where it was: what was removed meanwhile is kept for nobody.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Waits until all that was written to a file is on disk.
///
/// `NotFound` for one that is in no directory any more: the process's next start would find nothing of it.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    file.sync_data()?;
    if file.metadata()?.nlink() == 0 {
        let why =
            "it was removed while this process writes to it, so that nothing is kept any more";
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    Ok(())
}
