//! Finding the hierarchies that are ours to write.

use std::fmt;
use std::path::{Path, PathBuf};

use super::remedy::{Delegation, Switch, switches_off};
use super::{Cgroups, Controller, LEAF, Place, pids, words};
use crate::sys::{Failure, Sys, Version};

/// What [`Cgroups::find`] looks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// `--cgroups-root`: the directory of all agents of this machine.
    pub root: &'a str,
    /// The directory of this agent.
    pub key: &'a str,
    /// The keeper's process, which moves with the agent.
    pub keeper: u32,
    /// What it is to be used for.
    pub controllers: &'a [Controller],
}

/// Why a controller cannot be used. Prints as what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The kernel was told to switch it off, as Raspberry Pi OS does with memory.
    SwitchedOff(Controller, Switch),
    /// The kernel does not have it, or no hierarchy with it is mounted.
    Missing(Controller),
    /// The hierarchy is not ours to write.
    NotOurs(Failure),
    /// Our cgroup was not given it.
    NotDelegated(Controller, PathBuf),
    /// Processes other than ours live in our cgroup, so that it cannot hand anything down.
    Shared(PathBuf),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SwitchedOff(controller, switch) => {
                write!(
                    f,
                    "the kernel's {} controller is switched off; {switch}",
                    controller.name(Version::V1)
                )
            }
            Self::Missing(controller) => {
                let name = controller.name(Version::V1);
                write!(f, "the kernel has no {name} controller mounted; ")?;
                f.write_str("mount cgroup2 at /sys/fs/cgroup, or build the kernel with it")
            }
            Self::NotOurs(failure) => write!(f, "{failure}; {}", Delegation(Some(&failure.path))),
            Self::NotDelegated(controller, own) => {
                let name = controller.name(Version::V2);
                write!(f, "{} was not given the {name} controller; ", own.display())?;
                Delegation(Some(own)).fmt(f)
            }
            Self::Shared(own) => {
                write!(f, "processes that are not Mesita's live in {}; ", own.display())?;
                Delegation(None).fmt(f)
            }
        }
    }
}

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    /// Which of its directories is mounted there.
    root: PathBuf,
    version: Version,
    /// v1: its controllers.
    controllers: Vec<Controller>,
}

impl Cgroups {
    /// Finds and makes what is ours of every hierarchy, and says for each controller that cannot
    /// be used why.
    pub fn find(sys: &dyn Sys, wanted: Wanted<'_>) -> (Self, Vec<(Controller, Why)>) {
        let mounts = mounts(&sys.read(Path::new("/proc/self/mountinfo")).unwrap_or_default());
        let mut found = Self::default();
        let mut missing = Vec::new();
        // With v2, accounting is part of `cpu` and the freezer of every cgroup.
        let on_v1 = |of: &Controller| mounts.iter().any(|mount| mount.controllers.contains(of));
        let of_v2 = Controller::HANDED
            .into_iter()
            .filter(|of| wanted.controllers.contains(of) && !on_v1(of));
        let of_v2: Vec<_> = of_v2.collect();
        match mounts.iter().find(|mount| mount.version == Version::V2) {
            Some(mount) => missing.extend(found.add_unified(sys, mount, wanted, &of_v2)),
            None => missing.extend(of_v2.into_iter().map(|of| (of, why_absent(sys, of)))),
        }
        // Joining one more hierarchy costs a launch 10 µs; the freezer is only there to kill.
        let freezes = !found.unified_kills(sys);
        let useful = |mount: &&Mount| {
            let of_use = |of: &Controller| {
                if *of == Controller::Freezer { freezes } else { wanted.controllers.contains(of) }
            };
            mount.version == Version::V1 && mount.controllers.iter().any(of_use)
        };
        for mount in mounts.iter().filter(useful) {
            match place_v1(sys, mount, wanted) {
                Ok(place) => found.places.push(place),
                Err(failure) => missing.extend(
                    mount.controllers.iter().map(|&of| (of, Why::NotOurs(failure.clone()))),
                ),
            }
        }
        (found, missing)
    }

    /// The unified hierarchy: below our own cgroup, else for root at the top.
    fn add_unified(
        &mut self,
        sys: &dyn Sys,
        mount: &Mount,
        wanted: Wanted<'_>,
        controllers: &[Controller],
    ) -> Vec<(Controller, Why)> {
        let own = own_directory(sys, mount);
        let mut bases = Vec::new();
        if own.file_name().is_some_and(|name| name == LEAF) {
            bases.extend(own.parent().map(Path::to_owned));
        }
        bases.push(own);
        if sys.is_root() {
            bases.push(mount.point.clone());
        }
        bases.dedup();
        let mut best: Option<Base> = None;
        for directory in bases {
            if best.as_ref().is_some_and(|best| best.missing.is_empty()) {
                break;
            }
            let mut base = Base::prepare(sys, directory, mount, wanted, controllers);
            if let Some(best) = &mut best {
                if base.rank() > best.rank() {
                    std::mem::swap(best, &mut base);
                }
                base.undo(sys);
            } else {
                best = Some(base);
            }
        }
        let Some(best) = best else { return Vec::new() };
        self.places.extend(best.place);
        self.own = best.leaf;
        best.missing
    }

    /// True when a cgroup of the unified hierarchy can be killed by one write (Linux 5.14).
    fn unified_kills(&self, sys: &dyn Sys) -> bool {
        // Reading a file that can only be written is refused in another way than a missing one.
        let missing = |failure: Failure| failure.errno == libc::ENOENT;
        self.unified().is_some_and(|place| {
            !sys.read(&place.directory.join("cgroup.kill")).is_err_and(missing)
        })
    }
}

/// A directory of the unified hierarchy that ours could be below.
struct Base {
    place: Option<Place>,
    leaf: Option<PathBuf>,
    missing: Vec<(Controller, Why)>,
}

impl Base {
    /// More is better: a place at all, then its controllers.
    fn rank(&self) -> (bool, usize) {
        (self.place.is_some(), self.place.as_ref().map_or(0, |place| place.controllers.len()))
    }

    /// Makes what can be made of `base`.
    fn prepare(
        sys: &dyn Sys,
        base: PathBuf,
        mount: &Mount,
        wanted: Wanted<'_>,
        controllers: &[Controller],
    ) -> Self {
        let offered = sys.read(&base.join("cgroup.controllers")).unwrap_or_default();
        let (offered, lacking): (Vec<_>, Vec<_>) = controllers.iter().partition(|controller| {
            words(&offered).any(|word| word == controller.name(Version::V2))
        });
        let why = |&of: &Controller| (of, why_not_offered(sys, of, mount, &base));
        let mut made = Self { place: None, leaf: None, missing: lacking.iter().map(why).collect() };
        let mut usable = offered;
        if !usable.is_empty() {
            match empty(sys, &base, wanted) {
                Ok(leaf) => made.leaf = leaf,
                Err(why) => made.missing.extend(usable.drain(..).map(|of| (of, why.clone()))),
            }
        }
        made.hand_down(sys, &base, &mut usable);
        let root = base.join(wanted.root);
        let directory = root.join(wanted.key);
        if let Err(failure) = sys.make(&root).and_then(|()| sys.make(&directory)) {
            let failed = usable.into_iter().map(|of| (of, Why::NotOurs(failure.clone())));
            made.missing.extend(failed);
            return made;
        }
        made.hand_down(sys, &root, &mut usable);
        made.hand_down(sys, &directory, &mut usable);
        made.place = Some(Place { version: Version::V2, directory, controllers: usable });
        made
    }

    /// Has a directory give controllers to those in it; those that it cannot are usable no more.
    fn hand_down(&mut self, sys: &dyn Sys, from: &Path, usable: &mut Vec<Controller>) {
        usable.retain(|&controller| match enable(sys, from, controller) {
            Ok(()) => true,
            Err(failure) => {
                self.missing.push((controller, Why::NotOurs(failure)));
                false
            }
        });
    }

    /// Leaves nothing of a base that is not used, but what an earlier start uses.
    fn undo(self, sys: &dyn Sys) {
        let ours = self.place.map(|place| place.directory);
        let above = ours.as_ref().and_then(|ours| ours.parent().map(Path::to_owned));
        for directory in ours.into_iter().chain(above).chain(self.leaf) {
            // What cannot be removed is in use.
            let _ = super::leave(sys, &directory);
        }
    }
}

/// Takes our processes out of `base`, so that it can hand controllers down, into a leaf that is
/// returned. The top of the hierarchy may hold processes as it is.
///
/// This comes before any controller is enabled: the kernel would not refuse those that work on
/// threads, but turn the cgroup into one of threads, below which memory cannot be limited.
fn empty(sys: &dyn Sys, base: &Path, wanted: Wanted<'_>) -> Result<Option<PathBuf>, Why> {
    let is_top = sys.read(&base.join("cgroup.type")).is_err();
    let procs = sys.read(&base.join("cgroup.procs")).map_err(Why::NotOurs)?;
    if is_top || pids(&procs).next().is_none() {
        return Ok(None);
    }
    let ours = [sys.pid(), wanted.keeper];
    if pids(&procs).any(|pid| !ours.contains(&pid)) {
        return Err(Why::Shared(base.to_owned()));
    }
    let leaf = base.join(LEAF);
    sys.make(&leaf).map_err(Why::NotOurs)?;
    for pid in pids(&procs) {
        sys.write(&leaf.join("cgroup.procs"), &pid.to_string()).map_err(Why::NotOurs)?;
    }
    Ok(Some(leaf))
}

pub(super) fn enable(
    sys: &dyn Sys,
    directory: &Path,
    controller: Controller,
) -> Result<(), Failure> {
    let control = directory.join("cgroup.subtree_control");
    let name = controller.name(Version::V2);
    if words(&sys.read(&control)?).any(|word| word == name) {
        return Ok(());
    }
    sys.write(&control, &format!("+{name}"))
}

fn place_v1(sys: &dyn Sys, mount: &Mount, wanted: Wanted<'_>) -> Result<Place, Failure> {
    let root = mount.point.join(wanted.root);
    sys.make(&root)?;
    let directory = root.join(wanted.key);
    sys.make(&directory)?;
    Ok(Place { version: Version::V1, directory, controllers: mount.controllers.clone() })
}

/// Our own cgroup and all above it, wherever memory may be limited, with their interface.
pub(crate) fn own_directories(sys: &dyn Sys) -> Vec<(Version, PathBuf)> {
    let mounts = mounts(&sys.read(Path::new("/proc/self/mountinfo")).unwrap_or_default());
    let limits = |mount: &&Mount| match mount.version {
        Version::V1 => mount.controllers.contains(&Controller::Memory),
        Version::V2 => true,
    };
    let mut directories = Vec::new();
    for mount in mounts.iter().filter(limits) {
        let own = own_directory(sys, mount);
        let above = own.ancestors().take_while(|above| above.starts_with(&mount.point));
        directories.extend(above.map(|above| (mount.version, above.to_owned())));
    }
    directories
}

/// Our own cgroup, as a directory below the mount.
fn own_directory(sys: &dyn Sys, mount: &Mount) -> PathBuf {
    let cgroups = sys.read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    // `number:controllers:path`, where the unified hierarchy is 0 and names no controllers.
    let own = cgroups.lines().find_map(|line| {
        let (list, path) = line.split_once(':')?.1.split_once(':')?;
        let same = match mount.controllers.first() {
            Some(of) => list.split(',').any(|name| name == of.name(Version::V1)),
            None => line.starts_with("0::"),
        };
        same.then_some(path)
    });
    let own = own.unwrap_or("/");
    // A path outside of what is mounted, or of our cgroup namespace, cannot be reached.
    let own = Path::new(own).strip_prefix(&mount.root).unwrap_or(Path::new(""));
    let reachable = own.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let joined = if reachable { mount.point.join(own) } else { mount.point.clone() };
    // Joining nothing leaves a slash behind.
    joined.components().collect()
}

/// Why no hierarchy has a controller.
fn why_absent(sys: &dyn Sys, controller: Controller) -> Why {
    let table = sys.read(Path::new("/proc/cgroups")).unwrap_or_default();
    // `name hierarchy cgroups enabled`
    let mut rows = table.lines().map(|line| words(line).collect::<Vec<_>>());
    let v1 = controller.name(Version::V1);
    let off = |row: Vec<&str>| row.first() == Some(&v1) && row.get(3) == Some(&"0");
    let off = rows.any(off);
    let command_line = sys.read(Path::new("/proc/cmdline")).unwrap_or_default();
    if off || switches_off(&command_line, controller) {
        Why::SwitchedOff(controller, Switch::find(sys, controller))
    } else {
        Why::Missing(controller)
    }
}

/// Why `base` does not offer a controller: the kernel lacks it, or those above kept it.
fn why_not_offered(sys: &dyn Sys, controller: Controller, mount: &Mount, base: &Path) -> Why {
    let top = sys.read(&mount.point.join("cgroup.controllers")).unwrap_or_default();
    if base != mount.point && words(&top).any(|word| word == controller.name(Version::V2)) {
        return Why::NotDelegated(controller, base.to_owned());
    }
    why_absent(sys, controller)
}

/// The hierarchies in a `mountinfo`; of several mounts of one the first.
fn mounts(mountinfo: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in mountinfo.lines().filter_map(mount) {
        let known =
            |seen: &Mount| seen.version == mount.version && seen.controllers == mount.controllers;
        if !mounts.iter().any(known) {
            mounts.push(mount);
        }
    }
    mounts
}

/// One line: `id parent major:minor root point options optional... - type source super-options`.
fn mount(line: &str) -> Option<Mount> {
    let (mounted, kind) = line.split_once(" - ")?;
    let mut mounted = mounted.split(' ').skip(3);
    let (root, point) = (unescape(mounted.next()?), unescape(mounted.next()?));
    let mut kind = kind.split(' ');
    let (version, options) = match kind.next()? {
        "cgroup" => (Version::V1, kind.nth(1)?),
        "cgroup2" => (Version::V2, ""),
        _ => return None,
    };
    let named = |of: &Controller| options.split(',').any(|option| option == of.name(Version::V1));
    let controllers: Vec<_> = Controller::ALL.into_iter().filter(named).collect();
    let useful = version == Version::V2 || !controllers.is_empty();
    useful.then_some(Mount { point, root, version, controllers })
}

/// Spaces and the like are written as `\040` there.
fn unescape(text: &str) -> PathBuf {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => plain.push(char::from(code)),
            None => plain.push('\\'),
        }
        rest = if code.is_some() { after.get(3..).unwrap_or("") } else { after };
    }
    plain.push_str(rest);
    PathBuf::from(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Fake;

    const WANTED: Wanted<'_> = Wanted {
        root: "mesita",
        key: "0123456789abcdef",
        keeper: 51,
        controllers: &[
            Controller::Cpu,
            Controller::Cpuacct,
            Controller::Memory,
            Controller::Pids,
            Controller::Freezer,
        ],
    };

    fn missing(found: &[(Controller, Why)]) -> Vec<&'static str> {
        found.iter().map(|(controller, _)| controller.name(Version::V1)).collect()
    }

    #[test]
    fn every_hierarchy_of_v1_gets_a_directory_and_so_does_the_unified_one() {
        let sys = Fake::hybrid();
        let (found, missing) = Cgroups::find(&sys, WANTED);
        assert_eq!(missing, []);
        let places: Vec<_> =
            found.places.iter().map(|place| place.directory.to_str().unwrap()).collect();
        assert_eq!(
            places,
            [
                "/sys/fs/cgroup/unified/mesita/0123456789abcdef",
                "/sys/fs/cgroup/cpu,cpuacct/mesita/0123456789abcdef",
                "/sys/fs/cgroup/memory/mesita/0123456789abcdef",
                "/sys/fs/cgroup/pids/mesita/0123456789abcdef",
            ]
        );
        assert_eq!(found.place(Controller::Cpu), found.place(Controller::Cpuacct));
        assert_eq!(found.place(Controller::Freezer), None, "the unified one kills");
        assert!(!sys.log().iter().any(|line| line.contains("freezer")), "{:?}", sys.log());
    }

    #[test]
    fn only_what_is_wanted_is_made() {
        let (v1, v2) = (Fake::v1(), Fake::v2("/", &[50]));
        let wanted = Wanted { controllers: &[Controller::Pids], ..WANTED };
        let (found, missing) = Cgroups::find(&v1, wanted);
        assert_eq!(missing, []);
        let used: Vec<_> = found.places.iter().map(|place| &place.controllers[..]).collect();
        assert_eq!(used, [&[Controller::Pids][..], &[Controller::Freezer]]);
        assert!(!v1.log().iter().any(|line| line.contains("memory")), "{:?}", v1.log());
        let (found, _) = Cgroups::find(&v2, wanted);
        assert_eq!(found.unified().unwrap().controllers, [Controller::Pids]);
    }

    #[test]
    fn without_a_unified_hierarchy_the_freezer_is_there_to_kill() {
        let sys = Fake::v1();
        let (found, _) = Cgroups::find(&sys, WANTED);
        assert!(found.place(Controller::Freezer).is_some());
        assert_eq!(found.unified(), None);
    }

    #[test]
    fn on_v2_an_agent_moves_itself_and_its_keeper_into_a_leaf_of_its_own_cgroup() {
        let sys = Fake::v2("/system.slice/mesita.service", &[50, 51]);
        let (found, missing) = Cgroups::find(&sys, WANTED);
        assert_eq!(missing, []);
        let own = "/sys/fs/cgroup/system.slice/mesita.service";
        let place = found.unified().unwrap();
        assert_eq!(place.directory.to_str().unwrap(), format!("{own}/mesita/0123456789abcdef"));
        assert_eq!(
            sys.log(),
            [
                format!("mkdir {own}/self"),
                format!("write {own}/self/cgroup.procs 50"),
                format!("write {own}/self/cgroup.procs 51"),
                format!("write {own}/cgroup.subtree_control +cpu"),
                format!("write {own}/cgroup.subtree_control +memory"),
                format!("write {own}/cgroup.subtree_control +pids"),
                format!("mkdir {own}/mesita"),
                format!("mkdir {own}/mesita/0123456789abcdef"),
                format!("write {own}/mesita/cgroup.subtree_control +cpu"),
                format!("write {own}/mesita/cgroup.subtree_control +memory"),
                format!("write {own}/mesita/cgroup.subtree_control +pids"),
                format!("write {own}/mesita/0123456789abcdef/cgroup.subtree_control +cpu"),
                format!("write {own}/mesita/0123456789abcdef/cgroup.subtree_control +memory"),
                format!("write {own}/mesita/0123456789abcdef/cgroup.subtree_control +pids"),
            ]
        );
        let leaf = found.to_remove().pop().unwrap();
        assert_eq!(leaf.to_str().unwrap(), format!("{own}/self"));
    }

    #[test]
    fn an_agent_that_starts_in_its_leaf_uses_the_cgroup_above_again() {
        let sys = Fake::v2("/system.slice/mesita.service", &[50, 51]);
        let (first, _) = Cgroups::find(&sys, WANTED);
        sys.set_own("/system.slice/mesita.service/self");
        let (second, missing) = Cgroups::find(&sys, WANTED);
        assert_eq!(missing, []);
        assert_eq!(first.places, second.places);
    }

    #[test]
    fn root_in_a_login_session_uses_the_top_of_the_hierarchy() {
        let sys = Fake::v2("/user.slice/session-3.scope", &[50, 51, 7]);
        let (found, missing) = Cgroups::find(&sys, WANTED);
        assert_eq!(missing, []);
        let place = found.unified().unwrap();
        assert_eq!(place.directory.to_str(), Some("/sys/fs/cgroup/mesita/0123456789abcdef"));
        assert_eq!(found.own, None);
        let own = Path::new("/sys/fs/cgroup/user.slice/session-3.scope");
        assert_eq!(sys.children(own), Ok(Vec::new()), "nothing was left where it did not work");
    }

    #[test]
    fn root_that_was_given_too_little_moves_back_and_uses_the_top() {
        let sys = Fake::v2("/a.service", &[50, 51]);
        sys.put("/sys/fs/cgroup/a.service/cgroup.controllers", "cpu pids");
        let (found, missing) = Cgroups::find(&sys, WANTED);
        assert_eq!(missing, []);
        assert_eq!(found.unified().unwrap().controllers.len(), 3);
        assert_eq!(sys.children(Path::new("/sys/fs/cgroup/a.service")), Ok(Vec::new()));
        assert_eq!(sys.text("/sys/fs/cgroup/a.service/cgroup.procs"), "50\n51\n");
    }

    #[test]
    fn without_delegation_nothing_is_ours_and_the_reason_names_the_line_to_change() {
        let sys = Fake::v2("/user.slice/session-3.scope", &[50]);
        sys.be_user();
        sys.refuse("/sys/fs/cgroup/user.slice", libc::EACCES);
        let (found, why) = Cgroups::find(&sys, WANTED);
        assert_eq!(found.places(), []);
        assert_eq!(missing(&why), ["cpu", "memory", "pids"]);
        assert!(why[0].1.to_string().contains("`Delegate=yes`"), "{}", why[0].1);
    }

    #[test]
    fn a_user_whose_shell_shares_its_cgroup_is_told_so() {
        let sys = Fake::v2("/user.slice/session-3.scope", &[50, 7]);
        sys.be_user();
        let (_, why) = Cgroups::find(&sys, WANTED);
        assert!(matches!(why[0].1, Why::Shared(_)), "{why:?}");
    }

    #[test]
    fn a_controller_that_was_not_handed_down_is_told_from_one_the_kernel_lacks() {
        let sys = Fake::v2("/user.slice/a.service", &[50]);
        sys.be_user();
        sys.put("/sys/fs/cgroup/user.slice/a.service/cgroup.controllers", "cpu pids\n");
        let (found, why) = Cgroups::find(&sys, WANTED);
        assert_eq!(found.unified().unwrap().controllers, [Controller::Cpu, Controller::Pids]);
        assert!(matches!(why[..], [(Controller::Memory, Why::NotDelegated(..))]), "{why:?}");
    }

    #[test]
    fn memory_switched_off_in_the_kernel_names_the_word_to_add() {
        let sys = Fake::v2("/", &[50]);
        sys.put("/sys/fs/cgroup/cgroup.controllers", "cpu pids\n");
        sys.put("/proc/cmdline", "quiet cgroup_disable=memory\n");
        let (found, why) = Cgroups::find(&sys, WANTED);
        assert_eq!(found.place(Controller::Memory), None);
        assert!(found.place(Controller::Pids).is_some());
        let [(Controller::Memory, why)] = &why[..] else { panic!("{why:?}") };
        assert!(why.to_string().contains("`cgroup_enable=memory`"), "{why}");
    }

    #[test]
    fn lines_of_mountinfo_are_read_with_their_escapes() {
        let line = r"29 26 0:26 /docker/x /sys/fs/c\040g rw,nosuid shared:10 - cgroup c rw,memory";
        let read = mount(line).unwrap();
        assert_eq!(read.point, Path::new("/sys/fs/c g"));
        assert_eq!(read.root, Path::new("/docker/x"));
        assert_eq!(read.controllers, [Controller::Memory]);
        assert_eq!(mount("22 1 0:20 / /sys rw - sysfs sysfs rw"), None);
        assert_eq!(mount("29 26 0:26 / /x rw - cgroup c rw,name=systemd"), None);
    }
}
