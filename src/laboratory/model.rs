//! Owns the model that the laboratory runs, and the reference: a second, plain implementation of
//! the same commands, which computes the expected states. Knows nothing of disks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::collections::Map;
use crate::{Command, Context, Model, codec};

/// A map, a hash that depends on the order of all changes, and their number.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// The boxes make values that own memory: a node of the map points to them.
    entries: Map<u16, Box<u64>>,
    hash: u64,
    count: u64,
}

impl Model for Tally {
    type Event = u64;
}

/// What a command does after it has changed the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ending {
    Accept,
    Reject,
    Panic,
}

/// The laboratory's command. It puts the value under one key, or under many: a few commands make
/// the map so large that snapshots hold it in several parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Put {
    /// The first key.
    pub(crate) key: u16,
    pub(crate) value: u64,
    pub(crate) ending: Ending,
    /// Only there to make the record longer; its length counts.
    pub(crate) padding: Vec<u8>,
}

impl Put {
    /// The most keys of one command.
    pub(crate) const MANY: u16 = 40;

    fn keys(&self) -> std::ops::Range<u16> {
        let count = if self.value.is_multiple_of(3) { Self::MANY } else { 1 };
        self.key..self.key.saturating_add(count)
    }
}

/// A second type, so that tags matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mix(pub(crate) u64);

/// The rejection of a command: the hash at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) u64);

fn mixed(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(17)
}

impl Command<Tally> for Put {
    type Output = (u64, u64);
    type Rejection = Refused;

    fn apply(self, tally: &mut Tally, cx: &mut Context<'_, Tally>) -> Result<(u64, u64), Refused> {
        for key in self.keys() {
            tally.entries.insert(key, Box::new(self.value));
        }
        tally.hash = mixed(mixed(tally.hash, self.value), self.padding.len() as u64);
        tally.count += 1;
        cx.emit(tally.count);
        match self.ending {
            Ending::Accept => Ok((cx.sequence(), tally.hash)),
            Ending::Reject => Err(Refused(tally.hash)),
            // `panic!` would print a message each time.
            Ending::Panic => std::panic::resume_unwind(Box::new("on purpose")),
        }
    }
}

impl Command<Tally> for Mix {
    type Output = (u64, u64);
    type Rejection = Refused;

    fn apply(self, tally: &mut Tally, cx: &mut Context<'_, Tally>) -> Result<(u64, u64), Refused> {
        tally.hash = mixed(tally.hash, self.0 ^ cx.sequence());
        tally.count += 1;
        Ok((cx.sequence(), tally.hash))
    }
}

crate::commands! { Tally { 1 => Put, 7 => Mix } }

impl Tally {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        codec::encode_stream(self, &mut bytes).expect("a Tally has an encoding");
        bytes
    }
}

/// A command with its request, as the laboratory passes it between its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) command: Ordered,
    /// There are only a few numbers, so that requests are repeated.
    pub(crate) request: Option<u8>,
}

/// The command of an [`Order`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ordered {
    Put(Put),
    Mix(Mix),
}

/// Makes the id of a request. Some ids are so long that the limit on bytes is reached.
pub(crate) fn request_id(request: u8) -> String {
    let length = if request.is_multiple_of(3) { 100 } else { 1 };
    format!("{request:0length$}")
}

/// The expected outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted { sequence: u64, hash: u64 },
    Rejected { hash: u64 },
    Panicked,
    Duplicate { sequence: u64 },
}

/// Computes the states that follow from a list of commands. It shares no code with the engine: no
/// clone, no rollback, no codec.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reference {
    entries: BTreeMap<u16, u64>,
    hash: u64,
    count: u64,
    remembered_requests: usize,
    /// The accepted commands.
    orders: Vec<Order>,
    /// The encoded state after each of them, beginning with the initial model.
    states: Vec<Vec<u8>>,
    /// For each state: how many bytes the map takes, and the hash.
    marks: Vec<(usize, u64)>,
}

impl Reference {
    pub(crate) fn new(remembered_requests: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            hash: 0,
            count: 0,
            remembered_requests,
            orders: Vec::new(),
            states: vec![vec![0, 0, 0]],
            marks: vec![(1, 0)],
        }
    }

    pub(crate) fn newest(&self) -> u64 {
        self.orders.len() as u64
    }

    /// Returns the encoded state at a sequence, if there is one.
    pub(crate) fn state(&self, sequence: u64) -> Option<&[u8]> {
        self.states.get(usize::try_from(sequence).ok()?).map(Vec::as_slice)
    }

    /// Computes the outcome of the next command. If it is accepted, it is added.
    pub(crate) fn submit(&mut self, order: &Order) -> Outcome {
        let sequence = self.newest() + 1;
        let requested = order.request.map(request_id);
        let known = self.remembered(self.newest());
        if let Some((sequence, _)) =
            known.into_iter().find(|(_, id)| Some(id) == requested.as_ref())
        {
            return Outcome::Duplicate { sequence };
        }
        let (hash, ending) = match &order.command {
            Ordered::Put(put) => {
                let hash = mixed(mixed(self.hash, put.value), put.padding.len() as u64);
                (hash, put.ending)
            }
            Ordered::Mix(mix) => (mixed(self.hash, mix.0 ^ sequence), Ending::Accept),
        };
        match ending {
            Ending::Reject => return Outcome::Rejected { hash },
            Ending::Panic => return Outcome::Panicked,
            Ending::Accept => {}
        }
        if let Ordered::Put(put) = &order.command {
            self.entries.extend(put.keys().map(|key| (key, put.value)));
        }
        self.hash = hash;
        self.count += 1;
        self.orders.push(order.clone());
        self.push_encoded();
        Outcome::Accepted { sequence, hash }
    }

    /// Returns the request ids that must be remembered after `sequence`, oldest first.
    pub(crate) fn remembered(&self, sequence: u64) -> Vec<(u64, String)> {
        let (mut kept, mut bytes) = (Vec::new(), 0);
        let accepted: Vec<_> = (1..=sequence).zip(&self.orders).collect();
        for (sequence, order) in accepted.into_iter().rev() {
            let Some(id) = order.request.map(request_id) else { continue };
            bytes += id.len();
            let many = kept.len() == self.remembered_requests;
            if many || (!kept.is_empty() && bytes > 64 * self.remembered_requests) {
                break;
            }
            kept.push((sequence, id));
        }
        kept.reverse();
        kept
    }

    /// Forgets every command behind `sequence`. They were lost, and never acknowledged.
    pub(crate) fn cut(&mut self, sequence: u64) {
        if sequence >= self.newest() {
            return;
        }
        let kept = self.orders[..sequence as usize].to_vec();
        *self = Self::new(self.remembered_requests);
        for order in &kept {
            self.submit(order);
        }
    }

    /// Computes the encoded state after `mix`, if it is the next command after `sequence`.
    pub(crate) fn state_after(&self, sequence: u64, mix: Mix) -> Vec<u8> {
        let at = sequence as usize;
        let (map, hash) = self.marks[at];
        let mut bytes = self.states[at][..map].to_vec();
        varint(mixed(hash, mix.0 ^ (sequence + 1)), &mut bytes);
        varint(sequence + 1, &mut bytes);
        bytes
    }

    fn push_encoded(&mut self) {
        let mut bytes = Vec::new();
        varint(self.entries.len() as u64, &mut bytes);
        for (&key, &value) in &self.entries {
            varint(key.into(), &mut bytes);
            varint(value, &mut bytes);
        }
        self.marks.push((bytes.len(), self.hash));
        varint(self.hash, &mut bytes);
        varint(self.count, &mut bytes);
        self.states.push(bytes);
    }
}

/// Encodes an unsigned integer as `docs::format` describes it.
fn varint(value: u64, bytes: &mut Vec<u8>) {
    if value < 251 {
        bytes.push(value as u8);
    } else if let Ok(value) = u16::try_from(value) {
        bytes.push(0xfb);
        bytes.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        bytes.push(0xfc);
        bytes.extend_from_slice(&value.to_le_bytes());
    } else {
        bytes.push(0xfd);
        bytes.extend_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_and_model_encode_alike() {
        assert_eq!(Reference::new(0).state(0).unwrap(), Tally::default().bytes());
        let mut reference = Reference::new(0);
        let mut tally = Tally::default();
        for value in [4, 250, 251, 70_000, 3, u64::MAX] {
            let put = Put { key: value as u16, value, ending: Ending::Accept, padding: vec![1; 3] };
            put.keys().for_each(|key| drop(tally.entries.insert(key, Box::new(value))));
            reference.submit(&Order { command: Ordered::Put(put), request: None });
            tally.hash = mixed(mixed(tally.hash, value), 3);
            tally.count += 1;
        }
        assert_eq!(reference.state(6).unwrap(), tally.bytes());
        reference.cut(2);
        assert_eq!(reference.newest(), 2);
        assert!(reference.state(3).is_none());
    }
}
