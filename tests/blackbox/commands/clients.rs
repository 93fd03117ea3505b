//! `tail` and `append`, the small clients.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::commands::{Ended, command, end, run, run_with_input, signal};
use crate::harness::{CEILING, Server};
use crate::private_database::free_port;
use crate::seeded::Random;
use crate::transport::write_certificate;

const TOKEN: (&str, &str) = ("AUTH_TOKEN", "s3cret");

/// Runs a client of `server` that knows its token.
async fn client(server: &Server, args: &[&str]) -> Ended {
    run(server.directory(), &with_url(args, &server.url()), &[TOKEN]).await
}

fn with_url<'a>(args: &[&'a str], url: &'a str) -> Vec<&'a str> {
    [args, &["--url", url]].concat()
}

/// The lines of `tail`, read while it runs.
struct Tail {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    fn start(server: &Server, args: &[&str]) -> Self {
        let (url, args) = (server.url(), [&["tail"], args].concat());
        let args = with_url(&args, &url);
        let mut child = command(server.directory(), args, &[TOKEN]).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn event(&mut self) -> Value {
        let line = tokio::time::timeout(CEILING, self.lines.next_line()).await.expect("tail is silent");
        serde_json::from_str(&line.unwrap().expect("tail goes on")).unwrap()
    }

    async fn positions(&mut self, count: usize) -> Vec<u64> {
        let mut positions = Vec::new();
        while positions.len() < count {
            positions.push(position(&self.event().await));
        }
        positions
    }
}

fn position(event: &Value) -> u64 {
    event["position"].as_str().unwrap().parse().unwrap()
}

fn event_line(id: &str, subject: &str) -> String {
    format!("{}\n", json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t", "subject": subject}))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_is_appended_with_its_data_and_seen() {
    let server = Server::start(&[], &[TOKEN]).await;
    let common = ["append", "--type", "made", "--source", "/shop"];
    for (args, printed) in [
        (&["--subject", "user-1", "--id", "a1", "--data", r#"{"total": 42}"#][..], "1\n"),
        (&["--data", "hello"], "2\n"),
        (&["--data", "1,2", "--data-content-type", "text/csv"], "3\n"),
        (&[], "4\n"),
        // Sent again, it is where it was.
        (&["--subject", "user-1", "--id", "a1", "--data", r#"{"total": 42}"#], "1\n"),
    ] {
        assert_eq!(client(&server, &[&common, args].concat()).await.exits(0), printed);
    }
    let (url, piped) = (server.url(), [&common[..], &["--data", "-"]].concat());
    let piped = with_url(&piped, &url);
    assert_eq!(run_with_input(server.directory(), &piped, &[TOKEN], "two\nlines").await.exits(0), "5\n");
    let seen = client(&server, &["tail", "--from", "start", "--limit", "5"]).await.exits(0);
    let seen: Vec<Value> = seen.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &seen[0];
    assert_eq!([&first["id"], &first["source"], &first["subject"]], [&json!("a1"), &json!("/shop"), &json!("user-1")]);
    let data = |event: &Value| (event["datacontenttype"].clone(), event["data"].clone());
    let expected = [
        (json!("application/json"), json!({"total": 42})),
        (json!("text/plain"), json!("hello")),
        (json!("text/csv"), json!("1,2")),
        (Value::Null, Value::Null),
        (json!("text/plain"), json!("two\nlines")),
    ];
    assert_eq!(seen.iter().map(data).collect::<Vec<_>>(), expected);
    let same_id = client(&server, &[&common[..], &["--id", "a1", "--data", "other"]].concat()).await.fails(65);
    assert!(same_id.contains("409"), "{same_id}");
    let no_json = [&common[..], &["--data", "{", "--data-content-type", "application/json"]].concat();
    assert!(client(&server, &no_json).await.fails(64).contains("--data"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_appended_in_batches_and_a_refused_one_names_its_first_line() {
    let server = Server::start(&[], &[TOKEN]).await;
    let url = server.url();
    let lines = |from: usize, to: usize| -> String { (from..to).map(|n| event_line(&n.to_string(), "s")).collect() };
    fs::write(server.directory().join("events"), lines(0, 250)).unwrap();
    let positions = |from: u64, to: u64| (from..=to).map(|position| position.to_string() + "\n").collect::<String>();
    assert_eq!(client(&server, &["append", "events"]).await.exits(0), positions(1, 250));
    let args = with_url(&["append", "-", "--batch", "10"], &url);
    // The lines that are there already keep their positions.
    let input = lines(240, 265);
    assert_eq!(run_with_input(server.directory(), &args, &[TOKEN], &input).await.exits(0), positions(241, 265));
    // Two good batches, then one whose second line is none of ours; a blank line counts.
    let wrong = r#"{"specversion":"1.0","id":"x"}"#;
    let input = format!("{}\n{}{wrong}\n{}", lines(300, 310), lines(310, 321), lines(321, 400));
    let ended = run_with_input(server.directory(), &args, &[TOKEN], &input).await;
    assert_eq!(ended.out, positions(266, 285));
    let error = ended.fails(65);
    assert!(error.contains("the batch from line 22 on: 400"), "{error}");
    let seen = client(&server, &["tail", "--from", "284", "--limit", "1"]).await.exits(0);
    assert_eq!(position(&serde_json::from_str(&seen).unwrap()), 285);
    // Nothing of the refused batch or behind it was stored.
    assert_eq!(client(&server, &["append", "--type", "t", "--source", "/s"]).await.exits(0), "286\n");
    assert!(client(&server, &["append", "absent"]).await.fails(64).contains("absent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_ends_an_append_that_waits_for_its_lines() {
    let server = Server::start(&[], &[TOKEN]).await;
    let url = server.url();
    let args = with_url(&["append", "-", "--batch", "1"], &url);
    let mut child = command(server.directory(), args, &[TOKEN]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    // A line is sent when the next one shows that its batch is full.
    input.write_all([event_line("1", "s"), event_line("2", "s")].concat().as_bytes()).await.unwrap();
    assert_eq!(output.next_line().await.unwrap().as_deref(), Some("1"));
    signal(&child, "INT");
    let error = end(child).await.fails(130);
    assert!(error.contains("interrupted before line 2"), "{error}");
    drop(input);
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_begins_where_it_is_told_and_passes_what_matches() {
    let server = Server::start(&[], &[TOKEN]).await;
    for n in 1..=6 {
        let (subject, event_type) = (format!("user-{n}"), if n % 2 == 0 { "even" } else { "odd" });
        let args = ["append", "--source", "/s", "--subject", &subject, "--type", event_type];
        assert_eq!(client(&server, &args).await.exits(0), format!("{n}\n"));
    }
    let third = client(&server, &["tail", "--from", "2", "--limit", "1"]).await.exits(0);
    let third: Value = serde_json::from_str(&third).unwrap();
    let time = third["recordedtime"].as_str().unwrap();
    for (args, expected) in [
        (&["--from", "start", "--limit", "6"][..], &[1, 2, 3, 4, 5, 6][..]),
        (&["--from", "4", "--limit", "2"], &[5, 6]),
        (&["--from", time, "--limit", "2"], &[3, 4]),
        (&["--from", "start", "--type", "even", "--limit", "3"], &[2, 4, 6]),
        (&["--from", "start", "--subject", "user-3", "--subject", "user-5", "--limit", "2"], &[3, 5]),
        (&["--from", "start", "--subject", "user-", "--recursive", "--type", "odd", "--limit", "3"], &[1, 3, 5]),
        (&["--from", "start", "--source", "/s", "--limit", "1"], &[1]),
    ] {
        let seen = client(&server, &[&["tail"], args].concat()).await.exits(0);
        let seen: Vec<u64> = seen.lines().map(|line| position(&serde_json::from_str(line).unwrap())).collect();
        assert_eq!(seen, expected, "{args:?}");
    }
    // From the head: only what is appended after it has begun, which the count of streams tells.
    let mut tail = Tail::start(&server, &[]);
    server
        .eventually("tail is connected", async || match server.metric("app_active_event_streams").await {
            1 => Ok(()),
            streams => Err(format!("{streams} streams")),
        })
        .await;
    assert_eq!(client(&server, &["append", "--type", "t", "--source", "/s"]).await.exits(0), "7\n");
    assert_eq!(tail.positions(1).await, [7]);
    signal(&tail.child, "INT");
    assert_eq!(tail.child.wait().await.unwrap().code(), Some(0));
    let stranger = run(server.directory(), &with_url(&["tail"], &server.url()), &[]).await.fails(69);
    assert!(stranger.contains("401"), "{stranger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_whose_reader_has_gone_ends() {
    let server = Server::start(&[], &[TOKEN]).await;
    let mut tail = Tail::start(&server, &["--from", "start"]);
    client(&server, &["append", "--type", "t", "--source", "/s"]).await.exits(0);
    assert_eq!(tail.positions(1).await, [1]);
    drop(tail.lines);
    client(&server, &["append", "--type", "t", "--source", "/s"]).await.exits(0);
    let status = tokio::time::timeout(CEILING, tail.child.wait()).await.expect("tail goes on for nobody").unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_goes_on_without_a_gap_or_a_double_when_the_server_was_killed() {
    let port = free_port(&mut Random::new(u64::from(std::process::id()))).to_string();
    let args = ["--port", port.as_str()];
    let mut server = Server::start(&args, &[TOKEN]).await;
    let mut tail = Tail::start(&server, &["--from", "start"]);
    let lines = |round: u64| -> String { (0..50).map(|n| event_line(&format!("{round}-{n}"), "s")).collect() };
    for round in 0..3 {
        fs::write(server.directory().join("events"), lines(round)).unwrap();
        client(&server, &["append", "events"]).await.exits(0);
        // Killed in the middle of what tail reads, and once it has read everything.
        let read = if round == 1 { 50 } else { 20 };
        let first = round * 50 + 1;
        assert_eq!(tail.positions(read).await, (first..first + read as u64).collect::<Vec<_>>());
        server = server.restart(&args, &[TOKEN]).await;
        let rest = first + read as u64..first + 50;
        assert_eq!(tail.positions(50 - read).await, rest.collect::<Vec<_>>());
    }
    assert_eq!(client(&server, &["append", "--type", "t", "--source", "/s"]).await.exits(0), "151\n");
    assert_eq!(tail.positions(1).await, [151]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_needs_an_authority_or_an_explicit_no() {
    let directory = tempfile::tempdir().unwrap();
    write_certificate(directory.path(), "events.example.org");
    let [certificate, key] = ["cert.pem", "key.pem"].map(|file| directory.path().join(file));
    let [certificate, key] = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let server = Server::start(&[], &[("TLS_CERT_FILE", certificate), ("TLS_KEY_FILE", key), TOKEN]).await;
    let common = ["append", "--type", "t", "--source", "/s"];
    for (args, printed) in [(&["--ca", certificate][..], "1\n"), (&["--insecure"], "2\n")] {
        assert_eq!(client(&server, &[&common, args].concat()).await.exits(0), printed);
        let tail = [&["tail", "--from", "start", "--limit", "1"], args].concat();
        assert_eq!(client(&server, &tail).await.exits(0).lines().count(), 1);
    }
    let other = tempfile::tempdir().unwrap();
    write_certificate(other.path(), "other.example.org");
    let other = other.path().join("cert.pem");
    for args in [&[][..], &["--ca", other.to_str().unwrap()]] {
        for command in [&common[..], &["tail"]] {
            let error = client(&server, &[command, args].concat()).await.fails(69);
            assert!(error.contains("certificate is not trusted"), "{error}");
        }
    }
    let absent = client(&server, &[&common[..], &["--ca", "absent.pem"]].concat()).await.fails(64);
    assert!(absent.contains("--ca absent.pem"), "{absent}");
    // Neither of those that failed has stored anything.
    assert_eq!(client(&server, &[&common[..], &["--insecure"]].concat()).await.exits(0), "3\n");
}
