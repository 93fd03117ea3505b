//! The messages of streams, made of events that are encoded once for all who read them.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::adapters::cloudevents::to_message;
use crate::domain::event::StoredEvent;
use crate::domain::log::{LogEvent, WireFormat};

/// Events, as `eventsdb.v1.ReadResponse` and `eventsdb.v1.SubscribeResponse.Events` have them. On the wire a message within a
/// message is its length and its bytes, as bytes are.
#[derive(Clone, PartialEq, Message)]
pub(in crate::adapters::grpc) struct ReadResponse {
    /// Each an encoded `io.cloudevents.v1.CloudEvent`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) events: Vec<Bytes>,
}

/// `eventsdb.v1.SubscribeResponse`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::adapters::grpc) struct SubscribeResponse {
    #[prost(oneof = "SubscriptionMessage", tags = "1, 2, 3")]
    pub(super) message: Option<SubscriptionMessage>,
}

/// What a message of a subscription says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum SubscriptionMessage {
    #[prost(message, tag = "1")]
    Events(ReadResponse),
    #[prost(message, tag = "2")]
    CaughtUp(Place),
    #[prost(message, tag = "3")]
    Heartbeat(Place),
}

/// `eventsdb.v1.SubscribeResponse.CaughtUp` and `eventsdb.v1.SubscribeResponse.Heartbeat`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Place {
    #[prost(int64, tag = "1")]
    pub(super) position: i64,
}

impl ReadResponse {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn of(events: &[Arc<LogEvent>]) -> Self {
        Self { events: events.iter().map(|event| encoded(event)).collect() }
    }
}

impl From<SubscriptionMessage> for SubscribeResponse {
    fn from(message: SubscriptionMessage) -> Self {
        Self { message: Some(message) }
    }
}

fn encoded(event: &LogEvent) -> Bytes {
    let shared = event.shared_encoding(WireFormat::CloudEvent, encode);
    shared.map_or_else(|| encode(event.stored()), Bytes::clone)
}

fn encode(event: &StoredEvent) -> Bytes {
    to_message(event).encode_to_vec().into()
}
