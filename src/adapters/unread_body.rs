//! Reads on where a handler stopped reading, so that an early refusal reaches its client.
//!
//! Over HTTP/1 an answer to a half-read request ends with a closed connection. A client that is still sending then
//! sees a broken pipe instead of the answer, and one that is done loses the next request on that connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Buf, Bytes};
use http::header::EXPECT;
use http::{Request, Version};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::time::timeout;

/// Bytes that are read on for: more than the largest event in any encoding, so that only nonsense is cut off.
const UNREAD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How long it is read on: a client needs no longer to notice the answer.
const READ_ON_MAX: Duration = Duration::from_secs(10);

/// Sees to it that what is left of the request's body is read, whoever drops it, within bounds.
///
/// Leaves alone what needs no help: HTTP/2 resets one stream only, and a client that expects `100 Continue` sends
/// nothing after a refusal.
pub fn read_on(request: Request<Body>) -> Request<Body> {
    let helps = request.version() < Version::HTTP_2 && !request.headers().contains_key(EXPECT);
    if helps && !request.body().is_end_stream() {
        request.map(|body| Body::new(ReadOn { body, is_done: false }))
    } else {
        request
    }
}

/// A body that is read to its end.
struct ReadOn {
    body: Body,
    is_done: bool,
}

impl HttpBody for ReadOn {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.is_done = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ReadOn {
    fn drop(&mut self) {
        // Outside of a runtime nobody is connected any more.
        if !self.is_done
            && !self.body.is_end_stream()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(timeout(READ_ON_MAX, discard(std::mem::take(&mut self.body))));
        }
    }
}

async fn discard(mut body: Body) {
    let mut unread_bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        unread_bytes += frame.data_ref().map_or(0, Buf::remaining);
        if unread_bytes > UNREAD_BYTES_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    fn request(version: Version) -> (mpsc::Sender<Bytes>, http::request::Builder, Body) {
        let (chunks_tx, chunks) = mpsc::channel(1);
        let body = Body::from_stream(ReceiverStream::new(chunks).map(Ok::<_, std::io::Error>));
        (chunks_tx, Request::builder().version(version), body)
    }

    #[tokio::test]
    async fn dropped_body_is_read_to_its_end() {
        let (chunks_tx, head, body) = request(Version::HTTP_11);
        drop(read_on(head.body(body).unwrap()));
        for _ in 0..100 {
            chunks_tx.send(Bytes::from_static(b"x")).await.expect("somebody reads");
        }
    }

    #[tokio::test]
    async fn nonsense_is_cut_off() {
        let (chunks_tx, head, body) = request(Version::HTTP_11);
        drop(read_on(head.body(body).unwrap()));
        let chunk = Bytes::from(vec![0; 1024 * 1024]);
        let mut sent_bytes = 0;
        while chunks_tx.send(chunk.clone()).await.is_ok() {
            sent_bytes += chunk.len();
            assert!(sent_bytes < 2 * UNREAD_BYTES_MAX);
        }
    }

    #[tokio::test]
    async fn what_needs_no_help_is_left_alone() {
        for (version, expect) in [(Version::HTTP_2, None), (Version::HTTP_11, Some("100-continue"))] {
            let (chunks_tx, mut head, body) = request(version);
            if let Some(expect) = expect {
                head = head.header(EXPECT, expect);
            }
            drop(read_on(head.body(body).unwrap()));
            assert!(chunks_tx.send(Bytes::new()).await.is_err(), "{version:?}");
        }
    }

    #[tokio::test]
    async fn body_arrives_unchanged() {
        let (chunks_tx, head, body) = request(Version::HTTP_11);
        let body = read_on(head.body(body).unwrap()).into_body();
        tokio::spawn(async move {
            for chunk in ["one ", "two"] {
                chunks_tx.send(Bytes::from_static(chunk.as_bytes())).await.unwrap();
            }
        });
        assert_eq!(body.collect().await.unwrap().to_bytes(), "one two");
    }
}
