//! Owns the metadata of a command: who asked for it, stored in the journal with the command.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::codec::EncodeFailure;

/// The most bytes of encoded metadata. A record stores this length in 16 bits.
pub(crate) const LARGEST_METADATA_BYTES: usize = u16::MAX as usize;

/// Who asked for a command, and why. The journal stores it with the command, for audits.
///
/// It may take at most 65,535 bytes when encoded. Give it with
/// [`Database::with_metadata`](crate::Database::with_metadata), and read it with
/// [`Context::metadata`](crate::Context::metadata).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The person or program that asked. Empty if unknown.
    pub actor: String,
    /// The caller's own id for the request. Empty if it has none. If a command with the same
    /// request id was accepted before, the command is not applied again. Its answer is
    /// [`ExecuteError::Duplicate`](crate::ExecuteError::Duplicate). So a caller that lost an answer
    /// can send the command again. The database remembers accepted ids, up to
    /// [`Builder::remembered_requests`](crate::Builder::remembered_requests), across restarts and
    /// crashes.
    pub request_id: String,
    /// Any other data worth keeping.
    pub attributes: BTreeMap<String, String>,
}

impl Metadata {
    /// Encodes the metadata for a record. Empty metadata takes no bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, EncodeFailure> {
        let mut bytes = Vec::new();
        if *self != Self::default() {
            codec::encode_onto(self, &mut bytes, LARGEST_METADATA_BYTES)?;
        }
        Ok(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() { Ok(Self::default()) } else { codec::decode_exact(bytes) }
    }
}

/// The first fields of encoded [`Metadata`].
#[derive(Deserialize)]
pub(crate) struct Asked<'a> {
    pub(crate) actor: &'a str,
    /// Not empty.
    pub(crate) request_id: &'a str,
}

/// Returns who asked for what in encoded metadata, without decoding the rest; `None` if there is no
/// request id.
pub(crate) fn asked(metadata: &[u8]) -> Option<Asked<'_>> {
    if metadata.is_empty() {
        return None;
    }
    codec::decode_first(metadata).filter(|asked: &Asked<'_>| !asked.request_id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_limit() {
        assert!(Metadata::default().encode().unwrap().is_empty());
        assert_eq!(Metadata::decode(&[]).unwrap(), Metadata::default());
        let mut metadata = Metadata { actor: "ann".to_owned(), ..Metadata::default() };
        metadata.attributes.insert("from".to_owned(), "branch 7".to_owned());
        assert_eq!(Metadata::decode(&metadata.encode().unwrap()).unwrap(), metadata);
        let id = |encoded: &[u8]| asked(encoded).map(|asked| asked.request_id.to_owned());
        assert_eq!(id(&metadata.encode().unwrap()), None);
        metadata.request_id = "r 1".to_owned();
        let encoded = metadata.encode().unwrap();
        assert_eq!(id(&encoded).as_deref(), Some("r 1"));
        assert_eq!(asked(&encoded).unwrap().actor, "ann");
        assert_eq!((id(&[]), id(&encoded[..6])), (None, None));
        metadata.request_id = "x".repeat(LARGEST_METADATA_BYTES);
        assert!(matches!(metadata.encode(), Err(EncodeFailure::TooLarge { .. })));
    }
}
