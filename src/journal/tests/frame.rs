//! Frames are read as they were written, and damaged ones are errors.

use proptest::prelude::*;

use super::*;

fn sealed(payload: &[u8], header: FrameHeader, salt: u64, chain: u32) -> (Vec<u8>, u32) {
    let mut buffer = FrameBuffer::new();
    buffer.push_payload(payload);
    let FrameHeader { first_sequence, count, durable_sequence, .. } = header;
    let (bytes, chain) = buffer.seal(first_sequence, count, durable_sequence, salt, chain);
    (bytes.to_vec(), chain)
}

fn verify(bytes: &[u8], salt: u64, chain: u32) -> Result<(FrameHeader, Vec<u8>, u32), FrameFault> {
    let header = FrameHeader::decode(bytes, Salted::with(salt))?;
    let (payload, chain) = header.verify_body(bytes, chain)?;
    Ok((header, payload.to_vec(), chain))
}

proptest! {
    #[test]
    fn round_trip(payload: Vec<u8>, numbers: (u64, u64, u32), salt: u64, chain: u32) {
        let header = FrameHeader {
            payload_length: payload.len(),
            first_sequence: numbers.0,
            durable_sequence: numbers.1,
            count: numbers.2,
        };
        let (bytes, after) = sealed(&payload, header, salt, chain);
        prop_assert_eq!(bytes.len(), header.frame_bytes());
        prop_assert_eq!(bytes.len() % FRAME_ALIGNMENT, 0);
        prop_assert_eq!(verify(&bytes, salt, chain), Ok((header, payload, after)));
    }

    #[test]
    fn every_flipped_bit_is_noticed(payload in proptest::collection::vec(any::<u8>(), 0..80)) {
        let header = FrameHeader {
            payload_length: payload.len(), first_sequence: 9, durable_sequence: 8, count: 1,
        };
        let (bytes, _) = sealed(&payload, header, 5, 6);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify(&flipped, 5, 6).is_err(), "bit {} was not noticed", bit);
        }
    }

    #[test]
    fn another_salt_or_chain_is_noticed(salt: u64, other: u64, chain: u32, broken: u32) {
        prop_assume!(salt != other && chain != broken);
        let header =
            FrameHeader { payload_length: 3, first_sequence: 1, durable_sequence: 0, count: 1 };
        let (bytes, _) = sealed(b"abc", header, salt, chain);
        prop_assert!(verify(&bytes, other, chain).is_err());
        prop_assert!(verify(&bytes, salt, broken).is_err());
    }
}

#[test]
fn the_chain_depends_on_the_header() {
    // It would not if the header checksum were part of it: see the module's description.
    let chain_after = |durable_sequence| {
        let header =
            FrameHeader { payload_length: 0, first_sequence: 7, durable_sequence, count: 0 };
        sealed(b"", header, 1, 2).1
    };
    assert_ne!(chain_after(3), chain_after(4));
}

#[test]
fn a_payload_larger_than_any_is_not_looked_for() {
    let decoded = |payload_length| {
        let header =
            FrameHeader { payload_length, first_sequence: 1, durable_sequence: 0, count: 1 };
        FrameHeader::decode(&header.encode(5), Salted::with(5))
    };
    assert!(decoded(LARGEST_PAYLOAD_BYTES).is_ok());
    assert_eq!(decoded(LARGEST_PAYLOAD_BYTES + 1).unwrap_err().at, 4);
}
