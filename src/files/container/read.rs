//! Owns an open packed file: it verifies what the file states about its content, and reads that
//! content. Knows nothing of what the content means.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use xxhash_rust::xxh3::Xxh3Default;

use super::content::{Content, FirstFailure};
use super::format::{
    Chunks, FOOTER_BYTES, FOOTER_MAGIC, Footer, PACKING_CHUNKS_PLAIN, PACKING_CHUNKS_ZSTD,
    PACKING_PLAIN, PACKING_ZSTD,
};
use super::index::{FooterDigest, Index};
use super::source::{ChunkSource, ContentReader, Paced, StreamEnd, StreamSource};
use crate::codec::{BlockSource, Blocks, DecodeHow, Decoding, LateObserver, Link};
use crate::files::StoreError;
use crate::files::fields::{FieldReader, position};
use crate::files::header::FileHeader;
use crate::mutex::lock;
use crate::storage::{Pace, ReadableFile, Storage, read_up_to};

/// The size of the blocks in which a stream is read.
const BLOCK_BYTES: u64 = 256 << 10;
/// The same beside commits.
const TURN_BYTES: u64 = 8 << 10;

/// A packed file whose header and footer were verified. If it is one stream, all of its chunks were
/// verified, too; otherwise its index was, and each chunk is verified when it is read.
pub(crate) struct PackedFile {
    pub(crate) path: PathBuf,
    pub(crate) header: FileHeader,
    pub(crate) footer: Footer,
    file: Arc<dyn ReadableFile>,
    layout: Layout,
    /// The file of which this one holds the changes.
    base: Option<Box<Self>>,
}

pub(super) enum Layout {
    /// One stream, whose chunks begin at this position of the file.
    Stream(u64),
    /// Chunks that are packed one by one.
    Chunks(Arc<Content>),
}

impl PackedFile {
    /// Opens a file that nobody changes or removes while it is read, maps it, and verifies all
    /// chunks.
    pub(crate) fn open(
        storage: &dyn Storage,
        path: &Path,
        magic: [u8; 8],
    ) -> Result<Self, StoreError> {
        let file = Self::open_to_decode(storage, path, magic)?;
        file.verify_chunks()?;
        Ok(file)
    }

    /// Opens as [`open`](Self::open), to read all of the content at once. So chunks that are packed
    /// one by one are verified only when they are read.
    pub(crate) fn open_to_decode(
        storage: &dyn Storage,
        path: &Path,
        magic: [u8; 8],
    ) -> Result<Self, StoreError> {
        let bytes = storage.read(path).map_err(StoreError::io("read", path))?;
        Self::from_file(path.to_path_buf(), Arc::new(bytes), magic)
    }

    /// Opens as [`open_to_decode`](Self::open_to_decode) a file that others may move, cut or remove
    /// meanwhile. It is not mapped.
    pub(crate) fn open_beside_others(
        storage: &dyn Storage,
        path: &Path,
        magic: [u8; 8],
    ) -> Result<Self, StoreError> {
        let file = storage.open_to_read(path).map_err(StoreError::io("read", path))?;
        Self::from_file(path.to_path_buf(), file.into(), magic)
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns how many owners the content has: more than one while another thread reads it.
    pub(super) fn owners(&self) -> usize {
        match &self.layout {
            Layout::Stream(_) => 1,
            Layout::Chunks(content) => Arc::strong_count(content),
        }
    }

    /// Verifies the chunks that the open has not verified.
    pub(crate) fn verify_chunks(&self) -> Result<(), StoreError> {
        match &self.layout {
            Layout::Stream(_) => Ok(()),
            Layout::Chunks(content) => content.verify_chunks(),
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn from_bytes(
        path: PathBuf,
        bytes: crate::storage::FileBytes,
        magic: [u8; 8],
    ) -> Result<Self, StoreError> {
        Self::from_file(path, Arc::new(bytes), magic)
    }

    /// Returns the sequence that the file's last bytes state, unverified; `None` when they state
    /// none.
    pub(crate) fn stated_sequence(
        storage: &dyn Storage,
        path: &Path,
    ) -> Result<Option<u64>, StoreError> {
        let file = storage.open_to_read(path).map_err(StoreError::io("read", path))?;
        let Some(at) = file.length().checked_sub(position(FOOTER_BYTES)) else { return Ok(None) };
        let mut footer = [0; FOOTER_BYTES];
        read_up_to(&*file, &mut footer, at).map_err(StoreError::io("read", path))?;
        let mut fields = FieldReader::new(&footer);
        Ok(fields.array().filter(|magic| *magic == FOOTER_MAGIC).and_then(|_| fields.u64()))
    }

    fn from_file(
        path: PathBuf,
        file: Arc<dyn ReadableFile>,
        magic: [u8; 8],
    ) -> Result<Self, StoreError> {
        let (header, header_bytes) = FileHeader::read(&path, magic, &*file)?;
        let chunks_begin = position(header_bytes);
        match header.packing {
            PACKING_PLAIN | PACKING_ZSTD => {
                let mut chunks = Chunks::new(path.as_path().into(), file.clone(), chunks_begin);
                while chunks.next_chunk()?.is_some() {}
                let footer = chunks.footer()?;
                Ok(Self {
                    path,
                    header,
                    footer,
                    file,
                    layout: Layout::Stream(chunks_begin),
                    base: None,
                })
            }
            PACKING_CHUNKS_PLAIN | PACKING_CHUNKS_ZSTD => {
                let (index, footer) = Index::read(&path, &*file, &header, chunks_begin)?;
                let content = Content {
                    path: path.as_path().into(),
                    file: file.clone(),
                    index,
                    failure: FirstFailure::default(),
                    spare: Mutex::default(),
                };
                let layout = Layout::Chunks(Arc::new(content));
                Ok(Self { path, header, footer, file, layout, base: None })
            }
            other => {
                let expected = "packing 0 or 1 (a stream) or 2 or 3 (chunks)";
                Err(StoreError::corrupt(&path, 36, expected, other.to_string()))
            }
        }
    }

    /// Returns the file's length in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file.length()
    }

    /// Returns about how many bytes of the file hold the content up to a position.
    pub(crate) fn file_bytes_at(&self, position: u64) -> u64 {
        let (file_bytes, raw_bytes) = (self.file_bytes(), self.footer.raw_bytes.max(1));
        let share = u128::from(file_bytes) * u128::from(position.min(raw_bytes));
        u64::try_from(share / u128::from(raw_bytes)).unwrap_or(file_bytes)
    }

    /// Returns how many parts large collections have in this file, and how many bytes these have.
    pub(crate) fn parts(&self) -> (u64, u64) {
        let Layout::Chunks(content) = &self.layout else { return (0, 0) };
        let parts = content.index.extents.iter().flat_map(|extent| &extent.parts);
        parts.fold((0, 0), |(parts, bytes), part| (parts + 1, part.bytes.saturating_add(bytes)))
    }

    /// Makes the error for content that this program cannot decode, although the packing is intact.
    pub(crate) fn undecodable(&self, reason: String) -> StoreError {
        StoreError::Undecodable { path: self.path.clone(), reason }
    }

    /// Checks that the chunks unpack to what was packed.
    pub(crate) fn verify_content(&self, pace: &Pace<'_>) -> Result<(), StoreError> {
        let digest = |blocks: &mut Blocks<'_>| {
            let mut digest: Box<Xxh3Default> = Box::default();
            loop {
                let block = blocks.current();
                if block.is_empty() {
                    return Ok(digest.digest128().to_le_bytes());
                }
                digest.update(block);
                let length = block.len();
                blocks.advance(length);
            }
        };
        let (digest, ()) = self.unpack_at(pace, digest, skip)?;
        self.check_digest(digest)?;
        self.verify_scripts(pace) // nothing has read them yet
    }

    /// Verifies what is behind the content and the appendix.
    pub(crate) fn verify_scripts(&self, pace: &Pace<'_>) -> Result<(), StoreError> {
        match &self.layout {
            Layout::Stream(_) => Ok(()),
            Layout::Chunks(content) => content.verify_behind(self.scripts_begin(), pace),
        }
    }

    fn check_digest(&self, digest: [u8; 16]) -> Result<(), StoreError> {
        if digest == self.footer.digest {
            return Ok(());
        }
        let expected = format!("digest {:02x?}", self.footer.digest);
        Err(self.corrupt_content(expected, format!("{digest:02x?}")))
    }

    /// Makes the error for unpacked content that is wrong.
    pub(crate) fn corrupt_content(&self, expected: String, found: String) -> StoreError {
        let at = match self.layout {
            Layout::Stream(chunks_begin) => chunks_begin,
            // The content has no position of its own in the file; its footer states what it is.
            Layout::Chunks(_) => self.file_bytes().saturating_sub(position(FOOTER_BYTES)),
        };
        StoreError::corrupt(&self.path, at, expected, found)
    }

    /// Unpacks while `take` uses what has been unpacked. `take` must use all of it, unless it
    /// jumps. An appendix behind the content is skipped.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn unpack<R>(
        &self,
        take: impl FnOnce(&mut Blocks<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.unpack_with(take, skip).map(|(taken, ())| taken)
    }

    /// Returns the content from `begin` on; a stream has only its beginning. Each chunk that is
    /// packed alone is verified when it is read. The caller must compare the whole content with the
    /// footer. The errors of files have their [`StoreError`] inside. `ahead` lets another thread
    /// unpack ahead.
    pub(crate) fn reader(&self, begin: u64, ahead: bool) -> io::Result<Box<dyn Read + Send>> {
        match &self.layout {
            Layout::Stream(_) if begin == 0 => self.stream(),
            Layout::Stream(_) => Err(io::Error::other("a stream is read from its beginning")),
            Layout::Chunks(content) => {
                let end = self.footer.raw_bytes;
                Ok(Box::new(match ahead {
                    true => ContentReader::ahead(content.clone(), begin, end),
                    false => ContentReader::new(content.clone(), begin, end),
                }))
            }
        }
    }

    /// Returns the content of a stream. The caller must compare it with the footer.
    fn stream(&self) -> io::Result<Box<dyn Read + Send>> {
        let Layout::Stream(chunks_begin) = self.layout else {
            return Err(io::Error::other("its chunks are packed one by one"));
        };
        let path = self.path.as_path().into();
        let chunks = Chunks::new(path, self.file.clone(), chunks_begin);
        let packed = ChunkReader { chunks, taken: 0 };
        Ok(if self.header.packing == PACKING_PLAIN {
            Box::new(packed)
        } else {
            Box::new(zstd::Decoder::with_buffer(packed)?)
        })
    }

    /// Returns the digest of the footer; `None` if the file is one stream.
    pub(crate) fn footer_digest(&self) -> Option<FooterDigest> {
        match &self.layout {
            Layout::Stream(_) => None,
            Layout::Chunks(content) => Some(content.index.footer_digest),
        }
    }

    /// Adds the file of which this one holds the changes.
    pub(crate) fn with_base(self, base: Self) -> Result<Self, StoreError> {
        let expected = match &self.layout {
            Layout::Stream(_) => None,
            Layout::Chunks(content) => content.index.base,
        };
        let found = base.footer_digest();
        if expected.is_none() || found != expected && !fault!(ChangesOfAnotherBase) {
            let text = |digest: Option<FooterDigest>| match digest {
                Some(digest) => format!("a footer with digest {digest:02x?}"),
                None => "no snapshot of changes".to_owned(),
            };
            let expected = format!("{}, the base of {}", text(expected), self.path.display());
            return Err(base.corrupt_content(expected, text(found)));
        }
        Ok(Self { base: Some(Box::new(base)), ..self })
    }

    /// Returns the file of which this one holds the changes.
    pub(crate) fn base(&self) -> Option<&Self> {
        self.base.as_deref()
    }

    /// Returns this file, its base, the base of that, and so on.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |file| file.base())
    }

    /// Returns what is needed to decode `blocks`.
    pub(crate) fn decoding(&self, how: DecodeHow, blocks: &Blocks<'_>) -> Rc<Decoding> {
        Decoding::new(how, self.links(), blocks.place().clone())
    }

    /// Returns the same for a model whose large collections decode their entries when these are
    /// touched, and tell `late` of failures. They keep the files open that long.
    pub(crate) fn decoding_on_demand(
        &self,
        late: Arc<dyn LateObserver>,
        blocks: &Blocks<'_>,
    ) -> Rc<Decoding> {
        Decoding::on_demand(self.links(), blocks.place().clone(), late)
    }

    /// Returns whether somebody but this still reads the file.
    pub(crate) fn is_shared(&self) -> bool {
        self.owners() > 1
    }

    fn links(&self) -> Vec<Link> {
        let links = self.chain().map_while(|file| match &file.layout {
            Layout::Stream(_) => None,
            Layout::Chunks(content) => {
                let extents = content.index.extents.clone();
                Some(Link::new(content.clone(), extents, file.scripts_begin()))
            }
        });
        links.collect()
    }

    /// Returns where the content and the appendix behind it end.
    pub(super) fn scripts_begin(&self) -> u64 {
        self.footer.raw_bytes.saturating_add(self.header.appendix_bytes)
    }

    /// Returns the first failure of a reader of this file, or of those that it rests on.
    pub(super) fn take_failure(&self) -> Option<StoreError> {
        self.chain().find_map(|file| match &file.layout {
            Layout::Stream(_) => None,
            Layout::Chunks(content) => content.failure.take(),
        })
    }

    /// Unpacks as `unpack`; then `take_appendix` must use all of the appendix behind the content,
    /// if there is one. The footer has no digest of the appendix; its owner must check it.
    pub(crate) fn unpack_with<R, A, E: From<StoreError>>(
        &self,
        take: impl FnOnce(&mut Blocks<'_>) -> Result<R, E>,
        take_appendix: impl FnOnce(&mut Blocks<'_>) -> Result<A, E>,
    ) -> Result<(R, A), E> {
        self.unpack_at(&Pace::full(), take, take_appendix)
    }

    /// Unpacks as [`unpack_with`](Self::unpack_with), at a pace that `take` and `take_appendix`
    /// also keep.
    pub(crate) fn unpack_at<R, A, E: From<StoreError>>(
        &self,
        pace: &Pace<'_>,
        take: impl FnOnce(&mut Blocks<'_>) -> Result<R, E>,
        take_appendix: impl FnOnce(&mut Blocks<'_>) -> Result<A, E>,
    ) -> Result<(R, A), E> {
        let (raw_bytes, appendix_bytes) = (self.footer.raw_bytes, self.header.appendix_bytes);
        match &self.layout {
            Layout::Chunks(content) => {
                let threads = !pace.gives_way();
                let inner = ChunkSource::new(content.clone(), raw_bytes, appendix_bytes, threads);
                let blocks = self.paced(inner, pace, &content.failure);
                let taken = self.take_both(blocks, take, take_appendix);
                self.take_failure().map_or(taken, |failure| Err(failure.into()))
            }
            Layout::Stream(_) => {
                let end = StreamEnd::default();
                let inner = StreamSource {
                    stream: self.stream().map_err(StoreError::io("unpack", &self.path))?,
                    shared: &end,
                    left: (raw_bytes, appendix_bytes),
                    block_bytes: if pace.gives_way() { TURN_BYTES } else { BLOCK_BYTES },
                    path: &self.path,
                    digest: Some(Box::default()),
                };
                let blocks = self.paced(inner, pace, &end.failure);
                let taken = self.take_both(blocks, take, take_appendix);
                if let Some(failure) = end.failure.take() {
                    return Err(failure.into());
                }
                let taken = taken?;
                self.check_stream_end(end)?;
                Ok(taken)
            }
        }
    }

    pub(super) fn paced<'a>(
        &'a self,
        inner: impl BlockSource + 'a,
        pace: &'a Pace<'a>,
        failure: &'a FirstFailure,
    ) -> Blocks<'a> {
        Blocks::new(Paced { inner, pace, failure, path: &self.path, block: Vec::new() })
    }

    fn take_both<R, A, E: From<StoreError>>(
        &self,
        mut blocks: Blocks<'_>,
        take: impl FnOnce(&mut Blocks<'_>) -> Result<R, E>,
        take_appendix: impl FnOnce(&mut Blocks<'_>) -> Result<A, E>,
    ) -> Result<(R, A), E> {
        let taken = take(&mut blocks)?;
        self.all_taken(&mut blocks)?;
        blocks.begin_appendix();
        let appendix = take_appendix(&mut blocks)?;
        self.all_taken(&mut blocks)?;
        Ok((taken, appendix))
    }

    fn check_stream_end(&self, end: StreamEnd) -> Result<(), StoreError> {
        if *lock(&end.is_more) {
            let bytes = self.footer.raw_bytes.saturating_add(self.header.appendix_bytes);
            let expected = format!("{bytes} bytes before packing");
            return Err(self.corrupt_content(expected, "more than that".to_owned()));
        }
        self.check_digest(lock(&end.digest).unwrap_or_default())
    }

    pub(super) fn all_taken(&self, blocks: &mut Blocks<'_>) -> Result<(), StoreError> {
        if blocks.current().is_empty() {
            return Ok(());
        }
        Err(self.undecodable("the decoder did not use all bytes of the content".to_owned()))
    }
}

fn skip(blocks: &mut Blocks<'_>) -> Result<(), StoreError> {
    blocks.skip();
    Ok(())
}

/// The chunks' bytes as one stream.
struct ChunkReader {
    chunks: Chunks,
    /// How many bytes of the current chunk were taken.
    taken: usize,
}

impl Read for ChunkReader {
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

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.chunks.current().len() {
            self.taken = 0;
            if self.chunks.next_chunk().map_err(io::Error::other)?.is_none() {
                return Ok(&[]);
            }
        }
        Ok(self.chunks.current().get(self.taken..).unwrap_or(&[]))
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount;
    }
}
