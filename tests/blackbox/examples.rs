//! The examples, as their readers run them.

use std::path::Path;
use std::process::Command;

use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::browser::{Browser, PAGE_CEILING, bundle, site};
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

/// The script of the browser's example, bundled in `directory` as its `package.json` does.
fn browser_script(directory: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = directory.join("page.js");
    std::fs::copy(root.join("examples/browser/page.js"), &script).unwrap();
    let machine = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x64" };
    let buf = format!("{}/@bufbuild/buf-linux-{machine}/bin/buf", tool("EVENTS_DB_TEST_NODE_MODULES"));
    let built = Command::new(buf)
        .arg("build")
        .arg(root.join("proto"))
        .arg("--output")
        .arg(directory.join("descriptors.binpb"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    bundle(&script, directory)
}

/// What the page is tested with is what its readers install.
#[test]
fn the_browser_gets_the_packages_that_the_tests_use() {
    let package = |file: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap())
            .unwrap()
    };
    let (tested, installed) = (package("tests/tools/package.json"), package("examples/browser/package.json"));
    for (name, version) in installed["dependencies"].as_object().unwrap() {
        let same = match name.as_str() {
            "@bufbuild/buf" => &tested["optionalDependencies"]["@bufbuild/buf-linux-x64"],
            other => &tested["dependencies"][other],
        };
        assert_eq!(version, same, "{name}");
    }
}

async fn greet(server: &Server, id: &str) {
    let event = json!({
        "specversion": "1.0", "id": id, "source": "/tests", "type": "com.example.greeted",
        "subject": "browser/greetings", "datacontenttype": "text/plain", "data": id,
    });
    let request = reqwest::Client::new().post(server.at("/events")).body(event.to_string());
    let answer = request.header("content-type", "application/cloudevents+json").send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_appends_and_follows_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (lines_tx, mut lines) = mpsc::channel(1);
    let page =
        concat!(include_str!("../../examples/browser/index.html"), r#"<script type="module" src="drive.js"></script>"#);
    let drive = get(([(CONTENT_TYPE, "text/javascript")], include_str!("../web/drive.js")));
    let site = site(page, browser_script(directory.path()), lines_tx).route("/drive.js", drive);
    tokio::spawn(async move { axum::serve(listener, site).await });

    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port().to_string();
    let (args, envs) = (["--port", port.as_str()], [("CORS_ALLOWED_ORIGINS", origin.as_str())]);
    let server = Server::start(&args, &envs).await;
    greet(&server, "stored").await;
    let _browser = Browser::open(&format!("{origin}/?server={}", server.url()), directory.path());
    let mut line = async || timeout(PAGE_CEILING, lines.recv()).await.expect("the page is silent").unwrap();
    assert_eq!(line().await, "1 stored");
    assert_eq!(line().await, "2 Grüße");
    let event: Value =
        reqwest::get(server.at("/events/get?id=2&format=cloudevents")).await.unwrap().json().await.unwrap();
    assert_eq!((&event["source"], &event["data"]), (&json!("/examples/browser"), &json!("Grüße")));
    greet(&server, "live").await;
    assert_eq!(line().await, "3 live");
    let server = server.restart(&args, &envs).await;
    greet(&server, "later").await;
    assert_eq!(line().await, "4 later");
}
