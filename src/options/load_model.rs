//! Owns when the model is loaded. Knows nothing of how.

/// When an open loads the entries of the model's large [`collections`](crate::collections); see
/// [`Builder::load_model`](crate::Builder::load_model).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadModel {
    /// The default. The open loads all, and verifies all. If the newest snapshot is damaged, it
    /// takes an older one and the journal behind it: damage costs only time.
    #[default]
    AtOpen,
    /// The open loads the keys by which entries are found. The rest is loaded by a thread in the
    /// background, and by whoever touches an entry before.
    InBackground,
    /// As `InBackground`, but without the thread: what nobody touches is never loaded, and takes
    /// no memory.
    OnDemand,
}

impl LoadModel {
    pub(crate) fn is_late(self) -> bool {
        self != Self::AtOpen
    }
}
