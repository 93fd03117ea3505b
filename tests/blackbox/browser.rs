//! A real browser, on a page of another origin, and Node.js: gRPC-web through Connect, `EventSource`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::{get, post};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::harness::{CEILING, Server, tool};
use crate::proto::DESCRIPTORS;

/// How long a page may take: a browser on a busy machine needs a while to start.
pub const PAGE_CEILING: Duration = Duration::from_secs(90);

/// A headless Chromium with its helpers; all killed when dropped.
pub struct Browser(Child);

impl Browser {
    /// Opens `url`, keeping everything in the folder `profile`.
    pub fn open(url: &str, profile: &Path) -> Self {
        let browser = Command::new(tool("EVENTS_DB_TEST_CHROMIUM"))
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--disable-breakpad"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(profile.join("stderr")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        Self(browser)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _already_gone = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status();
        self.0.wait().unwrap();
    }
}

/// A script and the packages it uses, in one file, which is made in `directory`.
pub fn bundle(script: &Path, directory: &Path) -> String {
    let bundled = directory.join("bundle.js");
    let built = Command::new(tool("EVENTS_DB_TEST_NODE"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/bundle.mjs"))
        .arg(tool("EVENTS_DB_TEST_NODE_MODULES"))
        .args([script, &bundled])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::read_to_string(bundled).unwrap()
}

/// A site of another origin than the server's: a page, its script, and where it leaves results.
pub fn site(page: impl Into<String>, script: String, results: mpsc::Sender<String>) -> Router {
    let (page, take_result) = (page.into(), async move |result: String| results.send(result).await.unwrap());
    Router::new()
        .route("/", get(Html(page)))
        .route("/bundle.js", get(([(CONTENT_TYPE, "text/javascript")], script)))
        .route("/result", post(take_result))
}

#[tokio::test(flavor = "multi_thread")]
async fn page_of_another_origin_creates_reads_and_streams() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (results_tx, mut results) = mpsc::channel(1);
    let script = bundle(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web/page.js"), directory.path());
    let site = site(include_str!("../web/page.html"), script, results_tx);
    let site = site.route("/descriptors.bin", get(DESCRIPTORS));
    tokio::spawn(async move { axum::serve(listener, site).await });
    let open = Server::start(&[], &[("CORS_ALLOWED_ORIGINS", &origin)]).await;
    let closed = Server::start(&[], &[("CORS_ALLOWED_ORIGINS", &origin), ("AUTH_TOKEN", "secret")]).await;
    let url = format!("{origin}/?open={}&closed={}", open.url(), closed.url());
    let _browser = Browser::open(&url, directory.path());
    let result = timeout(PAGE_CEILING, results.recv()).await.unwrap_or_else(|_| {
        panic!("the page is silent: {}", std::fs::read_to_string(directory.path().join("stderr")).unwrap())
    });
    assert_eq!(result.unwrap(), "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn event_source_of_node_goes_on_after_a_restart() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port().to_string();
    let (args, envs) = (["--port", port.as_str()], [("AUTH_TOKEN", "secret")]);
    let server = Server::start(&args, &envs).await;
    let append = async |server: &Server, data: &str| {
        let request = reqwest::Client::new().post(server.at("/events")).bearer_auth("secret");
        let answer = request.json(&crate::harness::event_body("s", data.as_bytes())).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    append(&server, "stored").await;
    let mut node = tokio::process::Command::new(tool("EVENTS_DB_TEST_NODE"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/sse_client.mjs"))
        .args([&tool("EVENTS_DB_TEST_NODE_MODULES"), &server.at("/events/stream?subject=s"), "secret", "3"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let mut line = async || timeout(CEILING, lines.next_line()).await.expect("the client is silent").unwrap().unwrap();
    assert_eq!(line().await, "1 stored");
    append(&server, "live").await;
    assert_eq!(line().await, "2 live");
    let server = server.restart(&args, &envs).await;
    append(&server, "later").await;
    assert_eq!(line().await, "3 later");
    assert!(timeout(CEILING, node.wait()).await.expect("the client does not stop").unwrap().success());
}
