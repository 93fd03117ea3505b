//! HTTP/1 or HTTP/2, decided before hyper sees the connection.
//!
//! hyper's own detection waits without a limit for a client that sends half of the HTTP/2 preface.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What every HTTP/2 client sends first. Source: RFC 9113, 3.4.
const HTTP2_PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_BYTES: usize = 24;

/// The preface and the head of the SETTINGS frame that must follow it.
const HTTP2_OPENING_BYTES: usize = PREFACE_BYTES + 9;

/// Bytes in several pieces that are put together before they are written: so few are copied sooner than the system goes
/// through a list of pieces.
const JOINED_BYTES_MAX: usize = 2_048;

/// The version of HTTP that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HttpVersion {
    Http1,
    Http2,
}

impl HttpVersion {
    /// Without ALPN a TLS client speaks HTTP/1.1.
    pub(super) fn from_alpn(protocol: Option<&[u8]>) -> Self {
        if protocol == Some(b"h2") { Self::Http2 } else { Self::Http1 }
    }
}

/// Reads until the bytes differ from the HTTP/2 preface or complete it, and puts them back in front of the stream.
pub(super) async fn detect<T: AsyncRead + Unpin>(mut inner: T) -> io::Result<(HttpVersion, Replay<T>)> {
    let mut head = [0; PREFACE_BYTES];
    let mut filled = 0;
    loop {
        let count = inner.read(&mut head[filled..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += count;
        let version = if head[..filled] != HTTP2_PREFACE[..filled] {
            HttpVersion::Http1
        } else if filled == PREFACE_BYTES {
            HttpVersion::Http2
        } else {
            continue;
        };
        return Ok((version, Replay { inner, head, start: 0, end: filled, received: 0, opened: Opened::default() }));
    }
}

/// Whether the client has shown what it came for: a request head, or over HTTP/2 a first frame.
#[derive(Debug, Clone, Default)]
pub(super) struct Opened(Arc<AtomicBool>);

impl Opened {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream with the bytes that were read ahead in front of it.
///
/// For HTTP/2 it also notes when the opening has arrived: hyper tells nobody that a client sent the preface only.
#[derive(Debug)]
pub(super) struct Replay<T> {
    inner: T,
    head: [u8; PREFACE_BYTES],
    start: usize,
    end: usize,
    /// Counts up to [`HTTP2_OPENING_BYTES`], then stands still.
    received: usize,
    opened: Opened,
}

impl<T> Replay<T> {
    /// A stream of which nothing was read ahead.
    pub(super) fn empty(inner: T) -> Self {
        Self { inner, head: [0; PREFACE_BYTES], start: 0, end: 0, received: 0, opened: Opened::default() }
    }

    /// Sets `opened` once the HTTP/2 opening has been read.
    pub(super) fn noting_http2_opening(mut self, opened: Opened) -> Self {
        self.opened = opened;
        self
    }

    fn count(&mut self, bytes: usize) {
        if self.received < HTTP2_OPENING_BYTES {
            self.received += bytes;
            if self.received >= HTTP2_OPENING_BYTES {
                self.opened.set();
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Replay<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.start < self.end {
            let count = buffer.remaining().min(self.end - self.start);
            buffer.put_slice(&self.head[self.start..self.start + count]);
            self.start += count;
        } else {
            std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        }
        self.count(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Replay<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let inner = Pin::new(&mut self.inner);
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        if slices.len() < 2 || bytes > JOINED_BYTES_MAX {
            return inner.poll_write_vectored(cx, slices);
        }
        let mut joined = [MaybeUninit::uninit(); JOINED_BYTES_MAX];
        let mut joined = ReadBuf::uninit(&mut joined);
        for slice in slices {
            joined.put_slice(slice);
        }
        inner.poll_write(cx, joined.filled())
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn detected(parts: &[&'static [u8]]) -> (Option<HttpVersion>, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(1);
        let parts = parts.to_vec();
        let writer = tokio::spawn(async move {
            for part in parts {
                client.write_all(part).await.unwrap();
            }
        });
        let mut replayed = Vec::new();
        let version = match detect(server).await {
            Ok((version, mut stream)) => {
                stream.read_to_end(&mut replayed).await.unwrap();
                Some(version)
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                None
            }
        };
        writer.await.unwrap();
        (version, replayed)
    }

    #[tokio::test]
    async fn detect_decides_at_the_first_difference_and_replays_every_byte() {
        for start in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"P", b"PRI * HTTP/1.1\r\n", b"\r\n"] {
            let (version, replayed) = detected(&[start, b"OST and more than twenty-four bytes"]).await;
            assert_eq!(version, Some(HttpVersion::Http1));
            assert_eq!(replayed, [start, b"OST and more than twenty-four bytes"].concat());
        }
        let (version, replayed) = detected(&[HTTP2_PREFACE, b"settings"]).await;
        assert_eq!(version, Some(HttpVersion::Http2));
        assert_eq!(replayed, [HTTP2_PREFACE.as_slice(), b"settings"].concat());
    }

    #[tokio::test]
    async fn detect_fails_if_the_client_leaves_undecided() {
        assert_eq!(detected(&[]).await.0, None);
        assert_eq!(detected(&[&HTTP2_PREFACE[..23]]).await.0, None);
    }

    /// Notes how much each call has written.
    #[derive(Default)]
    struct Calls {
        bytes: Vec<u8>,
        of_pieces: Vec<usize>,
        of_one: Vec<usize>,
    }

    impl AsyncWrite for Calls {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.of_one.push(bytes.len());
            self.bytes.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let before = self.bytes.len();
            for slice in slices {
                self.bytes.extend_from_slice(slice);
            }
            let bytes = self.bytes.len() - before;
            self.of_pieces.push(bytes);
            Poll::Ready(Ok(bytes))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn few_bytes_in_pieces_are_written_as_one() {
        let mut stream = Replay::empty(Calls::default());
        let most = vec![b'm'; JOINED_BYTES_MAX - 2];
        for (pieces, bytes) in [
            (&[&b"1a"[..], b"data", b"\r\n"][..], 8),
            (&[b"a", &most, b"z"], JOINED_BYTES_MAX),
            (&[b"a", &most, b"yz"], JOINED_BYTES_MAX + 1),
            (&[b"alone"], 5),
        ] {
            let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            assert_eq!(stream.write_vectored(&pieces).await.unwrap(), bytes);
        }
        let Calls { bytes, of_pieces, of_one } = stream.inner;
        assert_eq!(of_one, [8, JOINED_BYTES_MAX]);
        assert_eq!(of_pieces, [JOINED_BYTES_MAX + 1, 5]);
        assert!(bytes.starts_with(b"1adata\r\nam") && bytes.ends_with(b"myzalone"));
    }

    #[tokio::test]
    async fn replay_notes_the_opening_once_a_frame_head_follows_the_preface() {
        for (length, expected) in [(HTTP2_OPENING_BYTES - 1, false), (HTTP2_OPENING_BYTES, true)] {
            let opened = Opened::default();
            let bytes = vec![0; length];
            let mut stream = Replay::empty(bytes.as_slice()).noting_http2_opening(opened.clone());
            stream.read_to_end(&mut Vec::new()).await.unwrap();
            assert_eq!(opened.get(), expected);
        }
    }
}
