//! Appends over HTTP/1.1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::load::Client;
use crate::payload::payload;
use crate::wire::{Scan, Wire, line};
use crate::{Outcome, subject};

/// One kept-alive connection that posts the same request again and again.
pub(crate) struct HttpClient {
    wire: Wire,
    request: Vec<u8>,
    /// How a good answer starts.
    expected: &'static [u8],
}

impl HttpClient {
    /// Posts one event per request.
    pub(crate) async fn single(port: u16, number: usize) -> Outcome<Self> {
        Self::new(port, &event(number), br#"{"id":"#).await
    }

    /// Posts `events` events per request.
    pub(crate) async fn batch(port: u16, number: usize, events: usize) -> Outcome<Self> {
        let all: Vec<String> = (0..events).map(|each| event(number * events + each)).collect();
        Self::new(port, &format!("[{}]", all.join(",")), br#"{"ids":["#).await
    }

    async fn new(port: u16, body: &str, expected: &'static [u8]) -> Outcome<Self> {
        let wire = Wire::connect(&format!("127.0.0.1:{port}")).await?;
        let length = body.len();
        let head = "POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n";
        let request = format!("{head}content-length: {length}\r\n\r\n{body}").into_bytes();
        Ok(Self { wire, request, expected })
    }
}

impl Client for HttpClient {
    async fn call(&mut self) -> Outcome<()> {
        self.wire.send(&self.request).await?;
        self.wire.receive(|bytes| scan(bytes, self.expected)).await
    }
}

fn event(number: usize) -> String {
    let (subject, data) = (subject(number), STANDARD.encode(payload()));
    format!(r#"{{"source":"bench","type":"made","subject":"{subject}","data":"{data}"}}"#)
}

/// Looks at the status, the length and the start of the body only.
fn scan(bytes: &[u8], expected: &[u8]) -> Scan<()> {
    const LENGTH: &[u8] = b"content-length:";
    let Some((head, mut at)) = line(bytes) else { return Ok(None) };
    let status = head.get(9..12).ok_or("no HTTP status")?;
    let mut length = 0;
    loop {
        let Some((header, next)) = line(&bytes[at..]) else { return Ok(None) };
        at += next;
        if header.is_empty() {
            break;
        }
        if header.get(..LENGTH.len()).is_some_and(|name| name.eq_ignore_ascii_case(LENGTH)) {
            length = std::str::from_utf8(&header[LENGTH.len()..])?.trim().parse()?;
        }
    }
    let Some(body) = bytes.get(at..at + length) else { return Ok(None) };
    if status != b"200" {
        return Err(format!("HTTP {}", String::from_utf8_lossy(status)).into());
    }
    if !body.starts_with(expected) {
        return Err(format!("the answer is {}", String::from_utf8_lossy(body)).into());
    }
    Ok(Some((at + length, ())))
}
