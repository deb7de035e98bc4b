//! Bugs that a test plants, one at a time, to see whether the simulations find them.
//!
//! Those of the election are told by its configuration, as its model needs them. All others, and that
//! of its disk, are planted in a thread by [`plant`], and hold for what is stepped there. Without the feature
//! `mutants` every question about them is answered at compile time: nothing of this is in what ships.

use serde::{Deserialize, Serialize};

/// Which bug is planted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutant(u8);

macro_rules! mutants {
    ($( $(#[doc = $doc:literal])* $name:ident = $number:literal, )*) => {
        #[allow(non_upper_case_globals)] // They read as the variants of a choice.
        impl Mutant {
            /// No bug.
            pub const None: Self = Self(0);
            $( $(#[doc = $doc])* pub const $name: Self = Self($number); )*

            /// Every bug with its name, and what it is.
            pub const ALL: &'static [(&'static str, &'static str, Self)] =
                &[$((stringify!($name), concat!($($doc),*), Self::$name)),*];
        }
    };
}

mutants! {
    /// Votes and acknowledgements are said before they are durable.
    SpeaksBeforeFsync = 1,
    /// A vote goes to whoever asks, however old its registry.
    VotesForTheStale = 2,
    /// A second vote in one epoch.
    VotesTwice = 3,
    /// A new leader is open by what an older one wrote.
    OpensByOldWrites = 4,
    /// Data older than the promise is accepted.
    AcceptsTheOutvoted = 5,
    /// The leader's role outlives a newer epoch's data.
    LeadsOn = 6,
    /// A change is applied to whatever is there.
    IgnoresTheBase = 7,
    /// A change is answered when it is proposed.
    AnswersEarly = 8,
    /// One less than a majority is enough.
    SmallQuorum = 9,
    /// Nobody who has forgotten something is noticed.
    NoQuarantine = 10,
    /// Rows are newer by their sequence alone, also across restarts.
    MergesBySequence = 11,
    /// The lease never ends.
    EndlessLease = 12,
    /// A start is not taken for the leader's contact, and nobody is waited for.
    HastyStart = 13,
    /// A vote of an earlier life makes a leader.
    ResumesItsEpoch = 14,
    /// Data and requests are judged against the durable promise.
    JudgesByTheDurable = 15,
    /// A leader writes although its body is older than its vote says.
    WritesWithoutBody = 16,
    /// No row at all during the start.
    SilentStart = 17,
    /// The nonce of the start before is taken for a double.
    SuspectsItsPast = 18,
    /// Whoever is granted and does not vote is granted for ever.
    NeverBans = 19,
    /// What is held is not passed on.
    KeepsToItself = 20,
    /// A leader whose write goes nowhere reigns on.
    ReignsWithoutWriting = 21,
    /// Whoever hears nobody asks, too.
    AsksDeaf = 22,
    /// Quarantine ends with the process.
    ForgetsQuarantine = 23,
    /// Rows of those who forgot something are merged.
    TrustsTheAmnesiac = 24,
    /// A witness keeps what it was elected with.
    HoardingWitness = 25,
    /// Equal versions are taken for equal values.
    IgnoresTheHash = 26,
    /// A candidate stays one although it accepted data of its epoch.
    StaysCandidate = 27,
    /// A write that is not durable yet counts for the leader's own majority.
    CountsItselfEarly = 28,
    /// The lease counts by the T that is being proposed.
    TrustsTheNewT = 29,
    /// A removed master reigns on.
    OutstaysItsRemoval = 30,
    /// A learner that lags is promoted.
    PromotesTheLate = 31,
    /// A higher generation is ignored.
    IgnoresGenerations = 32,
    /// A vote is cast while a leader is heard.
    VotesUnderALeader = 33,
    /// A change of the roster that leaves no majority is begun.
    BlocksItself = 34,
    /// Every piece is answered by asking for the next one, whether it was news or not.
    AsksForEveryPiece = 35,
    /// The only master leads again and again, until it is later than what agents have obeyed.
    ClimbsUntilObeyed = 36,
    /// Generations of one number are taken for one history.
    HearsEveryHistory = 37,
    /// An empty disk goes on from what others remember of it, and votes.
    VotesFromNothing = 38,
    /// The newest change goes to disk behind the vote that names it, by a sync of its own.
    SavesTheChangeApart = 39,
    /// What a task uses is free as soon as it runs.
    FreesWhatRuns = 64,
    /// A container is started again with every write that is done.
    StartsAgain = 65,
    /// A launch under any word and in any session is accepted.
    ObeysAnyWord = 66,
    /// What is on offer of an agent stays so when it is closed.
    OffersTheClosed = 68,
    /// An offer that ended can end again.
    EndsOffersTwice = 69,
    /// The end of a task is told again after it was acknowledged.
    TellsForgottenEnds = 70,
    /// A master acknowledges what a scheduler is to hear.
    KeepsEndsToItself = 71,
    /// The end of a task is told before the disk has it.
    TellsBeforeTheDisk = 72,
    /// A task that has ended is lost with its agent, too.
    LosesTheEnded = 73,
    /// Agents are given up before the registry has it.
    GivesUpEarly = 74,
    /// A task is left out of what an agent reports.
    ReportsTooLittle = 75,
    /// What is given back is offered to nobody for an hour.
    LetsItLieIdle = 76,
    /// Limits of roles limit nothing.
    IgnoresLimits = 77,
    /// An update that is not acknowledged is sent again at once.
    NeverRests = 78,
    /// A thread that has nothing to do sleeps without another look.
    SleepsWithoutLook = 79,
    /// The last bytes of a part of a frame are lost when they come alone.
    LosesCutEnds = 80,
    /// What follows a record in the same bytes is lost.
    LosesCutRecords = 81,
    /// A record overtakes those that wait beside a full ring.
    OvertakesWhatWaits = 82,
    /// What was ordered begins however long its master has not answered.
    StartsWithoutWord = 83,
    /// Verdicts are told to be kept that the disk may lose.
    SettlesUnsynced = 84,
    /// How long a task may run is counted anew by the agent that comes next.
    CountsItsTimeAnew = 85,
    /// A ledger that broke off while it was written anew begins what had ended.
    BeginsWhatHadEnded = 86,
    /// A ledger that is written anew does not say that the machine was off.
    ForgetsItWasOff = 87,
    /// A ledger that is written anew ends before its tasks are in it.
    EndsItsLedgerEarly = 88,
    /// What is to run once starts after a reboot before a master is asked.
    StartsUnasked = 89,
    /// An executor that is there again is given what it has.
    GivesTasksAgain = 90,
    /// What an executor tells is confirmed before it is written.
    ConfirmsTheUnwritten = 91,
    /// What follows an acknowledged update is told before that is written.
    TellsOnUnwritten = 92,
    /// How long a machine was off is told by whatever clock it has.
    TrustsASavedClock = 93,
    /// A task is taken that may run twice while it is replaced.
    TakesAnyPair = 94,
}

impl Mutant {
    /// It is one of an election, and told by its configuration.
    pub const fn is_of_election(self) -> bool {
        self.0 < 64
    }

    /// True when this is the planted bug `of`.
    #[cfg(feature = "mutants")]
    pub const fn is(self, of: Self) -> bool {
        self.0 == of.0
    }

    /// False: nothing is planted in what ships.
    #[cfg(not(feature = "mutants"))]
    pub const fn is(self, _: Self) -> bool {
        false
    }
}

#[cfg(feature = "mutants")]
mod here {
    extern crate std;

    use core::cell::Cell;

    std::thread_local! {
        pub(super) static PLANTED: Cell<super::Mutant> = const { Cell::new(super::Mutant::None) };
    }
}

/// Plants a bug in everything that this thread steps from now on, instead of the one before.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Mutant) {
    here::PLANTED.set(mutant);
}

/// True when that bug is planted in this thread.
#[cfg(feature = "mutants")]
pub fn planted(mutant: Mutant) -> bool {
    here::PLANTED.get() == mutant
}

/// False: nothing is planted in what ships.
#[cfg(not(feature = "mutants"))]
pub const fn planted(_: Mutant) -> bool {
    false
}
