//! The messages and the client side of `proto/eventsdb.proto`.

#![allow(unreachable_pub, unused_qualifications, clippy::pedantic)]

include!(concat!(env!("OUT_DIR"), "/client/grpc.rs"));

/// The descriptors of the file.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
