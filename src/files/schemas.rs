//! Owns the files in which a database keeps the schemas of the releases that wrote into it. Knows
//! nothing of what a schema says.
//!
//! `schemas/DIGEST.json` is named by the digest of its content. A file never changes, and releases
//! with equal types share one. The headers of segments, snapshots and archives name theirs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory::{Directory, exists, kind};
use super::fields::position;
use super::store_error::StoreError;
use crate::schema::{LARGEST_SCHEMAS_BYTES, SchemasDigest};
use crate::storage::{EntryKind, Storage, read_up_to, replace_file};

pub(crate) const SCHEMAS_SUFFIX: &str = ".json";

/// Returns the path of the schemas with this digest.
pub(crate) fn schemas_path(schemas_directory: &Path, digest: SchemasDigest) -> PathBuf {
    schemas_directory.join(format!("{digest}{SCHEMAS_SUFFIX}"))
}

/// Makes sure that the schemas with this digest are there, and durable if this call wrote them.
/// Returns what was wrong with a file that it has replaced.
pub(crate) fn keep_schemas(
    storage: &dyn Storage,
    directory: &Directory,
    digest: SchemasDigest,
    text: &[u8],
) -> Result<Option<StoreError>, StoreError> {
    let path = schemas_path(&directory.schemas, digest);
    let damage = match read_schemas(storage, &directory.schemas, digest) {
        Ok(Some(_)) => return Ok(None),
        Ok(None) => None,
        Err(error) => Some(error),
    };
    directory.create_schemas(storage)?;
    replace_file(storage, &path, text).map_err(StoreError::io("write", &path))?;
    Ok(damage)
}

/// Reads the schemas with this digest; `None` if there is no such file.
pub(crate) fn read_schemas(
    storage: &dyn Storage,
    schemas_directory: &Path,
    digest: SchemasDigest,
) -> Result<Option<Vec<u8>>, StoreError> {
    let path = schemas_path(schemas_directory, digest);
    if digest.is_none() || !exists(storage, &path)? {
        return Ok(None);
    }
    let file = storage.open_to_read(&path).map_err(StoreError::io("read", &path))?;
    let length = usize::try_from(file.length()).unwrap_or(usize::MAX);
    if length > LARGEST_SCHEMAS_BYTES {
        let expected = format!("at most {LARGEST_SCHEMAS_BYTES} bytes");
        return Err(StoreError::corrupt(&path, 0, expected, format!("{length} bytes")));
    }
    let mut text = vec![0; length];
    let read = read_up_to(&*file, &mut text, 0).map_err(StoreError::io("read", &path))?;
    text.truncate(read);
    let found = SchemasDigest::of(&text);
    if found != digest {
        let expected = format!("{length} bytes with the digest in the file's name");
        let found = format!("{} bytes with digest {found}", position(read));
        return Err(StoreError::corrupt(&path, 0, expected, found));
    }
    Ok(Some(text))
}

/// Lists the files of schemas, by their digests. Files with other names are none.
pub(crate) fn list_schemas(
    storage: &dyn Storage,
    schemas_directory: &Path,
) -> Result<Vec<SchemasDigest>, StoreError> {
    if kind(storage, schemas_directory)? != Some(EntryKind::Directory) {
        return Ok(Vec::new());
    }
    let names =
        storage.list(schemas_directory).map_err(StoreError::io("list", schemas_directory))?;
    let digest = |name: &String| SchemasDigest::parse(name.strip_suffix(SCHEMAS_SUFFIX)?);
    let mut digests: Vec<_> = names.iter().filter_map(digest).collect();
    digests.sort_by_key(|digest| digest.0);
    Ok(digests)
}

/// Where the schemas of a database are.
#[derive(Clone)]
pub(crate) struct SchemaFiles {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: PathBuf,
}

impl SchemaFiles {
    /// Reads the schemas with this digest; `None` if there is no such file.
    pub(crate) fn read(&self, digest: SchemasDigest) -> Result<Option<Vec<u8>>, StoreError> {
        read_schemas(&*self.storage, &self.directory, digest)
    }
}
