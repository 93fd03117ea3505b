//! An event on its way to many readers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::domain::event::StoredEvent;

/// Bytes that an event in memory takes beside its attributes and data: the structs, and what allocating costs.
const EVENT_OVERHEAD_BYTES: usize = 464;

/// The forms in which readers take events. Each is made once for all readers of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireFormat {
    /// A message of an event stream with the JSON of the REST contract.
    SseJson,
    /// A message of an event stream with a structured `CloudEvent`.
    SseCloudEvent,
    /// The message `Event` of `grpc.EventsDB`.
    Protobuf,
    /// The message `CloudEvent`.
    CloudEvent,
}

/// How many wire formats there are.
const FORMATS: usize = 4;

/// An event that was read from the log.
#[derive(Debug)]
pub struct LogEvent {
    stored: StoredEvent,
    /// `None` when it was read for one reader alone, so that nobody else could use what it is encoded to.
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    encodings: [OnceLock<Bytes>; FORMATS],
    /// What this event adds to `held`.
    bytes: AtomicUsize,
    held: Arc<AtomicUsize>,
}

impl LogEvent {
    /// An event that one reader gets.
    #[must_use]
    pub fn alone(stored: StoredEvent) -> Self {
        Self { stored, shared: None }
    }

    /// An event that many readers may get; `held` counts its bytes, and those of its encodings, for as long as it is in
    /// memory.
    pub(super) fn shared(stored: StoredEvent, held: &Arc<AtomicUsize>) -> Self {
        let bytes = stored.size_bytes() + EVENT_OVERHEAD_BYTES;
        held.fetch_add(bytes, Ordering::Relaxed);
        let shared = Shared { encodings: Default::default(), bytes: AtomicUsize::new(bytes), held: Arc::clone(held) };
        Self { stored, shared: Some(shared) }
    }

    /// The event itself.
    #[must_use]
    pub fn stored(&self) -> &StoredEvent {
        &self.stored
    }

    /// The event in `format`, made by `encode` unless it was made before; `None` when only one reader gets the event, so
    /// that keeping it would be of no use.
    pub fn shared_encoding(&self, format: WireFormat, encode: impl FnOnce(&StoredEvent) -> Bytes) -> Option<&Bytes> {
        let shared = self.shared.as_ref()?;
        Some(shared.encodings[format as usize].get_or_init(|| {
            let encoding = encode(&self.stored);
            shared.bytes.fetch_add(encoding.len(), Ordering::Relaxed);
            shared.held.fetch_add(encoding.len(), Ordering::Relaxed);
            encoding
        }))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.held.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::log::testing::stored;

    #[test]
    fn shared_event_is_encoded_once_per_format_and_counted_while_it_lives() {
        let held = Arc::new(AtomicUsize::new(0));
        let event = LogEvent::shared(stored(1, "subject"), &held);
        let plain = held.load(Ordering::Relaxed);
        assert!(plain > 0);
        for _ in 0..2 {
            let bytes = event.shared_encoding(WireFormat::SseJson, |_| Bytes::from_static(b"once"));
            assert_eq!(bytes.unwrap(), "once");
            let bytes = event.shared_encoding(WireFormat::Protobuf, |_| Bytes::from_static(b"other"));
            assert_eq!(bytes.unwrap(), "other");
        }
        let again = event.shared_encoding(WireFormat::SseJson, |_| Bytes::from_static(b"twice"));
        assert_eq!(again.unwrap(), "once");
        assert_eq!(held.load(Ordering::Relaxed), plain + 9);
        drop(event);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn event_of_one_reader_keeps_no_encoding() {
        let event = LogEvent::alone(stored(1, "subject"));
        assert_eq!(event.shared_encoding(WireFormat::SseJson, |_| unreachable!()), None);
    }
}
