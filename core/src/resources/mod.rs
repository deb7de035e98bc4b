//! Resources: what agents have, offers carry and tasks use.
//!
//! | file | what |
//! |---|---|
//! | [`amount`] | thousandths, as Mesos rounds them |
//! | [`text`] | `cpus:4;mem(web):512;ports:[31000-32000]`, read and written |

pub mod amount;
pub mod text;

pub use amount::Amount;
