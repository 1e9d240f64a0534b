//! The PostgreSQL sink, against a server that the test starts itself. Where there is no PostgreSQL
//! the tests say so and pass, unless `PREVALENCE_CI` is set.

mod cluster;
mod lost;
mod proxy;
mod server;

use std::time::Duration;

use ::postgres::{Client, NoTls};
use prevalence_sinks::PostgresSink;

use self::cluster::Cluster;
use crate::common::{Boxed, Manner, Other, Paid, Payment};
use crate::contract;

/// A database that is fed.
pub struct Fed {
    /// How the sinks get there.
    pub connection: String,
    pub timeout: Duration,
}

impl Fed {
    /// Makes a new database of this name.
    pub fn new(cluster: &Cluster, name: &str) -> Self {
        cluster.connect("postgres").batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        Self::by(cluster.connection(name))
    }

    /// A database that is there.
    pub fn by(connection: String) -> Self {
        Self { connection, timeout: Duration::from_secs(60) }
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.connection, NoTls).unwrap()
    }
}

impl Other for Fed {
    fn sink_of(&self, tables: &str, name: &'static str, mut manner: Manner) -> Boxed {
        let sink = PostgresSink::new(&self.connection, tables, move |transaction, recorded| {
            let sequence = i64::try_from(recorded.sequence)?;
            for Paid(cents) in &recorded.events {
                let cents = i64::try_from(*cents)?;
                let insert = "INSERT INTO payments VALUES ($1, $2, $3)";
                transaction.execute(insert, &[&name, &sequence, &cents])?;
            }
            // Behind the rows, so that something must be taken back.
            match manner.at(recorded.sequence)? {
                Some((sql, true)) => Ok(transaction.batch_execute(sql)?),
                Some((sql, false)) => {
                    let _: Result<(), ::postgres::Error> = transaction.batch_execute(sql);
                    Ok(())
                }
                None => Ok(()),
            }
        });
        Box::new(sink.unwrap().statement_timeout(self.timeout))
    }

    fn payments(&self) -> Vec<Payment> {
        let rows = self
            .connect()
            .query("SELECT name, command, cents FROM payments ORDER BY 2, 3", &[])
            .unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    fn run(&self, sql: &str) {
        self.connect().batch_execute(sql).unwrap();
    }
}

/// One server for all of them: each gets a database of its own.
#[test]
fn what_every_sink_must_do() {
    let Some(cluster) = Cluster::start() else { return };
    macro_rules! contract {
        ($($name:ident)*) => {$(
            println!("  {}", stringify!($name));
            contract::$name(&Fed::new(&cluster, stringify!($name)));
        )*};
    }
    contract! {
        each_command_once_over_restarts
        a_closure_that_fails_leaves_nothing
        a_statement_that_fails_leaves_nothing
        of_two_agents_one_is_refused
        agents_at_the_same_time_double_nothing
        sources_are_apart
        many_begin_at_once
        tables_come_with_the_first_position
        impossible_batches_are_refused
    }
}
