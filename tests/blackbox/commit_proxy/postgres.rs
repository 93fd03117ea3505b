//! The protocol of PostgreSQL, version 3.
//!
//! Source: PostgreSQL, "Message Flow" and "Message Formats".

use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};

use super::{Answer, Protocol, Request};

/// The codes of a client's first messages, which bear no type.
const SSL_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;
/// The answer to a wish to encrypt.
const NO: &[u8] = b"N";
/// A message that asks for the answers so far, and for nothing else.
const FLUSH: [u8; 5] = [b'H', 0, 0, 0, 4];
const IDLE: u8 = b'I';

/// What a statement does when it is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It is a commit.
    Commit,
    /// It inserts events, and commits where no transaction is open.
    Insert,
    Other,
}

impl Effect {
    fn of(sql: &[u8]) -> Self {
        if super::begins_with(sql, "COMMIT") {
            Self::Commit
        } else if super::contains(sql, "INSERT INTO EVENTS") {
            Self::Insert
        } else {
            Self::Other
        }
    }
}

/// One connection.
#[derive(Default)]
pub(super) struct Connection {
    is_started: bool,
    /// What the client has sent since the last message that asks for an answer: these bytes count as one request.
    gathered: BytesMut,
    commits: bool,
    statements: HashMap<Vec<u8>, Effect>,
    portals: HashMap<Vec<u8>, Effect>,
    /// The state of the transaction, by the last word of the server.
    status: u8,
    /// Requests whose `ReadyForQuery` has not come.
    unanswered: usize,
    has_failed: bool,
}

impl Protocol for Connection {
    fn request(&mut self, buffer: &mut BytesMut) -> Option<Request> {
        if !self.is_started {
            return self.first_message(buffer);
        }
        loop {
            let message = message(buffer)?;
            let (kind, body) = (message[0], &message[5..]);
            match kind {
                b'P' => {
                    let (name, rest) = text(body);
                    self.statements.insert(name.to_vec(), Effect::of(text(rest).0));
                }
                b'B' => {
                    let (portal, rest) = text(body);
                    let effect = self.statements.get(text(rest).0).copied().unwrap_or(Effect::Other);
                    self.portals.insert(portal.to_vec(), effect);
                }
                b'E' => {
                    let effect = self.portals.get(text(body).0).copied().unwrap_or(Effect::Other);
                    // With answers under way the state is not known, as after a rollback that nobody waited for.
                    let is_autocommit = self.unanswered == 0 && self.status == IDLE;
                    self.commits |= effect == Effect::Commit || effect == Effect::Insert && is_autocommit;
                }
                b'Q' => self.commits |= Effect::of(text(body).0) == Effect::Commit,
                _ => {}
            }
            let before = self.gathered.len();
            self.gathered.extend_from_slice(&message);
            match kind {
                b'P' | b'B' | b'D' | b'E' | b'C' => {}
                b'S' | b'Q' | b'F' => return Some(self.complete(before)),
                _ => return Some(Request::Plain(self.gathered.split().freeze())),
            }
        }
    }

    fn answer(&mut self, buffer: &mut BytesMut) -> Option<Answer> {
        let bytes = message(buffer)?;
        let mut succeeded = None;
        match bytes[0] {
            b'E' => self.has_failed = true,
            b'Z' => {
                self.status = bytes[5];
                self.unanswered = self.unanswered.saturating_sub(1);
                succeeded = Some(!std::mem::take(&mut self.has_failed));
            }
            _ => {}
        }
        let ends_statement = matches!(bytes[0], b'C' | b'E');
        Some(Answer { bytes, ends_statement, succeeded })
    }

    fn is_idle(&self) -> bool {
        self.unanswered == 0
    }
}

impl Connection {
    /// Takes a message that bears no type.
    fn first_message(&mut self, buffer: &mut BytesMut) -> Option<Request> {
        let mut head = buffer.get(..8)?;
        let (length, code) = (usize::try_from(head.get_i32()).ok()?, head.get_i32());
        let bytes = (buffer.len() >= length).then(|| buffer.split_to(length).freeze())?;
        if matches!(code, SSL_REQUEST | GSS_REQUEST) {
            return Some(Request::Refused(NO));
        }
        self.is_started = true;
        self.unanswered = usize::from(code != CANCEL_REQUEST);
        Some(Request::Plain(bytes))
    }

    /// Ends a request with the message that begins at `last`, to be answered by `ReadyForQuery`.
    fn complete(&mut self, last: usize) -> Request {
        let bytes = self.gathered.split().freeze();
        self.unanswered += 1;
        if !std::mem::take(&mut self.commits) {
            return Request::Plain(bytes);
        }
        let mut without_commit = BytesMut::new();
        // A statement outside a transaction is committed by the `Sync` after it.
        if bytes[last] == b'S' {
            without_commit.extend_from_slice(&bytes[..last]);
            without_commit.extend_from_slice(&FLUSH);
        }
        Request::Commit { bytes, without_commit: without_commit.freeze() }
    }
}

/// The next message that bears a type.
fn message(buffer: &mut BytesMut) -> Option<Bytes> {
    let mut length = buffer.get(1..5)?;
    let end = 1 + usize::try_from(length.get_i32()).ok()?;
    (buffer.len() >= end).then(|| buffer.split_to(end).freeze())
}

/// A text that ends with a zero, and what follows.
fn text(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}
