//! Which devices the processes of a cgroup may open.
//!
//! With v2 that is a program, which the kernel runs whenever one of them opens or makes a node. Ours
//! goes through a list and allows what it finds there; it is small enough to be written by hand.

use std::ffi::{c_int, c_long};
use std::fmt;
use std::fs::File;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::{Failure, Sys, Version, last};

/// Devices that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Which kind.
    pub kind: DeviceKind,
    /// Its major number; none = any.
    pub major: Option<u32>,
    /// Its minor number; none = any.
    pub minor: Option<u32>,
    /// How: of [`READ`](Self::READ), [`WRITE`](Self::WRITE), [`MAKE`](Self::MAKE).
    pub access: u8,
}

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A disk and the like.
    Block,
    /// Everything else.
    Character,
}

impl Device {
    /// Making its node.
    pub const MAKE: u8 = 1;
    /// Reading from it.
    pub const READ: u8 = 2;
    /// Writing to it.
    pub const WRITE: u8 = 4;
}

/// As the file of v1 takes it: `c 1:3 rwm`.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.kind == DeviceKind::Block { "b " } else { "c " })?;
        let number = |f: &mut fmt::Formatter<'_>, number: Option<u32>| match number {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("*"),
        };
        number(f, self.major)?;
        f.write_str(":")?;
        number(f, self.minor)?;
        f.write_str(" ")?;
        let letters = [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MAKE, "m")];
        letters
            .iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .try_for_each(|(_, l)| f.write_str(l))
    }
}

/// An instruction of the kernel's machine: code, registers, offset, number.
type Instruction = u64;

const fn instruction(code: u8, registers: u8, offset: i16, number: u32) -> Instruction {
    code as u64
        | (registers as u64) << 8
        | (offset.cast_unsigned() as u64) << 16
        | (number as u64) << 32
}

/// `to = number`, `to = from`, `to &= number`, `to >>= number`.
const SET: u8 = 0xb7;
const COPY: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT: u8 = 0x77;
/// `to = 32 bits at from + offset`.
const LOAD: u8 = 0x61;
/// Jump over `offset` instructions if `to != number`.
const UNLESS: u8 = 0x55;
const EXIT: u8 = 0x95;

/// What is asked for comes in register 1: kind and access in one word, then major and minor. Lies in
/// registers 3, 2, 4 and 5 from then on.
fn program(allowed: &[Device]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD, 0x12, 0, 0),
        instruction(LOAD, 0x14, 4, 0),
        instruction(LOAD, 0x15, 8, 0),
        instruction(COPY, 0x23, 0, 0),
        instruction(AND, 3, 0, 0xffff),
        instruction(SHIFT, 2, 0, 16),
    ];
    for device in allowed {
        let kind = if device.kind == DeviceKind::Block { 1 } else { 2 };
        let all = u32::from(Device::MAKE | Device::READ | Device::WRITE);
        let mut tests = vec![
            (UNLESS, 3, kind),
            (COPY, 0x21, 0),
            (AND, 1, all & !u32::from(device.access)),
            (UNLESS, 1, 0),
        ];
        tests.extend(device.major.map(|major| (UNLESS, 4, major)));
        tests.extend(device.minor.map(|minor| (UNLESS, 5, minor)));
        // Over the rest of the tests, and the two that allow.
        let rest = (0..tests.len()).rev().map(|left| i16::try_from(left + 2).unwrap_or(i16::MAX));
        for ((code, registers, number), rest) in tests.into_iter().zip(rest) {
            let offset = if code == UNLESS { rest } else { 0 };
            program.push(instruction(code, registers, offset, number));
        }
        program.extend([instruction(SET, 0, 0, 1), instruction(EXIT, 0, 0, 0)]);
    }
    program.extend([instruction(SET, 0, 0, 0), instruction(EXIT, 0, 0, 0)]);
    program
}

/// Lets the processes of a cgroup use these devices and no other.
pub(super) fn allow(
    sys: &dyn Sys,
    version: Version,
    directory: &Path,
    allowed: &[Device],
) -> Result<(), Failure> {
    match version {
        Version::V1 => {
            sys.write(&directory.join("devices.deny"), "a")?;
            let allow = directory.join("devices.allow");
            allowed.iter().try_for_each(|device| sys.write(&allow, &device.to_string()))
        }
        Version::V2 => {
            let program = load(allowed)?;
            let at =
                File::open(directory).map_err(|error| Failure::io("open", directory, &error))?;
            attach(&program, &at).map_err(|errno| Failure::new("bpf", directory, errno))
        }
    }
}

/// The same of a cgroup that has such a rule: what it says no more is taken away, and what it did not say
/// is allowed.
pub(super) fn change(
    sys: &dyn Sys,
    version: Version,
    directory: &Path,
    allowed: &[Device],
) -> Result<(), Failure> {
    match version {
        Version::V1 => {
            let told = sys.read(&directory.join("devices.list"))?;
            let wanted: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            let deny = directory.join("devices.deny");
            let gone = told.lines().filter(|line| !wanted.iter().any(|one| one == line));
            gone.into_iter().try_for_each(|line| sys.write(&deny, line))?;
            let allow = directory.join("devices.allow");
            let new = wanted.iter().filter(|one| !told.lines().any(|line| line == **one));
            new.into_iter().try_for_each(|one| sys.write(&allow, one))
        }
        Version::V2 => {
            let failed = |errno| Failure::new("bpf", directory, errno);
            let at =
                File::open(directory).map_err(|error| Failure::io("open", directory, &error))?;
            let before = attached(&at).map_err(failed)?;
            // All of them have to allow what is opened: there is no moment without a rule.
            attach(&load(allowed)?, &at).map_err(failed)?;
            before.iter().try_for_each(|program| detach(program, &at)).map_err(failed)
        }
    }
}

/// Programs of one cgroup that are known here: the kernel takes no more.
const PROGRAMS_MAX: usize = 64;

/// The programs of a cgroup.
fn attached(at: &File) -> Result<Vec<OwnedFd>, i32> {
    const PROG_QUERY: c_int = 16;
    const PROG_GET_FD_BY_ID: c_int = 13;
    let mut ids = [0u32; PROGRAMS_MAX];
    // Cgroup and kind; no flags; their flags; ids; how many there is room for.
    let mut attributes: [u64; 8] = [
        pair(u64::from(at.as_raw_fd().unsigned_abs()), CGROUP_DEVICE),
        0,
        ids.as_mut_ptr().addr() as u64,
        pair(PROGRAMS_MAX as u64, 0),
        0,
        0,
        0,
        0,
    ];
    // SAFETY: the kernel writes as many numbers as there is room for, which outlive the call.
    unsafe { bpf(PROG_QUERY, &mut attributes) }?;
    let count = attributes[3].to_ne_bytes();
    let count = u32::from_ne_bytes([count[0], count[1], count[2], count[3]]) as usize;
    let ids = ids.iter().take(count).map(|id| {
        let mut attributes = [pair(u64::from(*id), 0), 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: no pointer is among these attributes.
        let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attributes) }?;
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    });
    ids.collect()
}

fn detach(program: &OwnedFd, at: &File) -> Result<(), i32> {
    const PROG_DETACH: c_int = 9;
    let number = |fd: c_int| u64::from(fd.unsigned_abs());
    let mut attributes: [u64; 8] = [
        pair(number(at.as_raw_fd()), number(program.as_raw_fd())),
        pair(CGROUP_DEVICE, 0),
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: no pointer is among these attributes.
    unsafe { bpf(PROG_DETACH, &mut attributes) }.map(drop)
}

/// Where programs of devices are attached.
const CGROUP_DEVICE: u64 = 6;

/// Whether this process may program devices at all.
pub(super) fn can_program() -> Result<(), Failure> {
    load(&[]).map(drop)
}

fn load(allowed: &[Device]) -> Result<OwnedFd, Failure> {
    const PROG_LOAD: c_int = 5;
    const KIND: u64 = 15;
    let program = program(allowed);
    let license = c"Apache-2.0";
    // `union bpf_attr`: kind and count, instructions, licence, no log, no version, no flags, a name.
    let mut attributes: [u64; 8] = [
        pair(KIND, program.len() as u64),
        program.as_ptr().addr() as u64,
        license.as_ptr().addr() as u64,
        0,
        0,
        0,
        u64::from_ne_bytes(*b"mesita_d"),
        u64::from_ne_bytes(*b"evices\0\0"),
    ];
    // SAFETY: the kernel reads the program and the text, which outlive the call.
    let loaded = unsafe { bpf(PROG_LOAD, &mut attributes) };
    let loaded = loaded.map_err(|errno| Failure::plain("bpf", errno))?;
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(loaded) })
}

fn attach(program: &OwnedFd, at: &File) -> Result<(), i32> {
    const PROG_ATTACH: c_int = 8;
    const ALLOW_MULTI: u64 = 2;
    let number = |fd: c_int| u64::from(fd.unsigned_abs());
    let mut attributes: [u64; 8] = [
        pair(number(at.as_raw_fd()), number(program.as_raw_fd())),
        pair(CGROUP_DEVICE, ALLOW_MULTI),
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: no pointer is among these attributes.
    unsafe { bpf(PROG_ATTACH, &mut attributes) }.map(drop)
}

/// Two numbers of 32 bits, the first of which comes first in memory.
const fn pair(first: u64, second: u64) -> u64 {
    if cfg!(target_endian = "big") { first << 32 | second } else { first | second << 32 }
}

/// # Safety
/// What the attributes point to is as the command expects it, and outlives the call.
unsafe fn bpf(command: c_int, attributes: &mut [u64; 8]) -> Result<c_int, i32> {
    // SAFETY: the kernel reads and writes as many bytes of the attributes as it is told; the rest is the
    // caller's promise.
    let done: c_long = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes))
    };
    if done < 0 { Err(last()) } else { c_int::try_from(done).map_err(|_| libc::EBADF) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_told_as_the_kernel_tells_it() {
        let all = Device::READ | Device::WRITE | Device::MAKE;
        let null =
            Device { kind: DeviceKind::Character, major: Some(1), minor: Some(3), access: all };
        assert_eq!(null.to_string(), "c 1:3 rwm");
        let disks =
            Device { kind: DeviceKind::Block, major: None, minor: None, access: Device::MAKE };
        assert_eq!(disks.to_string(), "b *:* m");
    }

    #[test]
    fn what_is_not_said_any_more_is_taken_away_and_the_rest_is_as_it_was() {
        let sys = super::super::fake::Fake::v1();
        let at = Path::new("/sys/fs/cgroup/devices");
        sys.put("/sys/fs/cgroup/devices/devices.list", "c *:* m\nc 1:3 rwm\nc 188:0 rwm\n");
        for file in ["devices.allow", "devices.deny"] {
            sys.put(&format!("/sys/fs/cgroup/devices/{file}"), "");
        }
        let all = Device::READ | Device::WRITE | Device::MAKE;
        let of =
            |major, minor, access| Device { kind: DeviceKind::Character, major, minor, access };
        let wanted =
            [of(None, None, Device::MAKE), of(Some(1), Some(3), all), of(Some(188), Some(1), all)];
        change(&sys, Version::V1, at, &wanted).unwrap();
        let written = ["devices.deny c 188:0 rwm", "devices.allow c 188:1 rwm"];
        let log = sys.log();
        assert_eq!(log.len(), 2, "{log:?}");
        assert!(log.iter().zip(written).all(|(line, end)| line.ends_with(end)), "{log:?}");
    }

    #[test]
    fn every_jump_of_a_program_lands_behind_the_rule_that_it_is_in() {
        let one = |major, minor| Device { kind: DeviceKind::Block, major, minor, access: 2 };
        let program = program(&[one(Some(8), Some(1)), one(Some(8), None), one(None, None)]);
        // Six to begin with, then 8, 7 and 6, and two that refuse.
        assert_eq!(program.len(), 6 + 8 + 7 + 6 + 2);
        let ends = [14, 21, 27];
        for (at, word) in program.iter().enumerate() {
            if word.to_le_bytes()[0] == UNLESS {
                let over = usize::try_from(word >> 16 & 0xffff).unwrap();
                assert!(ends.contains(&(at + 1 + over)), "{at}: {over}");
            }
        }
    }
}
