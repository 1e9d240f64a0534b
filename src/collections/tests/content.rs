//! Owns the keys and values of the tests: of all kinds that the layout knows, counted while they
//! live, and with bombs in their `Clone`, `Drop` and `Ord`.

use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

/// How many counted contents live.
pub(super) type Alive = Arc<AtomicI64>;

/// A key or a value that stands for a number.
pub(super) trait Content: Clone + Ord + Debug + Send + Sync + 'static {
    fn of(number: u64, alive: &Alive) -> Self;
    fn number(&self) -> u64;
    /// The number that remains when it is written as this type.
    fn fit(number: u64) -> u64 {
        Self::of(number, &Alive::default()).number()
    }
}

macro_rules! plain_contents {
    ($($type:ty: |$number:ident| $of:expr, |$content:ident| $back:expr;)*) => {$(
        impl Content for $type {
            fn of($number: u64, _: &Alive) -> Self {
                $of
            }
            fn number(&self) -> u64 {
                let $content = self;
                $back
            }
        }
    )*};
}

plain_contents! {
    u64: |number| number, |it| *it;
    u8: |number| (number % 256) as u8, |it| u64::from(*it);
    // As large as a slot may be, with the strictest alignment.
    u128: |number| u128::from(number) << 64, |it| (*it >> 64) as u64;
    // Large, but owns nothing.
    [u64; 13]: |number| [number; 13], |it| it[12];
    (): |_number| (), |_it| 0;
    String: |number| number.to_string(), |it| it.parse().unwrap();
    Aligned: |number| Aligned((number % 256) as u8), |it| u64::from(it.0);
    AlignedNothing: |_number| AlignedNothing, |_it| 0;
    Fickle: |number| Fickle(number as u32), |it| u64::from(it.0);
}

/// Stricter in its alignment than a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(align(64))]
pub(super) struct Aligned(u8);

/// No bytes, but an alignment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(align(64))]
pub(super) struct AlignedNothing;

/// Lies in the slot itself, and its `Clone` and `Ord` may panic.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Fickle(u32);

impl Clone for Fickle {
    fn clone(&self) -> Self {
        Bomb::Clone.tick();
        Self(self.0)
    }
}

impl PartialOrd for Fickle {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Fickle {
    fn cmp(&self, other: &Self) -> Ordering {
        Bomb::Ord.tick();
        self.0.cmp(&other.0)
    }
}

/// Owns memory, and is counted while it lives.
pub(super) struct Counted {
    number: Box<u64>,
    alive: Alive,
}

impl Content for Counted {
    fn of(number: u64, alive: &Alive) -> Self {
        alive.fetch_add(1, SeqCst);
        Self { number: Box::new(number), alive: alive.clone() }
    }
    fn number(&self) -> u64 {
        *self.number
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Bomb::Clone.tick();
        Self::of(*self.number, &self.alive)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, SeqCst);
        Bomb::Drop.tick();
    }
}

impl Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.number.fmt(f)
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Counted {}

impl std::hash::Hash for Counted {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Counted {
    fn cmp(&self, other: &Self) -> Ordering {
        Bomb::Ord.tick();
        self.number.cmp(&other.number)
    }
}

/// A call of a user's code that panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bomb {
    Clone,
    Drop,
    Ord,
}

thread_local! {
    /// The kind of call that panics, after so many calls.
    static ARMED: Cell<Option<(Bomb, u64)>> = const { Cell::new(None) };
}

/// What a bomb panics with.
struct Explosion;

impl Bomb {
    pub(super) const ALL: [Self; 3] = [Self::Clone, Self::Drop, Self::Ord];

    fn tick(self) {
        match ARMED.get() {
            // A second panic would end the process.
            Some((bomb, 0)) if bomb == self && !std::thread::panicking() => {
                ARMED.set(None);
                // Calls no hook: a fuzzer's would end the process.
                resume_unwind(Box::new(Explosion));
            }
            Some((bomb, left)) if bomb == self => ARMED.set(Some((bomb, left.saturating_sub(1)))),
            _ => {}
        }
    }

    /// Does `work`, in which the call panics that follows `after` others of this kind on this
    /// thread. Returns `None` if it did.
    pub(super) fn explode<T>(self, after: u64, work: impl FnOnce() -> T) -> Option<T> {
        ARMED.set(Some((self, after)));
        let result = catch_unwind(AssertUnwindSafe(work));
        ARMED.set(None);
        match result {
            Ok(result) => Some(result),
            Err(payload) if payload.is::<Explosion>() => None,
            Err(payload) => resume_unwind(payload),
        }
    }
}
