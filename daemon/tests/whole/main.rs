//! Whole clusters: real processes of the built binary, on real input.
//!
//! What a machine lacks makes a test print `SKIPPED` with the reason. Nothing here measures speed:
//! conditions are waited for, with a bound that a busy machine keeps.

// What other processes do is waited for by looking again and again, on the tests' own clock.
#![allow(clippy::disallowed_methods)]

mod accepts;
mod acls;
mod agent_api;
mod apart;
mod audits;
mod bad_input;
mod certificates;
mod checks;
mod credentials;
mod curl;
mod details;
mod devices;
mod docker;
mod doctor;
mod doors;
mod exec;
mod executors;
mod faults;
mod faulty;
mod fetches;
#[cfg(feature = "tls")]
mod field;
mod frameworks;
mod groups;
mod http;
mod idle;
mod images;
mod inner;
mod installs;
mod isolators;
#[cfg(feature = "tls")]
mod joined_masters;
mod journal;
mod kept;
mod kills;
mod lans;
mod logs;
mod masters;
mod network;
mod node;
mod operators;
mod ports;
mod principals;
mod probes;
mod pulls;
mod pymesos;
mod rates;
mod reads;
mod recorded;
#[cfg(feature = "tls")]
mod rekeys;
mod requests;
mod restarts;
mod roles;
mod rosters;
mod runs;
mod scheduler_api;
#[cfg(feature = "tls")]
mod secure_doors;
#[cfg(feature = "tls")]
mod secure_fetches;
#[cfg(feature = "tls")]
mod secure_joins;
mod sessions;
mod spare;
#[cfg(feature = "tls")]
mod splices;
mod stores;
mod terminals;
mod volumes;
mod world;
