//! Owns the parts of a collection in memory, for tests without a file.

use std::sync::{Arc, OnceLock};

use super::parts::{FirstKeys, Part};
use super::source::{Encoded, LateObserver, ReadRange, Source, StoredParts};
use super::unpacked::UnpackedParts;

struct Bytes(Vec<u8>);

struct Reader<'a>(&'a [u8]);

impl Encoded for Bytes {
    fn reader(&self) -> Box<dyn ReadRange + '_> {
        Box::new(Reader(&self.0))
    }

    fn take_failure(&self) -> Option<String> {
        None
    }
}

impl ReadRange for Reader<'_> {
    fn read(&mut self, begin: u64, end: u64) -> Option<&[u8]> {
        self.0.get(usize::try_from(begin).ok()?..usize::try_from(end).ok()?)
    }
}

impl StoredParts {
    /// Makes a collection of parts: how many entries each has, its first key, and its bytes.
    pub(crate) fn in_memory(
        parts: Vec<(u64, Vec<u8>, Vec<u8>)>,
        late: Arc<dyn LateObserver>,
    ) -> Arc<Self> {
        let (mut bytes, mut places, mut keys, mut first) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (entries, key, encoded) in parts {
            places.push((bytes.len() as u64, first, Part { bytes: encoded.len() as u64, entries }));
            first += entries;
            bytes.extend(encoded);
            let length = u16::try_from(key.len()).expect("a short key");
            keys.extend(length.to_le_bytes());
            keys.extend(key);
        }
        let first_keys = FirstKeys::decode(&keys, places.len()).expect("one key for each part");
        let source = Source {
            encoded: Arc::new(Bytes(bytes)),
            parts: places,
            first_keys,
            key_places: OnceLock::new(),
        };
        Arc::new(Self {
            sources: vec![source],
            runs: None,
            starts_threads: false,
            late: Some(late),
            unpacked: UnpackedParts::default(),
        })
    }
}
