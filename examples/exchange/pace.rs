//! Sends messages at the pace of their own times.

use std::time::{Duration, Instant};

/// Knows when the next message is due.
#[derive(Default)]
pub struct Pace {
    /// The instant at which this run took its first message, and that message's time.
    first: Option<(Instant, u64)>,
}

impl Pace {
    /// Returns how long it takes until a message with this time, in nanoseconds, is due.
    pub fn until(&mut self, time: u64) -> Duration {
        let (started, first) = *self.first.get_or_insert_with(|| (Instant::now(), time));
        // A message with an earlier time than the first one is due at once.
        let due = Duration::from_nanos(time.saturating_sub(first));
        due.saturating_sub(started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_and_the_past_are_due_at_once_and_the_future_later() {
        let mut pace = Pace::default();
        assert_eq!(pace.until(5_000), Duration::ZERO);
        assert_eq!(pace.until(4_000), Duration::ZERO);
        let hour = 3_600_000_000_000;
        assert!(pace.until(hour) > Duration::from_secs(3_000));
    }
}
