//! A connection that never waits.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol as Transport, Socket, Type};

use crate::protocol::{Protocol, Sink};
use crate::{Outcome, clock};

/// Bytes that one call reads at the most.
pub(crate) const READ_BYTES_MAX: usize = 256 * 1024;

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// One side of a protocol and its socket.
pub(crate) struct Connection<P> {
    stream: TcpStream,
    pub(crate) protocol: P,
    /// The start of a message whose end has not come.
    rest: Vec<u8>,
    /// What the socket has not taken.
    out: Vec<u8>,
}

impl<P: Protocol> Connection<P> {
    /// Connects, says the greeting, and registers for everything that comes.
    pub(crate) fn open(address: SocketAddr, protocol: P, registry: &Registry, token: Token) -> Outcome<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Transport::TCP))?;
        socket.connect_timeout(&address.into(), CONNECT_WITHIN)?;
        socket.set_tcp_nodelay(true)?;
        // No port waits for a minute after its connection: one run needs more of them than there are.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let out = protocol.greeting();
        let mut connection = Self { stream, protocol, rest: Vec::new(), out };
        connection.flush()?;
        Ok(connection)
    }

    /// Reads what has come.
    ///
    /// `buffer` is longer than [`READ_BYTES_MAX`] by the longest message.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], sink: &mut Sink) -> Outcome<()> {
        loop {
            let start = self.rest.len();
            buffer[..start].copy_from_slice(&self.rest);
            let end = buffer.len().min(start + READ_BYTES_MAX);
            let count = match self.stream.read(&mut buffer[start..end]) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            sink.now = clock::now();
            let filled = start + self.protocol.unwrap(&mut buffer[start..start + count])?;
            let used = self.protocol.take(&buffer[..filled], sink)?;
            self.rest.clear();
            self.rest.extend_from_slice(&buffer[used..filled]);
            if !sink.reply.is_empty() {
                self.out.append(&mut sink.reply);
                self.flush()?;
            }
            // Less than was asked for: nothing is left, and what comes next is told anew.
            if start + count < end {
                return Ok(());
            }
        }
    }

    /// Lets the protocol write, and the socket take what it can.
    pub(crate) fn send(&mut self, write: impl FnOnce(&mut P, &mut Vec<u8>)) -> Outcome<()> {
        write(&mut self.protocol, &mut self.out);
        self.flush()
    }

    /// Lets the socket take what it can.
    pub(crate) fn flush(&mut self) -> Outcome<()> {
        let mut sent = 0;
        while sent < self.out.len() {
            match self.stream.write(&self.out[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.out.drain(..sent);
        Ok(())
    }

    /// Whether everything that was said is with the socket.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }
}
