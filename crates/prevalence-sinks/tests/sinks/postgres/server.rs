//! What only PostgreSQL can do: a server that is killed, sessions, schemas, roles.

use prevalence::Sink;
use prevalence_sinks::{PostgresSink, SinkError};

use super::Fed;
use super::cluster::Cluster;
use crate::common::{Manner, Other, TABLES, Till, behind, expected, feed, open, pay, source};

/// Killed in a batch and between two, and started again: the sink is told, and goes on.
#[test]
fn a_server_that_is_killed_has_each_command_once() {
    // What is not written at the commit is not written before the kill.
    let settings = ["synchronous_commit=off", "wal_writer_delay=10s", "shared_buffers=16MB"];
    let Some(mut cluster) = Cluster::start_with(&settings) else { return };
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, 30);
    Fed::new(&cluster, "killed");
    let connection = cluster.connection("killed");
    let mut position = 0;
    for round in 1..=3 {
        let manner = Manner::Meets(position + 3, Box::new(cluster.killer()));
        let mut sink = Fed::by(connection.clone()).sink(manner);
        assert_eq!(sink.position(&source()).unwrap(), position);
        let waiting = behind(&till, position);
        let error = sink.apply_batch(&waiting[..6]).unwrap_err();
        assert!(!matches!(error, SinkError::Moved { .. }), "{error}");
        let error = sink.position(&source()).unwrap_err();
        assert!(matches!(error, SinkError::Database { .. }), "{error}");
        cluster.kill();
        cluster.restart();
        assert_eq!(sink.position(&source()).unwrap(), position, "killed amid, {round}");
        drop(sink);

        let fed = Fed::by(connection.clone());
        let mut sink = fed.sink(Manner::Good);
        sink.position(&source()).unwrap();
        sink.apply_batch(&waiting[..6]).unwrap();
        cluster.kill(); // at once behind the commit
        position += 6;
        assert!(sink.apply_batch(&waiting[6..8]).is_err());
        cluster.restart();
        assert_eq!(sink.position(&source()).unwrap(), position, "killed behind, {round}");
        let fed = Fed::by(connection.clone());
        assert_eq!(fed.payments(), expected(&till, position));
    }
    let fed = Fed::by(connection);
    assert_eq!(feed(&till, &mut fed.sink(Manner::Good), 5), 30);
    assert_eq!(fed.payments(), expected(&till, 30));
}

/// Killed, while its sessions may or may not get to the end of what they do: the position tells.
#[test]
fn a_server_that_is_killed_abruptly_stores_all_or_nothing() {
    let Some(mut cluster) = Cluster::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, 40);
    let connection = Fed::new(&cluster, "abrupt").connection;
    let mut position = 0;
    for round in 0..6 {
        let manner = Manner::Meets(position + 1 + round, Box::new(cluster.abrupt_killer()));
        let mut sink = Fed::by(connection.clone()).sink(manner);
        assert_eq!(sink.position(&source()).unwrap(), position);
        let outcome = sink.apply_batch(&behind(&till, position)[..6]);
        cluster.kill();
        cluster.restart();
        let now = sink.position(&source()).unwrap();
        let possible =
            if outcome.is_ok() { position + 6..=position + 6 } else { position..=position + 6 };
        assert!(possible.contains(&now) && now % 6 == 0, "{outcome:?} and {now}");
        position = now;
        assert_eq!(Fed::by(connection.clone()).payments(), expected(&till, position));
    }
    assert_eq!(feed(&till, &mut Fed::by(connection.clone()).sink(Manner::Good), 5), 40);
    assert_eq!(Fed::by(connection).payments(), expected(&till, 40));
}

/// A session that the server ends is an error, and the next call has a new one.
#[test]
fn sessions_schemas_and_roles() {
    let Some(cluster) = Cluster::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, 6);
    a_session_ends(&Fed::new(&cluster, "ended"), &till);
    a_transaction_that_somebody_ends_is_noticed(&Fed::new(&cluster, "committed"), &till);
    a_failure_that_is_swallowed_is_noticed(&Fed::new(&cluster, "swallowed"), &till);
    another_search_path_does_no_harm(&Fed::new(&cluster, "searched"), &till);
    a_role_need_not_make_tables(&Fed::new(&cluster, "limited"), &till);
    a_commit_waits_for_the_disk(&Fed::new(&cluster, "disk"), &till);
}

fn a_session_ends(fed: &Fed, till: &prevalence::Database<Till>) {
    let mut sink = fed.sink(Manner::Good);
    sink.position(&source()).unwrap();
    sink.apply_batch(&behind(till, 0)[..2]).unwrap();
    fed.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    let error = sink.apply_batch(&behind(till, 2)).unwrap_err();
    assert!(matches!(error, SinkError::Database { .. }), "{error}");
    assert_eq!(feed(till, &mut sink, 3), 6);
    assert_eq!(fed.payments(), expected(till, 6));
}

/// It cannot be undone, so it must at least be said.
fn a_transaction_that_somebody_ends_is_noticed(fed: &Fed, till: &prevalence::Database<Till>) {
    for sql in ["COMMIT", "ROLLBACK", "COMMIT; BEGIN", "ROLLBACK; BEGIN"] {
        for at in [1, 4, 6] {
            let mut sink = fed.sink(Manner::Runs(at, sql));
            assert_eq!(sink.position(&source()).unwrap(), 0, "{sql}");
            let error = sink.apply_batch(&behind(till, 0)).unwrap_err();
            assert!(matches!(error, SinkError::TransactionEnded { .. }), "{sql} at {at}: {error}");
            assert_eq!(sink.position(&source()).unwrap(), 0, "{sql}");
        }
    }
    let ended = PostgresSink::<Till, _>::new(
        &fed.connection,
        "CREATE TABLE early (a BIGINT); COMMIT; BEGIN",
        |_, _| Ok(()),
    );
    let other = prevalence::Source::new(source().database, "early");
    let error = ended.unwrap().position(&other).unwrap_err();
    assert!(matches!(error, SinkError::TransactionEnded { .. }), "{error}");
}

fn a_failure_that_is_swallowed_is_noticed(fed: &Fed, till: &prevalence::Database<Till>) {
    for at in [1, 6] {
        let mut sink = fed.sink(Manner::Swallows(at, "INSERT INTO kinds VALUES (1), (1)"));
        sink.position(&source()).unwrap();
        let error = sink.apply_batch(&behind(till, 0)).unwrap_err();
        assert!(error.to_string().contains("aborted"), "{error}");
        assert_eq!(fed.payments(), []);
        assert_eq!(sink.position(&source()).unwrap(), 0);
    }
    let savepoint = "SAVEPOINT a; DELETE FROM payments; ROLLBACK TO a; RELEASE a";
    assert_eq!(feed(till, &mut fed.sink(Manner::Runs(4, savepoint)), 6), 6);
    assert_eq!(fed.payments(), expected(till, 6));
}

/// SQL that was made by a dump changes the path for the session.
fn another_search_path_does_no_harm(fed: &Fed, till: &prevalence::Database<Till>) {
    let decoy = "CREATE SCHEMA \"App x\"; SET search_path = \"App x\";
        CREATE TABLE prevalence_positions (database TEXT, name TEXT, position BIGINT);";
    let tables = format!("{decoy}{TABLES}");
    let mut sink = fed.sink_of(&tables, "payments", Manner::Good);
    sink.position(&source()).unwrap();
    sink.apply_batch(&behind(till, 0)).unwrap();
    let mut client = fed.connect();
    let stored = client.query_one("SELECT position FROM public.prevalence_positions", &[]);
    assert_eq!(stored.unwrap().get::<_, i64>(0), 6);
    client.batch_execute("SET search_path = \"App x\"").unwrap();
    let rows = client.query_one("SELECT count(*) FROM payments", &[]).unwrap();
    assert_eq!(rows.get::<_, i64>(0), expected(till, 6).len() as i64);
    // The table may be in a schema of any name.
    fed.run("ALTER DATABASE searched SET search_path = \"App x\"");
    let other = prevalence::Source::new(source().database, "other");
    let mut sink = PostgresSink::<Till, _>::new(&fed.connection, "", |_, _| Ok(())).unwrap();
    assert_eq!(sink.position(&other).unwrap(), 0);
    sink.apply_batch(&behind(till, 0)).unwrap();
    let stored = client.query_one("SELECT position FROM prevalence_positions", &[]);
    assert_eq!(stored.unwrap().get::<_, i64>(0), 6);
}

fn a_role_need_not_make_tables(fed: &Fed, till: &prevalence::Database<Till>) {
    // Of the documentation.
    let text = include_str!("../../../src/postgres/mod.rs");
    let (_, sql) = text.split_once("```sql").unwrap();
    let sql = sql.split_once("```").unwrap().0.replace("///", "");
    fed.run(&sql);
    fed.run(TABLES);
    fed.run("CREATE ROLE feeder LOGIN");
    fed.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    fed.run("GRANT SELECT, INSERT, UPDATE ON prevalence_positions, payments TO feeder");
    let limited = Fed::by(fed.connection.replace("user=postgres", "user=feeder"));
    assert_eq!(feed(till, &mut limited.sink_of("", "payments", Manner::Good), 4), 6);
    assert_eq!(fed.payments(), expected(till, 6));
}

fn a_commit_waits_for_the_disk(fed: &Fed, till: &prevalence::Database<Till>) {
    for (given, wanted) in [("off", "local"), ("on", "on"), ("remote_apply", "remote_apply")] {
        let options = format!("-c synchronous_commit={given} -c default_transaction_read_only=on");
        let connection = format!("{} options='{options}'", fed.connection);
        let connect = move || Ok(::postgres::Client::connect(&connection, ::postgres::NoTls)?);
        let write = move |transaction: &mut ::postgres::Transaction<'_>, _: &_| {
            let found = transaction.query_one("SHOW synchronous_commit", &[])?;
            assert_eq!(found.get::<_, &str>(0), wanted);
            Ok(())
        };
        let mut sink = PostgresSink::<Till, _>::with_connector("mine", connect, "", write);
        let name = prevalence::Source::new(source().database, given);
        assert_eq!(sink.position(&name).unwrap(), 0);
        sink.apply_batch(&behind(till, 0)).unwrap();
        assert_eq!(sink.position(&name).unwrap(), 6);
    }
    let refused = || Err("no way".into());
    let mut sink = PostgresSink::<Till, _>::with_connector("mine", refused, "", |_, _| Ok(()));
    let error = sink.position(&source()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mine: could not connect: no way; see that it can be reached and written"
    );
}
