//! Whatever comes in over the wire, nothing panics, and what is taken comes back as it went in.
//!
//! `cargo test` tries the seeds in `tests/__fuzz__` and some thousand inputs made from nothing; `cargo bolero test` goes on
//! from the seeds for as long as it is let.

#![allow(clippy::unwrap_used)]

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use events_db::adapters::authenticator::open::Open;
use events_db::adapters::cloudevents::{
    from_headers, from_json, from_json_batch, from_protobuf, from_protobuf_batch, to_message, write_headers, write_json,
};
use events_db::adapters::grpc::{self, GrpcState};
use events_db::adapters::notifier::broadcast::BroadcastNotifier;
use events_db::adapters::repository::memory::MemoryRepository;
use events_db::domain::event::{NewEvent, StoredEvent};
use events_db::domain::position::Position;
use events_db::domain::service::{EventService, ServiceLimits};
use events_db::domain::timestamp::Timestamp;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Inputs tried in one run of the tests.
const INPUTS: usize = 20_000;

fn stored(event: NewEvent) -> StoredEvent {
    event.stored(Position::FIRST, Timestamp::from_unix_micros(1_700_000_000_000_000).unwrap())
}

/// An event that was taken goes out in every form and is the same when it comes in again.
fn comes_back(event: NewEvent) {
    let event = stored(event);
    let mut json = Vec::new();
    write_json(&mut json, &event);
    let from_json = from_json(&json).unwrap();
    // JSON in one line has other white space than JSON in several.
    assert!(event.has_content_of(&from_json) || event.data.iter().any(|byte| b"\r\n".contains(byte)));
    let mut headers = HeaderMap::new();
    write_headers(&mut headers, &event);
    assert!(event.has_content_of(&from_headers(&headers, event.data.clone()).unwrap()));
    let message = to_message(&event).encode_to_vec();
    assert!(event.has_content_of(&from_protobuf(message.into()).unwrap()));
}

#[test]
fn json() {
    bolero::check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        if let Ok(event) = from_json(input) {
            comes_back(event);
        }
    });
}

/// Events in a batch.
const EVENTS_MAX: usize = 1_000;

#[test]
fn batch() {
    bolero::check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        from_json_batch(input, EVENTS_MAX).into_iter().flatten().for_each(comes_back);
    });
}

#[test]
fn protobuf() {
    bolero::check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        if let Ok(event) = from_protobuf(Bytes::copy_from_slice(input)) {
            comes_back(event);
        }
        from_protobuf_batch(Bytes::copy_from_slice(input), EVENTS_MAX).into_iter().flatten().for_each(comes_back);
    });
}

/// Lines are headers, up to an empty one; the rest is the body.
#[test]
fn headers() {
    bolero::check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        let mut headers = HeaderMap::new();
        let mut rest = input;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = (&rest[..end], &rest[end + 1..]);
            rest = behind;
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
            let (name, value) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]));
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        if let Ok(event) = from_headers(&headers, Bytes::copy_from_slice(rest)) {
            comes_back(event);
        }
    });
}

/// The input is the body of a gRPC-web call.
#[test]
fn grpc_web() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limits = ServiceLimits {
        event_bytes_max: 1_000,
        batch_events_max: 10,
        batch_bytes_max: 10_000,
        queue_events_max: 100,
        queue_bytes_max: 100_000,
        subscriptions_max: 10,
        first_page_events: 10,
        client_buffer_events: 10,
        tail_bytes_max: 0,
        slow_reader_patience: Duration::from_mins(1),
    };
    let shutdown = CancellationToken::new();
    let service = EventService::new(
        Arc::new(MemoryRepository::default()),
        Arc::new(BroadcastNotifier::new()),
        limits,
        shutdown.clone(),
    );
    let writing = service.clone();
    runtime.spawn(async move { writing.write_queued(|_| {}).await });
    let (_ready, is_ready) = tokio::sync::watch::channel(true);
    let router = grpc::router(GrpcState {
        service,
        authenticator: Arc::new(Open),
        ready: is_ready,
        stream_batch_events: 10,
        heartbeat: Duration::from_mins(1),
    });
    // A panic ends the test, so nobody sees what it leaves behind.
    let server = AssertUnwindSafe((router, runtime));
    bolero::check!().with_iterations(INPUTS / 10).for_each(|input: &[u8]| {
        let server = &server;
        let (router, runtime) = &**server;
        for (path, media_type) in [
            ("/eventsdb.v1.EventStore/Append", "application/grpc-web+proto"),
            ("/eventsdb.v1.EventStore/Append", "application/grpc-web-text"),
            ("/eventsdb.v1.EventStore/AppendStream", "application/grpc"),
            ("/grpc.EventsDB/CreateEvent", "application/grpc-web"),
        ] {
            let request = http::Request::post(path).header(CONTENT_TYPE, media_type);
            let request = request.body(Body::from(input.to_vec())).unwrap();
            runtime.block_on(async {
                let answer = router.clone().oneshot(request).await.unwrap();
                let _body = answer.into_body().collect().await;
            });
        }
    });
}
