//! Owns the proof that one program makes the same model from the stored commands each time. Knows
//! nothing of the stored snapshots' models.

use std::path::Path;
use std::sync::Arc;

use super::bisect::{Pair, Parting, first_parting};
use super::report::{Divergence, Evidence, HistoryReport};
use super::{Verification, apply, digest};
use crate::codec;
use crate::error::Error;
use crate::history::offline::OfflineHistory;
use crate::history::replica::Replica;
use crate::model::{Model, model_name};
use crate::panics::told_of_panics;
use crate::process::stack;
use crate::snapshot::encode_model;
use crate::storage::HeldDisk;

/// How often the two models are compared, evenly spread, in addition to the stored snapshots.
const COMPARISONS: u64 = 256;

const ENCODED_DIFFERENTLY: &str =
    "after decoding, it is encoded differently; does it contain a `HashMap`?";

/// Replays the stored history of the closed database in the directory `path` twice side by side,
/// and compares the encodings of the two models. After each comparison, one of them continues as
/// the model that its encoding decodes to.
pub(crate) fn replay_twice<M: Model>(path: &Path) -> Result<HistoryReport, Error> {
    let replay = || {
        let offline = OfflineHistory::open(Arc::new(HeldDisk::default()), path, model_name::<M>())?;
        let report = side_by_side::<M>(&Verification::of(&offline.files)?)?;
        offline.close()?;
        Ok(report)
    };
    stack::run(replay).map_err(Error::io("start a thread to read", path))?
}

fn side_by_side<M: Model>(verification: &Verification<'_>) -> Result<HistoryReport, Error> {
    let mut report = verification.report();
    let (mut one, mut other) = (verification.load::<M>()?, verification.load::<M>()?);
    // Both were decoded from one snapshot: if their encodings differ, no encoding can be trusted.
    let problem = match meet(&one, &mut other)? {
        Meeting::Equal => None,
        Meeting::Different => Some(ENCODED_DIFFERENTLY.to_owned()),
        Meeting::NotStorable(reason) => Some(reason),
    };
    if let Some(reason) = problem {
        report.divergence = Some(not_storable(verification, report.begins, reason)?);
        return Ok(report);
    }
    let mut equal = Pair::of(&one, &other);
    let newest = verification.files.newest;
    let interval = newest.saturating_sub(report.begins).div_ceil(COMPARISONS).max(1);
    let mut stored = verification.snapshots.iter().map(|(stored, _)| *stored).peekable();
    let mut commands = verification.commands()?;
    'replay: while let Some(command) = commands.next()? {
        for replica in [&mut one, &mut other] {
            if let Some(refusal) = apply(replica, &command)? {
                report.divergence = Some(verification.refused(equal.sequence, refusal)?);
                break 'replay;
            }
        }
        report.count(&command);
        let at = command.sequence;
        let is_stored = stored.next_if_eq(&at).is_some();
        if !is_stored && at - equal.sequence < interval && at != newest {
            continue;
        }
        report.snapshots_compared += u64::from(is_stored);
        match meet(&one, &mut other)? {
            Meeting::Equal => equal = Pair::of(&one, &other),
            Meeting::NotStorable(reason) => {
                report.divergence = Some(not_storable(verification, at, reason)?);
                break;
            }
            Meeting::Different => {
                report.divergence = Some(parted(verification, equal, at)?);
                break;
            }
        }
    }
    Ok(report)
}

fn not_storable(
    verification: &Verification<'_>,
    at: u64,
    reason: String,
) -> Result<Divergence, Error> {
    verification.divergence(Parting { after: at, at }, Evidence::NotStorable(reason))
}

/// The result of a comparison.
#[derive(PartialEq)]
enum Meeting {
    Equal,
    Different,
    /// The model's encoding does not decode to the same model, for this reason.
    NotStorable(String),
}

/// Compares two replicas. If they are equal, `other` continues as the model that its encoding
/// decodes to. So if a command depends on something that is not encoded, the two differ from then
/// on.
fn meet<M: Model>(one: &Replica<M>, other: &mut Replica<M>) -> Result<Meeting, Error> {
    let bytes = encoded(&one.replayed.model)?;
    let decoded = told_of_panics("Deserialize", || codec::decode_model::<M>(&bytes));
    let decoded = match decoded.and_then(|decoded| decoded) {
        Ok(decoded) => decoded,
        Err(reason) => return Ok(Meeting::NotStorable(reason)),
    };
    if encoded(&decoded)? != bytes {
        return Ok(Meeting::NotStorable(ENCODED_DIFFERENTLY.to_owned()));
    }
    if encoded(&other.replayed.model)? != bytes {
        return Ok(Meeting::Different);
    }
    other.replayed.model = decoded;
    Ok(Meeting::Equal)
}

fn encoded<M: Model>(model: &M) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    encode_model(model, &mut bytes)
        .map_err(|reason| Error::Encode { what: "the model".to_owned(), reason })?;
    Ok(bytes)
}

/// Searches for the command at which the replicas begin to differ. They are equal at `equal` and
/// differ at `at`.
fn parted<M: Model>(
    verification: &Verification<'_>,
    equal: Pair<M, M>,
    at: u64,
) -> Result<Divergence, Error> {
    let known = Parting { after: equal.sequence, at };
    let differ = |left: &M, right: &M| Ok(digest(left)? != digest(right)?);
    let found = first_parting(verification.files, equal, at, &differ)?;
    verification.divergence(found.unwrap_or(known), Evidence::NotDeterministic)
}
