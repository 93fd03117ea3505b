//! Start, restart, shutdown, wrong settings.

use std::net::TcpListener;

use reqwest::Client;
use serde_json::Value;

use crate::harness::{Server, command, event_body};
use crate::sse::Reader;

fn run(args: &[&str], envs: &[(&str, &str)]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let output = command(directory.path(), args, envs).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_wrong_setting_is_one_line_and_exit_64() {
    for (args, envs, name) in [
        (&["--stream-batch-size", "0"][..], &[][..], "--stream-batch-size"),
        (&["--unknown"], &[], "--unknown"),
        (&[], &[("MYSQL_PORT", "x")], "MYSQL_PORT"),
        (&[], &[("DATABASE_URL", "oracle://db")], "DATABASE_URL"),
        (&[], &[("TLS_CERT_FILE", "cert.pem")], "TLS_KEY_FILE"),
    ] {
        let (code, text) = run(args, envs);
        assert_eq!(code, Some(64), "{text}");
        assert!(text.contains(name) && text.trim_end().lines().count() == 1, "{text}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    assert_eq!(run(&["--help"], &[]).0, Some(0));
    assert_eq!(run(&["--version"], &[]).0, Some(0));
}

#[test]
fn what_is_needed_and_missing_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, text) = run(&["--port", &port], &[]);
    assert!(code == Some(69) && text.contains(&port), "{code:?} {text}");
    let (code, text) = run(&[], &[("TLS_CERT_FILE", "absent.pem"), ("TLS_KEY_FILE", "absent.key")]);
    assert!(code == Some(69) && text.contains("absent.pem"), "{code:?} {text}");
    let (code, text) = run(&[], &[("DATABASE_URL", "sqlite:///nowhere/at/all/events.db")]);
    assert!(code == Some(69) && text.contains("database"), "{code:?} {text}");
}

#[test]
fn a_database_that_stays_away_is_waited_for_and_then_reported() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://u:s3cret@127.0.0.1:{free}/events");
    let (code, text) = run(&["--startup-timeout", "5"], &[("DATABASE_URL", &url)]);
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("trying again") && text.contains("cannot start") && !text.contains("s3cret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_talkative_log_has_no_password() {
    let nats = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://user:s3cret@{}", nats.local_addr().unwrap());
    let envs = [("NATS_URL", url.as_str()), ("RUST_LOG", "trace")];
    let (server, tried) = tokio::join!(Server::start(&[], &envs), nats.accept());
    drop(tried.unwrap());
    server.append("s", b"x").await;
    server.signal("TERM");
    assert!(server.wait_for_exit().await.success());
    let text = server.log_text();
    assert!(text.contains("DEBUG") && !text.contains("s3cret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_process_keeps_to_itself_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/events.db", directory.path().display());
    let mut options = sea_orm::ConnectOptions::new(format!("{url}?mode=rwc"));
    options.max_connections(1);
    let other = sea_orm::Database::connect(options).await.unwrap();
    sea_orm::ConnectionTrait::execute_unprepared(&other, "BEGIN EXCLUSIVE").await.unwrap();
    let (code, text) = run(&["--startup-timeout", "5"], &[("DATABASE_URL", &url)]);
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("trying again") && text.contains("locked") && text.contains("cannot start"), "{text}");
    sea_orm::ConnectionTrait::execute_unprepared(&other, "ROLLBACK").await.unwrap();
    let server = Server::start(&[], &[("DATABASE_URL", &url)]).await;
    assert_eq!(server.append("s", b"x").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_events_survive_kill_9() {
    let mut server = Server::start(&[], &[]).await;
    for round in 1..=3 {
        assert_eq!(server.append("s", b"x").await, round);
        server = server.restart(&[], &[]).await;
    }
    assert_eq!(Reader::open(&server, "subject=s").await.ids(3).await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_streams_answers_appends_and_exits_0() {
    let server = Server::start(&[], &[]).await;
    let mut readers = Vec::new();
    for _ in 0..50 {
        readers.push(Reader::open(&server, "subject=s").await);
    }
    let client = Client::new();
    let append = async || {
        let answer = client.post(server.at("/events")).json(&event_body("s", b"x")).send().await.ok()?;
        if answer.status() == 200 { answer.json::<Value>().await.ok()?["id"].as_i64() } else { None }
    };
    // Appends until the server refuses; every acknowledged id must be stored.
    let appending = async {
        let mut acknowledged = Vec::new();
        while let Some(id) = append().await {
            acknowledged.push(id);
            if acknowledged.len() == 20 {
                server.signal("TERM");
            }
        }
        acknowledged
    };
    let acknowledged = appending.await;
    for reader in &mut readers {
        while reader.frame().await.is_some() {}
    }
    assert_eq!(server.wait_for_exit().await.code(), Some(0), "{}", server.log_text());
    let server = server.restart(&[], &[]).await;
    let stored = Reader::open(&server, "subject=s").await.ids(acknowledged.len()).await;
    assert_eq!(stored, acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_delay_of_a_shutdown_refuses_nothing_but_readiness() {
    // Far longer than the test takes: what is served is served within it.
    let server = Server::start(&["--shutdown-delay", "3600"], &[]).await;
    let mut before = Reader::open(&server, "subject=s").await;
    server.append("s", b"before").await;
    server.signal("TERM");
    let client = Client::new();
    server
        .eventually("the server is not ready", async || {
            let answer = client.get(server.at("/readyz")).send().await.map_err(|error| error.to_string())?;
            if answer.status() == 503 { Ok(()) } else { Err(answer.status().to_string()) }
        })
        .await;
    // On new connections, each of them.
    assert_eq!(server.append("s", b"after").await, 2);
    let mut after = Reader::open(&server, "subject=s").await;
    assert_eq!(after.ids(2).await, [1, 2]);
    assert_eq!(before.ids(2).await, [1, 2]);
    assert_eq!(client.get(server.at("/livez")).send().await.unwrap().status(), 200);
    // Long enough for the store to be asked again, which must not make it ready.
    let asked = server.metric("eventsdb_tail_wakes_total").await;
    server
        .eventually("the log is looked at again", async || {
            let wakes = server.metric("eventsdb_tail_wakes_total").await;
            if wakes > asked + 1 { Ok(()) } else { Err(wakes.to_string()) }
        })
        .await;
    assert_eq!(client.get(server.at("/readyz")).send().await.unwrap().status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_delay_of_a_shutdown_is_over() {
    let server = Server::start(&["--shutdown-delay", "1"], &[]).await;
    let mut reader = Reader::open(&server, "subject=s").await;
    server.signal("TERM");
    while reader.frame().await.is_some() {}
    assert_eq!(server.wait_for_exit().await.code(), Some(0), "{}", server.log_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_leave_cannot_stop_the_exit() {
    let server = Server::start(&["--drain-timeout", "1"], &[]).await;
    let data = vec![b'x'; 512 * 1024];
    for _ in 0..40 {
        server.append("s", &data).await;
    }
    // Takes nothing, so its last page can never be flushed.
    let _stuck = Reader::open(&server, "subject=s").await;
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await.code(), Some(0));
}
