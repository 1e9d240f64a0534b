//! A generated order flow with the same properties as the real one, so that a fresh clone needs no
//! file.
//!
//! The same seed always gives the same messages. A run that was stopped generates them again, up to
//! the place where it continues.

use crate::book::{Order, Side};
use crate::feed::{Action, Message};

const MESSAGES: u64 = 200_000;
const SEED: u64 = 0x000A_AB1E;
/// The stream begins at half past nine, like the exchange.
const OPENING: u64 = 34_200 * 1_000_000_000;
/// The average time between two messages is half of this, so that they fill about an hour.
const LONGEST_PAUSE: u64 = 36_000_000;
/// Bids are below this price and asks above it, in steps of a cent, so the book never crosses.
const MIDDLE: i64 = 5_850_000;
const CENT: i64 = 100;
/// The approximate number of live orders.
const LIVE_ORDERS: usize = 1_000;

/// Steele, Lea and Flood's SplitMix64: small, fast, and good enough for a generated stream.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to `bound` - 1.
    fn below(&mut self, bound: u64) -> u64 {
        // Small numbers are slightly more likely, but this does not matter here.
        self.next() % bound
    }
}

/// An order that the generator has submitted and that is still live.
#[derive(Clone, Copy)]
struct Live {
    id: u64,
    remaining: u64,
}

/// Generates the stream, message by message.
pub struct Generator {
    random: SplitMix64,
    made: u64,
    time: u64,
    next_id: u64,
    live: Vec<Live>,
}

impl Default for Generator {
    fn default() -> Generator {
        let random = SplitMix64(SEED);
        Generator { random, made: 0, time: OPENING, next_id: 1, live: Vec::new() }
    }
}

impl Iterator for Generator {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        if self.made == MESSAGES {
            return None;
        }
        self.made += 1;
        self.time += 1 + self.random.below(LONGEST_PAUSE);
        let action = self.action();
        Some(Message { number: self.made, time: self.time, action })
    }
}

impl Generator {
    /// Returns how many messages were generated, and how many there will be.
    pub fn progress(&self) -> (u64, u64) {
        (self.made, MESSAGES)
    }

    fn action(&mut self) -> Action {
        let dice = self.random.below(100);
        let Some(chosen) = self.choose() else {
            return self.submit();
        };
        match dice {
            0 => self.mistake(chosen),
            1..=3 => Action::ExecuteHidden { price: MIDDLE, shares: self.shares() },
            4..=8 => {
                let (id, shares) = self.reduce(chosen);
                Action::ExecuteVisible { id, shares }
            }
            9 => {
                let (id, shares) = self.reduce(chosen);
                Action::Reduce { id, shares }
            }
            // The rest are submits and deletes, which keep the number of live orders near the usual
            // number.
            10..=52 => self.submit(),
            53..=57 if self.live.len() < LIVE_ORDERS => self.submit(),
            _ => Action::Delete { id: self.live.swap_remove(chosen).id },
        }
    }

    /// Returns the place of a random live order in the list.
    fn choose(&mut self) -> Option<usize> {
        let live = self.live.len() as u64;
        if live == 0 { None } else { Some(self.random.below(live) as usize) }
    }

    fn submit(&mut self) -> Action {
        let (id, remaining) = (self.next_id, self.shares());
        self.next_id += 1;
        self.live.push(Live { id, remaining });
        Action::Submit { id, order: self.order(remaining) }
    }

    fn order(&mut self, remaining: u64) -> Order {
        // The smaller of two random numbers, so that most orders are close to the best price.
        let steps = self.random.below(60).min(self.random.below(60)) as i64;
        let distance = (1 + steps) * CENT;
        if self.random.below(2) == 0 {
            Order { side: Side::Buy, price: MIDDLE - distance, remaining }
        } else {
            Order { side: Side::Sell, price: MIDDLE + distance, remaining }
        }
    }

    /// Returns a size: mostly round lots, as on the real exchange.
    fn shares(&mut self) -> u64 {
        match self.random.below(4) {
            0 => 1 + self.random.below(99),
            _ => 100 * (1 + self.random.below(3)),
        }
    }

    /// Takes some or all shares of a live order.
    fn reduce(&mut self, chosen: usize) -> (u64, u64) {
        let Live { id, remaining } = self.live[chosen];
        let shares = 1 + self.random.below(remaining);
        if shares == remaining {
            self.live.swap_remove(chosen);
        } else {
            self.live[chosen].remaining -= shares;
        }
        (id, shares)
    }

    /// Makes a message that the book must refuse, so the list of live orders does not change.
    fn mistake(&mut self, chosen: usize) -> Action {
        let Live { id, remaining } = self.live[chosen];
        // Ids are assigned in order, so this one is not live yet.
        let unknown = self.next_id;
        match self.random.below(6) {
            0 => {
                let shares = self.shares();
                Action::Submit { id, order: self.order(shares) }
            }
            1 => Action::Reduce { id, shares: remaining + 1 },
            2 => Action::ExecuteVisible { id, shares: remaining + 1 },
            3 => Action::Reduce { id: unknown, shares: 1 },
            4 => Action::ExecuteVisible { id: unknown, shares: 1 },
            _ => Action::Delete { id: unknown },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::{Book, Rejection};

    fn all() -> Vec<Message> {
        Generator::default().collect()
    }

    fn apply(book: &mut Book, message: &Message) -> Result<(), Rejection> {
        let (number, time) = (message.number, message.time);
        match message.action {
            Action::Submit { id, order } => book.submit(number, id, order),
            Action::Reduce { id, shares } => book.reduce(number, id, shares),
            Action::Delete { id } => book.delete(number, id),
            Action::ExecuteVisible { id, shares } => {
                book.execute_visible(number, time, id, shares).map(drop)
            }
            Action::ExecuteHidden { price, shares } => {
                book.execute_hidden(number, time, price, shares).map(drop)
            }
        }
    }

    #[test]
    fn the_stream_is_the_same_every_time_and_its_times_always_grow() {
        let messages = all();
        assert_eq!(messages.len() as u64, MESSAGES);
        assert!(messages == all());
        assert!(messages.windows(2).all(|pair| pair[0].time < pair[1].time));
    }

    #[test]
    fn the_book_takes_nearly_all_and_refuses_every_kind_of_mistake() {
        let mut book = Book::default();
        let mut refused = [0u64; 3];
        for message in &all() {
            match apply(&mut book, message) {
                Ok(()) => {}
                Err(Rejection::LiveId(_)) => refused[0] += 1,
                Err(Rejection::UnknownId(_)) => refused[1] += 1,
                Err(Rejection::TooManyShares { .. }) => refused[2] += 1,
                Err(other) => panic!("message {}: {other}", message.number),
            }
        }
        assert!(refused.iter().all(|&count| count > 100), "{refused:?}");
        assert_eq!(book.accepted() + refused.iter().sum::<u64>(), MESSAGES);
        assert!(book.accepted() > MESSAGES * 95 / 100);
        assert!(book.best_bid() < book.best_ask());
        assert!((500..2_000).contains(&book.live_orders()), "{}", book.live_orders());
    }
}
