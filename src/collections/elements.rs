//! Owns how the entries of a collection are written, whole or as changes. Knows nothing of nodes.

use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::tree::Edit;
use crate::codec::{BeforeWriting, Collection, Comparison, WrittenEntries};

/// A collection that can be written as the changes of an earlier one.
pub(super) trait Entries: Collection + Clone {
    type Key: Serialize;
    type Value: Serialize;

    fn len(&self) -> usize;

    fn entries(&self) -> impl Iterator<Item = (&Self::Key, &Self::Value)>;

    /// Returns what makes the entries of `base` the entries of this collection.
    fn edits<'a>(
        &'a self,
        base: &'a Self,
        comparison: &'a mut Comparison,
    ) -> impl Iterator<Item = Edit<'a, Self::Key, Self::Value>>;
}

/// Returns whether two entries have the same encoding. Leaves that were copied share large keys and
/// values, so these are often the same ones.
pub(super) fn are_equal<K: Serialize + 'static, V: Serialize + 'static>(
    old: (&K, &V),
    new: (&K, &V),
    comparison: &mut Comparison,
) -> bool {
    (std::ptr::eq(old.0, new.0) || comparison.are_equal(old.0, new.0))
        && (std::ptr::eq(old.1, new.1) || comparison.are_equal(old.1, new.1))
}

/// Writes the entries, behind the length, and tells the codec where its parts are.
pub(super) fn write_entries<C: Entries, E>(
    collection: &C,
    before: BeforeWriting,
    mut write: impl FnMut(&C::Key, &C::Value) -> Result<(), E>,
) -> Result<(), E> {
    let mut written: WrittenEntries = before.begin(collection.len());
    if let Some(base) = written.base(collection) {
        let mut comparison = Comparison::default();
        for edit in collection.edits(&base, &mut comparison) {
            match edit {
                Edit::Keep(entries) => written.keep(entries),
                Edit::Drop(entries) => written.drop(entries),
                Edit::Insert(key, value) => {
                    written.before(key);
                    write(key, value)?;
                    written.insert();
                }
            }
        }
    } else {
        for (key, value) in collection.entries() {
            written.before(key);
            write(key, value)?;
            written.count();
        }
    }
    written.end(collection);
    Ok(())
}

/// Writes the keys or the values as a sequence.
pub(super) fn serialize_elements<C: Entries, T: Serialize, S: Serializer>(
    collection: &C,
    serializer: S,
    element: impl for<'a> Fn(&'a C::Key, &'a C::Value) -> &'a T,
) -> Result<S::Ok, S::Error> {
    let before = BeforeWriting::new();
    let mut target = serializer.serialize_seq(Some(collection.len()))?;
    write_entries(collection, before, |key, value| target.serialize_element(element(key, value)))?;
    target.end()
}
