//! The gRPC interface, spoken as gRPC and as gRPC-web: `proto/eventsdb.proto`, health and reflection.

mod cloud_event_service;
mod convert;
mod event_store;
mod health;
mod reply;
mod service;
mod status;
#[cfg(test)]
mod testing;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state, map_request, map_response};
use axum::response::Response;
use futures_util::Stream;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder as ReflectionBuilder;
use tonic_web::GrpcWebLayer;

use crate::adapters::cloudevents::proto::cloud_event_service_server::CloudEventServiceServer;
use crate::adapters::response_cut::ResponseCut;
use crate::domain::log::Protocol;
use crate::domain::service::EventService;
use crate::ports::authenticator::Authenticator;

use proto::events_db_server::EventsDbServer;
use proto::v1::event_store_server::EventStoreServer;

/// The messages and the server side of `proto/eventsdb.proto` and `proto/eventsdb/v1`.
#[allow(unreachable_pub, unused_qualifications, clippy::pedantic)]
mod proto {
    tonic::include_proto!("grpc");

    pub mod v1 {
        tonic::include_proto!("eventsdb.v1");
    }

    /// What reflection tells about them.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// Bytes of a request beyond its event's data: more than enough for three attributes, so that an event with too much
/// data is read far enough to be refused with the reason.
const REQUEST_OVERHEAD_BYTES_MAX: usize = 1024 * 1024;

/// What the content type of gRPC-web begins with. Source: gRPC, `PROTOCOL-WEB.md`.
const WEB_MEDIA_TYPE: &[u8] = b"application/grpc-web";

/// How often a silent stream looks whether it is still there, where the interface has no word for a sign of life.
/// HTTP/2 has its own.
const QUIET_HEARTBEAT: Duration = Duration::from_mins(1);

/// What a call answers one by one.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The answer of a call that reads on until `cut` ends it.
fn streaming<T>(
    messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
    cut: ResponseCut,
) -> tonic::Response<Answers<T>> {
    let mut response: tonic::Response<Answers<T>> = tonic::Response::new(Box::pin(messages));
    response.extensions_mut().insert(cut);
    response
}

/// What the interface needs.
#[derive(Clone)]
pub struct GrpcState {
    /// The use cases.
    pub service: EventService,
    /// Who may call them.
    pub authenticator: Arc<dyn Authenticator>,
    /// Whether health says "serving"; its watchers are dismissed when the sender is gone.
    pub ready: watch::Receiver<bool>,
    /// Events in one message of a stream of `grpc.EventsDB` at the most, at least 1.
    pub stream_batch_events: usize,
    /// How long a stream of `eventsdb.v1.EventStore` may be silent.
    pub heartbeat: Duration,
}

/// The interface as a router for requests whose content type starts with `application/grpc`.
///
/// What it does not know is UNIMPLEMENTED. Every call but those of `grpc.health.v1.Health` is authenticated, inside of
/// the gRPC-web layer, so that a browser can read the refusal. Cross-origin rules are the caller's business.
pub fn router(state: GrpcState) -> Router {
    let GrpcState { service, authenticator, ready, stream_batch_events, heartbeat } = state;
    let limits = service.limits();
    let request_bytes_max =
        limits.event_bytes_max.max(limits.batch_bytes_max).saturating_add(REQUEST_OVERHEAD_BYTES_MAX);
    let broker = CloudEventServiceServer::new(cloud_event_service::Broker::new(service.clone()))
        .max_decoding_message_size(request_bytes_max);
    let event_store = EventStoreServer::new(event_store::EventStore::new(service.clone(), heartbeat))
        .max_decoding_message_size(request_bytes_max);
    let events_db = EventsDbServer::new(service::EventsDb::new(service, stream_batch_events))
        .max_decoding_message_size(request_bytes_max);
    let reflection = || ReflectionBuilder::configure().register_encoded_file_descriptor_set(proto::DESCRIPTORS);
    let described = "the descriptors are those the build wrote";
    let authenticated = Routes::new(events_db)
        .add_service(event_store)
        .add_service(broker)
        .add_service(reflection().build_v1().expect(described))
        .add_service(reflection().build_v1alpha().expect(described))
        .into_axum_router()
        .layer(map_response(name_oversize))
        .layer(from_fn_with_state(authenticator, authenticate));
    Routes::from(authenticated)
        .add_service(HealthServer::new(health::Health::new(ready)))
        .into_axum_router()
        .layer(GrpcWebLayer::new())
        .layer(map_request(mark_web))
}

/// Marks a request that speaks gRPC-web, which looks like gRPC further inside.
#[derive(Debug, Clone, Copy)]
struct GrpcWeb;

/// How the caller of a stream speaks.
fn protocol<T>(request: &tonic::Request<T>) -> Protocol {
    if request.extensions().get::<GrpcWeb>().is_some() { Protocol::GrpcWeb } else { Protocol::Grpc }
}

async fn mark_web(mut request: Request) -> Request {
    let content_type = request.headers().get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    if content_type.len() >= WEB_MEDIA_TYPE.len()
        && content_type[..WEB_MEDIA_TYPE.len()].eq_ignore_ascii_case(WEB_MEDIA_TYPE)
    {
        request.extensions_mut().insert(GrpcWeb);
    }
    request
}

async fn authenticate(State(authenticator): State<Arc<dyn Authenticator>>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    match authenticator.authenticate(authorization) {
        Ok(()) => next.run(request).await,
        Err(error) => status::from_api_error(error.into()).into_http(),
    }
}

/// Of a call that is refused before its first answer; the others see their messages one by one.
async fn name_oversize(response: Response) -> Response {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange => status::name_oversize(status).into_http(),
        _ => response,
    }
}
