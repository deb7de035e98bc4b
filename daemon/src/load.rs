//! What the machine has, and how busy it is, for who asks. Mesos: libprocess' `system.cpp`.

use serde_json::{Map, Value};

/// Under the names of `/system/stats.json`.
pub(crate) fn stats() -> Map<String, Value> {
    let info = rustix::system::sysinfo();
    // Their width is the machine's.
    #[allow(clippy::useless_conversion)]
    let [free, total] = [info.freeram, info.totalram].map(u64::from);
    let bytes = |units: u64| units.saturating_mul(info.mem_unit.into());
    // In parts of 2^16.
    let load = |at: usize| f64::from(u32::try_from(info.loads[at]).unwrap_or(u32::MAX)) / 65_536.0;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let told = [
        ("avg_load_1min", Value::from(load(0))),
        ("avg_load_5min", load(1).into()),
        ("avg_load_15min", load(2).into()),
        ("cpus_total", cpus.into()),
        ("mem_free_bytes", bytes(free).into()),
        ("mem_total_bytes", bytes(total).into()),
    ];
    told.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The same as metrics, under their names.
pub(crate) fn metrics() -> impl Iterator<Item = (String, Value)> {
    stats().into_iter().map(|(name, value)| {
        let name = name.strip_prefix("avg_").unwrap_or(&name);
        (format!("system/{name}"), value.as_f64().into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_memory_and_a_load() {
        let told: Map<String, Value> = metrics().collect();
        assert!(told["system/mem_total_bytes"].as_f64() > told["system/mem_free_bytes"].as_f64());
        assert!(told["system/load_1min"].as_f64() >= Some(0.0));
        assert!(stats()["cpus_total"].as_u64() >= Some(1));
    }
}
