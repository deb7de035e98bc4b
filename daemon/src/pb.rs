//! Messages that were compiled from `proto/`: those of Mesos' v1 API, and our own bodies.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::all, clippy::wildcard_enum_match_arm)]

pub(crate) mod mesos {
    pub(crate) mod v1 {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.rs"));

        pub(crate) mod agent {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.agent.rs"));
        }
        pub(crate) mod allocator {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.allocator.rs"));
        }
        pub(crate) mod executor {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.executor.rs"));
        }
        pub(crate) mod maintenance {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.maintenance.rs"));
        }
        pub(crate) mod master {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.master.rs"));
        }
        pub(crate) mod quota {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.quota.rs"));
        }
        pub(crate) mod scheduler {
            include!(concat!(env!("OUT_DIR"), "/mesos.v1.scheduler.rs"));
        }
    }
}

pub(crate) mod mesita {
    include!(concat!(env!("OUT_DIR"), "/mesita.rs"));
}
