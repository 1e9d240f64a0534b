//! Owns the deliberate faults: which there are, and which one this process has. A laboratory that
//! cannot fail proves nothing, so each of them must be caught. `planted!` in `crate::faults` is
//! how production code asks; in a production build it is the constant `false`.

use std::sync::OnceLock;

/// The variable that names the planted fault of this process.
pub const VARIABLE: &str = "PREVALENCE_PLANTED";

macro_rules! faults {
    (
        crash: { $($name:ident: $what:literal,)* }
        surroundings: { $($outer:ident: $does:literal,)* }
    ) => {
        /// A deliberate fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Planted { $(#[doc = $what] $name,)* $(#[doc = $does] $outer,)* }

        /// Every fault that the crash laboratory must catch, and what it does wrong.
        pub const FAULTS: &[(&str, &str)] = &[$((stringify!($name), $what)),*];

        /// Those that the laboratory of hostile surroundings must catch: a simulated disk has none.
        pub const SURROUNDINGS_FAULTS: &[(&str, &str)] = &[$((stringify!($outer), $does)),*];

        fn named(name: &str) -> Option<Planted> {
            match name {
                $(stringify!($name) => Some(Planted::$name),)*
                $(stringify!($outer) => Some(Planted::$outer),)*
                _ => None,
            }
        }
    };
}

faults! {
    crash: {
        AnswerBeforeSync: "callers are answered before the sync",
        PublishBeforeSync: "readers see a version before it is durable",
        RetryFailedSync: "a failed sync is tried again, and believed",
        AppendAfterTornTail: "after a failed write the frame is written behind the torn one",
        NoDirectorySyncAfterManifest: "the MANIFEST's directory is not synced after the rename",
        NoDirectorySyncAfterSegment: "the journal's directory is not synced after the rename",
        NoDirectorySyncAfterSnapshot: "the snapshots' directory is not synced after the rename",
        ManifestNotSynced: "the MANIFEST is not synced before the rename",
        ManifestRemovedFirst: "the MANIFEST is removed before the new one gets its name",
        ManifestNotDirtied: "an open leaves the MANIFEST clean",
        SegmentNotSynced: "a segment is not synced before the rename",
        SnapshotNotSynced: "a snapshot is not synced before the rename",
        TruncateBeforeVerify: "the journal is truncated before the snapshot is written and verified",
        SegmentRemovedTooEarly: "a segment goes that the older kept snapshot needs",
        SnapshotOfNonDurableVersion: "a snapshot is ahead of the durable journal",
        NoSyncBeforeRotation: "a segment is left without being synced",
        DurableSequenceStuckAtZero: "frames and marks vouch for nothing",
        DurableSequenceTooHigh: "a frame vouches for what is not synced yet",
        VouchingIgnored: "a later frame that vouches for a damaged one is not looked for",
        ChainNotChecked: "segments and MANIFEST need not agree on the chain",
        FrameChecksumNotChecked: "a frame's body is believed",
        FrameHeaderChecksumNotChecked: "a frame's header is believed",
        MissingSegmentNotNoticed: "the newest segment may be missing",
        UnvouchedNotRewritten: "frames that nothing vouches for are not written anew",
        RollbackOffByOne: "a rollback loses the last accepted command of its batch",
        RejectedCommandJournaled: "a rejected command gets into the journal",
        RequestIdsNotInSnapshot: "a snapshot leaves the request ids out",
    }
    surroundings: {
        PlaceByPath: "files are found by path, and not from the directory that was locked",
        PlaceNotVerified: "whether the path still leads to the directory is not looked at",
        PlaceVerifiedOnlyBefore: "it is looked at before a file is made, and not at the rename",
        UnlinkedSegmentNotNoticed: "commands go into a segment that has no name any more",
        DirectoryNotLocked: "only the lock file is locked, and not the directory",
        ReserveNotGiven: "the reserve is kept though the disk is full",
        RefusedBatchKept: "the writer goes on from commands that could not be written",
        InsideNotVerified: "whether a directory inside was exchanged is not looked at",
        LockFileNotVerified: "whether the lock file was removed is not looked at",
        ExchangeByPath: "a file or directory is renamed by path, without a look at the place",
        EarlyFailurePoisons: "a failure before anything was written poisons",
        ExchangeUnseen: "whether the directory that was renamed is the held one is not looked at",
        MadeAndNotHeld: "a directory is held when it is first used, and not when it is made",
        CloseDoesNotLook: "a close does not look whether the newest segment stands",
        LeftSegmentForgotten: "whether a segment that is left still stands is not looked at",
        PathStaysRelative: "a path is not made absolute",
        ForkNotNoticed: "the child of a fork goes on as if it were its parent",
        ChildUnlocks: "the child of a fork gives its parent's lock away",
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
