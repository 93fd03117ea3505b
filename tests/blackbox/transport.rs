//! One listener: HTTP/1.1, HTTP/2 and TLS, and clients that stall.

use std::fs;
use std::path::Path;

use reqwest::{Client, Version};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, event_body};
use crate::sse::Reader;

/// Writes a self-signed certificate for `name` and 127.0.0.1 with its key, and returns the certificate.
pub fn write_certificate(directory: &Path, name: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let pem = made.cert.pem();
    fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(directory.join("cert.pem"), &pem).unwrap();
    pem
}

async fn works(server: &Server, client: &Client, version: Version) {
    let answer = client.post(server.at("/events")).json(&event_body("s", b"x")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
    let id = answer.json::<Value>().await.unwrap()["id"].as_i64().unwrap();
    let answer = client.get(server.at("/events/stream?subject=s")).send().await.unwrap();
    assert_eq!(answer.version(), version);
    assert_eq!(Reader::new(answer).ids(1).await.len(), 1);
    let id = id.to_string();
    for (path, wanted) in [
        (format!("/events/get?id={id}"), id.as_str()),
        ("/events/historic?subject=s".to_owned(), "has_more"),
        ("/subjects".to_owned(), r#"["s"]"#),
        ("/health".to_owned(), r#"{"status":"healthy"}"#),
        ("/livez".to_owned(), ""),
        ("/readyz".to_owned(), ""),
        ("/metrics".to_owned(), "app_active_event_streams"),
        ("/openapi.yaml".to_owned(), "openapi: 3.1"),
        ("/".to_owned(), "Events DB"),
    ] {
        let answer = client.get(server.at(&path)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version), "{path}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(wanted), "{path}: {text}");
    }
    let answer = client.post(server.at("/subjects/delete?subject=s")).send().await.unwrap();
    assert_eq!((answer.version(), answer.text().await.unwrap().as_str()), (version, r#"{"status":"ok","deleted":1}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_text_speaks_http_1_and_2() {
    let server = Server::start(&[], &[]).await;
    works(&server, &Client::builder().http1_only().build().unwrap(), Version::HTTP_11).await;
    works(&server, &Client::builder().http2_prior_knowledge().build().unwrap(), Version::HTTP_2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_speaks_http_1_and_2_and_follows_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let first = write_certificate(directory.path(), "first.example.org");
    let envs = [("TLS_CERT_FILE", certificate.to_str().unwrap()), ("TLS_KEY_FILE", key.to_str().unwrap())];
    let server = Server::start(&[], &envs).await;
    let trusting = |pem: &str| {
        let root = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
        Client::builder().tls_certs_only([root])
    };
    works(&server, &trusting(&first).http1_only().build().unwrap(), Version::HTTP_11).await;
    works(&server, &trusting(&first).build().unwrap(), Version::HTTP_2).await;
    let mut open =
        Reader::new(trusting(&first).build().unwrap().get(server.at("/events/stream?subject=t")).send().await.unwrap());

    // A key that does not fit keeps the old pair; a new pair serves new connections and leaves open ones alone.
    let second = write_certificate(directory.path(), "second.example.org");
    server
        .eventually("the new certificate is served", async || {
            let client = trusting(&second).build().unwrap();
            client.get(server.at("/livez")).send().await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    let client = trusting(&second).build().unwrap();
    client.post(server.at("/events")).json(&event_body("t", b"x")).send().await.unwrap();
    assert_eq!(open.ids(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_port_is_the_very_same_service() {
    let server = Server::start(&["--grpc-port", "0"], &[]).await;
    let id = server.append("s", b"x").await;
    let url = format!("http://127.0.0.1:{}/events/get?id={id}", server.second_port());
    assert_eq!(Client::new().get(url).send().await.unwrap().status(), 200);
}

/// Writes `bytes` and waits until the server hangs up; the server's own limit is 10 s.
async fn is_hung_up_on(port: u16, bytes: &[u8]) {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    connection.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(crate::harness::CEILING, connection.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "{:?} is still open", String::from_utf8_lossy(bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_stall_are_hung_up_on() {
    let server = Server::start(&[], &[]).await;
    let port = server.port();
    tokio::join!(
        is_hung_up_on(port, b""),
        is_hung_up_on(port, b"GET /health HTT"),
        is_hung_up_on(port, b"GET /health HTTP/1.1\r\nhost: a\r\nx: "),
        is_hung_up_on(port, b"PRI * HTT"),
        is_hung_up_on(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n"),
    );
    assert_eq!(server.append("s", b"x").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_heads_are_refused() {
    let server = Server::start(&[], &[]).await;
    let request = Client::builder().http1_only().build().unwrap().get(server.at("/livez"));
    let answer = request.header("x-long", "x".repeat(1 << 20)).send().await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 431));
    let request = Client::builder().http2_prior_knowledge().build().unwrap().get(server.at("/livez"));
    let answer = request.header("x-long", "x".repeat(20_000)).send().await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 431));
    assert_eq!(Client::new().get(server.at("/livez")).send().await.unwrap().status(), 200);
}
