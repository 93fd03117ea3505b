//! Replies made of events that are encoded once for all who read them.

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::convert::EVENT_OVERHEAD_BYTES_MAX;
#[cfg(test)]
use super::proto;
use crate::domain::event::StoredEvent;
use crate::domain::log::{LogEvent, WireFormat};

/// `grpc.EventsFromSubjectReply`. On the wire a message within a message is its length and its bytes, as a text is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EncodedReply {
    /// Each an encoded `grpc.Event`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) events: Vec<Bytes>,
    /// Whether more events match.
    #[prost(bool, tag = "2")]
    pub(super) has_more: bool,
}

/// `event` as a `grpc.Event` on the wire.
pub(super) fn encoded(event: &LogEvent) -> Bytes {
    let shared = event.shared_encoding(WireFormat::Protobuf, encode);
    shared.map_or_else(|| encode(event.stored()), Bytes::clone)
}

/// Written field by field from where the event is: a message of the generated type would have to be a copy of it.
fn encode(event: &StoredEvent) -> Bytes {
    let mut out = Vec::with_capacity(event.size_bytes() + EVENT_OVERHEAD_BYTES_MAX);
    encode_key(1, WireType::Varint, &mut out);
    encode_varint(event.position.get().unsigned_abs(), &mut out);
    field(2, event.event_source.as_str().as_bytes(), &mut out);
    field(3, event.event_type.as_str().as_bytes(), &mut out);
    field(4, event.subject.as_str().as_bytes(), &mut out);
    field(5, event.time.to_rfc3339().as_bytes(), &mut out);
    field(6, &event.data, &mut out);
    out.into()
}

/// A text or bytes, absent when empty. Source: Protocol Buffers, "Encoding".
fn field(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.put_slice(bytes);
    }
}

/// What a client makes of `reply`.
#[cfg(test)]
pub(super) fn decoded(reply: &EncodedReply) -> Vec<proto::Event> {
    reply.events.iter().map(|event| proto::Event::decode(event.clone()).expect("an event")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::grpc::convert;
    use crate::adapters::grpc::testing::stored;

    #[test]
    fn event_is_encoded_as_the_generated_message_is() {
        let mut event = stored(i64::MAX);
        assert_eq!(encode(&event), convert::event(event.clone()).encode_to_vec());
        event.subject = crate::domain::attribute::Subject::from_stored(String::new());
        event.data = Bytes::from(vec![7; 100_000]);
        assert_eq!(encode(&event), convert::event(event.clone()).encode_to_vec());
        let reply = EncodedReply { events: vec![encode(&event)], has_more: true };
        let events = vec![convert::event(event)];
        assert_eq!(reply.encode_to_vec(), generated::EventsFromSubjectReply { events, has_more: true }.encode_to_vec());
    }

    /// The message of the contract, as other clients have it.
    mod generated {
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct EventsFromSubjectReply {
            #[prost(message, repeated, tag = "1")]
            pub(super) events: Vec<super::proto::Event>,
            #[prost(bool, tag = "2")]
            pub(super) has_more: bool,
        }
    }
}
