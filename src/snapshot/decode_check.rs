//! Decides which snapshots are decoded as a test before older data may be removed. Knows nothing of
//! how they are decoded.
//!
//! A type may encode what it cannot decode, or nest deeper than a stack allows. Then a snapshot is
//! intact but useless, and the database needs the commands behind an older one. So they are kept:
//! at any time, this process has decoded one of the listed snapshots, and the journal reaches back
//! to the oldest listed one.

/// How many times larger than the last decoded snapshot a snapshot must be to be decoded.
const GROWTH: u64 = 2;

/// The snapshots that this process has decoded.
pub(crate) struct DecodeCheck {
    sequences: Vec<u64>,
    /// The size of the last encoding that this process has both written and decoded.
    raw_bytes: Option<u64>,
}

impl DecodeCheck {
    /// Makes the record of decoded snapshots; `loaded` is the one that the open has decoded.
    pub(crate) fn new(loaded: u64) -> Self {
        Self { sequences: vec![loaded], raw_bytes: None }
    }

    /// Returns whether a snapshot must be decoded when those in `kept` stay listed. It must be if
    /// it is the first of a process, if it has grown much, or if the list would otherwise hold no
    /// decoded one.
    pub(crate) fn is_owed(&self, kept: &[u64], raw_bytes: u64) -> bool {
        let has_grown = |then: u64| raw_bytes >= then.saturating_mul(GROWTH);
        self.raw_bytes.is_none_or(has_grown)
            || !kept.iter().any(|sequence| self.sequences.contains(sequence))
    }

    /// Notes that a snapshot was decoded.
    pub(crate) fn note(&mut self, kept: &[u64], sequence: u64, raw_bytes: u64) {
        self.sequences.retain(|decoded| kept.contains(decoded));
        self.sequences.push(sequence);
        self.raw_bytes = Some(raw_bytes);
    }

    /// Notes that the changes since snapshot `base` were decoded. That counts only if what they
    /// rest on was decoded, too.
    pub(crate) fn note_changes(&mut self, kept: &[u64], base: u64, sequence: u64) {
        if self.sequences.contains(&base) {
            self.sequences.retain(|decoded| kept.contains(decoded));
            self.sequences.push(sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes snapshots of one size each. Returns which of them were decoded.
    fn decoded(keep: usize, raw_bytes: &[u64]) -> Vec<u64> {
        let (mut readable, mut listed, mut decoded) = (DecodeCheck::new(0), vec![0], Vec::new());
        for (sequence, &raw_bytes) in (1..).zip(raw_bytes) {
            let kept = &listed[listed.len().saturating_sub(keep - 1)..];
            if readable.is_owed(kept, raw_bytes) {
                readable.note(kept, sequence, raw_bytes);
                decoded.push(sequence);
            }
            listed = [kept, &[sequence]].concat();
            let known = listed.iter().any(|listed| *listed == 0 || decoded.contains(listed));
            assert!(known, "none of {listed:?} was decoded");
        }
        decoded
    }

    #[test]
    fn one_of_the_listed_was_always_decoded() {
        assert_eq!(decoded(2, &[10; 7]), [1, 3, 5, 7]);
        assert_eq!(decoded(1, &[10; 3]), [1, 2, 3]);
        assert_eq!(decoded(4, &[10; 10]), [1, 5, 9]);
    }

    /// Four of five rest on the one before.
    #[test]
    fn one_of_the_listed_was_decoded_with_all_that_it_rests_on() {
        for keep in 1..4 {
            let mut readable = DecodeCheck::new(0);
            // Those that were decoded, with all that they rest on.
            let (mut decoded, mut listed) = (vec![0], vec![0_u64]);
            for sequence in 1..60_u64 {
                let base = (!sequence.is_multiple_of(5)).then_some(sequence - 1);
                let base = base.filter(|&base| base > 0);
                listed.retain(|&other| Some(other) != base);
                let kept = listed[listed.len().saturating_sub(keep - 1)..].to_vec();
                if readable.is_owed(&kept, 10) {
                    match base {
                        None => readable.note(&kept, sequence, 10),
                        Some(base) => readable.note_changes(&kept, base, sequence),
                    }
                    if base.is_none_or(|base| decoded.contains(&base)) {
                        decoded.push(sequence);
                    }
                }
                listed = [&kept[..], &[sequence]].concat();
                assert!(listed.iter().any(|it| decoded.contains(it)), "{listed:?} of {keep}");
            }
        }
    }

    #[test]
    fn what_has_grown_is_decoded() {
        assert_eq!(decoded(100, &[10, 19, 20, 39, 41, 5, 9]), [1, 3, 5]);
    }
}
