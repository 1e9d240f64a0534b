//! Owns where the lines of an import come from. Knows nothing of what is in them.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::failure::Failure;
use crate::output::word;

/// How much is read at once.
const WINDOW_BYTES: usize = 1 << 16;

/// Lines to read.
pub struct Source {
    /// What the user is told that it is.
    pub name: String,
    /// As far as it is known.
    pub total_bytes: u64,
    pub reader: Box<dyn BufRead>,
}

impl Source {
    /// Opens a file, or the standard input for `-`.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            let name = "the standard input".to_owned();
            return Ok(Self { name, total_bytes: 0, reader: Box::new(io::stdin().lock()) });
        }
        let name = word(&path.display().to_string());
        let told = |error: io::Error| {
            let reason = format!("cannot read {name}: {error}. Nothing was sent");
            Failure::Incomplete(reason)
        };
        let about = std::fs::metadata(path).map_err(told)?;
        if about.is_dir() {
            let what = match path.join("MANIFEST").exists() || path.join("journal").exists() {
                true => format!(
                    "the directory of a database. Export it first: prevalence export {name} \
                     --output commands.ndjson"
                ),
                false => "a directory. Give it a file with lines of an export".to_owned(),
            };
            return Err(Failure::Incomplete(format!("{name} is {what}. Nothing was sent")));
        }
        let file = File::open(path).map_err(told)?;
        let reader = Box::new(BufReader::with_capacity(WINDOW_BYTES, file));
        Ok(Self { name, total_bytes: about.len(), reader })
    }
}
