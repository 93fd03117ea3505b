//! Appends to Redis Streams.

use crate::load::Client;
use crate::payload::payload;
use crate::resp::command;
use crate::wire::{Scan, Wire, line};
use crate::{Outcome, address, subject};

/// The variable that names the server.
pub(crate) const VARIABLE: &str = "EVENTS_DB_BENCH_REDIS_URL";

/// One connection that adds to the one stream.
pub(crate) struct RedisClient {
    wire: Wire,
    request: Vec<u8>,
}

impl RedisClient {
    pub(crate) async fn connect(url: &str, number: usize) -> Outcome<Self> {
        let wire = Wire::connect(&address(url)?).await?;
        let subject = subject(number);
        let data = payload();
        let pairs: [(&str, &[u8]); 4] =
            [("source", b"bench"), ("type", b"made"), ("subject", subject.as_bytes()), ("data", &data)];
        let mut words: Vec<&[u8]> = vec![b"XADD", b"events", b"*"];
        words.extend(pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value]));
        Ok(Self { wire, request: command(&words) })
    }
}

impl Client for RedisClient {
    async fn call(&mut self) -> Outcome<()> {
        self.wire.send(&self.request).await?;
        self.wire.receive(scan).await?;
        Ok(())
    }
}

/// Empties the server, checks that it syncs every write, and tells its version.
pub(crate) async fn prepare(url: &str) -> Outcome<String> {
    let mut wire = Wire::connect(&address(url)?).await?;
    ask(&mut wire, &[b"FLUSHALL"], 1).await?;
    for (setting, needed) in [("appendonly", "yes"), ("appendfsync", "always")] {
        // The length of the answer, the name, the value.
        let value = ask(&mut wire, &[b"CONFIG", b"GET", setting.as_bytes()], 3).await?;
        if value != needed {
            return Err(format!("Redis must run with {setting} {needed}, not {value}").into());
        }
    }
    ask(&mut wire, &[b"EVAL", b"return redis.REDIS_VERSION", b"0"], 1).await
}

/// Sends a command and returns the last of its `answers`.
async fn ask(wire: &mut Wire, words: &[&[u8]], answers: usize) -> Outcome<String> {
    wire.send(&command(words)).await?;
    for _ in 1..answers {
        wire.receive(scan).await?;
    }
    wire.receive(scan).await
}

/// A text, or the length of an array, whose elements follow.
fn scan(bytes: &[u8]) -> Scan<String> {
    let Some((head, at)) = line(bytes) else { return Ok(None) };
    let rest = std::str::from_utf8(head.get(1..).ok_or("an empty answer")?)?;
    match head.first() {
        Some(b'$') => {
            let length: usize = rest.parse()?;
            let Some(text) = bytes.get(at..at + length + 2) else { return Ok(None) };
            Ok(Some((at + length + 2, String::from_utf8_lossy(&text[..length]).into_owned())))
        }
        Some(b'+' | b'*') => Ok(Some((at, rest.to_owned()))),
        _ => Err(format!("Redis answers {}", String::from_utf8_lossy(head)).into()),
    }
}
