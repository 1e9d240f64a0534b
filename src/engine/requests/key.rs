//! Owns what makes two requests the same: the id and, where ids belong to actors, the actor.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::model::asked;

/// Who asked, and the id of the request. Two are equal if they are the same request.
#[derive(Clone, Debug)]
pub(crate) struct RequestKey {
    /// The actor, and behind it the id.
    text: Arc<str>,
    actor_bytes: u16,
    by_actor: bool,
}

impl RequestKey {
    pub(crate) fn new(actor: &str, id: &str, by_actor: bool) -> Self {
        let actor_bytes = u16::try_from(actor.len()).expect("metadata is limited to 16 bits");
        Self { text: [actor, id].concat().into(), actor_bytes, by_actor }
    }

    /// Returns the request in a command's encoded metadata, if it has an id.
    pub(crate) fn in_metadata(metadata: &[u8], by_actor: bool) -> Option<Self> {
        asked(metadata).map(|asked| Self::new(asked.actor, asked.request_id, by_actor))
    }

    pub(crate) fn actor(&self) -> &str {
        self.text.get(..self.actor_bytes.into()).unwrap_or_default()
    }

    pub(crate) fn id(&self) -> &str {
        self.text.get(self.actor_bytes.into()..).unwrap_or_default()
    }

    /// Returns the length of actor and id.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Returns the key of the same request where ids belong to actors, or where they do not.
    pub(super) fn scoped(self, by_actor: bool) -> Self {
        Self { by_actor, ..self }
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }

    fn compared(&self) -> (Option<&str>, &str) {
        (self.by_actor.then_some(self.actor()), self.id())
    }
}

impl PartialEq for RequestKey {
    fn eq(&self, other: &Self) -> bool {
        self.compared() == other.compared()
    }
}

impl Eq for RequestKey {}

impl Hash for RequestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.compared().hash(state);
    }
}
