//! Owns the proof that one program makes the same of the stored commands each time. Knows nothing
//! of what was made of them once.

use std::path::Path;
use std::sync::Arc;

use super::bisect::{Pair, Parting, first_parting};
use super::report::{Divergence, Evidence, HistoryReport};
use super::{Ended, Verification, digest, pair, refusal};
use crate::codec;
use crate::error::Error;
use crate::history::offline::OfflineHistory;
use crate::history::replica::Replica;
use crate::model::{Model, model_name};
use crate::process::{stack, told_of_panics};
use crate::snapshot::encode_model;
use crate::storage::HeldDisk;

/// So often the two are compared, evenly spread, besides at stored snapshots.
const COMPARISONS: u64 = 256;

/// Replays the stored history of the closed database in the directory `path` twice side by side,
/// and compares the encodings of the two models. Where they are compared, one of them goes on as
/// what its encoding is decoded to.
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
    let mut meeting = meet(&one, &mut other)?;
    let mut equal = pair(&one, &other);
    let newest = verification.files.newest;
    let interval = newest.saturating_sub(report.begins).div_ceil(COMPARISONS).max(1);
    let mut stored = verification.snapshots.iter().map(|(stored, _)| *stored).peekable();
    let mut compared = 0;
    let mut ended = None;
    if meeting == Meeting::Equal {
        ended = verification.replay(&mut report, |file, sequence, record, _| {
            for replica in [&mut one, &mut other] {
                if let Some(refused) = refusal(replica.apply(file, record), file, record)? {
                    return Ok(Some(refused));
                }
            }
            let is_stored = stored.next_if_eq(&sequence).is_some();
            if !is_stored && sequence - equal.sequence < interval && sequence != newest {
                return Ok(None);
            }
            compared += u64::from(is_stored);
            meeting = meet(&one, &mut other)?;
            if meeting != Meeting::Equal {
                return Ok(Some(Ended::Differs(sequence)));
            }
            equal = pair(&one, &other);
            Ok(None)
        })?;
    }
    report.snapshots_compared = compared;
    report.divergence = match (meeting, ended) {
        (_, Some(Ended::Refused(culprit, reason))) => {
            Some(verification.refused(equal.sequence, culprit, reason)?)
        }
        (Meeting::NotStorable(reason), _) => {
            let at = report.sequence;
            let (after, evidence) = (at, Evidence::NotStorable(reason));
            Some(verification.divergence(Parting { after, at }, evidence)?)
        }
        (_, Some(Ended::Differs(at))) => Some(parted(verification, equal, at)?),
        (_, None) => None,
    };
    Ok(report)
}

/// What came of a comparison.
#[derive(PartialEq)]
enum Meeting {
    Equal,
    Different,
    NotStorable(String),
}

/// Compares two replicas. If they are equal, `other` goes on with what the encoding is decoded to, so
/// that what is not encoded is not the same in both.
fn meet<M: Model>(one: &Replica<M>, other: &mut Replica<M>) -> Result<Meeting, Error> {
    let bytes = encoded(&one.replayed.model)?;
    let decoded = told_of_panics("Deserialize", || codec::decode_model::<M>(&bytes));
    let decoded = match decoded.and_then(|decoded| decoded) {
        Ok(decoded) => decoded,
        Err(reason) => return Ok(Meeting::NotStorable(reason)),
    };
    if encoded(&decoded)? != bytes {
        let reason = "encoded again, it has another encoding; is there a `HashMap` in it?";
        return Ok(Meeting::NotStorable(reason.to_owned()));
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

/// Searches for the command at which two replays part that were equal at `equal` and not at `at`.
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
