//! Tests of the replay of segments that were made by hand.

use super::*;
use crate::codec::encode_onto;
use crate::files::{DatabaseId, FileHeader, SEGMENT_MAGIC};
use crate::journal::{FrameBuffer, RecordHeader};
use crate::options::RequestLimits;
use crate::storage::FileBytes;
use crate::test_support::{Add, Count, header};

/// Makes a record of one `Add` with that tag.
fn record(tag: u16) -> Vec<u8> {
    let mut command = Vec::new();
    encode_onto(&Add(vec![1]), &mut command, 100).unwrap();
    let length = command.len() as u32;
    let header = RecordHeader { length, tag, metadata_length: 0, time_ns: 0 };
    let mut bytes = header.encode().to_vec();
    bytes.append(&mut command);
    bytes
}

/// No schemas.
fn schemas() -> SchemaFiles {
    SchemaFiles { storage: Arc::new(crate::storage::Memory::default()), directory: "x".into() }
}

/// Makes a segment of frames that each state `count` and hold these records. All checksums are
/// right.
fn segment(frames: usize, count: u32, tags: &[u16]) -> Segment {
    let header = FileHeader { model_name: "Count".to_owned(), ..header(SEGMENT_MAGIC) };
    let mut bytes = header.encode().unwrap();
    bytes.resize(4096, 0);
    let (mut sequence, mut chain) = (1, header.chain);
    for _ in 0..frames {
        let mut frame = FrameBuffer::new();
        for &tag in tags {
            frame.push_record(&record(tag), 0);
        }
        let (sealed, after) = frame.seal(sequence, count, 0, header.salt, chain);
        bytes.extend_from_slice(sealed);
        (sequence, chain) = (sequence + u64::from(count), after);
    }
    Segment::from_bytes("x".into(), FileBytes::Owned(bytes), 1).unwrap()
}

/// Makes a model that holds everything up to `sequence`.
fn nothing_replayed(sequence: u64) -> Replayed<Count> {
    Replayed {
        model: Count(sequence),
        sequence,
        time_ns: 0,
        requests: RequestLog::new(RequestLimits::of(0)),
        commands: 0,
        payload_bytes: 0,
        apply_time: Duration::ZERO,
    }
}

/// Replays onto a model that holds everything up to `sequence`.
fn replayed(segment: Segment, sequence: u64) -> Result<Replayed<Count>, Error> {
    let mut replayed = nothing_replayed(sequence);
    let seed = RandomSeed::new(segment.header.database);
    replay(&[segment], &schemas(), &mut replayed, &[], 0, seed, &mut |_, _| Ok(()))?;
    Ok(replayed)
}

#[test]
fn what_the_model_holds_of_a_frame_is_not_applied_again() {
    for held in 0..=3 {
        let replayed = replayed(segment(1, 3, &[1, 1, 1]), held).unwrap();
        let reached = (replayed.model.0, replayed.sequence, replayed.commands);
        assert_eq!(reached, (3, 3, 3 - held));
    }
}

#[test]
fn a_frame_with_fewer_records_than_it_states_is_damage() {
    for (count, found) in [(1, "2"), (3, "2")] {
        let error = replayed(segment(1, count, &[1, 1]), 0).err().unwrap();
        let told = matches!(&error, Error::Corrupt { found: told, .. } if told == found);
        assert!(told, "{error}");
    }
}

/// Makes two segments: one of three frames, and one that an open began with the last frame, because
/// it found it unconfirmed.
fn carried() -> [Vec<u8>; 2] {
    let header = |sequence, salt, chain| FileHeader {
        sequence,
        salt,
        chain,
        model_name: "Count".to_owned(),
        base_sequence: sequence,
        ..header(SEGMENT_MAGIC)
    };
    let frame = |sequence, durable, salt, chain| {
        let mut frame = FrameBuffer::new();
        frame.push_record(&record(1), 0);
        let (bytes, chain) = frame.seal(sequence, 1, durable, salt, chain);
        (bytes.to_vec(), chain)
    };
    let (mut first, mut chain, mut before) = (header(1, 5, 9).encode().unwrap(), 9, 9);
    first.resize(4096, 0);
    for sequence in 1..=3 {
        let (bytes, after) = frame(sequence, sequence - 1, 5, chain);
        first.extend_from_slice(&bytes);
        (before, chain) = (chain, after);
    }
    let mut second = header(3, 6, before).encode().unwrap();
    second.resize(4096, 0);
    second.extend_from_slice(&frame(3, 2, 6, before).0);
    [first, second]
}

fn replay_carried([first, second]: [Vec<u8>; 2]) -> Result<u64, Error> {
    let open = |bytes, sequence: u64| {
        Segment::from_bytes(sequence.to_string().into(), FileBytes::Owned(bytes), sequence)
    };
    let segments = [open(first, 1)?, open(second, 3)?];
    let mut replayed = nothing_replayed(0);
    let seed = RandomSeed::new(DatabaseId([7; 16]));
    replay(&segments, &schemas(), &mut replayed, &[], 0, seed, &mut |_, _| Ok(()))?;
    Ok(replayed.sequence)
}

/// The crash laboratory found this (seed 169): the batch was acknowledged, nothing in the new
/// segment stated that it was durable, and the open did not check that the old segment still held
/// it.
#[test]
fn a_segment_that_lost_the_batch_it_was_made_with_is_damaged() {
    assert_eq!(replay_carried(carried()).unwrap(), 3);
    let bytes = carried()[1].len();
    for at in 4096..bytes {
        let [first, mut second] = carried();
        second[at] ^= 1;
        let error = replay_carried([first, second]).err();
        let told = matches!(&error, Some(Error::Corrupt { path, .. }) if path.ends_with("3"));
        assert!(told, "byte {at}: {error:?}");
    }
}

#[test]
fn the_header_of_a_torn_batch_states_that_the_batch_before_it_is_durable() {
    let [mut first, _] = carried();
    // The body of the third frame is torn. Its header states that the second was durable.
    let last = first.len() - 1;
    first[last - 12..].fill(0);
    let segment = Segment::from_bytes("1".into(), FileBytes::Owned(first), 1).unwrap();
    let segments = [segment];
    let seed = RandomSeed::new(DatabaseId([7; 16]));
    let mut replayed = nothing_replayed(0);
    let end =
        replay(&segments, &schemas(), &mut replayed, &[], 0, seed, &mut |_, _| Ok(())).unwrap();
    assert_eq!((replayed.sequence, end.unconfirmed.len()), (2, 0));
    assert!(end.torn.is_some());
}

/// There are more frames than may wait: the thread that verifies them must not wait for ever.
#[test]
fn a_command_that_cannot_be_applied_ends_the_replay() {
    let error = replayed(segment(2 * FRAMES_AHEAD, 1, &[99]), 0).err().unwrap();
    assert!(matches!(error, Error::UnknownTag { sequence: 1, tag: 99, .. }), "{error}");
}
