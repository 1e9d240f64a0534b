//! A projection: the best price of each side with its shares, and every change of that.

use prevalence::collections::Map;
use prevalence::{FollowerError, Projection, Recorded};
use serde::{Deserialize, Serialize};

use crate::book::{Book, Order, Side};
use crate::commands::{Delete, Reduce, Submit};

/// A price, and the visible shares at it.
pub type Best = Option<(i64, u64)>;

/// The top of the book, made of commands and events alone: it never looks at the model.
#[derive(Clone, Serialize, Deserialize)]
pub struct TopOfBook {
    orders: Map<u64, Order>,
    bids: Levels,
    asks: Levels,
    top: (Best, Best),
    changes: u64,
    digest: u64,
}

/// The shares and the number of orders at each price of one side.
type Levels = Map<i64, (u64, u64)>;

impl Default for TopOfBook {
    fn default() -> TopOfBook {
        TopOfBook {
            orders: Map::default(),
            bids: Levels::default(),
            asks: Levels::default(),
            top: (None, None),
            changes: 0,
            digest: Digest::BEGIN,
        }
    }
}

impl Projection<Book> for TopOfBook {
    fn apply(&mut self, recorded: &Recorded<Book>) -> Result<(), FollowerError> {
        // Only accepted commands come here, so there is nothing to check.
        let command = &recorded.command;
        let message = if let Some(submit) = command.command() {
            let Submit { message, id, order } = submit?;
            self.add(id, order);
            message
        } else if let Some(reduce) = command.command() {
            let Reduce { message, id, shares } = reduce?;
            self.take(id, Some(shares))?;
            message
        } else if let Some(delete) = command.command() {
            let Delete { message, id } = delete?;
            self.take(id, None)?;
            message
        } else if let [trade] = recorded.events.as_slice() {
            if let Some(id) = trade.order {
                self.take(id, Some(trade.shares))?;
            }
            trade.message
        } else {
            return Ok(()); // an audit
        };
        self.note_change(message);
        Ok(())
    }
}

impl TopOfBook {
    /// Returns the best bid and the best ask.
    pub fn top(&self) -> (Best, Best) {
        self.top
    }

    /// Returns how often the top has changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns the digest of all changes, each with the number of its message.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    fn add(&mut self, id: u64, order: Order) {
        let (shares, orders) = self.side(order.side).entry(order.price).or_default();
        *shares += order.remaining;
        *orders += 1;
        self.orders.insert(id, order);
    }

    /// Takes shares from an order, or all that it has. An order without shares is gone.
    fn take(&mut self, id: u64, shares: Option<u64>) -> Result<(), FollowerError> {
        let order = self.orders.get_mut(&id).ok_or_else(|| format!("there is no order {id}"))?;
        let shares = shares.unwrap_or(order.remaining);
        order.remaining -= shares;
        let order = *order;
        let is_gone = order.remaining == 0;
        if is_gone {
            self.orders.remove(&id);
        }
        let levels = self.side(order.side);
        if let Some((at_price, orders)) = levels.get_mut(&order.price) {
            *at_price -= shares;
            *orders -= u64::from(is_gone);
            if *orders == 0 {
                levels.remove(&order.price);
            }
        }
        Ok(())
    }

    fn side(&mut self, side: Side) -> &mut Levels {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }

    fn note_change(&mut self, message: u64) {
        let best = |level: Option<(&i64, &(u64, u64))>| level.map(|(price, it)| (*price, it.0));
        let top = (best(self.bids.last_key_value()), best(self.asks.first_key_value()));
        if top == self.top {
            return;
        }
        self.top = top;
        self.changes += 1;
        let mut digest = Digest(self.digest);
        digest.add(message);
        for side in [top.0, top.1] {
            let (price, shares) = side.unwrap_or((0, 0));
            digest.add(u64::from(side.is_some()));
            digest.add(price.cast_unsigned());
            digest.add(shares);
        }
        self.digest = digest.0;
    }
}

/// FNV-1a (Fowler, Noll and Vo) over the bytes of numbers.
struct Digest(u64);

impl Digest {
    const BEGIN: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01B3;

    fn add(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(Self::PRIME);
        }
    }
}
