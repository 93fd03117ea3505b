//! A server with everything turned on that has all kinds of requests.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Client, RequestBuilder};
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Server, event_body};
use crate::load::PAUSE;
use crate::readers::nats::Nats;
use crate::seeded::{Random, seed};

/// A server under load, until dropped.
pub struct Busy {
    _clients: JoinSet<()>,
    pub server: Server,
    _nats: Nats,
}

impl Busy {
    /// Starts one, and clients that never rest for long.
    pub async fn start() -> Self {
        let (server, nats) = complete_server().await;
        let client = Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
        let mut clients = JoinSet::new();
        for request in requests(&client, &server) {
            clients.spawn(async move {
                loop {
                    let answer = request.try_clone().unwrap().send().await;
                    if let Ok(answer) = answer {
                        let _whole = answer.bytes().await;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        let stream = client.get(server.at("/events/stream?recursive=true&subject="));
        clients.spawn(async move {
            let mut body = stream.send().await.unwrap().bytes_stream();
            while let Some(Ok(_)) = body.next().await {}
        });
        Self { _clients: clients, server, _nats: nats }
    }
}

/// A server with everything turned on that has metrics of its own.
pub async fn complete_server() -> (Server, Nats) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let [certificate, key] = ["ec.crt", "ec-sec1.key"].map(|file| fixtures.join(file).display().to_string());
    let nats = Nats::start(&mut Random::new(seed())).await;
    let nats_url = format!("nats://{}", nats.address());
    let envs = [("TLS_CERT_FILE", certificate.as_str()), ("TLS_KEY_FILE", &key), ("NATS_URL", &nats_url)];
    let server = Server::start(&[], &envs).await;
    (server, nats)
}

/// One request of each kind, the wrong kind among them.
fn requests(client: &Client, server: &Server) -> Vec<RequestBuilder> {
    let append = client.post(server.at("/events"));
    let mut named = event_body("named", b"x");
    named["id"] = json!("1");
    let get = |path: &str| client.get(server.at(path)).timeout(Duration::from_secs(5));
    vec![
        append.try_clone().unwrap().json(&event_body("s", b"x")),
        append.try_clone().unwrap().json(&named),
        append.try_clone().unwrap().json(&json!({})),
        append.header("if-none-match", "*").json(&event_body("s", b"x")),
        get("/events/get?id=1"),
        get("/events/get?id=999999999"),
        get("/events/historic?subject=s&limit=10"),
        get("/subjects"),
    ]
}
