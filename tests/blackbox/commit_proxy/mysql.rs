//! The protocol of MySQL and MariaDB.
//!
//! Source: MariaDB, "0 - Packet", "Initial handshake packet", `COM_QUERY`, `OK_Packet`.

use bytes::{Buf, Bytes, BytesMut};

use super::{Answer, Protocol, Request};

const HEADER_BYTES: usize = 4;
/// A packet of this size is continued by the next one.
const PAYLOAD_BYTES_MAX: usize = 0xFF_FFFF;
const COM_QUERY: u8 = 0x03;
const ERR: u8 = 0xFF;
const SEPARATOR: &[u8] = b"; ";
const COMMIT: &[u8] = b"; COMMIT";
const NOTHING: &[u8] = b"; DO 0  ";
/// The second byte of the capabilities, where it says that the server could encrypt.
const CLIENT_SSL: u8 = 0x08;

/// One connection.
#[derive(Default)]
pub(super) struct Connection {
    is_greeted: bool,
    /// Statements of the text that commits whose answers, one packet each, have not come.
    unanswered: usize,
}

impl Protocol for Connection {
    fn request(&mut self, buffer: &mut BytesMut) -> Option<Request> {
        let bytes = packet(buffer)?;
        // A command begins a new numbering; what belongs to the login goes on with the server's.
        let is_command = bytes[3] == 0;
        let Some(text) = commit(&bytes[HEADER_BYTES..]).filter(|_| is_command) else {
            return Some(Request::Plain(bytes));
        };
        self.unanswered = 1 + text.windows(SEPARATOR.len()).filter(|part| *part == SEPARATOR).count();
        let without_commit = if self.unanswered == 1 { Bytes::new() } else { without_commit(&bytes) };
        Some(Request::Commit { bytes, without_commit })
    }

    fn answer(&mut self, buffer: &mut BytesMut) -> Option<Answer> {
        let mut bytes = packet(buffer)?;
        if !self.is_greeted {
            self.is_greeted = true;
            bytes = without_encryption(&bytes);
        }
        let succeeded = bytes.get(HEADER_BYTES) != Some(&ERR);
        // The first error ends a text.
        self.unanswered = if succeeded { self.unanswered.saturating_sub(1) } else { 0 };
        Some(Answer { bytes, ends_statement: self.unanswered <= 1, succeeded: Some(succeeded) })
    }

    fn is_idle(&self) -> bool {
        self.unanswered == 0
    }
}

/// The text of a command that commits events: a `COMMIT`, or a text that inserts events and ends with one. No value in a
/// text of the server has a semicolon.
fn commit(payload: &[u8]) -> Option<&[u8]> {
    let (COM_QUERY, text) = payload.split_first().map(|(command, text)| (*command, text))? else { return None };
    let is_insert = super::contains(text, "INSERT INTO EVENTS ") && text.ends_with(COMMIT);
    (is_insert || super::begins_with(text, "COMMIT")).then_some(text)
}

/// The same text and as long, with a last statement that does nothing.
fn without_commit(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    let end = bytes.len() - COMMIT.len();
    bytes[end..].copy_from_slice(NOTHING);
    bytes.into()
}

/// The next packet with its continuations.
fn packet(buffer: &mut BytesMut) -> Option<Bytes> {
    let mut end = 0;
    loop {
        let mut header = buffer.get(end..end + HEADER_BYTES)?;
        let length = usize::try_from(header.get_uint_le(3)).ok()?;
        end += HEADER_BYTES + length;
        if length < PAYLOAD_BYTES_MAX {
            break;
        }
    }
    (buffer.len() >= end).then(|| buffer.split_to(end).freeze())
}

/// The greeting of a server that cannot encrypt.
fn without_encryption(greeting: &[u8]) -> Bytes {
    /// Connection id, first part of the scramble, filler, and the first byte of the capabilities.
    const BEFORE_BYTES: usize = 4 + 8 + 1 + 1;
    let mut greeting = greeting.to_vec();
    let version = HEADER_BYTES + 1;
    if let Some(length) = greeting.get(version..).and_then(|rest| rest.iter().position(|byte| *byte == 0))
        && let Some(capabilities) = greeting.get_mut(version + length + 1 + BEFORE_BYTES)
    {
        *capabilities &= !CLIENT_SSL;
    }
    greeting.into()
}
