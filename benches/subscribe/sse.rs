//! Readers of this server: server-sent events over HTTP/1.1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr, memmem};

use crate::protocol::{Protocol, Sink};
use crate::{Outcome, clock};

/// What stands before the data of an event.
const DATA: &[u8] = br#""data":""#;

/// Characters that hold the stamp: those of nine bytes, which are whole groups of four.
const STAMP_CHARACTERS: usize = 12;

/// What the head of an answer may be long.
const HEAD_BYTES_MAX: usize = 4 * 1024;

/// One subscription, whose positions must rise.
pub(crate) struct SseReader {
    /// Path and query.
    target: String,
    head: Vec<u8>,
    place: Place,
    last_id: u64,
}

/// Where in the answer the next byte is. Source: RFC 9112, "Chunked Transfer Coding".
#[derive(Debug, Clone, Copy)]
enum Place {
    Head,
    /// In the line that tells the length of a chunk, and the length so far.
    Length(usize),
    /// In a chunk, and what is left of it.
    Chunk(usize),
    /// In the end of line behind a chunk.
    ChunkEnd,
}

impl SseReader {
    /// Reads `subject` from its beginning.
    pub(crate) fn subject(subject: &str) -> Self {
        Self::after(subject, 0)
    }

    /// Reads what `subject` has behind the position `after`.
    pub(crate) fn after(subject: &str, after: u64) -> Self {
        Self::new(format!("/events/stream?subject={subject}&from_id={after}"))
    }

    /// Reads every subject that starts with `prefix`.
    pub(crate) fn prefix(prefix: &str) -> Self {
        Self::new(format!("/events/stream?subject={prefix}&recursive=true&from_id=0"))
    }

    fn new(target: String) -> Self {
        Self { target, head: Vec::new(), place: Place::Head, last_id: 0 }
    }

    /// Checks the head of the answer.
    fn check_head(&self) -> Outcome<()> {
        let head = String::from_utf8_lossy(&self.head).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") || !head.contains("transfer-encoding: chunked") {
            return Err(format!("the answer to a subscription is {head}").into());
        }
        Ok(())
    }

    /// An event without its `id: ` and the empty line at its end.
    fn take_event(&mut self, id: &[u8], data: &[u8], sink: &mut Sink) -> Outcome<()> {
        let digits = id.iter().map(|digit| u64::from(digit.wrapping_sub(b'0')));
        let id = digits.fold(0, |id: u64, digit| id.wrapping_mul(10).wrapping_add(digit));
        if id <= self.last_id {
            return Err(format!("position {id} comes after {}", self.last_id).into());
        }
        self.last_id = id;
        let start = memmem::find(data, DATA).ok_or("an event has no data")? + DATA.len();
        let characters = data.get(start..start + STAMP_CHARACTERS).ok_or("the data is too short")?;
        let mut bytes = [0; STAMP_CHARACTERS / 4 * 3];
        STANDARD.decode_slice(characters, &mut bytes)?;
        sink.deliver(clock::stamp(&bytes).ok_or("there is no stamp")?);
        Ok(())
    }
}

impl Protocol for SseReader {
    fn greeting(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n", self.target).into_bytes()
    }

    fn unwrap(&mut self, bytes: &mut [u8]) -> Outcome<usize> {
        let (mut from, mut to) = (0, 0);
        while let Some(&byte) = bytes.get(from) {
            match self.place {
                Place::Chunk(left) => {
                    let count = left.min(bytes.len() - from);
                    bytes.copy_within(from..from + count, to);
                    (from, to) = (from + count, to + count);
                    self.place = if count == left { Place::ChunkEnd } else { Place::Chunk(left - count) };
                    continue;
                }
                Place::ChunkEnd if byte == b'\n' => self.place = Place::Length(0),
                Place::Length(0) if byte == b'\n' => return Err("the server ended the stream".into()),
                Place::Length(length) if byte == b'\n' => self.place = Place::Chunk(length),
                Place::Length(length) => {
                    if let Some(digit) = char::from(byte).to_digit(16) {
                        self.place = Place::Length(length * 16 + digit as usize);
                    }
                }
                Place::ChunkEnd => {}
                Place::Head => {
                    self.head.push(byte);
                    if self.head.ends_with(b"\r\n\r\n") {
                        self.check_head()?;
                        self.head = Vec::new();
                        self.place = Place::Length(0);
                    } else if self.head.len() > HEAD_BYTES_MAX {
                        return Err("the head of an answer does not end".into());
                    }
                }
            }
            from += 1;
        }
        Ok(to)
    }

    fn take(&mut self, bytes: &[u8], sink: &mut Sink) -> Outcome<usize> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            if let Some(rest) = rest.strip_prefix(b"id: ") {
                let Some(id_end) = memchr(b'\n', rest) else { break };
                let data = &rest[id_end + 1..];
                let Some(data_end) = memchr(b'\n', data).filter(|end| data.len() > end + 1) else { break };
                self.take_event(&rest[..id_end], &data[..data_end], sink)?;
                used += b"id: ".len() + id_end + 1 + data_end + 2;
            } else {
                // A comment, the time to come back after, or the end of history.
                let Some(end) = memmem::find(rest, b"\n\n") else { break };
                sink.ready += usize::from(rest.starts_with(b"event: caught-up\n"));
                used += end + 2;
            }
        }
        Ok(used)
    }
}
