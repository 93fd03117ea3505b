//! Redis Streams: readers ask for what is new and wait for it, again and again.

use std::net::SocketAddr;

use memchr::memchr;

use crate::payload::payload;
use crate::protocol::{Append, Protocol, Sink};
use crate::resp::command;
use crate::{Outcome, clock, peer};

/// The variable that names the server.
pub(crate) const VARIABLE: &str = "EVENTS_DB_BENCH_REDIS_URL";

/// The field that holds the data.
const FIELD: &str = "d";

/// `XREAD BLOCK 0` in a loop.
pub(crate) struct RedisReader {
    key: String,
    last_id: String,
    /// Entries of the answer that have not come yet.
    left: usize,
}

impl RedisReader {
    pub(crate) fn new(key: &str) -> Self {
        Self { key: key.to_owned(), last_id: "0-0".to_owned(), left: 0 }
    }

    fn read(&self) -> Vec<u8> {
        let words = ["XREAD", "BLOCK", "0", "STREAMS", &self.key, &self.last_id];
        command(&words.map(str::as_bytes))
    }
}

impl Protocol for RedisReader {
    fn greeting(&self) -> Vec<u8> {
        // The server takes one command after the other: who has the answer to the first is in the second.
        [command(&[b"PING"]), self.read()].concat()
    }

    fn take(&mut self, bytes: &[u8], sink: &mut Sink) -> Outcome<usize> {
        let mut words = Words { bytes, used: 0 };
        let mut used = 0;
        loop {
            if self.left == 0 {
                let Some(count) = head(&mut words, sink)? else { break };
                self.left = count;
            } else {
                let Some((id, data)) = entry(&mut words)? else { break };
                self.last_id.clear();
                self.last_id.push_str(std::str::from_utf8(id)?);
                sink.deliver(clock::stamp(data).ok_or("the data is too short")?);
                self.left -= 1;
                if self.left == 0 {
                    sink.reply.extend_from_slice(&self.read());
                }
            }
            used = words.used;
        }
        Ok(used)
    }
}

/// `XADD`, one at a time.
pub(crate) struct RedisAppender {
    key: String,
    data: Vec<u8>,
}

impl RedisAppender {
    pub(crate) fn new(key: &str) -> Self {
        Self { key: key.to_owned(), data: payload() }
    }
}

impl Protocol for RedisAppender {
    fn greeting(&self) -> Vec<u8> {
        Vec::new()
    }

    fn take(&mut self, bytes: &[u8], sink: &mut Sink) -> Outcome<usize> {
        let mut words = Words { bytes, used: 0 };
        Ok(match words.text()? {
            Some(_id) => {
                sink.answers += 1;
                words.used
            }
            None => 0,
        })
    }
}

impl Append for RedisAppender {
    const IS_ANSWERED: bool = true;

    fn write(&mut self, _number: u64, stamp: u64, out: &mut Vec<u8>) {
        self.data[..clock::STAMP_BYTES].copy_from_slice(&stamp.to_le_bytes());
        let words: [&[u8]; 5] = [b"XADD", self.key.as_bytes(), b"*", FIELD.as_bytes(), &self.data];
        out.extend_from_slice(&command(&words));
    }
}

/// The start of an answer: the number of its entries, or 0 for another answer.
fn head(words: &mut Words<'_>, sink: &mut Sink) -> Outcome<Option<usize>> {
    let Some(first) = words.line()? else { return Ok(None) };
    if first == b"+PONG" {
        sink.ready += 1;
        return Ok(Some(0));
    }
    // One stream, which is its name and its entries.
    let (Some(_pair), Some(_name), Some(entries)) = (words.line()?, words.text()?, words.line()?) else {
        return Ok(None);
    };
    Ok(Some(number(entries)?))
}

/// An entry: its id, and a name with the data.
fn entry<'a>(words: &mut Words<'a>) -> Outcome<Option<(&'a [u8], &'a [u8])>> {
    let (Some(_pair), Some(id), Some(_fields)) = (words.line()?, words.text()?, words.line()?) else { return Ok(None) };
    let (Some(_field), Some(data)) = (words.text()?, words.text()?) else { return Ok(None) };
    Ok(Some((id, data)))
}

/// The parts of an answer. Source: Redis, "RESP protocol spec".
struct Words<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl<'a> Words<'a> {
    fn line(&mut self) -> Outcome<Option<&'a [u8]>> {
        let rest = &self.bytes[self.used..];
        let Some(end) = memchr(b'\n', rest) else { return Ok(None) };
        self.used += end + 1;
        let line = rest[..end].trim_ascii_end();
        if line.starts_with(b"-") {
            return Err(format!("Redis answers {}", String::from_utf8_lossy(line)).into());
        }
        Ok(Some(line))
    }

    fn text(&mut self) -> Outcome<Option<&'a [u8]>> {
        let Some(line) = self.line()? else { return Ok(None) };
        let length = number(line)?;
        let Some(text) = self.bytes.get(self.used..self.used + length + 2) else { return Ok(None) };
        self.used += length + 2;
        Ok(Some(&text[..length]))
    }
}

/// The number behind the first character.
fn number(line: &[u8]) -> Outcome<usize> {
    Ok(std::str::from_utf8(line.get(1..).unwrap_or_default())?.parse()?)
}

/// What the server says it is.
pub(crate) fn version(address: SocketAddr) -> Outcome<String> {
    let script = command(&[b"EVAL", b"return redis.REDIS_VERSION", b"0"]);
    let answer = peer::ask(address, &script, |answer| answer.matches('\n').count() == 2)?;
    Ok(answer.lines().nth(1).unwrap_or("unknown").to_owned())
}
