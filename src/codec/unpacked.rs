//! Owns the unpacked parts of changes that were read to decode entries after the open. Knows nothing
//! of what the entries are.
//!
//! The entries of one slice come from many snapshots of changes, and each part of changes has
//! entries of many slices. So a part is needed again soon, and unpacking it takes longer than all
//! else. Parts of the whole snapshot that the changes rest on are not kept: each is needed about
//! once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// How many bytes are kept at most for one collection.
const MOST_BYTES: usize = 16 << 20;

/// The unpacked parts of one collection's changes. A part is known by the number of its source, and
/// by its own there.
#[derive(Default)]
pub(super) struct UnpackedParts(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    parts: HashMap<(usize, usize), Arc<[u8]>>,
    bytes: usize,
}

impl UnpackedParts {
    pub(super) fn get(&self, place: (usize, usize)) -> Option<Arc<[u8]>> {
        // The child of a fork may have inherited the lock of a thread that it does not have.
        self.0.try_lock().ok()?.parts.get(&place).cloned()
    }

    pub(super) fn keep(&self, place: (usize, usize), bytes: &Arc<[u8]>) {
        let Ok(mut kept) = self.0.try_lock() else { return };
        if kept.bytes + bytes.len() > MOST_BYTES {
            // Which part is needed next is chance, so none is better than another.
            *kept = Kept::default();
        }
        if bytes.len() <= MOST_BYTES && kept.parts.insert(place, bytes.clone()).is_none() {
            kept.bytes += bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_allowed() {
        let unpacked = UnpackedParts::default();
        let part: Arc<[u8]> = vec![7; MOST_BYTES / 3].into();
        for number in 0..20 {
            unpacked.keep((1, number), &part);
            unpacked.keep((1, number), &part);
            assert_eq!(unpacked.get((1, number)).as_deref(), Some(&*part));
            let kept = unpacked.0.lock().unwrap();
            assert!(kept.bytes <= MOST_BYTES);
            assert_eq!(kept.bytes, kept.parts.len() * part.len());
        }
        unpacked.keep((2, 0), &vec![0; MOST_BYTES + 1].into());
        assert_eq!(unpacked.get((2, 0)), None);
    }
}
