//! Tasks that stand on images, with a keeper and without an agent. Needs root; `ci/guest` runs it on a
//! kernel whose overlayfs is a module.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesita_core::wire::task::Exit;
use mesita_isolation::Isolation;
use mesita_isolation::images::{Bounds, Digest, Image, Name, Platform, Provisioner, Source, Store};
use mesita_isolation::isolators::{DEVICES_MAX, Stands, TaskLimits};
use mesita_isolation::keeper::protocol::Step;
use mesita_isolation::keeper::wall::Node;
use mesita_isolation::sys::{Linux, boottime_us};
use tar::{Builder, EntryType, Header};

use crate::networks;
use crate::walls::{options, remove};
use crate::world::World;

/// A program that needs no library.
const BUSYBOX: &str = "/bin/busybox";
const SANDBOX: &str = "/mnt/mesos/sandbox";
static LINUX: Linux = Linux;

fn append(tar: &mut Builder<Vec<u8>>, path: &str, mode: u32, contents: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_size(contents.len() as u64);
    tar.append_data(&mut header, path, contents).unwrap();
}

fn link(tar: &mut Builder<Vec<u8>>, path: &str, to: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_mode(0o777);
    header.set_size(0);
    tar.append_link(&mut header, path, to).unwrap();
}

/// An image of so many layers, as `docker save` writes it; the last one takes a file away.
fn archive(count: usize, mnt: &str) -> Vec<u8> {
    let mut layers = Vec::new();
    for number in 0..count {
        let mut layer = Builder::new(Vec::new());
        if number == 0 {
            append(&mut layer, "bin/busybox", 0o4755, &fs::read(BUSYBOX).unwrap());
            for program in ["sh", "cat", "ls", "id", "test", "mount", "true"] {
                link(&mut layer, &format!("bin/{program}"), "busybox");
            }
            append(&mut layer, "gone", 0o644, b"");
            // What leads out of it leads nowhere else than into it.
            link(&mut layer, "etc", "/../../../../tmp");
            link(&mut layer, "mnt", mnt);
            append(&mut layer, "tmp/kept", 0o644, b"");
        } else {
            append(&mut layer, &format!("layer-{number}"), 0o644, b"");
        }
        if number + 1 == count {
            append(&mut layer, ".wh.gone", 0o644, b"");
        }
        layers.push(layer.into_inner().unwrap());
    }
    saved(&layers)
}

/// An image of these layers, as `docker save` writes it.
fn saved(layers: &[Vec<u8>]) -> Vec<u8> {
    let count = layers.len();
    let quoted = |texts: Vec<String>| {
        texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(",")
    };
    let digests = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let configuration = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{}},"rootfs":{{"diff_ids":[{}]}}}}"#,
        Platform::own().architecture,
        quoted(digests)
    );
    let path = format!("{}.json", Digest::of(configuration.as_bytes()).hex());
    let places: Vec<String> = (0..count).map(|number| format!("{number}/layer.tar")).collect();
    let manifest = format!(
        r#"[{{"Config":"{path}","RepoTags":["x:latest"],"Layers":[{}]}}]"#,
        quoted(places.clone())
    );
    let mut tar = Builder::new(Vec::new());
    for (place, layer) in places.iter().zip(layers) {
        append(&mut tar, place, 0o644, layer);
    }
    append(&mut tar, &path, 0o644, configuration.as_bytes());
    append(&mut tar, "manifest.json", 0o644, manifest.as_bytes());
    tar.into_inner().unwrap()
}

fn add(store: &Store, directory: &Path, count: usize, mnt: &str) -> Image {
    let path = directory.join(format!("{count}.tar"));
    fs::write(&path, archive(count, mnt)).unwrap();
    let name = Name::parse(path.to_str().unwrap()).unwrap();
    store.add(&name, Source::open(&path, None).unwrap(), &BTreeSet::new).unwrap()
}

/// An image whose `/dev/null`, and `/dev/pts/0`, are links to a file of its own, and one whose `/dev` is one
/// (CVE-2025-31133, CVE-2025-52565). Who is put there by chroot(2) alone reads what they lead to.
pub(crate) fn devices_are_the_kernels_whatever_an_image_has_in_their_place() {
    use std::os::unix::process::CommandExt;
    if !Path::new(BUSYBOX).exists() {
        println!("SKIPPED: needs {BUSYBOX} of Debian's busybox-static");
        return;
    }
    let mut world = World::new();
    let work_dir = world.path().to_owned();
    let store = Store::open(&work_dir.join("images"), Bounds::default()).unwrap();
    let hostile = [
        &[("dev/null", "/planted"), ("dev/pts/0", "/planted"), ("dev/zero", "/planted")][..],
        &[("dev", "own"), ("own/null", "/planted"), ("own/pts/0", "/planted")],
    ];
    let images: Vec<Image> = (0..)
        .zip(hostile)
        .map(|(number, links)| {
            let mut layer = Builder::new(Vec::new());
            append(&mut layer, "bin/busybox", 0o755, &fs::read(BUSYBOX).unwrap());
            for program in ["sh", "cat", "test"] {
                link(&mut layer, &format!("bin/{program}"), "busybox");
            }
            append(&mut layer, "planted", 0o666, b"planted\n");
            links.iter().for_each(|(path, to)| link(&mut layer, path, to));
            let path = work_dir.join(format!("hostile-{number}.tar"));
            fs::write(&path, saved(&[layer.into_inner().unwrap()])).unwrap();
            let name = Name::parse(path.to_str().unwrap()).unwrap();
            store.add(&name, Source::open(&path, None).unwrap(), &BTreeSet::new).unwrap()
        })
        .collect();
    let provisioner = Arc::new(Provisioner::new(store, &work_dir, None, SANDBOX).unwrap());
    let mut options = options(world.client.welcome(), 78);
    options.isolators = Some(vec!["filesystem/linux".to_owned(), "namespaces/pid".to_owned()]);
    options.provisioner = Ok(Some(provisioner));
    let (isolation, _) = Isolation::new(&options, &LINUX).unwrap();
    // What is masked is covered with that file.
    let script = "cat /dev/null /dev/pts/0 /proc/timer_list /proc/keys 2>/dev/null; \
                  echo over >/dev/null; cat /planted; test -c /dev/null && echo a device";
    for image in &images {
        let mut launch = world.plan(&["/bin/sh", "-c", script]);
        launch.directory = std::ffi::CString::new(SANDBOX).unwrap();
        let stands = Stands { image: image.clone(), sandbox: work_dir.clone() };
        let limits = TaskLimits { stands: Some(stands), ..TaskLimits::default() };
        let container = launch.container;
        let prepared = isolation.prepare(container, &limits).unwrap();
        world.client.send(&prepared.request(launch)).unwrap();
        world.launched(container);
        assert_eq!(world.exit(container), Exit::Code(0), "{}", world.output());
        assert_eq!(world.output(), "planted\na device\n");
        fs::remove_file(work_dir.join("out")).unwrap();
        isolation.cleanup(container).unwrap();
    }
    remove(&isolation);
    // Without what makes its root: the layers themselves.
    let layers = fs::read_dir(work_dir.join("images/layers")).unwrap().flatten();
    let roots: Vec<_> = layers
        .flat_map(|at| [at.path(), at.path().join("root"), at.path().join("diff")])
        .filter(|at| at.join("planted").exists())
        .collect();
    assert_eq!(roots.len(), 2, "{roots:?}");
    for root in roots {
        let mut command = std::process::Command::new("/bin/cat");
        command.arg("/dev/null").current_dir("/").stdin(std::process::Stdio::null());
        let enter = move || {
            rustix::process::chroot(&root)?;
            Ok(())
        };
        // SAFETY: the child makes one call of the kernel before it becomes its program.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(enter)
        };
        assert_eq!(command.output().unwrap().stdout, b"planted\n");
    }
}

pub(crate) fn a_task_stands_on_layers_and_leaves_nothing() {
    if !Path::new(BUSYBOX).exists() {
        println!("SKIPPED: needs {BUSYBOX} of Debian's busybox-static");
        return;
    }
    let mut world = World::new();
    let work_dir = world.path().to_owned();
    let store = Store::open(&work_dir.join("images"), Bounds::default()).unwrap();
    // A few layers, and more than one mount has room for.
    let images = [add(&store, &work_dir, 3, "../../tmp"), add(&store, &work_dir, 90, "/../tmp")];
    let hostile = add(&store, &work_dir, 2, "/proc/self/root");
    let provisioner = Arc::new(Provisioner::new(store, &work_dir, None, SANDBOX).unwrap());
    let (backend, why) = provisioner.backend();
    println!("images: by {}{}", backend.name(), why.unwrap_or_default());
    let mut options = options(world.client.welcome(), 77);
    options.isolators = Some(vec!["filesystem/linux".to_owned(), "linux/nnp".to_owned()]);
    options.provisioner = Ok(Some(Arc::clone(&provisioner)));
    let (isolation, _) = Isolation::new(&options, &LINUX).unwrap();
    let script = "test ! -e /gone && ls /layer-1 && ls /tmp /etc/ && cat /proc/1/comm && id -u && \
                  echo x > /dev/null && ! (: > /sys/x) && echo in > inside && mount";
    let mut times = Vec::new();
    for image in images.iter().chain(std::iter::repeat_n(&images[0], 5)) {
        let mut launch = world.plan(&["/bin/sh", "-c", script]);
        launch.directory = std::ffi::CString::new(SANDBOX).unwrap();
        let stands = Stands { image: image.clone(), sandbox: work_dir.clone() };
        let limits = TaskLimits { stands: Some(stands), ..TaskLimits::default() };
        let container = launch.container;
        let began = boottime_us();
        let prepared = isolation.prepare(container, &limits).unwrap();
        assert_eq!(isolation.stands(container).unwrap().image, image.name);
        world.client.send(&prepared.request(launch)).unwrap();
        world.launched(container);
        times.push(Duration::from_micros(boottime_us() - began));
        let exit = world.exit(container);
        let output = world.output();
        assert_eq!(exit, Exit::Code(0), "{output}");
        assert_eq!(fs::read_to_string(work_dir.join("inside")).unwrap(), "in\n");
        assert!(output.contains("/layer-1\n") && output.contains("mesita-init\n"), "{output}");
        // What belongs to the host's network is where the image's link leads, and the host has none of it.
        let host: Vec<_> = output.lines().filter(|line| line.contains(" on /work")).collect();
        assert!(host.is_empty(), "{host:?}");
        fs::remove_file(work_dir.join("out")).unwrap();
        fs::remove_file(work_dir.join("inside")).unwrap();
        isolation.cleanup(container).unwrap();
        assert_eq!(fs::read_dir(work_dir.join("provisioner")).unwrap().count(), 0);
    }
    // One with a network of its own stands there as well.
    if !networks::is_lacking() {
        options.container_network = Some(networks::range());
        options.isolators.get_or_insert_default().push("namespaces/net".to_owned());
        let (isolation, _) = Isolation::new(&options, &LINUX).unwrap();
        let mut launch = world.plan(&["/bin/cat", "/proc/net/dev"]);
        launch.directory = std::ffi::CString::new(SANDBOX).unwrap();
        let stands = Stands { image: images[0].clone(), sandbox: work_dir.clone() };
        let limits = TaskLimits { stands: Some(stands), ..TaskLimits::default() };
        let container = launch.container;
        let prepared = isolation.prepare(container, &limits).unwrap();
        world.client.send(&prepared.request(launch)).unwrap();
        world.launched(container);
        assert_eq!(world.exit(container), Exit::Code(0), "{}", world.output());
        assert!(world.output().contains("eth0:"), "{}", world.output());
        isolation.cleanup(container).unwrap();
    }
    // It finds as many devices as it may hold, by the name that was asked for as well.
    let node = |at: &str, number: usize| {
        let path = std::ffi::CString::new(format!("{at}/{number}")).unwrap();
        Node { path, block: false, major: 1, minor: 3 }
    };
    let nodes = (0..DEVICES_MAX).flat_map(|number| [node("own", number), node("linked", number)]);
    let script = format!("cd /dev && ls own linked && echo > linked/{}", DEVICES_MAX - 1);
    let mut launch = world.plan(&["/bin/sh", "-c", &script]);
    launch.directory = std::ffi::CString::new(SANDBOX).unwrap();
    let stands = Stands { image: images[0].clone(), sandbox: work_dir.clone() };
    let nodes = nodes.collect();
    let limits = TaskLimits { stands: Some(stands), nodes, ..TaskLimits::default() };
    let container = launch.container;
    let prepared = isolation.prepare(container, &limits).unwrap();
    world.client.send(&prepared.request(launch)).unwrap();
    world.launched(container);
    assert_eq!(world.exit(container), Exit::Code(0), "{}", world.output());
    isolation.cleanup(container).unwrap();
    // Through a link that is none of the image's own nobody goes.
    let mut launch = world.plan(&["/bin/sh", "-c", "true"]);
    launch.directory = std::ffi::CString::new(SANDBOX).unwrap();
    let stands = Stands { image: hostile, sandbox: work_dir.clone() };
    let limits = TaskLimits { stands: Some(stands), ..TaskLimits::default() };
    let container = launch.container;
    let prepared = isolation.prepare(container, &limits).unwrap();
    world.client.send(&prepared.request(launch)).unwrap();
    assert_eq!(world.refused(container).trouble.step, Step::Bind);
    isolation.cleanup(container).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(work_dir.to_str().unwrap()), "{mounts}");
    let best = times.iter().skip(2).min().copied().unwrap_or(Duration::MAX);
    println!(
        "images: a task stands on {} layers within {} us",
        images[0].layers.len(),
        best.as_micros()
    );
    remove(&isolation);
}
