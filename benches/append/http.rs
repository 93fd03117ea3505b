//! Appends over HTTP/1.1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::load::Client;
use crate::payload::payload;
use crate::wire::{Scan, Wire, line};
use crate::{Outcome, subject};

/// Digits of the ids of events.
const ID_DIGITS: usize = 16;

/// One kept-alive connection that posts the same request again and again, but for the id in it.
pub(crate) struct HttpClient {
    wire: Wire,
    request: Vec<u8>,
    /// Where the digits of the id are, and the id.
    id: Option<(usize, u64)>,
    /// How a good answer starts.
    expected: &'static [u8],
}

impl HttpClient {
    /// Posts one event per request.
    pub(crate) async fn single(port: u16, number: usize) -> Outcome<Self> {
        Self::new(port, "application/json", &event(number), br#"{"id":"#).await
    }

    /// Posts one event with an id per request.
    pub(crate) async fn with_id(port: u16, number: usize) -> Outcome<Self> {
        let event = event(number).replacen('{', &format!(r#"{{"id":"{}","#, "#".repeat(ID_DIGITS)), 1);
        Self::new(port, "application/json", &event, br#"{"id":"#).await
    }

    /// Posts one structured `CloudEvent` per request.
    pub(crate) async fn structured(port: u16, number: usize) -> Outcome<Self> {
        let (id, subject, data) = ("#".repeat(ID_DIGITS), subject(number), STANDARD.encode(payload()));
        let event = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/bench","type":"made","subject":"{subject}","data_base64":"{data}"}}"#
        );
        Self::new(port, "application/cloudevents+json", &event, br#"{"id":"#).await
    }

    /// Posts `events` events per request.
    pub(crate) async fn batch(port: u16, number: usize, events: usize) -> Outcome<Self> {
        let all: Vec<String> = (0..events).map(|each| event(number * events + each)).collect();
        Self::new(port, "application/json", &format!("[{}]", all.join(",")), br#"{"ids":["#).await
    }

    async fn new(port: u16, media_type: &str, body: &str, expected: &'static [u8]) -> Outcome<Self> {
        let wire = Wire::connect(&format!("127.0.0.1:{port}")).await?;
        let length = body.len();
        let head = format!("POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {media_type}\r\n");
        let request = format!("{head}content-length: {length}\r\n\r\n{body}");
        // Unlike any other in this log.
        let first = u64::from(getrandom::u32()?) << 24;
        let id = request.find(&"#".repeat(ID_DIGITS)).map(|at| (at, first));
        Ok(Self { wire, request: request.into_bytes(), id, expected })
    }
}

impl Client for HttpClient {
    async fn call(&mut self) -> Outcome<()> {
        if let Some((at, id)) = &mut self.id {
            *id += 1;
            self.request[*at..*at + ID_DIGITS].copy_from_slice(format!("{id:0ID_DIGITS$x}").as_bytes());
        }
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
