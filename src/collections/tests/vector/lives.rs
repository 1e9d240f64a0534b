//! Random lives of families of vectors: insertions and removals anywhere, cuts, clones, forks of
//! forks, drops in any order and on other threads, always compared with a `Vec`.

use super::*;
use crate::collections::shape::LEAF_ENTRIES;
use crate::collections::tests::cold;
use crate::collections::tests::content::Aligned;

type Oracle = Vec<u64>;

struct Life<T> {
    random: Random,
    family: Vec<(Vector<T>, Oracle)>,
    alive: Alive,
    /// Longer vectors are cut.
    longest: u64,
}

impl<T: Content> Life<T> {
    /// Begins with a vector that is loaded on demand, if it `is_cold`.
    fn begin(seed: u64, is_cold: bool) -> Self {
        let mut random = Random(seed);
        let longest = 1 + random.below(if seed.is_multiple_of(3) { 3000 } else { 200 });
        let mut life = Self { random, family: Vec::new(), alive: Alive::default(), longest };
        let first = life.numbers(longest);
        let part_entries = 1 + (seed % 37) as usize;
        let cold = is_cold.then(|| cold::vector(&first, part_entries, &life.alive)).flatten();
        life.family.push((cold.unwrap_or_else(|| life.vector(&first)), first));
        life
    }

    fn number(&mut self) -> u64 {
        T::of(self.random.below(1 << 40), &Alive::default()).number()
    }

    /// Up to `most` numbers.
    fn numbers(&mut self, most: u64) -> Oracle {
        (0..self.random.below(most + 1)).map(|_| self.number()).collect()
    }

    fn vector(&self, numbers: &[u64]) -> Vector<T> {
        numbers.iter().map(|&number| T::of(number, &self.alive)).collect()
    }

    /// An index, more often than not at one of the ends. May be the length if it `may_be_end`.
    fn index(&mut self, len: usize, may_be_end: bool) -> Option<usize> {
        let last = if may_be_end { len } else { len.checked_sub(1)? };
        Some(match self.random.below(6) {
            0 => 0,
            1 => last,
            2 => last / LEAF_ENTRIES * LEAF_ENTRIES,
            _ => self.random.below(last as u64 + 1) as usize,
        })
    }

    fn audit(&self) {
        assert_sound(&self.family.iter().map(|(vector, _)| vector).collect::<Vec<_>>());
    }

    fn step(&mut self) {
        let which = self.random.below(self.family.len() as u64) as usize;
        match self.random.below(100) {
            0..60 => {
                for _ in 0..1 + self.random.below(40) {
                    self.change(which);
                }
            }
            60..65 => self.change_much(which),
            65..82 if self.family.len() < 16 => {
                let (vector, oracle) = &self.family[which];
                self.family.push((vector.clone(), oracle.clone()));
            }
            82..94 if self.family.len() > 1 => {
                let (vector, oracle) = self.family.swap_remove(which);
                if self.random.below(3) == 0 {
                    let element = T::of(4, &self.alive);
                    let elsewhere = move || {
                        assert_equal(&vector, &oracle);
                        let mut fork = vector.clone();
                        drop(vector);
                        fork.insert(fork.len() / 2, element);
                    };
                    std::thread::spawn(elsewhere).join().unwrap();
                }
            }
            _ => {
                let (vector, oracle) = &self.family[which];
                assert_equal(vector, oracle);
                let len = oracle.len() as u64 + 1;
                let bounds = [self.random.below(len), self.random.below(len)];
                let (from, to) =
                    (bounds[0].min(bounds[1]) as usize, bounds[0].max(bounds[1]) as usize);
                assert_range(vector, oracle, from, to);
            }
        }
    }

    fn change(&mut self, which: usize) {
        let number = self.number();
        let element = T::of(number, &self.alive);
        let len = self.family[which].1.len();
        let gap = self.index(len, true).unwrap();
        let place = self.index(len, false);
        let (vector, oracle) = &mut self.family[which];
        match (self.random.below(16), place) {
            (0..4, _) => {
                vector.insert(gap, element);
                oracle.insert(gap, number);
            }
            (4, _) => {
                vector.push_front(element);
                oracle.insert(0, number);
            }
            (5, _) => {
                vector.push_back(element);
                oracle.push(number);
            }
            (6..9, Some(place)) => assert_eq!(vector.remove(place).number(), oracle.remove(place)),
            (9, _) => {
                let (front, first) = (vector.pop_front(), oracle.first().copied());
                assert_eq!(front.map(|it| it.number()), first);
                oracle.drain(..usize::from(first.is_some()));
            }
            (10, _) => assert_eq!(vector.pop_back().map(|it| it.number()), oracle.pop()),
            (11, Some(place)) => {
                vector.set(place, element);
                oracle[place] = number;
            }
            (12, Some(place)) => {
                assert_eq!(vector.replace(place, element).number(), oracle[place]);
                oracle[place] = number;
            }
            (13, Some(place)) => {
                vector[place] = element;
                oracle[place] = number;
            }
            (14, Some(place)) => {
                let other = gap.min(len - 1);
                vector.swap(place, other);
                oracle.swap(place, other);
            }
            _ => {
                assert!(vector.get_mut(len).is_none());
                assert_eq!(vector.last_mut().map(|it| it.number()), oracle.last().copied());
                assert_eq!(vector.first_mut().map(|it| it.number()), oracle.first().copied());
                assert_eq!(vector.get(gap).map(T::number), oracle.get(gap).copied());
            }
        }
    }

    /// A change that concerns much of the vector.
    fn change_much(&mut self, which: usize) {
        let most = if self.random.below(3) == 0 { 1500 } else { 100 };
        let more = self.numbers(most);
        let new = self.vector(&more);
        let cut = self.index(self.family[which].1.len(), true).unwrap();
        let other = self.random.below(self.family.len() as u64) as usize;
        let mut theirs = self.family[other].clone();
        let longest = self.longest as usize;
        let (vector, oracle) = &mut self.family[which];
        match self.random.below(8) {
            0 => {
                vector.truncate(cut);
                oracle.truncate(cut);
            }
            1 => {
                let (tail, expected) = (vector.split_off(cut), oracle.split_off(cut));
                self.family.push((tail, expected));
            }
            2 => {
                vector.extend(new);
                oracle.extend(more);
            }
            3 => {
                vector.append(&mut theirs.0);
                oracle.append(&mut theirs.1);
                assert!(theirs.0.is_empty());
            }
            4 => {
                vector.retain(|element| element.number() % 3 != 0);
                oracle.retain(|number| number % 3 != 0);
            }
            5 => {
                for (element, number) in vector.iter_mut().zip(oracle.iter_mut()).rev() {
                    *element = T::of(*number / 2, &self.alive);
                    *number = element.number();
                }
            }
            6 => {
                let (mut elements, mut numbers) = (vector.clone().into_iter(), oracle.clone());
                let from_back = |it: &mut Vec<u64>| it.pop();
                for _ in 0..10.min(oracle.len()) {
                    assert_eq!(elements.next_back().map(|it| it.number()), from_back(&mut numbers));
                }
                assert!(elements.map(|it| it.number()).eq(numbers));
            }
            _ => {
                vector.clear();
                oracle.clear();
            }
        }
        let (vector, oracle) = &mut self.family[which];
        vector.truncate(longest);
        oracle.truncate(longest);
    }

    fn run(mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            self.audit();
        }
        while !self.family.is_empty() {
            let which = self.random.below(self.family.len() as u64) as usize;
            let (vector, oracle) = self.family.swap_remove(which);
            assert_equal(&vector, &oracle);
            drop(vector);
            self.audit();
        }
        assert_eq!(self.alive.load(SeqCst), 0, "contents that were never dropped");
    }
}

fn assert_equal<T: Content>(vector: &Vector<T>, oracle: &[u64]) {
    assert_eq!(vector.len(), oracle.len());
    assert!(vector.iter().map(T::number).eq(oracle.iter().copied()));
    assert!(vector.iter().rev().map(T::number).eq(oracle.iter().rev().copied()));
    for (index, element) in vector.iter().enumerate() {
        assert!(std::ptr::eq(&raw const vector[index], element));
    }
    assert_eq!(vector.first().map(T::number), oracle.first().copied());
    assert_eq!(vector.back().map(T::number), oracle.last().copied());
    assert!(vector.get(oracle.len()).is_none());
}

fn assert_range<T: Content>(vector: &Vector<T>, oracle: &[u64], from: usize, to: usize) {
    let expected = &oracle[from..to];
    assert!(vector.range(from..to).map(T::number).eq(expected.iter().copied()));
    assert!(vector.range(from..to).rev().map(T::number).eq(expected.iter().rev().copied()));
    let mut both_ends = vector.range(from..);
    let half = both_ends.len() / 2;
    let (front, back) = (both_ends.clone().take(half), both_ends.clone().rev().take(half));
    assert!(front.map(T::number).eq(oracle[from..].iter().take(half).copied()));
    assert!(back.map(T::number).eq(oracle[from..].iter().rev().take(half).copied()));
    for skipped in [0, 1, half] {
        let (mut elements, mut numbers) = (both_ends.clone(), oracle[from..].iter());
        let next = elements.nth(skipped).map(T::number);
        assert_eq!(next, numbers.nth(skipped).copied());
        assert!(elements.map(T::number).eq(numbers.copied()));
    }
    assert_eq!(both_ends.by_ref().count(), oracle.len() - from);
    assert_eq!(both_ends.size_hint(), (0, Some(0)));
    assert_eq!((both_ends.next(), both_ends.next_back()), (None, None));
}

fn lives_of_all_contents(seeds: std::ops::Range<u64>, steps: usize) {
    for (seed, is_cold) in seeds.flat_map(|seed| [(seed, false), (seed, true)]) {
        Life::<u64>::begin(seed, is_cold).run(steps);
        Life::<[u64; 13]>::begin(seed, is_cold).run(steps);
        Life::<Counted>::begin(seed, is_cold).run(steps);
        Life::<u8>::begin(seed, is_cold).run(steps);
        Life::<String>::begin(seed, is_cold).run(steps);
        Life::<()>::begin(seed, is_cold).run(steps);
        Life::<Aligned>::begin(seed, is_cold).run(steps);
    }
}

#[test]
fn lives_are_those_of_a_vec() {
    lives_of_all_contents(0..6, 60);
}

#[test]
#[ignore = "about five minutes with --release"]
fn many_lives_are_those_of_a_vec() {
    lives_of_all_contents(100..600, 150);
}
