//! What may happen to a process and its surroundings, and what must come of it then.

listed! {
    /// One kind of hazard.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Hazard {
        Nothing,
        Chdir,
        Moved,
        Replaced,
        ReplacedAtWork,
        Removed,
        LockRemoved,
        LockReplaced,
        JournalMoved,
        JournalReplaced,
        SnapshotsReplaced,
        ArchiveReplaced,
        SegmentRemoved,
        SegmentReplaced,
        MountedOver,
        ReadOnly,
        FullDisk,
        NoRights,
        OtherOwner,
        Fork,
        NoDescriptorOnce,
        NoDescriptors,
        NoMemory,
        Signals,
        ClockForward,
        ClockBack,
        ApplyPanics,
        ClonePanics,
        DropPanics,
        SerializePanics,
        DeserializePanics,
        Unreadable,
    }
}

use Hazard::*;

impl Hazard {
    /// Returns whether it changes where the path leads, or what stands in the directory. The next
    /// check of the place must notice this.
    pub fn is_of_the_place(self) -> bool {
        self.leads_elsewhere() || self.is_inside()
    }

    /// Returns whether the path then leads to another directory, or nowhere.
    pub fn leads_elsewhere(self) -> bool {
        matches!(self, Moved | Replaced | ReplacedAtWork | Removed | MountedOver)
    }

    /// Returns whether something in the directory was exchanged.
    fn is_inside(self) -> bool {
        matches!(
            self,
            LockRemoved
                | LockReplaced
                | JournalMoved
                | JournalReplaced
                | SnapshotsReplaced
                | ArchiveReplaced
        )
    }

    /// Returns whether the newest segment then has no name any more.
    pub fn is_of_a_segment(self) -> bool {
        matches!(self, SegmentRemoved | SegmentReplaced)
    }

    /// Returns whether it cannot be undone: then the remedy is a backup from the memory of the
    /// process.
    pub fn is_final(self) -> bool {
        self == Removed || self.is_of_a_segment()
    }

    /// Returns whether it has no effect before a database is opened.
    pub fn needs_a_place(self) -> bool {
        self.is_of_the_place() || self.is_of_a_segment()
    }

    /// Returns whether nothing may fail because of it.
    pub fn is_harmless(self) -> bool {
        matches!(self, Nothing | Chdir | Fork | Signals | ClockForward | ClockBack)
    }

    /// Returns words of which an error because of it must contain one; none if there must be no
    /// error.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            hazard if hazard.needs_a_place() => &[
                "was moved",
                "was removed",
                "was replaced",
                "was mounted",
                "is missing",
                "two databases are mixed",
                // Where it came between the look and the operation.
                "No such file",
            ],
            ReadOnly => &["Read-only file system"],
            FullDisk => &["No space left"],
            NoRights | OtherOwner => &["Permission denied"],
            NoDescriptorOnce | NoDescriptors => &["Too many open files"],
            NoMemory => {
                &["Cannot allocate memory", "Resource temporarily unavailable", "not enough memory"]
            }
            Unreadable => &["unreadable on purpose"],
            hazard if hazard.is_of_users_code() => &["on purpose"],
            _ => &[],
        }
    }

    /// Returns whether operations fail before anything is written, so that nothing is in doubt, and
    /// the database continues once it is over.
    pub fn only_refuses(self) -> bool {
        matches!(self, FullDisk | NoDescriptorOnce | NoDescriptors | ApplyPanics)
    }

    /// Returns whether it exists all the time, and not from one moment on.
    pub fn is_everywhere(self) -> bool {
        matches!(self, Nothing | Signals)
    }

    /// Returns whether it is over after the next operation.
    pub fn is_for_one_operation(self) -> bool {
        self == NoDescriptorOnce
    }

    /// Returns whether it may end the process.
    pub fn may_end_the_process(self) -> bool {
        self == NoMemory
    }

    pub fn is_of_users_code(self) -> bool {
        matches!(
            self,
            ApplyPanics
                | ClonePanics
                | DropPanics
                | SerializePanics
                | DeserializePanics
                | Unreadable
        )
    }

    pub fn needs_mounts(self) -> bool {
        matches!(self, MountedOver | ReadOnly | FullDisk)
    }

    /// Returns whether the working process must not be root's.
    pub fn needs_another_user(self) -> bool {
        matches!(self, NoRights | OtherOwner)
    }

    pub fn needs_the_shim(self) -> bool {
        matches!(self, ClockForward | ClockBack)
    }
}
