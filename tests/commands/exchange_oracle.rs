//! What the exchange example must make of a file of messages, computed from the file alone. It
//! shares no code with the example: levels are lists of orders here, and are summed when asked.

use std::collections::BTreeMap;
use std::fmt::Write;

/// One row of the table of trades: number, message, time, order, price, shares.
pub type Row = (u64, u64, u64, Option<u64>, i64, u64);

/// The orders of one side: price, then id, then shares.
type Side = BTreeMap<i64, BTreeMap<u64, u64>>;
type Best = Option<(i64, u64)>;

#[derive(Default)]
pub struct Oracle {
    /// Of so many trades, the last one is audited.
    audit_every: usize,
    bids: Side,
    asks: Side,
    /// Where each live order is.
    places: BTreeMap<u64, (bool, i64)>,
    pub rows: Vec<Row>,
    minutes: BTreeMap<u64, (u64, u64, i64)>,
    top: (Best, Best),
    changes: u64,
    digested: Vec<u8>,
    accepted: u64,
    pub rejected: u64,
    hidden: u64,
}

impl Oracle {
    pub fn of(messages: &str, audit_every: usize) -> Oracle {
        let mut oracle = Oracle { audit_every, ..Oracle::default() };
        for (line, number) in messages.lines().zip(1..) {
            let [time, kind, id, shares, price, direction] =
                line.split(',').collect::<Vec<_>>().try_into().unwrap();
            let (seconds, decimals) = time.split_once('.').unwrap();
            let decimals = &format!("{decimals:0<9}")[..9];
            let time = format!("{seconds}{decimals}").parse().unwrap();
            let (id, shares, price) = (id.parse().unwrap(), shares.parse().unwrap(), price.parse());
            let (price, is_buy) = (price.unwrap(), direction == "1");
            let is_accepted = match kind {
                "1" => oracle.submit(id, is_buy, price, shares),
                "2" => oracle.take(id, shares).is_some(),
                "3" => oracle.delete(id),
                "4" => match oracle.take(id, shares) {
                    None => false,
                    Some(at) => oracle.trade((0, number, time, Some(id), at, shares)),
                },
                _ => {
                    oracle.hidden += shares;
                    oracle.trade((0, number, time, None, price, shares))
                }
            };
            oracle.accepted += u64::from(is_accepted);
            oracle.rejected += u64::from(!is_accepted);
            oracle.note_top(number);
        }
        oracle
    }

    fn side(&mut self, is_buy: bool) -> &mut Side {
        if is_buy { &mut self.bids } else { &mut self.asks }
    }

    fn submit(&mut self, id: u64, is_buy: bool, price: i64, shares: u64) -> bool {
        if self.places.contains_key(&id) {
            return false;
        }
        self.places.insert(id, (is_buy, price));
        self.side(is_buy).entry(price).or_default().insert(id, shares);
        true
    }

    /// Takes shares from an order, and returns its price.
    fn take(&mut self, id: u64, shares: u64) -> Option<i64> {
        let (is_buy, price) = *self.places.get(&id)?;
        let left = self.side(is_buy).get_mut(&price).unwrap().get_mut(&id).unwrap();
        *left = left.checked_sub(shares)?;
        if *left == 0 {
            self.delete(id);
        }
        Some(price)
    }

    fn delete(&mut self, id: u64) -> bool {
        let Some((is_buy, price)) = self.places.remove(&id) else { return false };
        let side = self.side(is_buy);
        side.get_mut(&price).unwrap().remove(&id);
        side.retain(|_, orders| !orders.is_empty());
        true
    }

    fn trade(&mut self, row: Row) -> bool {
        let number = self.rows.len() as u64 + 1;
        self.rows.push((number, row.1, row.2, row.3, row.4, row.5));
        let (trades, shares, turnover) = self.minutes.entry(row.2 / 60_000_000_000).or_default();
        *trades += 1;
        *shares += row.5;
        *turnover += row.4 * i64::try_from(row.5).unwrap();
        true
    }

    fn note_top(&mut self, message: u64) {
        let best = |(price, orders): (&i64, &BTreeMap<u64, u64>)| (*price, orders.values().sum());
        let bid = self.bids.last_key_value().map(best);
        let ask = self.asks.first_key_value().map(best);
        if (bid, ask) == self.top {
            return;
        }
        self.top = (bid, ask);
        self.changes += 1;
        self.digested.extend(message.to_le_bytes());
        for side in [bid, ask] {
            let (price, shares) = side.unwrap_or_default();
            self.digested.extend(u64::from(side.is_some()).to_le_bytes());
            self.digested.extend(price.to_le_bytes());
            self.digested.extend(shares.to_le_bytes());
        }
    }

    /// Returns the trades of which the reactor must have asked for an audit.
    pub fn audits(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().skip(self.audit_every - 1).step_by(self.audit_every)
    }

    /// Returns the sequence of the last command: that of a message or of an audit.
    pub fn sequence(&self) -> u64 {
        self.accepted + self.audits().count() as u64
    }

    /// Returns what `--report` must write.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (at, (trades, shares, turnover)) in &self.minutes {
            let (hour, minute) = (at / 60, at % 60);
            writeln!(text, "minute,{hour:02}:{minute:02},{trades},{shares},{turnover}").unwrap();
        }
        let shown = |best: Best| match best {
            None => "none".to_owned(),
            Some((price, shares)) => format!("{shares}@{price}"),
        };
        let (changes, (bid, ask)) = (self.changes, self.top);
        let digest = self.digested.iter().fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
            (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        writeln!(text, "top,{changes},{digest:016x},{},{}", shown(bid), shown(ask)).unwrap();
        for (number, message, time, order, price, shares) in self.audits() {
            let order = order.unwrap_or(0);
            writeln!(text, "audit,{number},{message},{time},{order},{price},{shares}").unwrap();
        }
        text
    }

    /// Returns what the last line of the example must be.
    pub fn last_line(&self) -> String {
        let price = |best: Best| best.unwrap_or_default().0;
        let orders = self.bids.values().chain(self.asks.values()).flat_map(BTreeMap::values);
        format!(
            "accepted={} rejected={} live_orders={} best_bid={} best_ask={} visible_shares={} \
             hidden_shares={} sequence={}",
            self.accepted,
            self.rejected,
            self.places.len(),
            price(self.top.0),
            price(self.top.1),
            orders.sum::<u64>(),
            self.hidden,
            self.sequence(),
        )
    }
}

/// Five messages, counted by hand.
#[test]
fn the_oracle_knows_what_a_trade_and_a_change_of_the_top_are() {
    let oracle = Oracle::of(
        "34200.5,1,7,10,100,1\n34259.999999999,4,7,4,100,1\n34260.0,5,0,3,101,-1\n\
         34261.0,4,8,1,100,1\n34262.0,3,7,6,100,1\n",
        2,
    );
    let first = (1, 2, 34_259_999_999_999, Some(7), 100, 4);
    assert_eq!(oracle.rows, [first, (2, 3, 34_260_000_000_000, None, 101, 3)]);
    let report = oracle.report();
    assert!(report.starts_with("minute,09:30,1,4,400\nminute,09:31,1,3,303\ntop,3,"), "{report}");
    let audit = ",none,none\naudit,2,3,34260000000000,0,101,3\n";
    assert!(report.ends_with(audit), "{report}");
    let line = "accepted=4 rejected=1 live_orders=0 best_bid=0 best_ask=0 visible_shares=0 \
                hidden_shares=3 sequence=5";
    assert_eq!(oracle.last_line(), line);
}
