//! What a single master keeps, whatever happens to its process.

use crate::world::{Master, World};

fn told(master: &Master<'_>, world: &World, words: &[&str]) -> String {
    let said = world.told(&[words, &["--master", &master.address()]].concat());
    assert_eq!(said.status, 0, "{words:?}: {}", said.err);
    said.out
}

fn listed(master: &Master<'_>, world: &World) -> [String; 2] {
    ["quota", "weights"].map(|kind| told(master, world, &[kind, "ls", "--json"]))
}

#[test]
fn what_an_operator_sets_outlives_a_master_that_is_killed() {
    let world = World::new();
    let mut master = world.master(&[]);
    told(&master, &world, &["quota", "set", "eng", "--limit", "cpus:3", "--force"]);
    told(&master, &world, &["quota", "set", "gone", "--limit", "cpus:3", "--force"]);
    told(&master, &world, &["quota", "set", "gone"]);
    told(&master, &world, &["weights", "set", "eng=2.5"]);
    let before = listed(&master, &world);
    assert!(before[0].contains("eng") && !before[0].contains("gone"), "{before:?}");
    assert!(before[1].contains("2.5"), "{before:?}");
    for _ in 0..3 {
        master.kill();
        master.start();
        assert_eq!(listed(&master, &world), before);
    }
    let work_dir = world.path(&format!("master-{}", master.port));
    let work_dir = work_dir.to_str().unwrap();
    master.stop();
    let said = world.told(&["registry", "verify", "--work-dir", work_dir]);
    assert!(said.status == 0 && said.out.starts_with("whole, at "), "{} {}", said.out, said.err);
    let said = world.told(&["registry", "show", "--json", "--work-dir", work_dir]);
    assert!(said.status == 0 && said.out.contains("\"eng\""), "{} {}", said.out, said.err);
    let flags = ["master", "--port", "0", "--size", "tiny", "--work-dir", work_dir];
    let said = world.told(&flags);
    assert!(said.status == 2 && said.err.contains("give the --size"), "{}", said.err);
    world.nothing_is_left();
}
