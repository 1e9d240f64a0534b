//! Owns what makes the entries of a collection those of the same collection later: so many stay, so
//! many go, so many come. Knows nothing of what the entries are.
//!
//! A script counts entries and names none. So scripts can be put together without a look at the
//! entries: see [`Runs`].

use std::ops::Range;
use std::panic::resume_unwind;

use super::varint::{push, take};

/// One step: from where the last step has ended, so many entries stay, the next ones go, and then
/// new ones come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) keep: u64,
    pub(crate) drop: u64,
    pub(crate) insert: u64,
}

/// The steps from the first entry to the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    steps: Vec<Step>,
}

impl Script {
    pub(crate) fn keep(&mut self, entries: u64) {
        let step = self.step_that(|last| last.drop == 0 && last.insert == 0);
        step.keep += entries;
    }

    pub(crate) fn drop(&mut self, entries: u64) {
        // What goes behind what came: the order of the two makes no difference within a step.
        let step = self.step_that(|_| true);
        step.drop += entries;
    }

    pub(crate) fn insert(&mut self, entries: u64) {
        let step = self.step_that(|_| true);
        step.insert += entries;
    }

    /// Returns the last step if it fits, otherwise a new one.
    fn step_that(&mut self, fits: impl FnOnce(&Step) -> bool) -> &mut Step {
        if !self.steps.last().is_some_and(fits) {
            self.steps.push(Step::default());
        }
        self.steps.last_mut().expect("one was pushed if there was none")
    }

    /// Returns how many entries come.
    pub(crate) fn inserted(&self) -> u64 {
        self.steps.iter().fold(0, |sum, step| sum.saturating_add(step.insert))
    }

    /// Appends the script to `target`: each number takes one byte for seven bits.
    pub(crate) fn encode(&self, target: &mut Vec<u8>) {
        push(target, self.steps.len() as u64);
        for step in &self.steps {
            for number in [step.keep, step.drop, step.insert] {
                push(target, number);
            }
        }
    }

    /// Decodes a script at the beginning of `bytes`, and takes it from there; `None` if there is
    /// none.
    pub(crate) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let count = take(bytes)?;
        // Each step has three bytes or more, so this allocates no more than was read.
        if count > bytes.len() as u64 / 3 {
            return None;
        }
        let step = |bytes: &mut &[u8]| {
            Some(Step { keep: take(bytes)?, drop: take(bytes)?, insert: take(bytes)? })
        };
        let steps = (0..count).map(|_| step(bytes)).collect::<Option<Vec<_>>>()?;
        Some(Self { steps })
    }
}

/// Consecutive entries of one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The number of the first entry among those of the collection in that snapshot.
    pub(crate) first: u64,
    pub(crate) entries: u64,
    /// The snapshot: [`BEFORE`] for the collection as it was before, otherwise that of a change.
    pub(crate) source: u32,
}

/// The source of entries that were there before.
pub(crate) const BEFORE: u32 = 0;

/// Where the entries of a collection come from, in their order. Runs are made of one script, or of
/// several that follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    runs: Vec<Run>,
    /// How many entries there were before, and how many there are.
    before: u64,
    entries: u64,
}

impl Runs {
    /// Returns where the entries are after `script`, whose new entries are in `source`; `None` if
    /// there are too many to count.
    pub(crate) fn of(script: &Script, source: u32) -> Option<Self> {
        let mut made = Self { runs: Vec::with_capacity(2 * script.steps.len()), ..Self::default() };
        let mut inserted = 0_u64;
        for step in &script.steps {
            made.push(BEFORE, made.before, step.keep)?;
            made.before = made.before.checked_add(step.keep)?.checked_add(step.drop)?;
            made.push(source, inserted, step.insert)?;
            inserted = inserted.checked_add(step.insert)?;
        }
        Some(made)
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Returns how many entries there were before.
    pub(crate) fn before(&self) -> u64 {
        self.before
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    fn push(&mut self, source: u32, first: u64, entries: u64) -> Option<()> {
        self.entries = self.entries.checked_add(entries)?;
        match self.runs.last_mut() {
            Some(last) if last.source == source && last.first + last.entries == first => {
                last.entries += entries;
            }
            _ if entries > 0 => self.runs.push(Run { first, entries, source }),
            _ => {}
        }
        Some(())
    }

    /// Returns where the entries are after this and then `next`; `None` if `next` is about another
    /// number of entries.
    pub(crate) fn then(&self, next: &Self) -> Option<Self> {
        if next.before != self.entries {
            return None;
        }
        let capacity = self.runs.len() + next.runs.len();
        let mut made = Self { runs: Vec::with_capacity(capacity), before: self.before, entries: 0 };
        // The run that is looked at, and the number of its first entry among all.
        let (mut old, mut begin) = (self.runs.iter(), 0_u64);
        let mut current = old.next();
        for run in &next.runs {
            if run.source != BEFORE {
                made.push(run.source, run.first, run.entries)?;
                continue;
            }
            let (mut first, mut left) = (run.first, run.entries);
            while left > 0 {
                let entries = current?.entries;
                let skipped = first - begin;
                if skipped >= entries {
                    begin += entries;
                    current = old.next();
                    continue;
                }
                let now = left.min(entries - skipped);
                let run = current?;
                made.push(run.source, run.first + skipped, now)?;
                first += now;
                left -= now;
            }
        }
        Some(made)
    }

    /// Puts runs that follow each other together: each half of them, then the two halves, so that
    /// the long ones are gone through rarely. The runs with the numbers of `range` come from `make`.
    /// With `threads`, others may do a part of the work.
    pub(crate) fn all(
        range: Range<usize>,
        threads: usize,
        make: &(impl Fn(usize) -> Option<Self> + Sync),
    ) -> Option<Self> {
        if range.len() < 2 {
            return make(range.start);
        }
        let middle = range.start + range.len() / 2;
        let (first, second) = (range.start..middle, middle..range.end);
        let (others, own) = (threads / 2, threads - threads / 2);
        let (first, second) = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("prevalence-reader".to_owned());
            let begun = (others > 0).then(|| {
                let first = first.clone();
                thread.spawn_scoped(scope, move || Self::all(first, others, make))
            });
            match begun {
                Some(Ok(begun)) => {
                    let second = Self::all(second, own, make);
                    // A panic there is one of this code: it goes on here.
                    let first = begun.join();
                    (first.unwrap_or_else(|panic| resume_unwind(panic)), second)
                }
                // Without another thread, this one does more.
                _ => (Self::all(first, own, make), Self::all(second, own, make)),
            }
        });
        first?.then(&second?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An entry is known by its file and its number there.
    type Named = Vec<(u32, u64)>;

    fn named(runs: &Runs) -> Named {
        let run = |run: &Run| {
            let source = run.source;
            (run.first..run.first + run.entries).map(move |number| (source, number))
        };
        runs.runs().iter().flat_map(run).collect()
    }

    /// Applies random edits to `entries`, and writes the script.
    fn edited(entries: &mut Named, choices: &[(u8, u64)], source: u32) -> Script {
        let mut script = Script::default();
        let (mut old, mut made, mut inserted) = (entries.drain(..), Vec::new(), 0);
        for &(choice, count) in choices {
            match choice {
                0 => {
                    let kept: Vec<_> = old.by_ref().take(count as usize).collect();
                    script.keep(kept.len() as u64);
                    made.extend(kept);
                }
                1 => script.drop(old.by_ref().take(count as usize).count() as u64),
                _ => {
                    script.insert(count);
                    made.extend((inserted..inserted + count).map(|number| (source, number)));
                    inserted += count;
                }
            }
        }
        let kept: Vec<_> = old.collect();
        script.keep(kept.len() as u64);
        made.extend(kept);
        assert_eq!(script.inserted(), inserted);
        *entries = made;
        script
    }

    proptest! {
        #[test]
        fn scripts_in_a_row_give_what_each_gives(
            begin in 0..50_u64,
            rounds in proptest::collection::vec(
                proptest::collection::vec((0..3_u8, 0..20_u64), 0..12), 0..6),
        ) {
            let mut entries: Named = (0..begin).map(|number| (BEFORE, number)).collect();
            let mut list = Vec::new();
            for (source, choices) in (1..).zip(&rounds) {
                let script = edited(&mut entries, choices, source);
                let mut bytes = Vec::new();
                script.encode(&mut bytes);
                bytes.push(7);
                let mut rest = &bytes[..];
                prop_assert_eq!(Script::decode(&mut rest), Some(script.clone()));
                prop_assert_eq!(rest, [7]);
                list.push(Runs::of(&script, source).unwrap());
            }
            for threads in [1, 2, 3].into_iter().filter(|_| !list.is_empty()) {
                let runs = Runs::all(0..list.len(), threads, &|at| Some(list[at].clone())).unwrap();
                prop_assert_eq!(named(&runs), entries.clone());
                prop_assert_eq!((runs.before(), runs.entries()), (begin, entries.len() as u64));
            }
        }

        #[test]
        fn any_bytes_are_a_script_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut rest = &bytes[..];
            if let Some(script) = Script::decode(&mut rest) {
                // It may count what is not there.
                if let Some(runs) = Runs::of(&script, 1) {
                    let same = runs.then(&runs);
                    prop_assert!(same.is_none() || runs.before() == runs.entries());
                }
            }
        }
    }

    fn kept(entries: u64) -> Runs {
        let mut script = Script::default();
        script.keep(entries);
        Runs::of(&script, 1).unwrap()
    }

    #[test]
    fn runs_of_another_number_of_entries_do_not_follow() {
        for (entries, is_right) in [(8, false), (9, true), (10, false)] {
            assert_eq!(kept(9).then(&kept(entries)).is_some(), is_right, "{entries}");
        }
    }

    #[test]
    fn a_script_of_more_entries_than_can_be_counted_is_refused() {
        for (drop, insert) in [(1, 0), (0, 1)] {
            let mut script = Script::default();
            script.keep(u64::MAX);
            assert!(Runs::of(&script, 1).is_some());
            script.drop(drop);
            script.insert(insert);
            assert_eq!(Runs::of(&script, 1), None);
        }
    }
}
