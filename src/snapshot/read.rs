//! Owns reading a snapshot: every checksum is verified before anything is unpacked, and the digest
//! of what was unpacked afterwards.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::Xxh3Default;

use super::format::{CHUNK_BYTES, Chunks, Footer, PACKING_PLAIN, PACKING_ZSTD};
use super::snapshot_path;
use crate::codec;
use crate::error::Error;
use crate::fields::position;
use crate::header::{FileHeader, SNAPSHOT_MAGIC};
use crate::storage::{FileBytes, Storage};

/// A snapshot whose checksums all hold.
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
    pub(crate) header: FileHeader,
    pub(crate) footer: Footer,
    bytes: FileBytes,
    chunks_begin: usize,
}

impl SnapshotFile {
    pub(crate) fn open(
        storage: &dyn Storage,
        snapshot_directory: &Path,
        sequence: u64,
    ) -> Result<Self, Error> {
        let path = snapshot_path(snapshot_directory, sequence);
        let bytes = storage.read(&path).map_err(Error::io("read", &path))?;
        Self::from_bytes(path, bytes, sequence)
    }

    pub(crate) fn from_bytes(
        path: PathBuf,
        bytes: FileBytes,
        sequence: u64,
    ) -> Result<Self, Error> {
        let (header, chunks_begin) = FileHeader::decode(&path, SNAPSHOT_MAGIC, &bytes)?;
        let mut chunks = Chunks::new(&path, &bytes, chunks_begin);
        while chunks.next_chunk()?.is_some() {}
        let footer = chunks.footer()?;
        for (what, at, found) in
            [("header", 40, header.sequence), ("footer", bytes.len() - 48, footer.sequence)]
        {
            if found != sequence {
                let expected = format!("sequence {sequence} in the {what}, as the name says");
                return Err(Error::corrupt(&path, position(at), expected, found.to_string()));
            }
        }
        if footer.chain != header.chain {
            let expected = format!("chain {:08x} as in the header", header.chain);
            let at = position(bytes.len() - 8);
            return Err(Error::corrupt(&path, at, expected, format!("{:08x}", footer.chain)));
        }
        Ok(Self { path, header, footer, bytes, chunks_begin })
    }

    /// The file's length in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        position(self.bytes.len())
    }

    /// Unpacks and decodes the model.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let chunks = Chunks::new(&self.path, &self.bytes, self.chunks_begin);
        let packed = ChunkReader { chunks, current: &[] };
        match self.header.packing {
            PACKING_PLAIN => self.decode_from(packed),
            PACKING_ZSTD => {
                let unpacked =
                    zstd::Decoder::with_buffer(packed).map_err(Error::io("unpack", &self.path))?;
                self.decode_from(BufReader::with_capacity(CHUNK_BYTES, unpacked))
            }
            unknown => {
                let expected = "packing 0 (plain) or 1 (zstd)";
                Err(Error::corrupt(&self.path, 36, expected, unknown.to_string()))
            }
        }
    }

    fn decode_from<T: DeserializeOwned>(&self, raw: impl BufRead) -> Result<T, Error> {
        let remaining = self.footer.raw_bytes;
        let mut measured = Measured { inner: raw, remaining, digest: Box::default() };
        let content = position(self.chunks_begin);
        let model =
            codec::decode_stream(&mut measured, self.footer.raw_bytes).map_err(|error| {
                let at = self.footer.raw_bytes - measured.remaining;
                let expected = "the encoding of this program's model (was the type changed without \
                            raising Model::VERSION?)";
                let found = format!("{error} at byte {at} of the unpacked encoding");
                Error::corrupt(&self.path, content, expected, found)
            })?;
        if measured.remaining > 0 {
            let expected = "an encoding that the model's type takes up whole (was the type changed \
                            without raising Model::VERSION?)";
            let found = format!("{} bytes left over", measured.remaining);
            return Err(Error::corrupt(&self.path, content, expected, found));
        }
        let digest = measured.digest.digest128().to_le_bytes();
        if digest != self.footer.digest {
            let expected = format!("digest {:02x?}", self.footer.digest);
            return Err(Error::corrupt(&self.path, content, expected, format!("{digest:02x?}")));
        }
        Ok(model)
    }
}

/// The chunks' bytes as one stream.
struct ChunkReader<'a> {
    chunks: Chunks<'a>,
    current: &'a [u8],
}

impl Read for ChunkReader<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(target.len());
        let (source, _) = available.split_at(length);
        let (target, _) = target.split_at_mut(length);
        target.copy_from_slice(source);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for ChunkReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.is_empty() {
            self.current = self.chunks.next_chunk().map_err(io::Error::other)?.unwrap_or(&[]);
        }
        Ok(self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current = self.current.get(amount..).unwrap_or(&[]);
    }
}

/// Lets through as many bytes as the footer promises, and digests them.
struct Measured<R> {
    inner: R,
    remaining: u64,
    digest: Box<Xxh3Default>,
}

impl<R: BufRead> Read for Measured<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(target.len());
        let (target, _) = target.split_at_mut(limit);
        let length = self.inner.read(target)?;
        let (read, _) = target.split_at(length);
        self.digest.update(read);
        self.remaining -= position(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::write::{SnapshotOptions, write_snapshot};
    use super::*;
    use crate::error::DatabaseId;
    use crate::storage::Disk;

    fn header(options: SnapshotOptions) -> FileHeader {
        FileHeader {
            magic: SNAPSHOT_MAGIC,
            database: DatabaseId([7; 16]),
            packing: options.packing(),
            model_version: 1,
            sequence: 42,
            time_ns: 5,
            salt: 0,
            file_bytes: 0,
            chain: 0xabcd,
            model_name: "Bank".to_owned(),
            commands: Vec::new(),
        }
    }

    fn written(model: &Vec<(u64, String)>, compression_level: i32) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let options = SnapshotOptions { compression_level };
        let path =
            write_snapshot(&Disk, directory.path(), &header(options), model, options).unwrap();
        let read = SnapshotFile::open(&Disk, directory.path(), 42).unwrap();
        assert_eq!(&read.decode::<Vec<(u64, String)>>().unwrap(), model);
        std::fs::read(path).unwrap()
    }

    fn read(bytes: Vec<u8>) -> Result<Vec<(u64, String)>, Error> {
        SnapshotFile::from_bytes("x".into(), FileBytes::Owned(bytes), 42)?.decode()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn round_trip_and_every_flipped_bit(
            model in proptest::collection::vec(any::<(u64, String)>(), 0..4),
            level in 0..4,
            seed: prop::sample::Index,
        ) {
            let bytes = written(&model, level);
            prop_assert_eq!(read(bytes.clone()).unwrap(), model);
            for _ in 0..64 {
                let bit = seed.index(bytes.len() * 8);
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(read(flipped).is_err(), "bit {} was not noticed", bit);
            }
            for length in 0..bytes.len() {
                prop_assert!(read(bytes[..length].to_vec()).is_err());
            }
        }
    }

    #[test]
    fn models_of_many_chunks_survive() {
        let model: Vec<(u64, String)> = (0..60_000)
            .map(|i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15), format!("{i:x}")))
            .collect();
        for level in [0, 1, 3] {
            let bytes = written(&model, level);
            assert!(bytes.len() > CHUNK_BYTES, "{} bytes at level {level}", bytes.len());
        }
    }

    #[test]
    fn another_type_is_an_error_not_a_panic() {
        let bytes = written(&vec![(u64::MAX, "x".to_owned())], 0);
        let snapshot = SnapshotFile::from_bytes("x".into(), FileBytes::Owned(bytes), 42).unwrap();
        assert!(matches!(snapshot.decode::<String>(), Err(Error::Corrupt { .. })));
        assert!(matches!(snapshot.decode::<u8>(), Err(Error::Corrupt { .. })));
    }
}
