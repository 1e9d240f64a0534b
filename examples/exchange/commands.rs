//! The commands that the journal holds, one for each kind of message in the feed.
//!
//! Each command has the number of its message, so that the book always knows its place in the feed:
//! the change and the place become durable together or not at all. All of them have the same output
//! and rejection, so that one queue can hold their pending results.

use std::convert::Infallible;

use prevalence::{Command, Context};
use serde::{Deserialize, Serialize};

use crate::book::{Book, Order, Rejection};
use crate::trade::Trade;

#[derive(Serialize, Deserialize)]
pub struct Submit {
    pub message: u64,
    pub id: u64,
    pub order: Order,
}

#[derive(Serialize, Deserialize)]
pub struct Reduce {
    pub message: u64,
    pub id: u64,
    pub shares: u64,
}

#[derive(Serialize, Deserialize)]
pub struct Delete {
    pub message: u64,
    pub id: u64,
}

#[derive(Serialize, Deserialize)]
pub struct ExecuteVisible {
    pub message: u64,
    /// The message's own time, in nanoseconds since midnight.
    pub time: u64,
    pub id: u64,
    pub shares: u64,
}

#[derive(Serialize, Deserialize)]
pub struct ExecuteHidden {
    pub message: u64,
    /// The message's own time, in nanoseconds since midnight.
    pub time: u64,
    pub price: i64,
    pub shares: u64,
}

/// Asks to note a trade. No message of the feed asks for it, but a reactor in `follow.rs`.
#[derive(Serialize, Deserialize)]
pub struct Audit {
    pub trade: Trade,
}

// The first tags are the feed's own numbers for its kinds of message. They must stay for ever,
// because the records of the journal hold the tags and not the names.
prevalence::commands! {
    Book {
        1 => Submit,
        2 => Reduce,
        3 => Delete,
        4 => ExecuteVisible,
        5 => ExecuteHidden,
        6 => Audit,
    }
}

impl Command<Book> for Submit {
    type Output = ();
    type Rejection = Rejection;

    fn apply(self, book: &mut Book, _: &mut Context<'_, Book>) -> Result<(), Rejection> {
        book.submit(self.message, self.id, self.order)
    }
}

impl Command<Book> for Reduce {
    type Output = ();
    type Rejection = Rejection;

    fn apply(self, book: &mut Book, _: &mut Context<'_, Book>) -> Result<(), Rejection> {
        book.reduce(self.message, self.id, self.shares)
    }
}

impl Command<Book> for Delete {
    type Output = ();
    type Rejection = Rejection;

    fn apply(self, book: &mut Book, _: &mut Context<'_, Book>) -> Result<(), Rejection> {
        book.delete(self.message, self.id)
    }
}

/// For the orders, bought shares disappear in the same way as cancelled shares. This is a separate
/// command because it is a trade.
impl Command<Book> for ExecuteVisible {
    type Output = ();
    type Rejection = Rejection;

    fn apply(self, book: &mut Book, cx: &mut Context<'_, Book>) -> Result<(), Rejection> {
        let trade = book.execute_visible(self.message, self.time, self.id, self.shares)?;
        cx.emit(trade);
        Ok(())
    }
}

impl Command<Book> for ExecuteHidden {
    type Output = ();
    type Rejection = Rejection;

    fn apply(self, book: &mut Book, cx: &mut Context<'_, Book>) -> Result<(), Rejection> {
        let trade = book.execute_hidden(self.message, self.time, self.price, self.shares)?;
        cx.emit(trade);
        Ok(())
    }
}

impl Command<Book> for Audit {
    type Output = ();
    type Rejection = Infallible;

    fn apply(self, book: &mut Book, _: &mut Context<'_, Book>) -> Result<(), Infallible> {
        book.audit(self.trade);
        Ok(())
    }
}
