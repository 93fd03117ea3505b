//! A subscription as server-sent events.
//!
//! User text never stands in a field of its own: the position is the `id`, everything else is JSON on one `data` line.
//! Source: WHATWG HTML, "Server-sent events".

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;
use std::vec;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::timeout;

use crate::adapters::api_error::ApiError;
use crate::adapters::rest::event_json::{encoded_bytes, write_event};
use crate::domain::event::StoredEvent;
use crate::domain::position::Position;
use crate::domain::subscription::{SubscriptionEnded, SubscriptionItem};

/// Bytes of a page that are written at once: enough for few system calls, little for a reader that has stopped. A
/// larger event is written alone.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Bytes around the JSON of an event: `id: `, the position, `data: ` and line ends.
const FRAME_BYTES: usize = 32;

/// Tells the client to come back a second after the connection ended.
const PREAMBLE: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// Shows proxies and dead-peer detection that the connection lives.
const HEARTBEAT: Bytes = Bytes::from_static(b": heartbeat\n\n");

struct Frames<S> {
    items: Pin<Box<S>>,
    /// What is left of the page that is being written.
    page: vec::IntoIter<StoredEvent>,
    heartbeat: Duration,
}

/// The body that carries `items`, with a comment whenever nothing was sent for `heartbeat`. Ends with `items`.
pub(super) fn body<S>(items: S, heartbeat: Duration) -> Body
where
    S: Stream<Item = Result<SubscriptionItem, SubscriptionEnded>> + Send + 'static,
{
    Body::from_stream(chunks(items, heartbeat).map(Ok::<_, Infallible>))
}

fn chunks<S>(items: S, heartbeat: Duration) -> impl Stream<Item = Bytes>
where
    S: Stream<Item = Result<SubscriptionItem, SubscriptionEnded>>,
{
    let frames = Frames { items: Box::pin(items), page: Vec::new().into_iter(), heartbeat };
    let chunks = stream::unfold(frames, |mut frames| async move {
        let chunk = frames.next_chunk().await?;
        Some((chunk, frames))
    });
    stream::iter([PREAMBLE]).chain(chunks)
}

impl<S: Stream<Item = Result<SubscriptionItem, SubscriptionEnded>>> Frames<S> {
    async fn next_chunk(&mut self) -> Option<Bytes> {
        if let Some(chunk) = self.page_chunk() {
            return Some(chunk);
        }
        match timeout(self.heartbeat, self.items.next()).await {
            Err(_) => Some(HEARTBEAT),
            Ok(Some(Ok(SubscriptionItem::Events(events)))) => {
                self.page = events.into_iter();
                self.page_chunk()
            }
            Ok(Some(Ok(SubscriptionItem::CaughtUp(position)))) => Some(caught_up(position)),
            Ok(Some(Err(ended))) => {
                ApiError::from(ended).log();
                None
            }
            Ok(None) => None,
        }
    }

    /// The next events of the page, `None` when it is used up.
    fn page_chunk(&mut self) -> Option<Bytes> {
        let count = chunk_events(self.page.as_slice());
        let bytes = self.page.as_slice()[..count].iter().map(frame_bytes).sum();
        let mut chunk = Vec::with_capacity(bytes);
        for event in self.page.by_ref().take(count) {
            write_frame(&mut chunk, &event);
        }
        if self.page.len() == 0 {
            // An iterator that is used up still holds the memory of its page.
            self.page = Vec::new().into_iter();
        }
        (!chunk.is_empty()).then(|| chunk.into())
    }
}

/// How many of `events` fit into a chunk; at least one, if there is one.
fn chunk_events(events: &[StoredEvent]) -> usize {
    let mut bytes = 0;
    let fitting = events.iter().take_while(|event| {
        bytes += frame_bytes(event);
        bytes <= CHUNK_BYTES_MAX
    });
    fitting.count().max(1).min(events.len())
}

fn frame_bytes(event: &StoredEvent) -> usize {
    encoded_bytes(event) + FRAME_BYTES
}

fn write_frame(out: &mut Vec<u8>, event: &StoredEvent) {
    out.extend_from_slice(format!("id: {}\ndata: ", event.position).as_bytes());
    write_event(out, event);
    out.extend_from_slice(b"\n\n");
}

fn caught_up(position: Option<Position>) -> Bytes {
    let position = position.map_or(0, Position::get);
    format!("event: caught-up\nid: {position}\ndata: {{\"position\":{position}}}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::rest::testing::stored_event;

    async fn written(items: Vec<SubscriptionItem>) -> Vec<String> {
        let items = stream::iter(items.into_iter().map(Ok));
        chunks(items, Duration::from_secs(15)).map(|chunk| String::from_utf8(chunk.to_vec()).unwrap()).collect().await
    }

    #[tokio::test]
    async fn stream_is_written_as_documented() {
        let events = vec![stored_event(3, "a", b"x"), stored_event(5, "b\n\ndata: y", b"")];
        let items = vec![
            SubscriptionItem::Events(events),
            SubscriptionItem::CaughtUp(Position::new(6).ok()),
            SubscriptionItem::CaughtUp(None),
        ];
        let expected = [
            "retry: 1000\n\n",
            concat!(
                "id: 3\ndata: {\"id\":3,\"source\":\"shop\",\"type\":\"order.placed\",\"subject\":\"a\",",
                "\"time\":\"2024-05-01T12:00:00Z\",\"data\":\"eA==\"}\n\n",
                "id: 5\ndata: {\"id\":5,\"source\":\"shop\",\"type\":\"order.placed\",",
                "\"subject\":\"b\\n\\ndata: y\",\"time\":\"2024-05-01T12:00:00Z\",\"data\":\"\"}\n\n",
            ),
            "event: caught-up\nid: 6\ndata: {\"position\":6}\n\n",
            "event: caught-up\nid: 0\ndata: {\"position\":0}\n\n",
        ];
        assert_eq!(written(items).await, expected);
    }

    #[tokio::test]
    async fn page_is_written_in_bounded_chunks() {
        let mut events: Vec<_> = (1..=100).map(|position| stored_event(position, "s", &[0; 3_000])).collect();
        events.insert(50, stored_event(1_000, "large", &vec![0; CHUNK_BYTES_MAX]));
        let chunks = written(vec![SubscriptionItem::Events(events)]).await;
        let frames = chunks.iter().map(|chunk| chunk.matches("\n\n").count());
        assert_eq!(frames.sum::<usize>(), 102);
        assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX || chunk.starts_with("id: 1000\n")));
        assert!(chunks.len() < 12, "{}", chunks.len());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_by_heartbeats() {
        let chunks = chunks(stream::pending(), Duration::from_secs(15));
        let start = tokio::time::Instant::now();
        let chunks: Vec<_> = chunks.take(3).collect().await;
        assert_eq!(chunks, [PREAMBLE, HEARTBEAT, HEARTBEAT]);
        assert_eq!(start.elapsed().as_secs(), 30);
    }

    #[tokio::test]
    async fn ended_subscription_ends_the_body() {
        let items = stream::iter([Err(SubscriptionEnded::ShuttingDown)]).chain(stream::pending());
        let chunks: Vec<_> = chunks(items, Duration::from_secs(15)).collect().await;
        assert_eq!(chunks, [PREAMBLE]);
    }
}
