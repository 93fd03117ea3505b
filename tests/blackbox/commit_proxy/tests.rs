//! The proxy against real servers and a plain client.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use futures_util::TryStreamExt;
use sea_orm::sqlx::{self, AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection};

use super::{CommitProxy, Engine, Fault, Pick, Plan, Protocol, Request, mysql, postgres};
use crate::databases;
use crate::harness::CEILING;

/// The proxy in front of a database with an empty table, and the URLs behind and through it.
macro_rules! proxied {
    ($connection:ty, $engine:expr, $variable:literal, $purpose:literal) => {{
        let direct = databases::fresh($variable, $purpose).await;
        let proxy = CommitProxy::start($engine, databases::address(&direct)).await;
        let mut through = direct.clone();
        through.set_port(Some(proxy.port)).unwrap();
        let mut observer = <$connection>::connect(direct.as_str()).await.unwrap();
        sqlx::raw_sql("CREATE TABLE events (number BIGINT, data TEXT)").execute(&mut observer).await.unwrap();
        (proxy, through, observer)
    }};
}

macro_rules! stored {
    ($observer:expr) => {
        sqlx::query_scalar::<_, i64>("SELECT number FROM events ORDER BY number").fetch_all($observer).await.unwrap()
    };
}

/// Four transactions, the third of which meets `fault`; returns what is stored then, and how the third ended.
macro_rules! hit_the_third {
    ($connection:ty, $engine:expr, $variable:literal, $purpose:literal, $fault:expr) => {{
        let (proxy, url, mut observer) = proxied!($connection, $engine, $variable, $purpose);
        proxy.set(Some(Plan { fault: $fault, pick: Pick::Every(3), most: 1 }));
        let mut client = <$connection>::connect(url.as_str()).await.unwrap();
        let mut lost = Vec::new();
        for number in 1..=4 {
            let mut transaction = client.begin().await.unwrap();
            let insert = format!("INSERT INTO events VALUES ({number}, '{}')", "x".repeat(60_000));
            sqlx::query(AssertSqlSafe(insert)).execute(&mut *transaction).await.unwrap();
            let committed = tokio::time::timeout(Duration::from_secs(1), transaction.commit()).await;
            if !matches!(committed, Ok(Ok(()))) {
                lost.push((number, committed.is_ok()));
                client = <$connection>::connect(url.as_str()).await.unwrap();
            }
        }
        assert_eq!(proxy.counters.commits.load(Ordering::SeqCst), 4);
        assert_eq!(proxy.counters.hit.load(Ordering::SeqCst), 1);
        assert_eq!(lost.len(), 1);
        let started = Instant::now();
        let is_late = || $fault == Fault::LateCommit && proxy.counters.committed.load(Ordering::SeqCst) == 0;
        while is_late() {
            assert!(started.elapsed() < CEILING, "the commit never arrives");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (stored!(&mut observer), lost[0], proxy.counters.committed.load(Ordering::SeqCst))
    }};
}

macro_rules! faults_of_a_transaction {
    ($test:ident, $connection:ty, $engine:expr, $variable:literal) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            let outcome = hit_the_third!($connection, $engine, $variable, "proxy_swallow", Fault::SwallowCommitAnswer);
            assert_eq!(outcome, (vec![1, 2, 3, 4], (3, true), 1));
            let outcome = hit_the_third!($connection, $engine, $variable, "proxy_drop", Fault::DropCommit);
            assert_eq!(outcome, (vec![1, 2, 4], (3, true), 0));
            let outcome = hit_the_third!($connection, $engine, $variable, "proxy_late", Fault::LateCommit);
            assert_eq!(outcome, (vec![1, 2, 3, 4], (3, true), 1));
            let outcome = hit_the_third!($connection, $engine, $variable, "proxy_hold", Fault::HoldCommitAnswer);
            assert_eq!(outcome, (vec![1, 2, 3, 4], (3, false), 1));
        }
    };
}

faults_of_a_transaction!(transactions_on_mariadb, MySqlConnection, Engine::MySql, "EVENTS_DB_TEST_MARIADB_URL");
faults_of_a_transaction!(transactions_on_mysql, MySqlConnection, Engine::MySql, "EVENTS_DB_TEST_MYSQL_URL");
faults_of_a_transaction!(transactions_on_postgresql, PgConnection, Engine::Postgres, "EVENTS_DB_TEST_POSTGRES_URL");

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_insert_outside_a_transaction_is_a_commit() {
    let (proxy, url, mut observer) =
        proxied!(PgConnection, Engine::Postgres, "EVENTS_DB_TEST_POSTGRES_URL", "proxy_autocommit");
    let mut wanted = Vec::new();
    for (round, fault) in
        [Fault::SwallowCommitAnswer, Fault::DropCommit, Fault::AnswerWithoutCommit].into_iter().enumerate()
    {
        let mut client = PgConnection::connect(url.as_str()).await.unwrap();
        let first = i64::try_from(round).unwrap() * 3 + 1;
        // The first execution prepares the statement, the others name it.
        for number in first..first + 3 {
            let is_hit = number == first + 2;
            proxy.set(is_hit.then_some(Plan { fault, pick: Pick::Every(1), most: 1 }));
            let insert = "WITH added AS (INSERT INTO events VALUES ($1, 'x') RETURNING number) SELECT * FROM added";
            let inserted: Result<i64, _> = sqlx::query_scalar(insert).bind(number).fetch_one(&mut client).await;
            assert_eq!(inserted.is_err(), is_hit, "{inserted:?}");
            if !is_hit || fault == Fault::SwallowCommitAnswer {
                wanted.push(number);
            }
        }
    }
    assert_eq!(stored!(&mut observer), wanted);
    assert_eq!(proxy.counters.commits.load(Ordering::SeqCst), 9);
    assert_eq!(proxy.counters.hit.load(Ordering::SeqCst), 3);
    assert_eq!(proxy.counters.committed.load(Ordering::SeqCst), 1);
}

macro_rules! a_text_is_a_commit {
    ($test:ident, $variable:literal) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            let (proxy, url, mut observer) = proxied!(MySqlConnection, Engine::MySql, $variable, "proxy_text");
            let faults = [Fault::SwallowCommitAnswer, Fault::DropCommit, Fault::AnswerWithoutCommit, Fault::LateCommit];
            for (number, fault) in faults.into_iter().enumerate() {
                let mut client = MySqlConnection::connect(url.as_str()).await.unwrap();
                for (number, is_hit) in [(10 + number, false), (20 + number, true)] {
                    proxy.set(is_hit.then_some(Plan { fault, pick: Pick::Every(1), most: 1 }));
                    let text = format!(
                        "BEGIN; INSERT INTO events (number) VALUES ({number}); \
                         INSERT INTO events (number) VALUES ({number}); COMMIT"
                    );
                    let mut results = client.fetch_many(sqlx::raw_sql(AssertSqlSafe(text)));
                    let mut answered = 0;
                    let outcome = loop {
                        match results.try_next().await {
                            Ok(Some(_)) => answered += 1,
                            Ok(None) => break Ok(()),
                            Err(error) => break Err(error),
                        }
                    };
                    let expected = match (is_hit, fault) {
                        (false, _) => 4,
                        (true, Fault::AnswerWithoutCommit) => 3,
                        (true, _) => 0,
                    };
                    assert_eq!((outcome.is_err(), answered), (is_hit, expected), "{fault:?}: {outcome:?}");
                }
            }
            let started = Instant::now();
            while proxy.counters.committed.load(Ordering::SeqCst) < 2 {
                assert!(started.elapsed() < CEILING, "the late commit never arrives");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(stored!(&mut observer), [10, 10, 11, 11, 12, 12, 13, 13, 20, 20, 23, 23]);
            assert_eq!(proxy.counters.commits.load(Ordering::SeqCst), 8);
            assert_eq!(proxy.counters.hit.load(Ordering::SeqCst), 4);
        }
    };
}

a_text_is_a_commit!(texts_on_mariadb, "EVENTS_DB_TEST_MARIADB_URL");
a_text_is_a_commit!(texts_on_mysql, "EVENTS_DB_TEST_MYSQL_URL");

#[tokio::test(flavor = "multi_thread")]
async fn only_what_commits_is_a_commit() {
    let (proxy, url, mut observer) =
        proxied!(PgConnection, Engine::Postgres, "EVENTS_DB_TEST_POSTGRES_URL", "proxy_others");
    proxy.set(Some(Plan { fault: Fault::DropCommit, pick: Pick::Every(1), most: 10 }));
    let mut client = PgConnection::connect(url.as_str()).await.unwrap();
    let mut transaction = client.begin().await.unwrap();
    sqlx::query("INSERT INTO events VALUES (1, 'x')").execute(&mut *transaction).await.unwrap();
    // Nobody waits for the answer to this rollback: the next request follows at once.
    drop(transaction);
    sqlx::query("INSERT INTO events VALUES (2, 'x')").execute(&mut client).await.unwrap_err();
    let mut client = PgConnection::connect(url.as_str()).await.unwrap();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut client).await.unwrap();
    assert_eq!(count, 0);
    assert_eq!(stored!(&mut observer), Vec::<i64>::new());
    assert_eq!(proxy.counters.commits.load(Ordering::SeqCst), 1);
}

#[test]
fn messages_may_come_byte_by_byte() {
    let mut commit = BytesMut::from(&[7, 0, 0, 0, 3][..]);
    commit.put_slice(b"commit");
    let mut whole = 0;
    let (mut protocol, mut buffer) = (mysql::Connection::default(), BytesMut::new());
    for byte in &commit {
        buffer.put_u8(*byte);
        whole += usize::from(matches!(protocol.request(&mut buffer), Some(Request::Commit { .. })));
    }
    assert_eq!((whole, buffer.len()), (1, 0));
    let mut startup = BytesMut::new();
    startup.put_slice(&[0, 0, 0, 8, 4, 210, 22, 47, 0, 0, 0, 8, 0, 3, 0, 0]);
    startup.put_slice(b"Q\0\0\0\x0bCOMMIT\0");
    let (mut protocol, mut buffer) = (postgres::Connection::default(), BytesMut::new());
    let mut kinds = String::new();
    for byte in &startup {
        buffer.put_u8(*byte);
        kinds.push(match protocol.request(&mut buffer) {
            None => continue,
            Some(Request::Plain(_)) => 'p',
            Some(Request::Refused(_)) => 'r',
            Some(Request::Commit { .. }) => 'c',
        });
    }
    assert_eq!((kinds.as_str(), buffer.len()), ("rpc", 0));
}

#[test]
fn a_continued_packet_is_one() {
    let mut buffer = BytesMut::from(&[0xFF, 0xFF, 0xFF, 0][..]);
    buffer.put_bytes(0, 0xFF_FFFF);
    let mut protocol = mysql::Connection::default();
    assert!(protocol.request(&mut buffer).is_none());
    buffer.put_slice(&[1, 0, 0, 1, 9, 1, 0]);
    let Some(Request::Plain(packet)) = protocol.request(&mut buffer) else { panic!("a packet is there") };
    assert_eq!((packet.len(), buffer.len()), (4 + 0xFF_FFFF + 4 + 1, 2));
}
