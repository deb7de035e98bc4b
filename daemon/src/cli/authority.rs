//! By which authority the nodes of a cluster know its masters: kept beside the registry, so that neither
//! goes with another. A master of another authority would lead a cluster of which no node speaks with it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{Failure, USAGE};
use crate::identity;
use crate::tls::Pin;

/// Where it is, in `meta`.
const FILE: &str = "authority";

/// Keeps it, or refuses another one than was kept.
pub(super) fn keep(meta: &Path, own: &Pin) -> Result<(), Failure> {
    let path = meta.join(FILE);
    let own = own.to_string();
    let known = match fs::read_to_string(&path) {
        Ok(known) => known,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return identity::write(&path, own.as_bytes()).map_err(Failure::plain);
        }
        Err(error) => return Err(Failure::plain(format!("{}: {error}", path.display()))),
    };
    if known.trim() == own {
        return Ok(());
    }
    let why = format!(
        "nodes of this cluster know its masters by the authority {}, and --tls-cert-file is by {own}: give \
         this work directory the files of its own cluster, or those another --work-dir. To go on with another \
         authority, by which no node that has joined knows this master, remove {}",
        known.trim(),
        path.display()
    );
    Err(Failure::new(USAGE, why))
}
