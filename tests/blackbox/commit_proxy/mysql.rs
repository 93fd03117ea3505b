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
/// The second byte of the capabilities, where it says that the server could encrypt.
const CLIENT_SSL: u8 = 0x08;

/// One connection.
#[derive(Default)]
pub(super) struct Connection {
    is_greeted: bool,
    /// A commit was sent, and its answer, always one packet, has not come.
    is_committing: bool,
}

impl Protocol for Connection {
    fn request(&mut self, buffer: &mut BytesMut) -> Option<Request> {
        let bytes = packet(buffer)?;
        // A command begins a new numbering; what belongs to the login goes on with the server's.
        let is_command = bytes[3] == 0;
        if !is_command || !commits(&bytes[HEADER_BYTES..]) {
            return Some(Request::Plain(bytes));
        }
        self.is_committing = true;
        Some(Request::Commit { bytes, without_commit: Bytes::new() })
    }

    fn answer(&mut self, buffer: &mut BytesMut) -> Option<Answer> {
        let mut bytes = packet(buffer)?;
        if !self.is_greeted {
            self.is_greeted = true;
            bytes = without_encryption(&bytes);
        }
        self.is_committing = false;
        let succeeded = bytes.get(HEADER_BYTES) != Some(&ERR);
        Some(Answer { bytes, ends_statement: true, succeeded: Some(succeeded) })
    }

    fn is_idle(&self) -> bool {
        !self.is_committing
    }
}

fn commits(payload: &[u8]) -> bool {
    payload.split_first().is_some_and(|(command, sql)| *command == COM_QUERY && super::begins_with(sql, "COMMIT"))
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
