//! Owns whether a snapshot was written with the type that the model has now. Knows nothing of what
//! a shape is.

use crate::error::Error;
use crate::files::{FileHeader, PackedFile};
use crate::model::Model;
use crate::schema::described;

/// Checks that the model's type is still the one with which the snapshot was written. Otherwise the
/// snapshot may be misread. A snapshot of an earlier build does not say this.
pub(super) fn check_shape<M: Model>(file: &PackedFile) -> Result<(), Error> {
    let FileHeader { model_name, model_version, shape, .. } = &file.header;
    if shape.is_empty() {
        return Ok(());
    }
    match described::<M>().shape().difference_to(shape) {
        None => Ok(()),
        Some(reason) => Err(Error::ModelChanged {
            path: file.path.clone(),
            model: model_name.clone(),
            version: *model_version,
            reason,
        }),
    }
}
