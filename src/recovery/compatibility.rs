//! Owns the check whether a file belongs to this database, this model and this program's
//! vocabulary.

use std::path::Path;

use crate::error::Error;
use crate::files::{DatabaseId, FileHeader};
use crate::journal::SegmentIdentity;
use crate::model::{CommandTable, Model, model_name, same_name};
use crate::options::Events;
use crate::schema::SchemasDigest;

/// Returns what this program writes into the header of every file.
pub(crate) fn identity<M: Model>(
    database: DatabaseId,
    events: Events,
    schemas: SchemasDigest,
) -> SegmentIdentity {
    SegmentIdentity {
        database,
        model_name: model_name::<M>().to_owned(),
        model_version: M::VERSION,
        commands: CommandTable::<M>::names(),
        events: events.code(),
        schemas,
    }
}

/// Checks that a file belongs to this database and this model.
pub(crate) fn check_identity(
    path: &Path,
    header: &FileHeader,
    database: DatabaseId,
    model_name: &str,
) -> Result<(), Error> {
    if !same_name(&header.model_name, model_name) {
        return Err(Error::WrongModel {
            path: path.to_path_buf(),
            expected: model_name.to_owned(),
            found: header.model_name.clone(),
        });
    }
    if header.database != database {
        return Err(Error::ForeignFile {
            path: path.to_path_buf(),
            expected: database,
            found: header.database,
        });
    }
    Ok(())
}

/// Checks that no tag has changed its meaning. A tag that this program lacks matters only if a
/// record uses it.
pub(crate) fn check_tags<M: Model>(path: &Path, header: &FileHeader) -> Result<(), Error> {
    let table = CommandTable::<M>::new();
    for (tag, journaled) in &header.commands {
        if let Some(entry) = table.get(*tag)
            && !entry.is_called(journaled)
        {
            return Err(Error::RenumberedTag {
                path: path.to_path_buf(),
                tag: *tag,
                journaled: journaled.clone(),
                declared: entry.name().to_owned(),
            });
        }
    }
    Ok(())
}

/// Makes the error for a file that holds a command that this program lacks.
pub(crate) fn unknown_tag(path: &Path, header: &FileHeader, sequence: u64, tag: u16) -> Error {
    let name = header.commands.iter().find(|(known, _)| *known == tag);
    Error::UnknownTag {
        path: path.to_path_buf(),
        sequence,
        tag,
        command: name
            .map_or_else(|| "(the file does not name it)".to_owned(), |name| name.1.clone()),
    }
}
