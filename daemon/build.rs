//! Compiles the messages of Mesos' v1 API and our own bodies to Rust.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["mesos/v1/mesos.proto", "mesita/bodies.proto"], ["proto"])?;
    // In order, so that the same message always has the same bytes.
    prost_build::Config::new().btree_map(["."]).compile_fds(files)?;
    Ok(())
}
