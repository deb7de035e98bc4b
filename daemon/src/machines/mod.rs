//! What is done with bytes and records between sockets and a core, as machines without IO: no
//! socket, clock or thread, so that the simulation of the core (`core/tests/sim`) runs these very
//! files under its seeds. Whoever has a socket or a thread drives them, and decides nothing.
//!
//! | file | concern | driven by |
//! |---|---|---|
//! | `assembly` | bytes, however they are cut → frames | `conn::frames` |
//! | `recordio` | records ⇄ bytes, however they are cut | `http::records`, those who read streams |
//! | `waiting` | what waits for a reader: its order and bound | `conn::outbox`, `http::records` |
//! | `fresh` | whether what was ordered may still begin | `agent::fresh` |
//! | `passing` | records on their way between two threads | `passage`, `core_thread` |

pub(crate) mod assembly;
pub(crate) mod fresh;
pub(crate) mod passing;
pub(crate) mod recordio;
pub(crate) mod waiting;
