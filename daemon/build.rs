//! Compiles the messages of Mesos' v1 API and our own bodies to Rust, and to the descriptions that
//! JSON is read and written by.

use prost::Message;

/// Files with messages that cross HTTP.
const API: [&str; 5] = [
    "mesos/v1/mesos.proto",
    "mesos/v1/scheduler/scheduler.proto",
    "mesos/v1/executor/executor.proto",
    "mesos/v1/master/master.proto",
    "mesos/v1/agent/agent.proto",
];
/// Bodies of our own wire.
const BODIES: &str = "mesita/bodies.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let described = protox::compile(API, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("api.bin"), described.encode_to_vec())?;
    let all = protox::compile(API.into_iter().chain([BODIES]), ["proto"])?;
    let mut config = prost_build::Config::new();
    // In order, so that the same message always has the same bytes.
    config.btree_map(["."]).enable_type_names().compile_fds(all)?;
    Ok(())
}
