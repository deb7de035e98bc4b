//! Every way to say no, in one list: what the peer sees, what an operator counts.

use core::fmt;

choice! {
    /// Why an input was refused. Nothing has changed when one is returned.
    ///
    /// Numbers are on the wire and in journals: they are only appended. Those named `…Full` mean
    /// that a table of [`capacity`](crate::capacity) is full; the same input may be
    /// accepted when something left it. [`Refusal::http`] gives the status for HTTP clients.
    pub enum Refusal {
        /// The head could not be read, or a field is beyond its limit. Not to be repeated.
        Malformed = 0,
        /// Understood, but not built in this release. Not to be repeated.
        Unsupported = 1,
        /// This master does not lead, or does not lead yet. Retry elsewhere, or later.
        NotLeading = 2,
        /// This caller may not do that.
        Denied = 3,
        /// The connection has not said who it is, or said that it is somebody else.
        WrongConnection = 4,
        /// The framework is connected no more: subscribe again.
        Disconnected = 5,
        /// No such framework, or not this caller's.
        UnknownFramework = 6,
        /// The framework was removed; its id is not used again.
        FrameworkRemoved = 7,
        /// No such agent.
        UnknownAgent = 8,
        /// No such task.
        UnknownTask = 9,
        /// No such executor.
        UnknownExecutor = 10,
        /// Answered already, rescinded, expired, or never made to this framework.
        UnknownOffer = 11,
        /// The framework does not have that role.
        UnknownRole = 12,
        /// A role that no role can be called, or one named twice.
        BadRole = 13,
        /// The principal of a framework cannot change.
        PrincipalChanged = 14,
        /// This caller may not run tasks as that user.
        UserDenied = 15,
        /// An order from a master that the receiver has outlived.
        StaleFence = 16,
        /// An order for, or a report from, a session that is over.
        StaleSession = 17,
        /// Another agent has this key, or this id has another key.
        KeyMismatch = 18,
        /// The agent was marked gone by an operator and cannot come back under its id.
        AgentGone = 19,
        /// The agent belongs to another cluster.
        OtherCluster = 20,
        /// A resource that is no resource: no name, no amount, of two types at once.
        BadResource = 21,
        /// An amount would fall below zero, or rise above 2^50 thousandths.
        AmountOutOfRange = 22,
        /// No room for another agent.
        AgentsFull = 23,
        /// No room for another framework.
        FrameworksFull = 24,
        /// No room for another task.
        TasksFull = 25,
        /// No room for another executor.
        ExecutorsFull = 26,
        /// No room for another offer.
        OffersFull = 27,
        /// No room for another role, or for a role of one more framework.
        RolesFull = 28,
        /// No room for another name.
        NamesFull = 29,
        /// No room for another amount of a resource.
        ResourcesFull = 30,
        /// A seventeenth kind of scalar resource.
        KindsFull = 31,
        /// No room for another identity of a resource.
        IdentitiesFull = 32,
        /// No room for another body.
        BodiesFull = 33,
        /// No room for another status update.
        UpdatesFull = 34,
        /// No room for another operation on its way to the disk.
        QueueFull = 35,
        /// Still on its way to the disk.
        Busy = 36,
        /// The operation may or may not have happened: ask again with the same id.
        OutcomeUnknown = 37,
        /// A weight outside 0.001 to 1000.
        BadWeight = 38,
        /// The id is in use.
        Exists = 39,
        /// The part of a report came out of turn, or was not announced.
        OutOfTurn = 40,
        /// More tasks than the agent said it can hold.
        AgentFull = 41,
        /// A kind of task that the agent does not run.
        KindUnsupported = 42,
        /// A guarantee above its limit, or below what is guaranteed to roles below.
        BadQuota = 43,
        /// A limit below what the role uses or is reserved for it. Forced, it is set nevertheless.
        QuotaExceeded = 44,
        /// All guarantees together are more than the cluster has. Forced, it is set nevertheless.
        Overcommitted = 45,
        /// No room for another quota: those of roles above count.
        QuotasFull = 46,
        /// An operation on resources that it is not about.
        BadOperation = 47,
        /// Not offered, not free, or not all of it. Retry after the next change.
        NotAvailable = 48,
        /// No room for another operation whose end is to be told.
        OperationsFull = 49,
        /// No such operation.
        UnknownOperation = 50,
        /// Something still uses it.
        InUse = 51,
        /// A constraint of an offer that contradicts itself, or is of a kind not known.
        BadConstraint = 52,
        /// No room for another constraint, or for the verdicts on its pattern.
        ConstraintsFull = 53,
        /// No room for another planned absence, or for a request to give resources back.
        MaintenanceFull = 54,
        /// A time that ends before it begins.
        BadTime = 55,
        /// More than one entry of the masters' registry holds. Not to be repeated.
        TooLong = 56,
        /// The agent is being emptied. Retry when it is drained.
        Draining = 57,
        /// The agent is offered as it is: nothing is to be taken back.
        NotDeactivated = 58,
        /// The agent's machine has a planned absence, which is how it is to be emptied.
        Planned = 59,
        /// The machine has no planned absence.
        NotPlanned = 60,
        /// The machine is not down.
        NotDown = 61,
        /// The machine is down for its planned absence.
        Down = 62,
        /// A machine without a name and an address, or named twice.
        BadMachine = 63,
        /// The agent is known, and not connected. Retry when it is back.
        AgentAway = 64,
        /// No such master.
        UnknownMaster = 65,
        /// Of the masters that would be left, too few answer to decide anything.
        NoMajority = 66,
        /// Every call that may be made again is remembered, and none is old enough to be forgotten.
        /// Retry in a minute.
        RequestsFull = 67,
        /// The id of a call was another call's. Not to be repeated.
        RequestReused = 68,
        /// A task would stop while its agent may still wait for an answer of its master.
        TooShort = 69,
        /// The user of a framework cannot change.
        UserChanged = 70,
        /// The agent's disk is full. Retry elsewhere, or when it has room.
        DiskFull = 71,
        /// The agent goes away and ends its tasks. Retry elsewhere.
        AgentLeaving = 72,
        /// A later start of this agent was heard than its ledger knows: it is a copy, or older.
        LedgerOutlived = 73,
    }
}

impl Refusal {
    /// The sentence for people: what is wrong, and what to do.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Malformed => "the message is malformed",
            Self::Unsupported => "this release does not have that",
            Self::NotLeading => "this master does not lead; retry, or ask the leader",
            Self::Denied => "this caller may not do that",
            Self::WrongConnection => "this connection does not speak for that sender",
            Self::Disconnected => "the framework is not connected; subscribe again",
            Self::UnknownFramework => "no such framework",
            Self::FrameworkRemoved => "Framework has been removed",
            Self::UnknownAgent => "no such agent",
            Self::UnknownTask => "no such task",
            Self::UnknownExecutor => "no such executor",
            Self::UnknownOffer => "the offer is no longer valid",
            Self::UnknownRole => "the framework does not have that role",
            Self::BadRole => "not a valid role, or a role named twice",
            Self::PrincipalChanged => "the principal of a framework cannot change",
            Self::UserDenied => {
                "this caller may not run tasks as that user, and as root only by `run_tasks` of --acls \
                 or terms of its principal: name another user"
            }
            Self::StaleFence => {
                "the word of a master that was replaced, or that has an older data directory: a later \
                 one was obeyed"
            }
            Self::StaleSession => "the session is over; register again",
            Self::KeyMismatch => {
                "this id belongs to a node with another key: put back the key of its work directory, \
                 or remove meta/ledger to begin anew"
            }
            Self::AgentGone => "an operator marked this agent gone; start it with a new work dir",
            Self::OtherCluster => {
                "this node belongs to another cluster: name the masters of that one, or give it a new \
                 --work-dir"
            }
            Self::BadResource => "not a valid resource",
            Self::AmountOutOfRange => "an amount below zero or above 2^50 thousandths",
            Self::AgentsFull => "no room for another agent; see --size",
            Self::FrameworksFull => "no room for another framework; see --size",
            Self::TasksFull => "no room for another task; see --size",
            Self::ExecutorsFull => "no room for another executor; see --size",
            Self::OffersFull => "no room for another offer; answer some first",
            Self::RolesFull => "no room for another role; see --size",
            Self::NamesFull => "no room for another name; see --size",
            Self::ResourcesFull => "no room for another amount of a resource; see --size",
            Self::KindsFull => "no more than 16 kinds of scalar resources in a cluster",
            Self::IdentitiesFull => "no room for another identity of a resource; see --size",
            Self::BodiesFull => "no room for another body; see --max-body-bytes",
            Self::UpdatesFull => "no room for another status update; acknowledge some first",
            Self::QueueFull => "too many operations are on their way to the disk; retry",
            Self::Busy => "the same is on its way to the disk; retry",
            Self::OutcomeUnknown => "outcome unknown; repeat with the same request id",
            Self::BadWeight => "a weight is between 0.001 and 1000",
            Self::Exists => "the id is in use",
            Self::OutOfTurn => "a part of a report came out of turn",
            Self::AgentFull => "the agent holds as many tasks as it can",
            Self::KindUnsupported => "the agent does not run tasks of that kind",
            Self::BadQuota => "a guarantee is above its limit, or below those of roles below",
            Self::QuotaExceeded => "the limit is below what the role has; force to set it",
            Self::Overcommitted => "the cluster has less than all guarantees; force to set it",
            Self::QuotasFull => "no room for another quota; see --size",
            Self::BadOperation => "not resources that such an operation is about",
            Self::NotAvailable => "the resources are not available now; retry",
            Self::OperationsFull => "no room for another operation; acknowledge some first",
            Self::UnknownOperation => "no such operation",
            Self::InUse => "something still uses it",
            Self::BadConstraint => "not a valid offer constraint",
            Self::ConstraintsFull => "no room for another offer constraint; see --size",
            Self::MaintenanceFull => "no room for another maintenance window; see --size",
            Self::BadTime => "a time that ends before it begins",
            Self::TooLong => {
                "longer than an entry of the registry: shorter names, or fewer of them"
            }
            Self::Draining => "the agent is being emptied",
            Self::NotDeactivated => "the agent is not deactivated",
            Self::Planned => "the agent's machine has a maintenance window; start that instead",
            Self::NotPlanned => "the machine is not in the maintenance schedule",
            Self::NotDown => "the machine is not down for maintenance",
            Self::Down => "the machine is down for maintenance; stop that first",
            Self::AgentAway => "the agent is not connected; retry when it is back",
            Self::UnknownMaster => "no such master; `mesita masters ls` lists them",
            Self::NoMajority => {
                "of the masters that would be left too few answer to decide anything; start them first"
            }
            Self::BadMachine => "a machine needs a hostname or an ip, and may be named once",
            Self::RequestsFull => {
                "as many calls were made within a minute as masters remember; retry, or see --size"
            }
            Self::RequestReused => "this id was given to another call: give each its own",
            Self::UserChanged => "Updating 'FrameworkInfo.user' is unsupported",
            Self::LedgerOutlived => {
                "a later start of this agent was heard: another copy of its work directory runs, or \
                 this one is older; end the other, and remove meta/ledger here to begin anew"
            }
            Self::AgentLeaving => "the agent is leaving, and takes nothing new; retry elsewhere",
            Self::DiskFull => "the agent's disk is full; retry when it has room",
            Self::TooShort => "mesita.stop-after is shorter than the --agent-timeout of the master",
        }
    }

    /// The status code for an HTTP client.
    pub const fn http(self) -> u16 {
        match self {
            Self::Unsupported => 501,
            Self::NotLeading
            | Self::AgentsFull
            | Self::FrameworksFull
            | Self::TasksFull
            | Self::ExecutorsFull
            | Self::OffersFull
            | Self::RolesFull
            | Self::NamesFull
            | Self::ResourcesFull
            | Self::KindsFull
            | Self::IdentitiesFull
            | Self::BodiesFull
            | Self::UpdatesFull
            | Self::QuotasFull
            | Self::OperationsFull
            | Self::ConstraintsFull
            | Self::MaintenanceFull
            | Self::QueueFull
            | Self::Busy
            | Self::AgentAway
            | Self::NoMajority
            | Self::RequestsFull
            | Self::DiskFull
            | Self::AgentLeaving
            | Self::OutcomeUnknown => 503,
            Self::Denied | Self::UserDenied | Self::Disconnected | Self::AgentGone | Self::Down => {
                403
            }
            Self::Exists
            | Self::UnknownOffer
            | Self::AgentFull
            | Self::QuotaExceeded
            | Self::Overcommitted
            | Self::NotAvailable
            | Self::InUse => 409,
            Self::RequestReused => 422,
            Self::Malformed
            | Self::WrongConnection
            | Self::UnknownFramework
            | Self::FrameworkRemoved
            | Self::UnknownAgent
            | Self::UnknownTask
            | Self::UnknownExecutor
            | Self::UnknownRole
            | Self::BadRole
            | Self::PrincipalChanged
            | Self::StaleFence
            | Self::StaleSession
            | Self::KeyMismatch
            | Self::OtherCluster
            | Self::BadResource
            | Self::AmountOutOfRange
            | Self::BadWeight
            | Self::OutOfTurn
            | Self::KindUnsupported
            | Self::BadQuota
            | Self::BadOperation
            | Self::UnknownOperation
            | Self::BadConstraint
            | Self::TooLong
            | Self::BadTime
            | Self::Draining
            | Self::NotDeactivated
            | Self::Planned
            | Self::NotPlanned
            | Self::NotDown
            | Self::UnknownMaster
            | Self::TooShort
            | Self::UserChanged
            | Self::LedgerOutlived
            | Self::BadMachine => 400,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl core::error::Error for Refusal {}
