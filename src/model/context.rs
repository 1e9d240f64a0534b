//! Owns what a command may know besides the model: sequence, time, metadata, randomness. Offers no
//! way to learn whether this is a replay.

use std::time::SystemTime;

use super::Model;
use super::metadata::Metadata;
use super::random::{Random, RandomSeed};
use super::time::system_time;

/// The only source of time, randomness and identity for a command's `apply`; the same on replay
/// as when the command was accepted.
pub struct Context<'a, M: Model> {
    sequence: u64,
    time_ns: u64,
    metadata: &'a [u8],
    seed: RandomSeed,
    random: Random,
    /// How many ids were made.
    ids: u32,
    events: &'a mut Vec<M::Event>,
}

impl<'a, M: Model> Context<'a, M> {
    pub(crate) fn new(
        seed: RandomSeed,
        sequence: u64,
        time_ns: u64,
        metadata: &'a [u8],
        events: &'a mut Vec<M::Event>,
    ) -> Self {
        let random = seed.for_sequence(sequence);
        Self { sequence, time_ns, metadata, seed, random, ids: 0, events }
    }

    /// The sequence this command will have if it is accepted: 1 for the first command ever.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When the engine took the command, journaled with it. Never earlier than for any accepted
    /// command before it, even if the machine's clock was set back. Commands that were taken together may
    /// have the same time.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        system_time(self.time_ns)
    }

    /// Who asked, as given by [`Database::with_metadata`](crate::Database::with_metadata);
    /// empty otherwise.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        Metadata::decode(self.metadata).unwrap_or_default()
    }

    /// The next of this command's random numbers, uniformly distributed over all of `u64`.
    ///
    /// SplitMix64 (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators"),
    /// seeded from the database's identity and the sequence. Not for secrets: whoever can read the
    /// directory can predict it.
    pub fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// The next of this command's ids: for what it creates. The same on replay, and another one than
    /// any of another accepted command of any database, as far as 122 bits go. (A rejected command
    /// leaves its ids to the next one, and copies of a database that go on by themselves make the
    /// same.)
    ///
    /// It is a UUID of version 8 (RFC 9562), made by XXH3 from the database's identity, the sequence
    /// and how many were made before; `uuid::Uuid::from_u128` shows it as one. Not for secrets, like
    /// [`random`](Self::random), and independent of that.
    pub fn unique_id(&mut self) -> u128 {
        let database = self.seed.database();
        let mut source = [0; 28];
        let (identity, rest) = source.split_at_mut(16);
        let (sequence, number) = rest.split_at_mut(8);
        identity.copy_from_slice(&database.0);
        sequence.copy_from_slice(&self.sequence.to_le_bytes());
        number.copy_from_slice(&self.ids.to_le_bytes());
        self.ids = self.ids.checked_add(1).expect("no command makes four thousand million ids");
        xxhash_rust::xxh3::xxh3_128(&source) & !UUID_FIXED_BITS | UUID_VERSION_8
    }

    /// States that something happened, for whoever follows the database. The events of a rejected
    /// or panicking command are dropped with its changes. There is no way to follow a database in
    /// this version, so all events are dropped.
    pub fn emit(&mut self, event: M::Event) {
        self.events.push(event);
    }
}

/// Where RFC 9562 says version and variant.
const UUID_FIXED_BITS: u128 = 0x0000_0000_0000_f000_c000_0000_0000_0000;
const UUID_VERSION_8: u128 = 0x0000_0000_0000_8000_8000_0000_0000_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::DatabaseId;

    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Any;

    impl Model for Any {
        type Event = ();
    }

    crate::commands! { Any {} }

    /// The first ids of the commands with these sequences.
    fn ids(database: u8, sequences: std::ops::Range<u64>) -> Vec<u128> {
        let seed = RandomSeed::new(DatabaseId([database; 16]));
        let mut events = Vec::new();
        let first = sequences.flat_map(|sequence| {
            let mut context = Context::<Any>::new(seed, sequence, 0, &[], &mut events);
            [context.unique_id(), context.unique_id(), context.unique_id()]
        });
        first.collect()
    }

    #[test]
    fn ids_never_change_and_never_come_twice() {
        // Journals depend on them.
        let first = ids(1, 1..2);
        let made =
            [0xfc57_a452_cd27_866c_8203_f003_992a_3e98, 0x9170_45a0_c16c_84df_b703_1a8e_981a_3e59];
        assert_eq!(first[..2], made);
        let mut all: Vec<u128> = ids(1, 1..1000);
        all.extend(ids(2, 1..1000));
        assert!(all.iter().all(|id| id & UUID_FIXED_BITS == UUID_VERSION_8));
        let (count, first_again) = (all.len(), all[..3].to_vec());
        assert_eq!(first_again, first);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
