//! Forging leaves intact files as they are, and makes changed ones readable.

use super::*;
use crate::files::PackedFile;
use crate::storage::{FileBytes, Pace};

const ALL: u8 = FORGES_MANIFEST | FORGES_HEADERS | FORGES_FRAMES | FORGES_CHUNKS;

#[test]
fn forged_checksums_are_those_of_the_program() {
    let _sizes = Sizes::small();
    for archive in [false, true] {
        let mut state = pristine(archive).clone();
        forge(&mut state, ALL);
        for path in state.files().keys() {
            let forged = state.content(path).unwrap();
            assert!(forged == pristine(archive).content(path).unwrap(), "{path} was changed");
        }
    }
}

fn read(bytes: &[u8]) -> Result<(), crate::files::StoreError> {
    let bytes = FileBytes::Owned(bytes.to_vec());
    PackedFile::from_bytes("forged".into(), bytes, SNAPSHOT_MAGIC)?.verify_content(&Pace::full())
}

/// A change in any chunk gets behind all checksums, and so does one in an extent.
#[test]
fn changed_chunks_and_indexes_are_sealed() {
    let _sizes = Sizes::small();
    for archive in [false, true] {
        let state = pristine(archive);
        let path = state.files().into_keys().rfind(|path| path.ends_with(".snapshot")).unwrap();
        let intact = state.content(&path).unwrap();
        let header = number(intact, 12);
        let tail = intact.len() - 8 - FOOTER_BYTES;
        let index = tail - number(intact, tail);
        let chunks = number(intact, index);
        assert!(chunks > 1, "only {chunks} chunks");
        let mut at = header;
        for entry in (0..chunks).map(|chunk| index + 4 + chunk * ENTRY_BYTES) {
            let mut changed = intact.clone();
            changed[at + CHUNK_HEADER_BYTES] ^= 1;
            assert!(read(&changed).is_err(), "nobody checks the chunk at {at}");
            forge_chunks(&mut changed, header);
            read(&changed).unwrap();
            at += CHUNK_HEADER_BYTES + number(intact, entry + 4);
        }
        // How many entries the first part of the first extent has.
        let mut changed = intact.clone();
        changed[index + 4 + chunks * ENTRY_BYTES + 4 + 12 + 8] ^= 1;
        assert!(read(&changed).is_err(), "nobody checks the index");
        forge_chunks(&mut changed, header);
        read(&changed).unwrap();
    }
}
