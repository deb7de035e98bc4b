//! The file of the hosts whose agents may be offered, read again when it changes (Mesos:
//! `--whitelist`, `WhitelistWatcher`).

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mesita_core::doors::Rights;
use mesita_core::limits::{HEAD_MAX, NAME_MAX};
use mesita_core::wire::Scratch;
use mesita_core::wire::operator::OperatorVerb;

use super::MasterNode;
use crate::alarm;
use crate::doors::Caller;

/// From one look at the file to the next, in µs. Mesos: 5 s.
const LOOK_US: u64 = 5_000_000;
/// Hosts that surely fit one call.
const HOSTS_PER_CALL: usize = HEAD_MAX / 2 / (NAME_MAX + 2);
/// The largest file that is read.
const FILE_MAX: u64 = 16 << 20;

/// Tells the core what the file of `--whitelist` says, whenever it says something else. What cannot
/// be read, or is refused, changes nothing, and is said once; until something was read, nothing is
/// offered.
pub(crate) async fn watch(master: Rc<MasterNode>) {
    let Some(path) = master.options.whitelist.clone() else { return };
    let mut first = read(path.clone()).await;
    master.leading().await;
    let (mut known, mut seen) = (Vec::new(), None::<Vec<String>>);
    if let Err(why) = tell(&master, &known).await {
        log::error!("--whitelist {}: {why}", path.display());
    }
    let mut trouble = String::new();
    loop {
        let now = match std::mem::replace(&mut first, Ok(Vec::new())) {
            Ok(hosts) if seen.as_ref() == Some(&hosts) => trouble.clone(),
            Ok(hosts) => {
                let told = tell(&master, &hosts).await;
                seen = Some(hosts.clone());
                match told {
                    Ok(()) => {
                        log::info!("--whitelist: {} hosts", hosts.len());
                        known = hosts;
                        String::new()
                    }
                    Err(why) => {
                        // A part of it may have been taken.
                        let _ = tell(&master, &known).await;
                        why
                    }
                }
            }
            Err(error) => error.to_string(),
        };
        if !now.is_empty() && now != trouble {
            log::error!("--whitelist {}: {now}", path.display());
        }
        trouble = now;
        alarm::after(LOOK_US).await;
        first = read(path.clone()).await;
    }
}

async fn read(path: PathBuf) -> io::Result<Vec<String>> {
    blocking::unblock(move || hosts(&path)).await
}

/// The hosts of a file, one a line; `#` begins a comment.
fn hosts(path: &Path) -> io::Result<Vec<String>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("no regular file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::other("larger than 16 MiB"));
    }
    parse(text.strip_prefix('\u{feff}').unwrap_or(&text))
}

fn parse(text: &str) -> io::Result<Vec<String>> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let hosts: Vec<String> = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    match hosts.iter().find(|host| host.len() > NAME_MAX) {
        Some(long) => Err(io::Error::other(format!("`{long}` is longer than {NAME_MAX} bytes"))),
        None => Ok(hosts),
    }
}

/// The first part replaces what was listed, the others add to it. An empty list offers nothing.
async fn tell(master: &Rc<MasterNode>, hosts: &[String]) -> Result<(), String> {
    let caller = Caller::new("--whitelist", Rights::OPERATE);
    let mut parts: Vec<&[String]> = hosts.chunks(HOSTS_PER_CALL).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    for (place, part) in parts.into_iter().enumerate() {
        let mut memory = vec![0; HEAD_MAX];
        let mut scratch = Scratch::new(&mut memory);
        let hosts = scratch.seq::<&'static str>(part.iter().map(String::as_str));
        let hosts = Some(hosts.map_err(|_| "too many hosts".to_owned())?);
        let told = master.operate(&caller, OperatorVerb::Whitelist { hosts, adds: place > 0 });
        told.await.map_err(|refused| {
            format!("refused with status {}: see --capacity names=...", refused.status())
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_host_unless_it_is_a_comment() {
        assert_eq!(parse("pi1\n\n  # not this\npi2 # but this\n").unwrap(), ["pi1", "pi2"]);
        let long = parse(&"x".repeat(300)).unwrap_err();
        assert!(long.to_string().ends_with("is longer than 255 bytes"));
    }
}
