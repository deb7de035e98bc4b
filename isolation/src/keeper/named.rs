//! What a keeper is called in lists of processes. It was forked by an agent whose arguments may hold a
//! token by which nodes join, and process 1 of each task's namespace is forked by the keeper: so their
//! arguments are written over, where the kernel reads them.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::NAME;
use crate::sys::Failure;

/// Calls this process a keeper of `work_dir`, and nothing else.
pub(super) fn be_called_keeper(work_dir: &Path) -> Result<(), Failure> {
    let path = Path::new("/proc/self/mem");
    let failed = |error: std::io::Error| Failure::io("write", path, &error);
    let Some((from, len)) = arguments(&fs::read_to_string("/proc/self/stat").map_err(failed)?)
    else {
        return Err(Failure::new("find the arguments in", path, libc::EINVAL));
    };
    let mut line = vec![0; len];
    let called = [NAME.to_bytes(), b" ", work_dir.as_os_str().as_bytes()].concat();
    // The last byte stays the end of a text, or the kernel reads on behind it.
    let fits = called.len().min(len.saturating_sub(1));
    line[..fits].copy_from_slice(&called[..fits]);
    let memory = File::options().write(true).open(path).map_err(failed)?;
    memory.write_all_at(&line, from).map_err(failed)
}

/// Where the arguments of a process are in its memory, and how long they are (proc(5): `arg_start` and
/// `arg_end`, fields 48 and 49 of `stat`).
fn arguments(stat: &str) -> Option<(u64, usize)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3)?.parse().ok();
    let (from, to): (u64, u64) = (field(48)?, field(49)?);
    let len = usize::try_from(to.checked_sub(from)?).ok()?;
    (from > 0 && len > 0).then_some((from, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_where_the_kernel_has_them() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let (from, len) = arguments(&stat).unwrap();
        let mut bytes = vec![0; len];
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, from).unwrap();
        assert_eq!(bytes, fs::read("/proc/self/cmdline").unwrap());
        for nothing in ["", "1 (x", "1 (x) S 1 2 3", "1 (a ) b) R"] {
            assert_eq!(arguments(nothing), None, "{nothing}");
        }
    }
}
