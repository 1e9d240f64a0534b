//! Owns how the elements of a set or a vector are written. Knows nothing of nodes.

use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::codec::BeforeWriting;

/// Writes elements as a sequence, and tells the codec where its parts are.
pub(super) fn serialize_elements<'a, T: Serialize + 'a, S: Serializer>(
    elements: impl ExactSizeIterator<Item = &'a T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let length = elements.len();
    let before = BeforeWriting::new();
    let mut target = serializer.serialize_seq(Some(length))?;
    let mut written = before.begin(length);
    for element in elements {
        target.serialize_element(element)?;
        written.count();
    }
    written.end();
    target.end()
}
