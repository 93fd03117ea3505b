//! Server-Sent Events out of the bytes of a stream. Source: HTML, "Server-sent events", as far as our server uses it.

use crate::adapters::client::{ClientError, Followed};

/// Bytes that are not read yet.
#[derive(Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// How many of them were looked through for an end.
    looked: usize,
}

impl Frames {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
    }

    /// The next whole frame that says something; [`ClientError::Strange`] for one that is none of ours.
    pub(super) fn next(&mut self) -> Option<Result<Followed, ClientError>> {
        loop {
            let from = self.looked.saturating_sub(1);
            let Some(at) = memchr::memmem::find(&self.bytes[from..], b"\n\n") else {
                self.looked = self.bytes.len();
                return None;
            };
            let frame: Vec<u8> = self.bytes.drain(..from + at + 2).collect();
            self.looked = 0;
            let Ok(frame) = String::from_utf8(frame) else { return Some(Err(ClientError::Strange)) };
            if let Some(followed) = Self::read(&frame) {
                return Some(followed);
            }
        }
    }

    /// `None` for a frame that says nothing.
    fn read(frame: &str) -> Option<Result<Followed, ClientError>> {
        let (mut is_named, mut place, mut json) = (false, None, None);
        for line in frame.lines() {
            if let Some(id) = line.strip_prefix("id:") {
                let Ok(position) = id.trim().parse() else { return Some(Err(ClientError::Strange)) };
                place = Some(position);
            } else if line.starts_with("event:") {
                is_named = true;
            } else if let Some(data) = line.strip_prefix("data:") {
                json = Some(data.strip_prefix(' ').unwrap_or(data).to_owned());
            }
        }
        match (json, place) {
            (Some(json), Some(position)) if !is_named => Some(Ok(Followed::Event { position, json })),
            (Some(_), None) if !is_named => Some(Err(ClientError::Strange)),
            (_, Some(position)) => Some(Ok(Followed::Place(position))),
            (_, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, chunk: usize) -> Vec<Option<Followed>> {
        let mut frames = Frames::default();
        let mut read = Vec::new();
        for bytes in text.as_bytes().chunks(chunk) {
            frames.push(bytes);
            while let Some(frame) = frames.next() {
                read.push(frame.ok());
            }
        }
        read
    }

    #[test]
    fn frames_are_whole_however_they_come() {
        let text = ": hello\n\nid: 7\ndata: {\"a\":1}\n\nevent: caught-up\nid: 7\ndata: {}\n\n: silence\nid: 9\n\nid:10\ndata:x\n\n";
        let event = |position, json: &str| Some(Followed::Event { position, json: json.to_owned() });
        let expected = [event(7, "{\"a\":1}"), Some(Followed::Place(7)), Some(Followed::Place(9)), event(10, "x")];
        for chunk in [1, 2, 7, text.len()] {
            assert_eq!(read(text, chunk), expected, "{chunk}");
        }
    }

    #[test]
    fn what_is_not_ours_is_told() {
        for text in ["data: x\n\n", "id: x\ndata: y\n\n"] {
            assert_eq!(read(text, text.len()), [None], "{text}");
        }
        assert!(read("data: x\nid: 1\n", 3).is_empty());
    }
}
