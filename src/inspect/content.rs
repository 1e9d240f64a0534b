//! Owns the model of a snapshot as JSON, without the model's type. Knows nothing of the JSON.

use std::io::Write;
use std::time::SystemTime;

use super::found::SnapshotFile;
use super::inspection::Inspection;
use crate::codec::{DecodeHow, while_decoding};
use crate::error::Error;
use crate::files::{PackedFile, SNAPSHOT_MAGIC, StoreError};
use crate::schema::{JsonError, write_stored};

impl Inspection {
    /// Returns the newest undamaged snapshot that is not behind this sequence and this time, listed
    /// or archived; `None` if there is none.
    #[must_use]
    pub fn snapshot_before(
        &self,
        sequence: Option<u64>,
        time: Option<SystemTime>,
    ) -> Option<&SnapshotFile> {
        let fits = |it: &&SnapshotFile| {
            it.problem.is_none()
                && sequence.is_none_or(|sequence| it.sequence <= sequence)
                && time.is_none_or(|time| it.time.is_some_and(|made| made <= time))
        };
        self.snapshots().iter().filter(fits).max_by_key(|it| it.sequence)
    }

    /// Writes the model of a snapshot as JSON, or the part of it to which `path` leads: names of
    /// fields and variants, keys of maps, and numbers of elements, counted from 0. Returns `false`
    /// if there is no such part. The snapshot is read piece by piece: however large it is, this
    /// needs little memory.
    ///
    /// The JSON is that of [`Database::export_json`](crate::Database::export_json), except that a
    /// number which JSON does not have is a text, a map whose keys JSON does not have is an array of
    /// pairs, and a type with a form of its own for people is shown as it is stored: an `IpAddr` is
    /// bytes. A field with `#[serde(alias)]` beside it has its number as its name.
    ///
    /// # Errors
    /// [`Error::Undecodable`] if the directory does not say what the model's type is. Other errors
    /// if a file is damaged or missing, or the JSON cannot be written. A part of the JSON may have
    /// been written then.
    pub fn write_model(
        &self,
        snapshot: &SnapshotFile,
        path: &[String],
        writer: &mut impl Write,
    ) -> Result<bool, Error> {
        let files = self.known().history_files();
        let open = PackedFile::open_beside_others;
        let file = open(&*files.storage, &snapshot.path, SNAPSHOT_MAGIC)?;
        files.check_identity(&snapshot.path, &file.header)?;
        let file = files.with_bases(file, open)?;
        let undecodable = |reason: String| file.undecodable(reason).into();
        let schemas = self.types().schemas(file.header.schemas).map_err(undecodable)?;
        let schema = &schemas.model.schema;
        if let Some(reason) = schema.why_opaque().filter(|_| path.is_empty()) {
            return Err(undecodable(format!(
                "the schema of its model does not say all of it ({reason}). Give it by hand with \
                 Builder::describe, or use the program's own Database::export_json"
            )));
        }
        let write = |blocks: &mut crate::codec::Blocks<'_>| {
            let decoding = file.decoding(DecodeHow::OneThread, blocks);
            let written =
                while_decoding(Some(&decoding), || write_stored(schema, path, blocks, writer));
            match written? {
                found if path.is_empty() => {
                    decoding.check_end().map_err(JsonError::Unfit)?;
                    Ok(found)
                }
                found => {
                    blocks.skip(); // what is behind it is of no interest
                    Ok(found)
                }
            }
        };
        let written = file.unpack_with(write, |appendix| {
            appendix.skip();
            Ok::<_, Shown>(())
        });
        match written {
            Ok((found, ())) => Ok(found),
            Err(Shown::Store(error)) => Err(error.into()),
            Err(Shown::Json(JsonError::Io(source))) => {
                let path = snapshot.path.clone();
                Err(Error::Io { action: "write the JSON of", path, source })
            }
            Err(Shown::Json(error)) => Err(file.undecodable(error.to_string()).into()),
        }
    }
}

/// Why a model was not written.
enum Shown {
    Store(StoreError),
    Json(JsonError),
}

impl From<StoreError> for Shown {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<JsonError> for Shown {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}
