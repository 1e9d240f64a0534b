//! The order book: the whole state of the exchange as a plain value, and the rules that change it.
//!
//! This file knows nothing of the database. Every rule checks first and changes afterwards, so a
//! refused message has changed nothing, although the database would roll back a change.

use prevalence::Model;
use prevalence::collections::{Map, Vector};
use serde::{Deserialize, Serialize};

use crate::trade::Trade;

/// The side of the book to which an order belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    Buy,
    Sell,
}

/// An order in the book. Prices are dollars times 10,000, as in the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub side: Side,
    pub price: i64,
    pub remaining: u64,
}

/// The sum of all orders of one side at one price.
///
/// It counts the orders as well as the shares, because a level ends with its last order, and an
/// order may have no shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Level {
    shares: u64,
    orders: u64,
}

/// The model. `Map` shares structure between clones, so a clone costs very little.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Book {
    orders: Map<u64, Order>,
    /// Sorted by price, so that the best price is the first or the last key and needs no search.
    bids: Map<i64, Level>,
    asks: Map<i64, Level>,
    visible_shares: u64,
    hidden_shares: u64,
    accepted: u64,
    /// The number of the last accepted message, counted from 1. The next run continues after it.
    last_message: u64,
    /// How many trades there were.
    trades: u64,
    /// The trades that somebody asked to be noted, in the order of the requests.
    audits: Vector<Trade>,
}

impl Model for Book {
    type Event = Trade;
    /// Version 1 did not count trades.
    const VERSION: u32 = 2;
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("order {0} is already in the book")]
    LiveId(u64),
    #[error("order {0} is not in the book")]
    UnknownId(u64),
    #[error("the message takes {asked} shares of order {id}, but it has only {remaining} left")]
    TooManyShares { id: u64, asked: u64, remaining: u64 },
    #[error("the total of shares would not fit in 64 bits")]
    Overflow,
    #[error("message {message} comes too late: message {last} was already taken")]
    OutOfTurn { message: u64, last: u64 },
}

/// The rules, one for each kind of message. `message` is the number of the message in the feed.
impl Book {
    /// Adds a new order to the book.
    pub fn submit(&mut self, message: u64, id: u64, order: Order) -> Result<(), Rejection> {
        self.check_turn(message)?;
        if self.orders.contains_key(&id) {
            return Err(Rejection::LiveId(id));
        }
        let shares = order.remaining;
        let visible = self.visible_shares.checked_add(shares);

        self.visible_shares = visible.ok_or(Rejection::Overflow)?;
        // No level can overflow, because it is a part of the total, which was just checked.
        let level = self.side_mut(order.side).entry(order.price).or_default();
        level.shares += shares;
        level.orders += 1;
        self.orders.insert(id, order);
        self.mark_taken(message);
        Ok(())
    }

    /// Takes cancelled shares from an order. At zero shares the order leaves the book.
    pub fn reduce(&mut self, message: u64, id: u64, shares: u64) -> Result<(), Rejection> {
        self.take(message, id, shares).map(drop)
    }

    /// Takes bought or sold shares from an order, as `reduce` does, and counts the trade.
    pub fn execute_visible(
        &mut self,
        message: u64,
        time: u64,
        id: u64,
        shares: u64,
    ) -> Result<Trade, Rejection> {
        let price = self.take(message, id, shares)?.price;
        Ok(self.trade(message, time, Some(id), price, shares))
    }

    /// Takes shares from an order, and returns what the order was before.
    fn take(&mut self, message: u64, id: u64, shares: u64) -> Result<Order, Rejection> {
        self.check_turn(message)?;
        let order = *self.orders.get(&id).ok_or(Rejection::UnknownId(id))?;
        let Some(left) = order.remaining.checked_sub(shares) else {
            let (asked, remaining) = (shares, order.remaining);
            return Err(Rejection::TooManyShares { id, asked, remaining });
        };

        if left == 0 {
            self.orders.remove(&id);
        } else {
            let mut reduced = order;
            reduced.remaining = left;
            self.orders.insert(id, reduced);
        }
        self.shrink_level(order, shares, left == 0);
        self.mark_taken(message);
        Ok(order)
    }

    /// Removes an order with all its shares from the book.
    pub fn delete(&mut self, message: u64, id: u64) -> Result<(), Rejection> {
        self.check_turn(message)?;
        let order = *self.orders.get(&id).ok_or(Rejection::UnknownId(id))?;

        self.orders.remove(&id);
        self.shrink_level(order, order.remaining, true);
        self.mark_taken(message);
        Ok(())
    }

    /// Records the trade of a hidden order. The book never showed that order, so no order changes.
    pub fn execute_hidden(
        &mut self,
        message: u64,
        time: u64,
        price: i64,
        shares: u64,
    ) -> Result<Trade, Rejection> {
        self.check_turn(message)?;
        let hidden = self.hidden_shares.checked_add(shares);

        self.hidden_shares = hidden.ok_or(Rejection::Overflow)?;
        self.mark_taken(message);
        Ok(self.trade(message, time, None, price, shares))
    }

    /// Notes a trade, as often as it is told: that each is told once is not the book's affair.
    pub fn audit(&mut self, trade: Trade) {
        self.audits.push_back(trade);
    }

    /// Checks that each message is taken once and in order, even if a restarted feed sends it
    /// again.
    fn check_turn(&self, message: u64) -> Result<(), Rejection> {
        let last = self.last_message;
        if message > last { Ok(()) } else { Err(Rejection::OutOfTurn { message, last }) }
    }

    fn mark_taken(&mut self, message: u64) {
        self.last_message = message;
        // It grows by at most one for each message number, so it cannot overflow before they do.
        self.accepted += 1;
    }

    fn trade(
        &mut self,
        message: u64,
        time: u64,
        order: Option<u64>,
        price: i64,
        shares: u64,
    ) -> Trade {
        // There are at most as many trades as messages.
        self.trades += 1;
        Trade { number: self.trades, message, time, order, price, shares }
    }

    /// Takes shares, and the order itself if it has `left` the book, out of the order's price
    /// level.
    fn shrink_level(&mut self, order: Order, shares: u64, left: bool) {
        // If these sums disagree with the orders, the book is wrong and not the message. This is a
        // bug and not a rejection, so it panics. The database catches the panic, which leaves no
        // trace in the model or the journal, and reports it.
        let broken = "every live order is counted in its level and in the totals";
        self.visible_shares = self.visible_shares.checked_sub(shares).expect(broken);
        let levels = self.side_mut(order.side);
        let level = levels.get_mut(&order.price).expect(broken);
        level.shares = level.shares.checked_sub(shares).expect(broken);
        if left {
            level.orders = level.orders.checked_sub(1).expect(broken);
            if level.orders == 0 {
                levels.remove(&order.price);
            }
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut Map<i64, Level> {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }
}

/// The values that can be read from the book.
impl Book {
    /// Returns the highest price that a buyer offers.
    pub fn best_bid(&self) -> Option<i64> {
        self.bids.last_key_value().map(|(price, _)| *price)
    }

    /// Returns the lowest price that a seller asks.
    pub fn best_ask(&self) -> Option<i64> {
        self.asks.first_key_value().map(|(price, _)| *price)
    }

    pub fn live_orders(&self) -> usize {
        self.orders.len()
    }

    pub fn visible_shares(&self) -> u64 {
        self.visible_shares
    }

    pub fn hidden_shares(&self) -> u64 {
        self.hidden_shares
    }

    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    pub fn last_message(&self) -> u64 {
        self.last_message
    }

    pub fn audits(&self) -> &Vector<Trade> {
        &self.audits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buy(price: i64, remaining: u64) -> Order {
        Order { side: Side::Buy, price, remaining }
    }

    fn sell(price: i64, remaining: u64) -> Order {
        Order { side: Side::Sell, price, remaining }
    }

    /// Asserts that a rule refuses for this reason and does not change the book.
    fn refuses<T: std::fmt::Debug + PartialEq>(
        book: &Book,
        why: Rejection,
        rule: impl FnOnce(&mut Book) -> Result<T, Rejection>,
    ) {
        let mut after = book.clone();
        assert_eq!(rule(&mut after), Err(why));
        assert_eq!(format!("{after:?}"), format!("{book:?}"));
    }

    fn levels(book: &Book) -> Vec<(i64, u64, u64)> {
        let all = book.bids.iter().chain(book.asks.iter());
        all.map(|(price, level)| (*price, level.shares, level.orders)).collect()
    }

    #[test]
    fn orders_at_one_price_share_a_level_and_the_best_prices_are_known() {
        let mut book = Book::default();
        assert_eq!((book.best_bid(), book.best_ask()), (None, None));
        book.submit(1, 10, buy(500, 7)).unwrap();
        book.submit(2, 11, buy(500, 5)).unwrap();
        book.submit(3, 12, buy(499, 1)).unwrap();
        book.submit(4, 13, sell(510, 2)).unwrap();
        book.submit(5, 14, sell(509, 3)).unwrap();
        assert_eq!((book.best_bid(), book.best_ask()), (Some(500), Some(509)));
        assert_eq!(levels(&book), [(499, 1, 1), (500, 12, 2), (509, 3, 1), (510, 2, 1)]);
        assert_eq!((book.live_orders(), book.visible_shares()), (5, 18));
    }

    #[test]
    fn a_submit_is_refused_while_its_id_is_live_and_welcome_afterwards() {
        let mut book = Book::default();
        book.submit(1, 10, buy(500, 7)).unwrap();
        refuses(&book, Rejection::LiveId(10), |b| b.submit(2, 10, sell(900, 1)));
        book.delete(3, 10).unwrap();
        book.submit(4, 10, sell(900, 1)).unwrap();
        assert_eq!((book.best_bid(), book.best_ask()), (None, Some(900)));
    }

    #[test]
    fn a_reduce_takes_shares_and_at_zero_the_order() {
        let mut book = Book::default();
        book.submit(1, 10, buy(500, 7)).unwrap();
        book.reduce(2, 10, 3).unwrap();
        assert_eq!(levels(&book), [(500, 4, 1)]);
        book.reduce(3, 10, 4).unwrap();
        assert_eq!((book.live_orders(), book.visible_shares()), (0, 0));
        assert_eq!((levels(&book), book.best_bid()), (vec![], None));
        refuses(&book, Rejection::UnknownId(10), |b| b.reduce(4, 10, 1));
    }

    #[test]
    fn a_reduce_beyond_what_remains_is_refused() {
        let mut book = Book::default();
        book.submit(1, 10, buy(500, 7)).unwrap();
        let why = Rejection::TooManyShares { id: 10, asked: 8, remaining: 7 };
        refuses(&book, why, |b| b.reduce(2, 10, 8));
        refuses(&book, Rejection::UnknownId(11), |b| b.reduce(2, 11, 1));
    }

    #[test]
    fn a_delete_takes_only_its_own_order() {
        let mut book = Book::default();
        book.submit(1, 10, sell(500, 7)).unwrap();
        book.submit(2, 11, sell(500, 5)).unwrap();
        refuses(&book, Rejection::UnknownId(12), |b| b.delete(3, 12));
        book.delete(3, 10).unwrap();
        assert_eq!(levels(&book), [(500, 5, 1)]);
        assert_eq!((book.visible_shares(), book.best_ask()), (5, Some(500)));
    }

    #[test]
    fn a_hidden_execution_counts_shares_and_touches_no_order() {
        let mut book = Book::default();
        book.submit(1, 10, buy(500, 7)).unwrap();
        let trade = book.execute_hidden(2, 9, 505, 100).unwrap();
        let made = Trade { number: 1, message: 2, time: 9, order: None, price: 505, shares: 100 };
        assert_eq!(trade, made);
        assert_eq!((book.visible_shares(), book.hidden_shares()), (7, 100));
        assert_eq!(levels(&book), [(500, 7, 1)]);
    }

    #[test]
    fn a_trade_has_the_price_of_its_order_and_the_next_number() {
        let mut book = Book::default();
        book.submit(1, 10, sell(510, 7)).unwrap();
        let first = book.execute_visible(2, 8, 10, 3).unwrap();
        refuses(&book, Rejection::UnknownId(11), |b| b.execute_visible(3, 8, 11, 3));
        let second = book.execute_visible(4, 9, 10, 4).unwrap();
        let order = Some(10);
        let made = Trade { number: 2, message: 4, time: 9, order, price: 510, shares: 4 };
        assert_eq!((first.number, &second), (1, &made));
        assert_eq!(book.live_orders(), 0);
        book.audit(second);
        assert_eq!(book.audits().to_vec(), [made]);
    }

    #[test]
    fn totals_that_would_overflow_are_refused() {
        let mut book = Book::default();
        book.submit(1, 10, buy(500, u64::MAX)).unwrap();
        refuses(&book, Rejection::Overflow, |b| b.submit(2, 11, sell(501, 1)));
        book.execute_hidden(3, 0, 1, u64::MAX).unwrap();
        refuses(&book, Rejection::Overflow, |b| b.execute_hidden(4, 0, 1, 1));
    }

    #[test]
    fn an_order_of_no_shares_is_live_until_something_removes_it() {
        let mut book = Book::default();
        book.submit(1, 10, buy(500, 0)).unwrap();
        assert_eq!((book.live_orders(), book.best_bid()), (1, Some(500)));
        book.reduce(2, 10, 0).unwrap();
        assert_eq!((book.live_orders(), book.best_bid()), (0, None));
    }

    #[test]
    fn a_message_is_taken_once_and_in_order() {
        let mut book = Book::default();
        book.submit(5, 10, buy(500, 7)).unwrap();
        for message in [4, 5] {
            let why = Rejection::OutOfTurn { message, last: 5 };
            refuses(&book, why, |b| b.execute_hidden(message, 0, 1, 1));
            refuses(&book, why, |b| b.delete(message, 10));
        }
        assert_eq!((book.last_message(), book.accepted()), (5, 1));
    }
}
