//! Several masters that keep one cluster: a set.
//!
//! | file | concern |
//! |---|---|
//! | `begin` | from flags and a work directory to a master that may start, or a sentence why not |
//! | `bootstrap` | how the masters of a list become a set, once |
//! | `early` | what those are told who come before that |
//! | `join` | how a new master comes to follow a set that is there |
//! | `charter` | what one is given that joins a closed cluster by a token |
//! | `roster` | who the masters are, and how an operator changes it |
//! | `origin` | a registry as a text, taken from one master and given to another |
//! | `sealed` | datagrams, which nobody else can read or write |
//! | `parts` | what a network does not carry whole |
//! | `peers` | who was heard, from where, and which of them leads |
//! | `node` | the IO side of the election: gossip, disk, and what the master is told |
//! | `kept` | what the leader decided and all of them keep |
//! | `cells` | where the registry has what frameworks store |
//! | `redo` | changes larger than one, all or nothing of them |
//! | `standing` | what the rest of the process knows of it: the lease, the leader |
//! | `store` | the registry on this master's disk |
//!
//! Everything between masters goes in datagrams on the number of `--port`, facts and the registry's
//! contents alike: what is lost comes again, and one seal protects all of it.

pub(crate) mod begin;
pub(crate) mod bootstrap;
pub(crate) mod cells;
pub(crate) mod charter;
pub(crate) mod early;
pub(crate) mod join;
pub(crate) mod kept;
pub(crate) mod node;
pub(crate) mod origin;
mod parts;
mod peers;
mod redo;
pub(crate) mod roster;
pub(crate) mod sealed;
pub(crate) mod standing;
pub(crate) mod store;
