//! Appends to this server over HTTP/1.1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

use crate::payload::payload;
use crate::protocol::{Append, Protocol, Sink};
use crate::subjects::Subjects;
use crate::{Outcome, clock};

/// A kept-alive connection that posts one event at a time.
pub(crate) struct HttpAppender {
    subjects: Subjects,
    /// All up to the subject.
    start: Vec<u8>,
    /// The data behind the stamp, encoded.
    data: String,
    /// The byte that makes the stamp whole groups of four characters.
    filler: u8,
}

const AFTER_SUBJECT: &str = r#"","data":""#;
const AFTER_DATA: &str = r#""}"#;

impl HttpAppender {
    /// Appends to `subjects` in turn.
    pub(crate) fn new(subjects: Subjects) -> Self {
        let data = payload();
        let (stamp, rest) = data.split_at(clock::STAMP_BYTES + 1);
        let encoded = STANDARD.encode(rest);
        let before = r#"{"source":"bench","type":"made","subject":""#;
        let length = before.len()
            + subjects.at(0).len()
            + AFTER_SUBJECT.len()
            + STANDARD.encode(stamp).len()
            + encoded.len()
            + AFTER_DATA.len();
        let head = "POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n";
        let start = format!("{head}content-length: {length}\r\n\r\n{before}").into_bytes();
        Self { subjects, start, data: encoded, filler: stamp[clock::STAMP_BYTES] }
    }
}

impl Append for HttpAppender {
    const IS_ANSWERED: bool = true;

    fn write(&mut self, number: u64, stamp: u64, out: &mut Vec<u8>) {
        let mut bytes = stamp.to_le_bytes().to_vec();
        bytes.push(self.filler);
        let (subject, stamp) = (self.subjects.at(number), STANDARD.encode(bytes));
        out.extend_from_slice(&self.start);
        for text in [&subject, AFTER_SUBJECT, &stamp, &self.data, AFTER_DATA] {
            out.extend_from_slice(text.as_bytes());
        }
    }
}

impl Protocol for HttpAppender {
    fn greeting(&self) -> Vec<u8> {
        Vec::new()
    }

    fn take(&mut self, bytes: &[u8], sink: &mut Sink) -> Outcome<usize> {
        let Some(head) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(0) };
        let text = std::str::from_utf8(&bytes[..head])?;
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
        });
        let length = length.ok_or("an answer without a length")??;
        let Some(body) = bytes.get(head + 4..head + 4 + length) else { return Ok(0) };
        if !text.starts_with("HTTP/1.1 200") || !body.starts_with(br#"{"id":"#) {
            return Err(format!("the answer to an append is {text} {}", String::from_utf8_lossy(body)).into());
        }
        sink.answers += 1;
        Ok(head + 4 + length)
    }
}
