//! Owns how the entries of a collection are divided into slices that can be decoded alone, long
//! after the open. Knows nothing of what the entries are, and of who decodes them.
//!
//! A slice begins with an entry whose key is known without decoding anything: the first one of a
//! part. In a snapshot of changes that may be a part of any snapshot of the chain, if this entry is
//! still there.

use super::script::Run;

/// Smaller slices that follow each other become one.
const SMALL_SLICE_ENTRIES: u64 = 64;

/// Consecutive entries of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) entries: u64,
    pub(crate) begin: SliceBegin,
    /// The first key; `None` if it is not known.
    pub(super) key: Option<KeyPlace>,
}

/// Where a slice begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SliceBegin {
    /// It is this part.
    Part(usize),
    /// It begins in this run, behind so many of its entries.
    Run { run: usize, skipped: u64 },
}

/// The number of a part, and that of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyPlace {
    pub(super) source: usize,
    pub(super) part: usize,
}

/// All slices of a collection.
pub(crate) enum Slices {
    /// Each of so many parts is one.
    Parts(usize),
    Others(Vec<Slice>),
}

impl Slices {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Parts(parts) => *parts,
            Self::Others(slices) => slices.len(),
        }
    }
}

/// Returns the slice that is one part.
pub(super) fn of_part(part: usize, entries: u64) -> Slice {
    let key = Some(KeyPlace { source: 0, part });
    Slice { entries, begin: SliceBegin::Part(part), key }
}

/// Returns the slices of a collection that consists of these runs. `first_entries` has, for each
/// source, the number of the first entry of each part.
pub(super) fn of_runs(runs: &[Run], first_entries: &[Vec<u64>]) -> Option<Vec<Slice>> {
    let mut slices: Vec<Slice> = Vec::new();
    let mut add = |slice: Slice| match slices.last_mut() {
        Some(last)
            if slice.key.is_none() || last.entries + slice.entries <= SMALL_SLICE_ENTRIES =>
        {
            last.entries += slice.entries;
        }
        _ => slices.push(slice),
    };
    // The runs of one source are in the order of its entries, so each search goes on from the last.
    let mut places = vec![0; first_entries.len()];
    for (number, run) in runs.iter().enumerate() {
        let source = usize::try_from(run.source).ok()?;
        let parts = first_entries.get(source)?;
        let place = places.get_mut(source)?;
        let end = run.first.checked_add(run.entries)?;
        let begin = |skipped| SliceBegin::Run { run: number, skipped };
        let behind = parts.get(*place..).unwrap_or(&[]);
        let mut part = *place + behind.iter().take_while(|&&first| first < run.first).count();
        let first_part = parts.get(part).copied().unwrap_or(u64::MAX);
        if first_part > run.first {
            let entries = first_part.min(end) - run.first;
            add(Slice { entries, begin: begin(0), key: None });
        }
        while let Some(&first) = parts.get(part).filter(|&&first| first < end) {
            let next = parts.get(part + 1).copied().unwrap_or(u64::MAX).min(end);
            let key = Some(KeyPlace { source, part });
            add(Slice { entries: next - first, begin: begin(first - run.first), key });
            part += 1;
        }
        *place = part;
    }
    Some(slices)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(source: u32, first: u64, entries: u64) -> Run {
        Run { source, first, entries }
    }

    #[test]
    fn a_slice_begins_where_a_part_begins_and_all_entries_are_in_one() {
        let parts = [vec![0, 100, 200], vec![0, 500]];
        let runs = [
            run(0, 10, 80),   // no part begins here, but it is the first
            run(1, 490, 110), // the second part of the source begins after ten entries
            run(0, 100, 150),
            run(1, 600, 1),
        ];
        let slices = of_runs(&runs, &parts).unwrap();
        let key = |source, part| Some(KeyPlace { source, part });
        let begin = |run, skipped| SliceBegin::Run { run, skipped };
        let expected = [
            Slice { entries: 90, begin: begin(0, 0), key: None },
            Slice { entries: 100, begin: begin(1, 10), key: key(1, 1) },
            Slice { entries: 100, begin: begin(2, 0), key: key(0, 1) },
            Slice { entries: 51, begin: begin(2, 100), key: key(0, 2) },
        ];
        assert_eq!(slices, expected);
        assert_eq!(of_runs(&[run(2, 0, 1)], &parts), None);
    }

    #[test]
    fn small_slices_become_one() {
        let parts = [vec![0, 10, 20, 80]];
        let slices = of_runs(&[run(0, 0, 90)], &parts).unwrap();
        let entries: Vec<_> = slices.iter().map(|slice| slice.entries).collect();
        assert_eq!(entries, [20, 60, 10]);
    }
}
