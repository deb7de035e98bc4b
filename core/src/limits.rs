//! Sizes that both ends of a connection must agree on. What a node chooses for itself is in
//! [`capacity`](crate::capacity).
//!
//! To change one: it is a new protocol version, unless it only grows and the hello announces it.

/// Bytes of a name: task, executor, role, host, user, principal, resource. Mesos: `NAME_MAX`.
pub const NAME_MAX: usize = 255;
/// Bytes of a sentence for people: messages of status updates, errors, refusals.
pub const MESSAGE_MAX: usize = 1024;
/// Components of a role path, as in `eng/web/canary`.
pub const ROLE_DEPTH_MAX: usize = 16;
/// Scalar resource names known at once; these count in shares.
pub const KINDS_MAX: usize = 16;
/// Roles one framework subscribes with.
pub const ROLES_PER_FRAMEWORK_MAX: usize = 16;
/// Reservations stacked on one resource, each in a descendant of the one below.
pub const RESERVATION_DEPTH_MAX: usize = 8;

/// Bytes of a head: everything of a frame that a machine steps on.
pub const HEAD_MAX: usize = 64 * 1024;
/// The least head that every peer takes: a hello fits, so do all messages of a single thing.
pub const HEAD_MIN: usize = 1024;
/// Bodies in one frame: two for each of 256 tasks.
pub const BODIES_PER_FRAME_MAX: usize = 512;
/// Bytes of one body.
pub const BODY_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a frame, bodies and all.
pub const FRAME_MAX: usize = 64 * 1024 * 1024;

/// Offers in one OFFERS event; a framework with more gets several events.
pub const OFFERS_PER_EVENT_MAX: usize = 64;
/// Tasks in one launch, report, reconciliation or verdict.
pub const TASKS_PER_HEAD_MAX: usize = 256;
/// Tasks of one group, which are started and ended in one step.
pub const TASKS_PER_GROUP_MAX: usize = 64;
/// Elements of any other list in a head: resources, ranges, roles, attributes.
pub const ITEMS_PER_LIST_MAX: usize = 1024;

/// Streams of the `Svc` family open at once on a connection.
pub const STREAMS_MAX: usize = 64;
/// Bytes of one `Svc` data message.
pub const STREAM_DATA_MAX: usize = 16 * 1024;
/// Bytes of a stream in flight before its reader gives credit.
pub const STREAM_WINDOW: u32 = 64 * 1024;

/// Masters that one master knows: seven voters and a learner.
pub const MASTERS_MAX: usize = 8;
/// The highest id of a master. An id is never used again, so this many disks can be replaced.
pub const MASTER_ID_MAX: usize = 63;
/// Bytes of one change of the registry, as encoded: it lies in one sector with the vote.
pub const DELTA_MAX: usize = 1024;
/// Writes in one change of the registry.
pub const EDITS_MAX: usize = 64;
/// Bytes of one write in a change.
pub const EDIT_MAX: usize = 512;
/// Bytes of one part of a whole registry: it goes in a datagram that no network splits.
pub const PIECE_MAX: usize = 1024;
/// Bytes of what one datagram carries where none larger than 576 bytes comes through, as RFC 791 promises.
pub const PART_MAX: usize = 384;
/// Parts of what is said in more than one datagram.
pub const PARTS_MAX: usize = 4;
/// Bytes of the list of masters that a bootstrap agrees on.
pub const MASTERS_TEXT_MAX: usize = 768;

/// Bytes of a value in the frameworks' store.
pub const STORED_MAX: usize = 4096;
/// Characters of a master's fingerprint: SHA-256 of its key, in hexadecimal.
pub const FINGERPRINT_MAX: usize = 64;

/// Bytes of the name of an operator's operation that is done once, however often it is asked for. Other
/// names of operators' operations are shorter.
pub const ONCE_NAME: usize = 32;

/// From SIGTERM to SIGKILL when nobody says otherwise, in µs. Mesos: 3 s.
pub const KILL_GRACE_US: u64 = 3_000_000;

/// The protocol spoken by this release.
pub const VERSION_MAX: u16 = 3;
/// The oldest protocol this release still speaks.
pub const VERSION_MIN: u16 = 1;

/// An amount of a resource in thousandths stays below this, so that products fit u128 and sums u64.
pub const AMOUNT_MAX: u64 = 1 << 50;
/// A weight in thousandths: 0.001 to 1000.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// A duration that a peer asks for: 365 days, in µs. Longer ones are cut to it, as in Mesos.
pub const DURATION_MAX_US: u64 = 365 * 24 * 3600 * 1_000_000;

const _: () = assert!(HEAD_MIN >= 3 * NAME_MAX && STREAM_DATA_MAX < HEAD_MAX);
const _: () = assert!(OFFERS_PER_EVENT_MAX * 32 < HEAD_MAX);
const _: () = assert!(BODIES_PER_FRAME_MAX >= 2 * TASKS_PER_HEAD_MAX);
const _: () = assert!(STREAM_WINDOW as usize >= STREAM_DATA_MAX);
const _: () = assert!(EDIT_MAX < DELTA_MAX && PIECE_MAX < HEAD_MAX && MASTER_ID_MAX < 64);
