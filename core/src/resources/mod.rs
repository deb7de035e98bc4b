//! Resources: what agents have, offers carry and tasks use.
//!
//! | file | what |
//! |---|---|
//! | [`amount`] | thousandths, as Mesos rounds them |
//! | [`text`] | `cpus:4;mem(web):512;ports:[31000-32000]`, read and written |
//! | [`pool`] | identities, interned, and who holds how much of each |
//! | [`change`] | reserve, create and their likes |
//! | [`made`] | what such operations have made of what an agent has |
//! | [`holding`] | the arithmetic of what somebody holds |
//! | [`quantities`] | amounts by kind, whoever's they are: what shares are computed from |

pub mod amount;
pub mod change;
mod debt;
pub mod holding;
mod ident;
pub mod made;
mod parts;
pub mod pool;
pub mod quantities;
pub mod text;

pub use amount::Amount;
pub use pool::{Holding, Pool};
pub use quantities::Quantities;
