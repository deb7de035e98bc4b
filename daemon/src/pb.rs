//! Messages that were compiled from `proto/`: those of Mesos' v1 API, and our own bodies.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::all, clippy::wildcard_enum_match_arm)]

pub(crate) mod mesos {
    pub(crate) mod v1 {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.rs"));
    }
}

pub(crate) mod mesita {
    include!(concat!(env!("OUT_DIR"), "/mesita.rs"));
}
