//! Mesos' v1 API and the core's wire, each said in the words of the other. Nothing decides here.
//!
//! | file | concern |
//! |---|---|
//! | `about` | what master and agent tell of themselves |
//! | `amounts` | doubles ⇄ thousandths, seconds ⇄ µs |
//! | `resources` | resources, reservations, disks, attributes |
//! | `checks` | checks and health checks of tasks |
//! | `restarts` | restart rules in the labels of tasks |
//! | `tasks` | tasks and executors, split into what is decided by and what is carried |
//! | `calls` | calls of schedulers → heads |
//! | `events` | heads → events for schedulers |
//! | `operations` | what becomes of operations on resources |
//! | `executors` | the conversation with executors, both ways |
//! | `reads` | what operators read of the catalog |

pub(crate) mod about;
pub(crate) mod amounts;
pub(crate) mod calls;
pub(crate) mod checks;
pub(crate) mod events;
pub(crate) mod executors;
pub(crate) mod maintenance;
pub(crate) mod operations;
pub(crate) mod patterns;
pub(crate) mod reads;
pub(crate) mod resources;
pub(crate) mod restarts;
pub(crate) mod tasks;
