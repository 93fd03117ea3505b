//! Core NATS: what is published goes to who is there, and nothing is stored.

use std::net::SocketAddr;

use memchr::memchr;

use crate::payload::payload;
use crate::protocol::{Append, Protocol, Sink};
use crate::{Outcome, clock, peer};

/// The variable that names the server.
pub(crate) const VARIABLE: &str = "EVENTS_DB_BENCH_NATS_URL";

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";

/// A subscription.
pub(crate) struct NatsReader {
    pub(crate) subject: String,
}

impl Protocol for NatsReader {
    fn greeting(&self) -> Vec<u8> {
        // The PONG tells that the subscription is there.
        format!("{CONNECT}SUB {} 1\r\nPING\r\n", self.subject).into_bytes()
    }

    fn take(&mut self, bytes: &[u8], sink: &mut Sink) -> Outcome<usize> {
        take(bytes, sink)
    }
}

/// A connection that publishes, without acknowledgements.
pub(crate) struct NatsPublisher {
    head: String,
    data: Vec<u8>,
}

impl NatsPublisher {
    pub(crate) fn new(subject: &str) -> Self {
        let data = payload();
        Self { head: format!("PUB {subject} {}\r\n", data.len()), data }
    }
}

impl Protocol for NatsPublisher {
    fn greeting(&self) -> Vec<u8> {
        CONNECT.as_bytes().to_vec()
    }

    fn take(&mut self, bytes: &[u8], sink: &mut Sink) -> Outcome<usize> {
        take(bytes, sink)
    }
}

impl Append for NatsPublisher {
    const IS_ANSWERED: bool = false;

    fn write(&mut self, _number: u64, stamp: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(&stamp.to_le_bytes());
        out.extend_from_slice(&self.data[clock::STAMP_BYTES..]);
        out.extend_from_slice(b"\r\n");
    }
}

fn take(bytes: &[u8], sink: &mut Sink) -> Outcome<usize> {
    let mut used = 0;
    while let Some(line) = memchr(b'\n', &bytes[used..]) {
        let (head, rest) = bytes[used..].split_at(line + 1);
        if head.starts_with(b"MSG ") {
            let digits = head.trim_ascii_end().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
            let length: usize = std::str::from_utf8(digits)?.parse()?;
            let Some(message) = rest.get(..length + 2) else { break };
            sink.deliver(clock::stamp(message).ok_or("the message is too short")?);
            used += message.len();
        } else if head.starts_with(b"PING") {
            sink.reply.extend_from_slice(b"PONG\r\n");
        } else if head.starts_with(b"PONG") {
            sink.ready += 1;
        } else if !head.starts_with(b"INFO ") {
            return Err(format!("NATS says {}", String::from_utf8_lossy(head)).into());
        }
        used += head.len();
    }
    Ok(used)
}

/// What the server says it is.
pub(crate) fn version(address: SocketAddr) -> Outcome<String> {
    let info = peer::ask(address, b"", |answer| answer.ends_with('\n'))?;
    let info: serde_json::Value = serde_json::from_str(info.trim_start_matches("INFO "))?;
    Ok(info["version"].as_str().unwrap_or("unknown").to_owned())
}
