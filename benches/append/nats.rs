//! Publishes to NATS `JetStream`, each waiting for the acknowledgement of the stream.

use crate::load::Client;
use crate::payload::payload;
use crate::wire::{Scan, Wire, line};
use crate::{Outcome, address, subject};

/// The variable that names the server.
pub(crate) const VARIABLE: &str = "EVENTS_DB_BENCH_NATS_URL";

/// One connection that publishes to the one stream, one message at a time.
pub(crate) struct NatsClient {
    wire: Wire,
    request: Vec<u8>,
}

impl NatsClient {
    pub(crate) async fn connect(url: &str, number: usize) -> Outcome<Self> {
        let (wire, _version) = log_in(url, &number.to_string()).await?;
        let data = payload();
        let mut request = format!("PUB bench.{} _INBOX.{number} {}\r\n", subject(number), data.len()).into_bytes();
        request.extend_from_slice(&data);
        request.extend_from_slice(b"\r\n");
        Ok(Self { wire, request })
    }
}

impl Client for NatsClient {
    async fn call(&mut self) -> Outcome<()> {
        self.wire.send(&self.request).await?;
        answer(&mut self.wire, is_acknowledgement).await
    }
}

/// Makes an empty stream in files, and tells the server's version.
pub(crate) async fn prepare(url: &str) -> Outcome<String> {
    let (mut wire, version) = log_in(url, "admin").await?;
    // There may be no stream yet, which is an error too.
    ask(&mut wire, "$JS.API.STREAM.DELETE.bench", "", |_| true).await?;
    let stream = r#"{"name":"bench","subjects":["bench.>"],"storage":"file","retention":"limits"}"#;
    ask(&mut wire, "$JS.API.STREAM.CREATE.bench", stream, |answer| !holds(answer, br#""error""#)).await?;
    Ok(version)
}

async fn log_in(url: &str, inbox: &str) -> Outcome<(Wire, String)> {
    let mut wire = Wire::connect(&address(url)?).await?;
    let info = wire.receive(|bytes| {
        let first = line(bytes).map(|(line, used)| (used, String::from_utf8_lossy(line).into_owned()));
        Ok(first)
    });
    let info = info.await?;
    let info: serde_json::Value = serde_json::from_str(info.strip_prefix("INFO ").ok_or("no greeting of NATS")?)?;
    let version = info["version"].as_str().unwrap_or("unknown").to_owned();
    let greeting = format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB _INBOX.{inbox} 1\r\n");
    wire.send(greeting.as_bytes()).await?;
    Ok((wire, version))
}

async fn ask(wire: &mut Wire, to: &str, body: &str, is_good: fn(&[u8]) -> bool) -> Outcome<()> {
    let length = body.len();
    wire.send(format!("PUB {to} _INBOX.admin {length}\r\n{body}\r\n").as_bytes()).await?;
    answer(wire, is_good).await
}

/// Takes one message that `is_good`, answering what the server asks in between.
async fn answer(wire: &mut Wire, is_good: fn(&[u8]) -> bool) -> Outcome<()> {
    while let Said::Ping = wire.receive(|bytes| scan(bytes, is_good)).await? {
        wire.send(b"PONG\r\n").await?;
    }
    Ok(())
}

/// What the server says.
enum Said {
    Ping,
    Message,
}

fn is_acknowledgement(message: &[u8]) -> bool {
    message.starts_with(br#"{"stream":"#)
}

/// A message that `is_good`, or a PING.
fn scan(bytes: &[u8], is_good: fn(&[u8]) -> bool) -> Scan<Said> {
    let Some((head, at)) = line(bytes) else { return Ok(None) };
    if head == b"PING" {
        return Ok(Some((at, Said::Ping)));
    }
    if !head.starts_with(b"MSG ") {
        return Err(format!("NATS says {}", String::from_utf8_lossy(head)).into());
    }
    let length = head.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let length: usize = std::str::from_utf8(length)?.parse()?;
    let Some(message) = bytes.get(at..at + length + 2) else { return Ok(None) };
    if !is_good(message) {
        return Err(format!("NATS answers {}", String::from_utf8_lossy(message)).into());
    }
    Ok(Some((at + length + 2, Said::Message)))
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
