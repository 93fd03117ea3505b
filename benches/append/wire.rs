//! A connection with a buffer for answers: the least a protocol spoken in text needs.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Outcome;

/// Room for an answer; the longest are the positions of a batch and what a server says of itself at first.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What a look at the bytes so far finds: how many belong to a whole answer, and what it says; or that more must come.
pub(crate) type Scan<T> = Outcome<Option<(usize, T)>>;

/// A connection to a server on this machine.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Box<[u8; ANSWER_BYTES_MAX]>,
    filled: usize,
}

impl Wire {
    /// Connects to `address`, which is `host:port`.
    pub(crate) async fn connect(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Box::new([0; ANSWER_BYTES_MAX]), filled: 0 })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Reads until `scan` finds an answer, and takes it from the buffer.
    pub(crate) async fn receive<T>(&mut self, scan: impl Fn(&[u8]) -> Scan<T>) -> Outcome<T> {
        loop {
            if let Some((used, answer)) = scan(&self.buffer[..self.filled])? {
                self.buffer.copy_within(used..self.filled, 0);
                self.filled -= used;
                return Ok(answer);
            }
            let count = self.stream.read(&mut self.buffer[self.filled..]).await?;
            if count == 0 {
                return Err("the server closed the connection, or its answer is too long".into());
            }
            self.filled += count;
        }
    }
}

/// The first line without its end, and where the next one starts.
pub(crate) fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]), end + 1))
}
