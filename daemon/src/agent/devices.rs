//! Devices as resources: what `--devices` names is offered as sets and held like ports, as long as it
//! is plugged in.
//!
//! An item is a path, a name or link below `/dev`, or the two numbers of an USB device, `0403:6001`.
//! The kernel tells when something comes and goes; then the total is told anew. A task that holds what
//! is gone runs on, and is named in the log; what it held it may open no more, for the kernel gives the
//! numbers of a device that is gone to the next one. It may again when what it holds is back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use mesita_core::resources::text::{TextValue, items, resources};
use mesita_core::wire::ContainerId;
use mesita_core::wire::Seq;
use mesita_core::wire::resource::{Resource, Value};
use mesita_isolation::cgroups::At;
use mesita_isolation::keeper::protocol::path_text;
use mesita_isolation::keeper::wall::Node as InRoot;
use mesita_isolation::sys::{Device, DeviceKind};
use rustix::fs::inotify;
use smol::Async;

use super::AgentNode;
use crate::alarm;

/// Resources that are no devices.
const OTHERS: [&str; 5] = ["cpus", "mem", "disk", "ports", "gpus"];
/// Events of one moment are taken together, in µs.
const PAUSE_US: u64 = 300_000;
/// How deep the devices of an USB device are below it.
const DEPTH: usize = 6;
/// Bytes of the kernel's words that are read at once.
const WORDS: usize = 4096;

/// Where the machine's devices are.
#[derive(Clone, Debug)]
struct Places {
    dev: PathBuf,
    usb: PathBuf,
}

/// What is the same for all names of one device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Path(PathBuf),
    Usb(String),
    /// A block device or not, with its numbers.
    Node(bool, u32, u32),
}

impl Default for Places {
    fn default() -> Self {
        Self { dev: "/dev".into(), usb: "/sys/bus/usb/devices".into() }
    }
}

/// A device that a task is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// The name that was asked for, and the node itself.
    pub(super) named: PathBuf,
    pub(super) path: PathBuf,
    /// A block device; else a character device.
    pub(super) block: bool,
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Node {
    /// The same for `cgroups/devices`: it may be used in every way.
    pub(super) fn device(&self) -> Device {
        Device {
            kind: if self.block { DeviceKind::Block } else { DeviceKind::Character },
            major: Some(self.major),
            minor: Some(self.minor),
            access: Device::READ | Device::WRITE | Device::MAKE,
        }
    }

    /// The same for a root of its own, under both of its names; one outside of `/dev` is not there.
    pub(super) fn in_root(&self) -> Vec<InRoot> {
        let (block, major, minor) = (self.block, self.major, self.minor);
        let mut names = vec![&self.path, &self.named];
        names.dedup();
        let below = names.into_iter().filter_map(|name| name.strip_prefix("/dev").ok());
        let plain =
            |path: &&Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        below.filter(plain).map(|at| InRoot { path: path_text(at), block, major, minor }).collect()
    }
}

/// What `--devices` names.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// In the text form of `--resources`, checked.
    text: String,
    places: Places,
    /// What is not there: the resource's name, and the item.
    gone: RefCell<BTreeSet<Item>>,
    /// What containers may open, as far as they were told since the agent began.
    may: RefCell<BTreeMap<ContainerId, Vec<Device>>>,
}

/// What is wrong with `--devices`, beside these `--resources`.
pub(super) fn check(text: &str, beside: &str) -> Result<(), String> {
    let named: Vec<&str> = resources(beside).flatten().map(|entry| entry.name).collect();
    for entry in resources(text) {
        let entry = entry.map_err(|bad| bad.to_string())?;
        if !matches!(entry.value, TextValue::Set(_)) || OTHERS.contains(&entry.name) {
            let name = entry.name;
            return Err(format!("`{name}`: expected a set of devices: serial:{{ttyUSB0,ttyUSB1}}"));
        }
        if named.contains(&entry.name) {
            return Err(format!("`{}` is in --resources, too", entry.name));
        }
    }
    let devices = Devices { text: text.to_owned(), ..Devices::default() };
    match devices.twice().next() {
        Some(([one, other], _)) => {
            Err(format!("{one} and {other} are one device, which two tasks would hold at once"))
        }
        None => Ok(()),
    }
}

/// An item of a set: the resource's name, and the item.
type Item = (String, String);

impl Devices {
    pub(super) fn new(text: Option<&str>) -> Self {
        let devices = Self { text: text.unwrap_or_default().to_owned(), ..Self::default() };
        let gone = devices.look();
        for (name, item) in &gone {
            log::warn!("--devices: {name}: `{item}` is not there; it is offered when it is");
        }
        *devices.gone.borrow_mut() = gone;
        devices
    }

    /// The sets, as far as they are there, in the text form of `--resources`.
    pub(super) fn told(&self) -> String {
        let gone = self.gone.borrow();
        let sets = self.sets().filter_map(|(name, role, inside)| {
            let there = |item: &&str| !gone.contains(&(name.to_owned(), (*item).to_owned()));
            let there: Vec<&str> = items(inside).filter(there).collect();
            let role = if role == "*" { String::new() } else { format!("({role})") };
            (!there.is_empty()).then(|| format!("{name}{role}:{{{}}}", there.join(",")))
        });
        sets.collect::<Vec<_>>().join(";")
    }

    /// Name, role and inside of each set.
    fn sets(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        resources(&self.text).flatten().filter_map(|entry| match entry.value {
            TextValue::Set(inside) => Some((entry.name, entry.role, inside)),
            TextValue::Scalar(_) | TextValue::Ranges(_) | TextValue::Text(_) => None,
        })
    }

    /// All that is named, what was there when it was looked last before what was not.
    fn items(&self) -> Vec<Item> {
        let gone = self.gone.borrow();
        let all = self.sets().flat_map(|(name, _, inside)| {
            items(inside).map(move |item| (name.to_owned(), item.to_owned()))
        });
        let mut all: Vec<Item> = all.collect();
        all.sort_by_key(|item| gone.contains(item));
        all
    }

    /// What is not there now, and what is there by another name already: two tasks do not hold one
    /// device.
    fn look(&self) -> BTreeSet<Item> {
        let is_gone = |(_, item): &Item| self.places.nodes(item).is_empty();
        let gone = self.items().into_iter().filter(is_gone);
        gone.chain(self.twice().map(|(_, item)| item)).collect()
    }

    /// Items that are the same device as one before them, in words, and the second of them.
    fn twice(&self) -> impl Iterator<Item = ([String; 2], Item)> {
        let mut known = BTreeMap::<Key, Item>::new();
        self.items().into_iter().filter_map(move |item| {
            let keys = self.places.keys(&item.1);
            let before = keys.iter().find_map(|key| known.get(key).cloned());
            for key in keys {
                known.entry(key).or_insert_with(|| item.clone());
            }
            let said = |(name, item): &Item| format!("`{item}` of `{name}`");
            before.map(|before| ([said(&before), said(&item)], item))
        })
    }

    /// Items of devices among resources.
    pub(super) fn among(&self, list: &Seq<'_, Resource<'_>>) -> Vec<String> {
        let ours = |name: &str| self.sets().any(|(own, ..)| own == name);
        let sets = list.iter().filter(|one| ours(one.name)).map(|one| match one.value {
            Value::Set(set) => set.iter().map(str::to_owned).collect(),
            Value::Scalar(_) | Value::Ranges(_) => Vec::new(),
        });
        sets.flatten().collect()
    }

    /// Directories in which something comes or goes when a device does.
    fn directories(&self) -> BTreeSet<PathBuf> {
        let mut all = BTreeSet::from([self.places.dev.clone()]);
        for (_, _, inside) in self.sets() {
            for item in items(inside) {
                let named = self.places.named(item);
                let nodes = self.places.nodes(item).into_iter().map(|node| node.path);
                for path in named.into_iter().chain(nodes) {
                    let above = path.ancestors().skip(1).find(|above| above.is_dir());
                    all.extend(above.map(Path::to_owned));
                }
            }
        }
        all
    }
}

/// What there is of the items that a task holds.
fn there(items: &[String]) -> Vec<Device> {
    let places = Places::default();
    items.iter().flat_map(|item| places.nodes(item)).map(|node| node.device()).collect()
}

/// The nodes of items that a task holds. Blocks.
pub(super) fn nodes_of(items: &[String]) -> Result<Vec<Node>, String> {
    let places = Places::default();
    let mut all = Vec::new();
    for item in items {
        let nodes = places.nodes(item);
        if nodes.is_empty() {
            return Err(format!("the device `{item}` is not there any more"));
        }
        all.extend(nodes);
    }
    Ok(all)
}

impl Places {
    /// The path that an item names; none for the numbers of an USB device.
    fn named(&self, item: &str) -> Option<PathBuf> {
        if usb_numbers(item).is_some() {
            return None;
        }
        Some(if item.starts_with('/') { item.into() } else { self.dev.join(item) })
    }

    /// What an item is known by, while it is not there too.
    fn keys(&self, item: &str) -> Vec<Key> {
        let name = match self.named(item) {
            Some(path) => Key::Path(path),
            None => Key::Usb(item.to_ascii_lowercase()),
        };
        let nodes = self.nodes(item).into_iter();
        let nodes = nodes.map(|node| Key::Node(node.block, node.major, node.minor));
        std::iter::once(name).chain(nodes).collect()
    }

    /// The nodes of an item; none when it is not there.
    fn nodes(&self, item: &str) -> Vec<Node> {
        match usb_numbers(item) {
            Some(numbers) => self.usb_nodes(numbers),
            None => self.named(item).and_then(|path| node(&path)).into_iter().collect(),
        }
    }

    fn usb_nodes(&self, (vendor, product): (&str, &str)) -> Vec<Node> {
        let is = |directory: &Path, file: &str, wanted: &str| {
            let told = fs::read_to_string(directory.join(file)).unwrap_or_default();
            told.trim().eq_ignore_ascii_case(wanted)
        };
        let all = fs::read_dir(&self.usb).into_iter().flatten().flatten().map(|entry| entry.path());
        let own = all.filter(|path| is(path, "idVendor", vendor) && is(path, "idProduct", product));
        let mut names = BTreeSet::new();
        own.for_each(|directory| device_names(&directory, DEPTH, &mut names));
        names.into_iter().filter_map(|name| node(&self.dev.join(name))).collect()
    }
}

/// `0403:6001`: vendor and product, as lsusb(8) prints them.
fn usb_numbers(item: &str) -> Option<(&str, &str)> {
    let (vendor, product) = item.split_once(':')?;
    let is_number =
        |text: &str| text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_number(vendor) && is_number(product)).then_some((vendor, product))
}

/// The names below `/dev` of what is in a directory of sysfs, and below it.
fn device_names(directory: &Path, depth: usize, names: &mut BTreeSet<String>) {
    let told = fs::read_to_string(directory.join("uevent")).unwrap_or_default();
    names.extend(told.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(str::to_owned));
    let Some(depth) = depth.checked_sub(1) else { return };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        // Not through links, which lead back up.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            device_names(&entry.path(), depth, names);
        }
    }
}

/// The device at a path, if there is one.
fn node(named: &Path) -> Option<Node> {
    let path = fs::canonicalize(named).ok()?;
    let of = fs::metadata(&path).ok()?;
    let block = of.file_type().is_block_device();
    if !block && !of.file_type().is_char_device() {
        return None;
    }
    let number = of.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    Some(Node { named: named.to_owned(), path, block, major, minor })
}

impl AgentNode {
    /// Tells what there is whenever a device comes or goes, for as long as the agent lives.
    pub(super) fn watch_devices(&self) {
        let Some(me) = self.me.upgrade() else { return };
        if self.devices.text.is_empty() {
            return;
        }
        self.tasks.go(async move {
            if let Err(error) = me.follow_devices().await {
                log::error!("devices that come or go are not noticed: {error}");
            }
        });
    }

    async fn follow_devices(&self) -> io::Result<()> {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let watch = Async::new(inotify::init(flags)?)?;
        loop {
            // One that is watched already stays so.
            for directory in self.devices.directories() {
                let _ = inotify::add_watch(&watch, &directory, events());
            }
            self.look_at_devices();
            watch.readable().await?;
            // Nobody who held what is gone waits with the rest.
            self.hold_to_devices();
            alarm::after(PAUSE_US).await;
            let mut words = [MaybeUninit::uninit(); WORDS];
            let mut reader = inotify::Reader::new(&watch, &mut words);
            // What they say is looked at as a whole.
            while reader.next().is_ok() {}
        }
    }

    /// A container runs that may have devices: they may have gone since it was made.
    pub(super) fn hold_to_devices_again(&self) {
        if !self.devices.text.is_empty() {
            self.hold_to_devices();
        }
    }

    /// Has tasks open what they hold, as far as that is there, and no device that has its numbers now.
    fn hold_to_devices(&self) {
        let tasks = self.tally.tasks().into_iter();
        let tasks = tasks.filter(|row| row.has_own_container() && !row.state.is_terminal());
        let executors = self.tally.executors().into_iter();
        let executors = executors.map(|row| (At::from(row.container), row.resources));
        let all: Vec<_> = tasks.map(|row| (row.at(), row.resources)).chain(executors).collect();
        let mut before = self.devices.may.take();
        let (mut now, mut changed) = (BTreeMap::new(), Vec::new());
        for (at, resources) in all {
            let items = self.devices.among(&resources.list());
            let known = self.containers.get(at.id);
            let runs = known.is_some_and(|one| {
                let is_ours = one.docker().is_none() && !one.holds.get();
                is_ours && one.started.get() && !one.is_over()
            });
            if items.is_empty() || !runs {
                continue;
            }
            let may = there(&items);
            if before.remove(&at.id).as_ref() != Some(&may) {
                changed.push((at, may.clone()));
            }
            now.insert(at.id, may);
        }
        *self.devices.may.borrow_mut() = now;
        let isolation = self.containers.isolation();
        let Some(me) = self.me.upgrade().filter(|_| !changed.is_empty()) else { return };
        self.tasks.go(async move {
            let hold = move || {
                let held =
                    changed.iter().map(|(at, may)| (at.id, isolation.hold_devices(*at, may)));
                held.filter_map(|(id, held)| Some((id, held.err()?))).collect::<Vec<_>>()
            };
            for (id, error) in me.containers.by_hand(hold).await {
                me.devices.may.borrow_mut().remove(&id);
                log::error!("container {id}: {error}");
            }
        });
    }

    fn look_at_devices(&self) {
        self.hold_to_devices();
        let gone = self.devices.look();
        let before = self.devices.gone.replace(gone.clone());
        if gone == before {
            return;
        }
        for (name, item) in before.difference(&gone) {
            log::info!("{name}: the device `{item}` is there");
        }
        for (name, item) in gone.difference(&before) {
            let holders = self.holders_of(name, item);
            let held = match holders.is_empty() {
                true => "nobody has it".to_owned(),
                false => format!("it is held by {}", holders.join(", ")),
            };
            log::warn!("{name}: the device `{item}` is gone; {held}");
        }
        self.describe();
    }

    /// Devices that are not there, and those of them that tasks hold.
    pub(super) fn device_gauges(&self) -> [(&'static str, u64); 2] {
        let gone = self.devices.gone.borrow();
        let held = gone.iter().filter(|(name, item)| !self.holders_of(name, item).is_empty());
        [("devices_gone", gone.len() as u64), ("devices_gone_held", held.count() as u64)]
    }

    /// The tasks that hold a device.
    fn holders_of(&self, name: &str, item: &str) -> Vec<String> {
        let tasks = self.tally.tasks().into_iter().filter(|row| !row.state.is_terminal());
        let holds = |one: Resource<'_>| match one.value {
            Value::Set(set) => one.name == name && set.iter().any(|held| held == item),
            Value::Scalar(_) | Value::Ranges(_) => false,
        };
        let own = tasks.filter(|row| row.resources.list().iter().any(holds));
        own.map(|row| format!("task {} in container {}", row.name, row.container)).collect()
    }
}

fn events() -> inotify::WatchFlags {
    use inotify::WatchFlags as On;
    On::CREATE | On::DELETE | On::MOVED_FROM | On::MOVED_TO | On::ONLYDIR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(text: &str, places: Places) -> Devices {
        let devices = Devices { text: text.to_owned(), places, ..Devices::default() };
        *devices.gone.borrow_mut() = devices.look();
        devices
    }

    #[test]
    fn only_sets_are_devices() {
        check("serial:{ttyUSB0,serial/by-id/usb-x};camera(web):{0403:6001}", "cpus:1").unwrap();
        assert!(check("serial:{a}", "serial:{b}").unwrap_err().contains("--resources"));
        for bad in ["serial:2", "ports:{a}", "serial:[1-2]", "serial:{a,a}", "serial"] {
            assert!(check(bad, "").is_err(), "{bad}");
        }
    }

    #[test]
    fn one_device_is_not_offered_twice() {
        for bad in [
            "a:{null};b:{null}",
            "a:{null,/dev/null}",
            "a(web):{full};b(shop):{/dev/../dev/full}",
            "a:{ttyUSB9};b:{/dev/ttyUSB9}",
            "a:{0403:ABCD};b:{0403:abcd}",
        ] {
            let said = check(bad, "").expect_err(bad);
            assert!(said.contains("which two tasks would hold at once"), "{said}");
        }
        check("a:{null};b:{zero}", "").unwrap();
    }

    #[test]
    fn a_device_that_comes_to_have_two_names_is_offered_by_the_one_that_was_there() {
        let root = std::env::temp_dir().join(format!("mesita-names-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let places = Places { dev: root.clone(), ..Places::default() };
        let link = |name| std::os::unix::fs::symlink("/dev/null", root.join(name)).unwrap();
        link("late");
        let own = devices("a:{early};b:{late}", places);
        assert_eq!(own.told(), "b:{late}");
        link("early");
        *own.gone.borrow_mut() = own.look();
        assert_eq!(own.told(), "b:{late}");
        fs::remove_file(root.join("late")).unwrap();
        *own.gone.borrow_mut() = own.look();
        assert_eq!(own.told(), "a:{early}");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_is_not_there_is_not_told() {
        let own = devices(
            "mem-like:{null,nowhere};other(web):{zero,/dev/full};none:{x}",
            Places::default(),
        );
        assert_eq!(own.told(), "mem-like:{null};other(web):{zero,/dev/full}");
        let there = nodes_of(&["null".to_owned()]).unwrap();
        assert_eq!((there[0].major, there[0].minor, there[0].block), (1, 3, false));
        let device = there[0].device();
        assert_eq!(
            (device.kind, device.major, device.minor),
            (DeviceKind::Character, Some(1), Some(3))
        );
        assert!(nodes_of(&["null".to_owned(), "nowhere".to_owned()]).is_err());
    }

    #[test]
    fn the_numbers_of_an_usb_device_name_all_its_nodes() {
        let root = std::env::temp_dir().join(format!("mesita-usb-{}", std::process::id()));
        let device = root.join("1-2");
        let tty = device.join("1-2:1.0/ttyUSB0/tty/ttyUSB0");
        fs::create_dir_all(&tty).unwrap();
        fs::write(device.join("idVendor"), "0403\n").unwrap();
        fs::write(device.join("idProduct"), "6001\n").unwrap();
        // A node that there is.
        fs::write(tty.join("uevent"), "MAJOR=1\nDEVNAME=null\n").unwrap();
        let places = Places { usb: root.clone(), ..Places::default() };
        let own = devices("serial:{0403:6001,0403:6002}", places);
        assert_eq!(own.told(), "serial:{0403:6001}");
        assert_eq!(own.places.nodes("0403:6001")[0].path, Path::new("/dev/null"));
        fs::remove_dir_all(&root).unwrap();
    }
}
