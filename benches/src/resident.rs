//! What tasks that run cost their agent in memory.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::footprint::Footprint;

/// Tasks that run when each line is told.
const STEPS: [u64; 3] = [0, 100, 1_000];
/// What was begun by a launch is over by then.
const SETTLED: Duration = Duration::from_secs(5);

/// Prints the memory of an agent and its keeper under more and more tasks.
pub fn print(binary: &Path) -> io::Result<()> {
    let cluster = Cluster::start(binary)?;
    let (mut running, mut first) = (0, None);
    println!(
        "{:>6} {:>14} {:>14} {:>16}",
        "tasks", "agent RSS KiB", "keeper RSS KiB", "agent KiB/task"
    );
    for tasks in STEPS {
        if tasks > running {
            launch(&cluster, tasks - running)?;
            running = tasks;
        }
        sleep(SETTLED);
        let of = |wanted| -> io::Result<u64> {
            let processes = cluster.processes()?;
            let of = processes.iter().filter(|(name, _)| *name == wanted);
            of.map(|(_, pid)| Ok(Footprint::of(*pid)?.rss_kib)).sum()
        };
        let (agent, keeper) = (of("agent")?, of("keeper")?);
        let base = *first.get_or_insert(agent);
        let hundredths = (agent.saturating_sub(base) * 100).checked_div(tasks).unwrap_or(0);
        let (whole, part) = (hundredths / 100, hundredths % 100);
        println!("{tasks:>6} {agent:>14} {keeper:>14} {whole:>13}.{part:02}");
    }
    Ok(())
}

/// Hands so many tasks to the cluster that stay there.
fn launch(cluster: &Cluster, count: u64) -> io::Result<()> {
    let mut command = cluster.command("run");
    command.args(["--detach", "--resources", "cpus:0.01;mem:1", "--instances"]);
    command.args([
        &count.to_string(),
        "--name",
        &format!("stays-{count}"),
        "--",
        "sleep",
        "100000",
    ]);
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}
