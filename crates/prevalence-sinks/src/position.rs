//! Owns what a position is, and when a batch may follow it. Knows nothing of SQL.

use prevalence::{Model, Recorded, Source};

use crate::SinkError;

/// The row that a position is stored in.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) database: String,
    pub(crate) name: String,
}

impl Row {
    pub(crate) fn of(source: &Source) -> Self {
        Self { database: source.database.to_string(), name: source.name.clone() }
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn key(&self) -> [&str; 2] {
        [&self.database, &self.name]
    }

    /// Returns an error if the batch does not begin right behind the stored position.
    pub(crate) fn check(&self, place: &str, stored: i64, first: u64) -> Result<(), SinkError> {
        let stored = from_column(stored)?;
        if stored.checked_add(1) == Some(first) {
            return Ok(());
        }
        let (place, name) = (place.to_owned(), self.name.clone());
        Err(SinkError::Moved { place, name, stored, first })
    }

    pub(crate) fn gone(&self, place: &str) -> SinkError {
        SinkError::PositionGone { place: place.to_owned(), name: self.name.clone() }
    }
}

/// The first and the last command of a batch.
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Span {
    /// Returns nothing for an empty batch, and an error if a command is missing in it.
    pub(crate) fn of<M: Model>(batch: &[Recorded<M>]) -> Result<Option<Self>, SinkError> {
        Self::of_sequences(batch.iter().map(|recorded| recorded.sequence))
    }

    fn of_sequences(sequences: impl Iterator<Item = u64>) -> Result<Option<Self>, SinkError> {
        let mut span: Option<Self> = None;
        for found in sequences {
            let Some(span) = &mut span else {
                span = Some(Self { first: found, last: found });
                continue;
            };
            let expected = span.last.saturating_add(1);
            if found != expected {
                return Err(SinkError::Gap { expected, found });
            }
            span.last = found;
        }
        Ok(span)
    }
}

/// SQL has no unsigned integers.
pub(crate) fn to_column(sequence: u64) -> Result<i64, SinkError> {
    i64::try_from(sequence).map_err(|_| SinkError::OutOfRange { value: sequence.into() })
}

pub(crate) fn from_column(position: i64) -> Result<u64, SinkError> {
    u64::try_from(position).map_err(|_| SinkError::OutOfRange { value: position.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_is_a_position() {
        let most = u64::try_from(i64::MAX).unwrap();
        assert_eq!(to_column(most).unwrap(), i64::MAX);
        assert_eq!(from_column(i64::MAX).unwrap(), most);
        let error = to_column(most + 1).unwrap_err();
        assert!(matches!(error, SinkError::OutOfRange { value } if value == i128::from(most) + 1));
        let error = from_column(-1).unwrap_err();
        assert!(matches!(error, SinkError::OutOfRange { value: -1 }));
    }

    #[test]
    fn a_batch_follows_its_position() {
        let row = Row { database: String::new(), name: "totals".to_owned() };
        row.check("here", 4, 5).unwrap();
        for (stored, first) in [(4, 4), (4, 6), (i64::MAX, 0), (0, 0)] {
            let error = row.check("here", stored, first).unwrap_err();
            assert!(matches!(error, SinkError::Moved { .. }), "{stored} {first}");
        }
    }

    #[test]
    fn a_batch_has_no_gap() {
        let span = |sequences: &[u64]| Span::of_sequences(sequences.iter().copied());
        assert!(span(&[]).unwrap().is_none());
        let found = span(&[3, 4, 5]).unwrap().unwrap();
        assert_eq!((found.first, found.last), (3, 5));
        for wrong in [&[3, 5][..], &[3, 3], &[3, 2], &[u64::MAX, 0]] {
            assert!(matches!(span(wrong), Err(SinkError::Gap { .. })), "{wrong:?}");
        }
    }
}
