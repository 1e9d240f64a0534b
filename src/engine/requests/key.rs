//! Owns what makes two requests the same: the id and, where ids belong to actors, the actor.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::model::asked;

/// Who asked, and the id of the request. Two are equal if they are the same request.
#[derive(Clone, Debug)]
pub(crate) struct RequestKey {
    /// The actor, and behind it the id.
    text: Arc<str>,
    actor_bytes: u16,
    by_actor: bool,
    /// Computed once, on the caller's thread: the writer and the committer look for it several
    /// times. Clients choose the ids, so it is a hash whose collisions they cannot know.
    hash: u32,
}

/// Clients cannot know its keys. It is one for all databases, because keys are made before them.
/// There is no lock, which in the child of a fork could stay locked for ever.
static HASHER: ArcSwapOption<RandomState> = ArcSwapOption::const_empty();

fn hash_of(hashed: impl Hash) -> u64 {
    if let Some(hasher) = HASHER.load().as_deref() {
        return hasher.hash_one(hashed);
    }
    // The first thread's stays.
    let ours = Arc::new(RandomState::new());
    HASHER.rcu(|known| Some(known.clone().unwrap_or_else(|| ours.clone())));
    HASHER.load_full().unwrap_or(ours).hash_one(hashed)
}

impl RequestKey {
    pub(crate) fn new(actor: &str, id: &str, by_actor: bool) -> Self {
        let actor_bytes = u16::try_from(actor.len()).expect("metadata is limited to 16 bits");
        let text = if actor.is_empty() { id.into() } else { [actor, id].concat().into() };
        Self { text, actor_bytes, by_actor, hash: 0 }.hashed()
    }

    fn hashed(self) -> Self {
        let (actor, id) = self.compared();
        let [low, high] = halves(match actor {
            // Where actor and id meet counts, too.
            Some(_) => hash_of((&self.text, self.actor_bytes)),
            None => hash_of(id),
        });
        Self { hash: low ^ high, ..self }
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
        if by_actor == self.by_actor { self } else { Self { by_actor, ..self }.hashed() }
    }

    /// Returns the key's place among so many.
    pub(super) fn place_among(&self, places: u32) -> u32 {
        self.hash % places
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }

    fn compared(&self) -> (Option<&str>, &str) {
        (self.by_actor.then_some(self.actor()), self.id())
    }
}

fn halves(hash: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

impl PartialEq for RequestKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.compared() == other.compared()
    }
}

impl Eq for RequestKey {}

impl Hash for RequestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.hash);
    }
}

/// Makes the hashers of tables whose keys are [`RequestKey`]s.
pub(super) type KeyHasher = std::hash::BuildHasherDefault<Spread>;

/// Spreads a key's hash over all bits: tables use the lowest and the highest.
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    fn write_u32(&mut self, hash: u32) {
        // Fibonacci hashing: 2^64 divided by the golden ratio (Knuth, volume 3, section 6.4).
        let mixed = (self.0 ^ u64::from(hash)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed.rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
