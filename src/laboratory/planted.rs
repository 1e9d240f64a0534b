//! Owns the deliberate faults: the list of them, and which one this process has. A laboratory that
//! finds no fault proves nothing, so it must catch each of them. Production code asks for a fault
//! with `fault!` in `crate::faults`, which is the constant `false` in a production build.

use std::sync::OnceLock;

/// The environment variable that names the planted fault of this process.
pub const VARIABLE: &str = "PREVALENCE_PLANTED";

macro_rules! faults {
    (
        crash: { $($name:ident: $what:literal,)* }
        surroundings: { $($outer:ident: $does:literal,)* }
        snapshots: { $($stored:ident: $passes:literal,)* }
        collections: { $($inner:ident: $breaks:literal,)* }
        followers: { $($behind:ident: $loses:literal,)* }
    ) => {
        /// A deliberate fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Planted { $(#[doc = $what] $name,)* $(#[doc = $does] $outer,)*
            $(#[doc = $passes] $stored,)* $(#[doc = $breaks] $inner,)*
            $(#[doc = $loses] $behind,)* }

        /// Every fault that the crash laboratory must catch, and what it does wrong.
        pub const FAULTS: &[(&str, &str)] = &[$((stringify!($name), $what)),*];

        /// Every fault that the laboratory of hostile surroundings must catch, and what it does
        /// wrong. A simulated disk cannot show them.
        pub const SURROUNDINGS_FAULTS: &[(&str, &str)] = &[$((stringify!($outer), $does)),*];

        /// Every fault that the tests of packed files must catch, and what it does wrong. No damage
        /// shows them, because a checksum notices it first.
        #[cfg(test)]
        pub(crate) const SNAPSHOTS_FAULTS: &[(&str, &str)] =
            &[$((stringify!($stored), $passes)),*];

        /// Every fault that the tests of the collections must catch, and what it does wrong.
        #[cfg(test)]
        pub(crate) const COLLECTIONS_FAULTS: &[(&str, &str)] =
            &[$((stringify!($inner), $breaks)),*];

        /// Every fault that the tests of followers must catch, and what it does wrong.
        #[cfg(test)]
        pub(crate) const FOLLOWERS_FAULTS: &[(&str, &str)] =
            &[$((stringify!($behind), $loses)),*];

        fn named(name: &str) -> Option<Planted> {
            match name {
                $(stringify!($name) => Some(Planted::$name),)*
                $(stringify!($outer) => Some(Planted::$outer),)*
                $(stringify!($stored) => Some(Planted::$stored),)*
                $(stringify!($inner) => Some(Planted::$inner),)*
                $(stringify!($behind) => Some(Planted::$behind),)*
                _ => None,
            }
        }
    };
}

faults! {
    crash: {
        AnswerBeforeSync: "callers are answered before the sync",
        PublishBeforeSync: "readers see a version before it is durable",
        RetryFailedSync: "a failed sync is tried again, and its success is believed",
        AppendAfterTornTail: "after a failed write the frame is written behind the torn one",
        NoDirectorySyncAfterManifest: "the MANIFEST's directory is not synced after the rename",
        NoDirectorySyncAfterSegment: "the journal's directory is not synced after the rename",
        NoDirectorySyncAfterSnapshot: "the snapshots' directory is not synced after the rename",
        ManifestNotSynced: "the MANIFEST is not synced before the rename",
        ManifestRemovedFirst: "the MANIFEST is removed before the new one gets its name",
        ManifestNotDirtied: "a run does not set the MANIFEST to dirty",
        SegmentNotSynced: "a segment is not synced before the rename",
        SnapshotNotSynced: "a snapshot is not synced before the rename",
        TruncateBeforeVerify: "the journal is truncated before the snapshot is verified",
        SegmentRemovedTooEarly: "a segment is removed that the older kept snapshot needs",
        SnapshotOfNonDurableVersion: "a snapshot is ahead of the durable journal",
        NoSyncBeforeRotation: "a segment is left without being synced",
        DurableSequenceStuckAtZero: "frames and marks state that nothing is durable",
        DurableSequenceTooHigh: "a frame states as durable what is not synced yet",
        DurableMarkIgnored: "a later frame that states a damaged one to be durable is not looked for",
        ChainNotChecked: "the chain values of segments and MANIFEST are not compared",
        FrameChecksumNotChecked: "the checksum of a frame's body is not checked",
        FrameHeaderChecksumNotChecked: "the checksum of a frame's header is not checked",
        MissingSegmentNotNoticed: "a missing newest segment is not noticed",
        UnconfirmedNotRewritten: "frames that are not known durable are not written again",
        RollbackOffByOne: "a rollback loses the last accepted command of its batch",
        RejectedCommandJournaled: "a rejected command gets into the journal",
        EventsLostBehindRefusal: "a command's events are not stored if one of its batch is refused",
        RequestIdsNotInSnapshot: "a snapshot does not contain the request ids",
        PartSkipped: "the last part of a collection is lost when a snapshot is read",
        ChunkChecksumNotChecked: "the checksum of a chunk is not checked",
        BaseRemovedTooEarly: "a snapshot is removed on which a listed one rests",
    }
    surroundings: {
        PlaceByPath: "files are found by path, and not from the directory that was locked",
        PlaceNotVerified: "it is not checked that the path still leads to the directory",
        PlaceVerifiedOnlyBefore: "the place is checked before a file is made, not at the rename",
        UnlinkedSegmentNotNoticed: "commands go into a segment that no longer has a name",
        DirectoryNotLocked: "only the lock file is locked, and not the directory",
        ReserveNotGiven: "the reserve is kept though the disk is full",
        RefusedBatchKept: "the writer goes on from commands that could not be written",
        InsideNotVerified: "it is not checked whether an inner directory was exchanged",
        LockFileNotVerified: "it is not checked whether the lock file was removed",
        ExchangeByPath: "a file or directory is renamed by path, and the place is not checked",
        EarlyFailurePoisons: "a failure before anything was written poisons the database",
        ExchangeUnseen: "it is not checked that the renamed directory is the held one",
        MadeAndNotHeld: "a directory is held when it is first used, and not when it is made",
        CloseDoesNotLook: "a close does not check that the newest segment is still there",
        LeftSegmentForgotten: "it is not checked that a left segment is still there",
        PathStaysRelative: "a path is not made absolute",
        ForkNotNoticed: "the child of a fork goes on as if it were its parent",
        ChildUnlocks: "the child of a fork releases its parent's lock",
    }
    snapshots: {
        ChunkDigestNotChecked: "a chunk may unpack to something else than what was packed",
        PartEndNotChecked: "a part may have bytes behind its last entry",
        EntriesNotCompared: "the parts may have more or fewer entries than their collection",
        ChangesOfAnotherBase: "a snapshot of changes may rest on another base than it was made of",
        LateDamagePassedOver: "damage that is found after the open may be passed over",
        ReadFileCut: "a file that is still read may be cut",
        ReplacedFileBelieved: "other bytes are taken for those of the snapshot that was opened",
        FrameIndexNotCompared: "the index of an archive may name other places than its frames have",
        ChangesNotCounted: "changes of a collection may be decoded as all of its entries",
    }
    collections: {
        BirthNotCompared: "a node is written in place though another version has it",
        SharedValueWritten: "a value is written in place though another version has it",
        SharedNodeReused: "a node that was copied is used again though another version has it",
        DeadListDividedWrongly: "a version that goes frees what its parent still reaches",
        DeadListLostAtFork: "a clone forgets what died since the version before",
        ParentLetGoTooEarly: "a tree is searched for what is its own when its parent may be gone",
        InheritedHandleGoesOn: "the child of a fork changes a map in place though it has cloned it",
        PositionsNotMoved: "an insertion into a vector does not move what is behind it",
        ColdKeysNotChecked: "entries that are loaded later may be in another place",
        CutLeavesColdNodes: "what is cut from a vector stays cold, and is loaded later",
        PositionsKeptAtSplit: "the right half of a node counts from the beginning of the left one",
    }
    followers: {
        HoldIgnored: "segments are removed that a follower has not read",
        CheckpointNamedTooEarly: "STANDING names a checkpoint that is not written yet",
        OldCheckpointRemovedTooEarly: "the old checkpoint is removed before STANDING names a new one",
        PositionBeforeEffect: "a reactor's position is durable before its effect",
        PositionBeforeCommands: "a reactor's position is durable before the commands it executed",
        RequestIdsDiffer: "a reaction that is repeated has other request ids",
        NotYetDurableGiven: "followers get commands that are not durable",
    }
}

/// Whether this process has that fault.
pub(crate) fn is_planted(fault: Planted) -> bool {
    static CHOSEN: OnceLock<Option<Planted>> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        Some(named(&name).unwrap_or_else(|| panic!("no such fault: {name}")))
    }) == Some(fault)
}
