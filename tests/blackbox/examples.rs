//! The examples, as their readers run them.

use std::path::Path;
use std::process::Command;

use crate::harness::{Server, tool};

/// Runs `command` with the server as its argument, and `more` after that.
fn run(program: &str, file: &str, server: &Server, more: &[String]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ran =
        Command::new(program).arg(root.join("examples").join(file)).arg(server.url()).args(more).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{}{}", text(&ran.stdout), text(&ran.stderr));
    text(&ran.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_speaks_all_modes() {
    let server = Server::start(&[], &[]).await;
    let said = run("sh", "curl/events.sh", &server, &[]);
    assert!(said.contains(r#"{"ids":[2,3],"duplicates":[2]}"#), "{said}");
    assert_eq!(said.matches("\"data\":\"Grüße\"").count(), 2, "{said}");
    assert!(said.trim_end().ends_with("event: caught-up"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_gets_back_what_it_sent() {
    let server = Server::start(&[], &[]).await;
    let said = run(&tool("EVENTS_DB_TEST_PYTHON"), "python/http_sdk.py", &server, &[]);
    assert_eq!(said.lines().count(), 4, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_appends_and_follows_over_grpc() {
    let server = Server::start(&[], &[]).await;
    let said = run(&tool("EVENTS_DB_TEST_PYTHON"), "python/grpc_client.py", &server, &[]);
    assert!(said.starts_with("501 events"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_sdk_gets_back_what_it_sent() {
    let server = Server::start(&[], &[]).await;
    let modules = tool("EVENTS_DB_TEST_NODE_MODULES");
    let said = run(&tool("EVENTS_DB_TEST_NODE"), "node/http_sdk.mjs", &server, &[modules]);
    assert_eq!(said.lines().count(), 3, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_appends_and_follows_over_grpc() {
    let server = Server::start(&[], &[]).await;
    // `cargo test` builds the examples, unless it is told which tests to build.
    let binary = Path::new(env!("CARGO_BIN_EXE_events-db")).with_file_name("examples").join("cloudevents");
    assert!(binary.exists(), "not built: cargo build --workspace --example cloudevents");
    let ran = Command::new(binary).arg(server.url()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(said.ends_with("caught up at 1\n"), "{said}");
}
