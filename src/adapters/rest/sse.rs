//! A subscription as server-sent events.
//!
//! User text never stands in a field of its own: the position is the `id`, everything else is JSON on one `data` line.
//! Source: WHATWG HTML, "Server-sent events".

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::vec;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::Stream;

use crate::adapters::api_error::ApiError;
use crate::adapters::cloudevents::{json_bytes, write_json, write_to};
use crate::adapters::rest::event_json::{encoded_bytes, write_event};
use crate::adapters::rest::representation::Representation;
use crate::domain::event::StoredEvent;
use crate::domain::log::{LogEvent, WireFormat};
use crate::domain::position::Position;
use crate::domain::subscription::{SubscriptionEnded, SubscriptionItem};

/// Bytes of a page that are written at once: enough for few system calls, little for a reader that has stopped. A
/// larger event is written alone.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Bytes around the JSON of an event: `id: `, the position, `data: ` and line ends.
const FRAME_BYTES: usize = 32;

/// Tells the client to come back a second after the connection ended.
const PREAMBLE: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// The items of a subscription as chunks of a body.
struct Frames<S> {
    items: Pin<Box<S>>,
    form: &'static Form,
    /// What is left of the page that is being written.
    page: vec::IntoIter<Arc<LogEvent>>,
    /// Whether its events carry ids to resume after.
    has_ids: bool,
    is_begun: bool,
    /// The last place that the client was told.
    told: Option<Position>,
}

/// How events are written.
struct Form {
    wire_format: WireFormat,
    /// About how many bytes an event takes.
    bytes: fn(&StoredEvent) -> usize,
    write: fn(&mut Vec<u8>, &StoredEvent),
}

static PLAIN: Form = Form { wire_format: WireFormat::SseJson, bytes: encoded_bytes, write: write_event };

static CLOUD_EVENTS: Form = Form { wire_format: WireFormat::SseCloudEvent, bytes: json_bytes, write: write_json };

/// The body that carries `items`, each event in one line of JSON. Ends with them.
pub(super) fn body<S>(items: S, representation: Representation) -> Body
where
    S: Stream<Item = Result<SubscriptionItem, SubscriptionEnded>> + Send + 'static,
{
    let form = if representation == Representation::CloudEvents { &CLOUD_EVENTS } else { &PLAIN };
    Body::from_stream(Frames::new(items, form))
}

impl<S: Stream<Item = Result<SubscriptionItem, SubscriptionEnded>>> Frames<S> {
    fn new(items: S, form: &'static Form) -> Self {
        let page = Vec::new().into_iter();
        Self { items: Box::pin(items), form, page, has_ids: true, is_begun: false, told: None }
    }

    /// The next events of the page, `None` when it is used up.
    fn page_chunk(&mut self) -> Option<Bytes> {
        let events = self.page.as_slice();
        let form = self.form;
        let count = form.chunk_events(events);
        let chunk = match &events[..count] {
            [] => return None,
            [event] if self.has_ids => form.shared_frame(event).unwrap_or_else(|| form.frame(event.stored())),
            events => {
                let mut chunk = Vec::with_capacity(events.iter().map(|event| form.frame_bytes(event.stored())).sum());
                for event in events {
                    match form.shared_frame(event).filter(|_| self.has_ids) {
                        Some(frame) => chunk.extend_from_slice(&frame),
                        None => form.write_frame(&mut chunk, event.stored(), self.has_ids),
                    }
                }
                chunk.into()
            }
        };
        if self.has_ids {
            self.told = events.get(count - 1).map(|event| event.stored().position);
        }
        if count == events.len() {
            // An iterator that is used up still holds the memory of its page.
            self.page = Vec::new().into_iter();
        } else {
            self.page.nth(count - 1);
        }
        Some(chunk)
    }

    fn heartbeat(&mut self, position: Option<Position>) -> Bytes {
        // An id without data moves the place to resume after and is no message.
        let news = position.filter(|position| Some(*position) > self.told);
        self.told = self.told.max(news);
        news.map_or(Bytes::from_static(b": heartbeat\n\n"), |position| {
            format!(": heartbeat\nid: {position}\n\n").into()
        })
    }
}

impl<S: Stream<Item = Result<SubscriptionItem, SubscriptionEnded>>> Stream for Frames<S> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.is_begun {
            self.is_begun = true;
            return Poll::Ready(Some(Ok(PREAMBLE)));
        }
        if let Some(chunk) = self.page_chunk() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        let item = match ready!(self.items.as_mut().poll_next(context)) {
            Some(Ok(item)) => item,
            Some(Err(ended)) => {
                ApiError::from(ended).log();
                return Poll::Ready(None);
            }
            None => return Poll::Ready(None),
        };
        let chunk = match item {
            SubscriptionItem::Events(events) => {
                (self.page, self.has_ids) = (events.into_iter(), true);
                self.page_chunk()
            }
            SubscriptionItem::Latest(events) => {
                (self.page, self.has_ids) = (events.into_iter(), false);
                self.page_chunk()
            }
            SubscriptionItem::CaughtUp(position) => {
                self.told = position;
                Some(caught_up(position))
            }
            SubscriptionItem::Heartbeat(position) => Some(self.heartbeat(position)),
        };
        Poll::Ready(chunk.map(Ok))
    }
}

impl Form {
    /// How many of `events` fit into a chunk; at least one, if there is one.
    fn chunk_events(&self, events: &[Arc<LogEvent>]) -> usize {
        let mut bytes = 0;
        let fitting = events.iter().take_while(|event| {
            bytes += self.frame_bytes(event.stored());
            bytes <= CHUNK_BYTES_MAX
        });
        fitting.count().max(1).min(events.len())
    }

    fn frame_bytes(&self, event: &StoredEvent) -> usize {
        (self.bytes)(event) + FRAME_BYTES
    }

    /// The frame with its id that all readers of the event share.
    fn shared_frame(&self, event: &LogEvent) -> Option<Bytes> {
        event.shared_encoding(self.wire_format, |event| self.frame(event)).cloned()
    }

    fn frame(&self, event: &StoredEvent) -> Bytes {
        let mut frame = Vec::with_capacity(self.frame_bytes(event));
        self.write_frame(&mut frame, event, true);
        frame.into()
    }

    fn write_frame(&self, out: &mut Vec<u8>, event: &StoredEvent, has_id: bool) {
        if has_id {
            out.extend_from_slice(b"id: ");
            write_to(out, event.position);
            out.push(b'\n');
        }
        out.extend_from_slice(b"data: ");
        (self.write)(out, event);
        out.extend_from_slice(b"\n\n");
    }
}

fn caught_up(position: Option<Position>) -> Bytes {
    let position = position.map_or(0, Position::get);
    format!("event: caught-up\nid: {position}\ndata: {{\"position\":{position}}}\n\n").into()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use futures_util::stream;

    use super::*;
    use crate::adapters::rest::testing::stored_event;

    async fn written(items: Vec<SubscriptionItem>) -> Vec<String> {
        let items = stream::iter(items.into_iter().map(Ok));
        Frames::new(items, &PLAIN).map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap()).collect().await
    }

    fn events(events: Vec<StoredEvent>) -> Vec<Arc<LogEvent>> {
        events.into_iter().map(|event| Arc::new(LogEvent::alone(event))).collect()
    }

    #[tokio::test]
    async fn stream_is_written_as_documented() {
        let history = vec![stored_event(3, "a", b"x"), stored_event(5, "b\n\ndata: y", b"")];
        let place = |position| Position::new(position).ok();
        let items = vec![
            SubscriptionItem::Latest(events(vec![stored_event(2, "a", b"x")])),
            SubscriptionItem::Events(events(history)),
            SubscriptionItem::CaughtUp(place(6)),
            SubscriptionItem::Heartbeat(place(6)),
            SubscriptionItem::Heartbeat(place(8)),
            SubscriptionItem::Heartbeat(place(8)),
            SubscriptionItem::CaughtUp(None),
        ];
        let expected = [
            "retry: 1000\n\n",
            concat!(
                "data: {\"id\":2,\"source\":\"shop\",\"type\":\"order.placed\",\"subject\":\"a\",",
                "\"time\":\"2024-05-01T12:00:00Z\",\"data\":\"eA==\"}\n\n",
            ),
            concat!(
                "id: 3\ndata: {\"id\":3,\"source\":\"shop\",\"type\":\"order.placed\",\"subject\":\"a\",",
                "\"time\":\"2024-05-01T12:00:00Z\",\"data\":\"eA==\"}\n\n",
                "id: 5\ndata: {\"id\":5,\"source\":\"shop\",\"type\":\"order.placed\",",
                "\"subject\":\"b\\n\\ndata: y\",\"time\":\"2024-05-01T12:00:00Z\",\"data\":\"\"}\n\n",
            ),
            "event: caught-up\nid: 6\ndata: {\"position\":6}\n\n",
            ": heartbeat\n\n",
            ": heartbeat\nid: 8\n\n",
            ": heartbeat\n\n",
            "event: caught-up\nid: 0\ndata: {\"position\":0}\n\n",
        ];
        assert_eq!(written(items).await, expected);
    }

    #[tokio::test]
    async fn page_is_written_in_bounded_chunks() {
        let mut page: Vec<_> = (1..=100).map(|position| stored_event(position, "s", &[0; 3_000])).collect();
        page.insert(50, stored_event(1_000, "large", &vec![0; CHUNK_BYTES_MAX]));
        let chunks = written(vec![SubscriptionItem::Events(events(page))]).await;
        let frames = chunks.iter().map(|chunk| chunk.matches("\n\n").count());
        assert_eq!(frames.sum::<usize>(), 102);
        assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX || chunk.starts_with("id: 1000\n")));
        assert!(chunks.len() < 12, "{}", chunks.len());
    }

    #[tokio::test]
    async fn ended_subscription_ends_the_body() {
        let items = stream::iter([Err(SubscriptionEnded::ShuttingDown)]).chain(stream::pending());
        let chunks: Vec<_> = Frames::new(items, &PLAIN).map(Result::unwrap).collect().await;
        assert_eq!(chunks, [PREAMBLE]);
    }
}
