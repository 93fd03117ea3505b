//! `CloudEvents` on the wire: their JSON, protobuf and HTTP header forms, for every interface that speaks them.
//!
//! Source: `CloudEvents` 1.0.2: core specification, JSON event format, protobuf event format, HTTP protocol binding.

mod archived;
mod attributes;
mod base64;
mod headers;
mod json;
mod json_value;
mod own_bytes;
mod protobuf;
#[cfg(test)]
mod tests;

pub use archived::{Archived, from_archived, write_archived};
pub use base64::{decode_base64, write_base64};
pub use headers::{from_headers, is_binary, write_headers};
pub use json::{from_json, from_json_batch, json_bytes, write_json, write_json_text, write_to};
pub use json_value::{JsonValue, json_text, parse_json, parse_json_array};
pub use own_bytes::own_bytes;
pub use protobuf::{from_message, from_protobuf, from_protobuf_batch, to_message};

/// The messages of `proto/cloudevents.proto`.
#[allow(missing_docs, unused_qualifications, clippy::all, clippy::pedantic)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/cloudevents/io.cloudevents.v1.rs"));
}

/// One event as JSON.
pub const JSON_EVENT: &str = "application/cloudevents+json";
/// Several events as JSON.
pub const JSON_BATCH: &str = "application/cloudevents-batch+json";
/// One event as protobuf.
pub const PROTOBUF_EVENT: &str = "application/cloudevents+protobuf";
/// Several events as protobuf.
pub const PROTOBUF_BATCH: &str = "application/cloudevents-batch+protobuf";
