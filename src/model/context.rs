//! Owns what a command may know besides the model: sequence, time, metadata, randomness. Does not
//! tell a command whether it is being replayed.

use std::time::SystemTime;

use super::Model;
use super::metadata::Metadata;
use super::random::{Random, RandomSeed};
use super::time::system_time;

/// The only source of time, random numbers and ids for a command's `apply`. It gives the same
/// values on replay as when the command was accepted.
pub struct Context<'a, M: Model> {
    sequence: u64,
    time_ns: u64,
    metadata: &'a [u8],
    seed: RandomSeed,
    random: Random,
    /// How many ids this command has made.
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

    /// Returns the sequence that this command will have if it is accepted. The first command of a
    /// database has sequence 1.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the time at which the engine took the command. The journal stores it with the
    /// command. It is never earlier than the time of any accepted command before it, even if the
    /// machine's clock was set back. Commands that were taken together may have the same time.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        system_time(self.time_ns)
    }

    /// Returns the metadata that was given with
    /// [`Database::with_metadata`](crate::Database::with_metadata). It is empty if none was given.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        Metadata::decode(self.metadata).unwrap_or_default()
    }

    /// Returns the next of this command's random numbers, uniformly distributed over all of `u64`.
    ///
    /// The generator is SplitMix64 (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom
    /// Number Generators"), seeded from the database id and the sequence. Do not use it for
    /// secrets: anyone who can read the directory can predict the numbers.
    pub fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// Returns the next of this command's ids, for the things that it creates. The id is the same
    /// on replay. As far as 122 bits allow, it differs from every id of every other accepted
    /// command of any database. There are two exceptions: the command after a rejected one gets the
    /// ids of the rejected one, and copies of a database that each accept commands make the same
    /// ids.
    ///
    /// The id is a UUID of version 8 (RFC 9562). XXH3 makes it from the database id, the sequence
    /// and the number of ids that this command has made before. `uuid::Uuid::from_u128` converts
    /// it. Like the numbers of [`random`](Self::random) it is not for secrets, and it is
    /// independent of them.
    pub fn unique_id(&mut self) -> u128 {
        let database = self.seed.database();
        let mut source = [0; 28];
        let (identity, rest) = source.split_at_mut(16);
        let (sequence, number) = rest.split_at_mut(8);
        identity.copy_from_slice(&database.0);
        sequence.copy_from_slice(&self.sequence.to_le_bytes());
        number.copy_from_slice(&self.ids.to_le_bytes());
        self.ids = self.ids.checked_add(1).expect("one command makes fewer than 2^32 ids");
        xxhash_rust::xxh3::xxh3_128(&source) & !UUID_FIXED_BITS | UUID_VERSION_8
    }

    /// Emits an event: a fact that this command makes true. If the command is accepted, its events
    /// are stored with it, unless [`Builder::events`](crate::Builder::events) says something else.
    /// [`HistoryRecord::events`](crate::HistoryRecord::events) reads them. The events of a rejected
    /// or panicking command are dropped with its changes.
    ///
    /// One command emits at most 65,536 events, which take at most 16 MiB when they are encoded.
    /// With more, the command is rolled back, and its caller gets
    /// [`ExecuteError::EventsRefused`](crate::ExecuteError::EventsRefused).
    pub fn emit(&mut self, event: M::Event) {
        self.events.push(event);
    }
}

/// The bits in which RFC 9562 stores version and variant.
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

    /// Returns the first ids of the commands with these sequences.
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
        // Stored journals depend on these values.
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
