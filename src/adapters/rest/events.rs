//! The calls under `/events`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};

use crate::adapters::api_error::{ApiError, ApiErrorKind};
use crate::adapters::response_cut::ResponseCut;
use crate::adapters::rest::content_mode::ContentMode;
use crate::adapters::rest::new_event::NewEvents;
use crate::adapters::rest::parameters::{Query, Range, last_event_id};
use crate::adapters::rest::preconditions::preconditions;
use crate::adapters::rest::representation::Representation;
use crate::adapters::rest::{RestState, append_json, json, request_body, sse};
use crate::domain::append::AppendRequest;
use crate::domain::log::Protocol;
use crate::domain::service::{HistoryRequest, LatestRequest};
use crate::domain::subscription::SubscriptionRequest;
use crate::ports::event_repository::Order;

/// Bytes of events in a page of history: what one request may cost the process.
const HISTORY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Proxies must pass a stream on as it comes.
const STREAM_HEADERS: [(HeaderName, &str); 3] = [
    (CONTENT_TYPE, "text/event-stream"),
    (CACHE_CONTROL, "no-cache, no-store"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

/// `POST /events`.
pub(super) async fn append(State(state): State<Arc<RestState>>, request: Request) -> Result<Response, ApiError> {
    let (request, is_batch) = append_request(&state, request).await?;
    let appended = state.service.append(request).await?;
    Ok(json(if is_batch { append_json::batch(&appended) } else { append_json::one(&appended) }))
}

/// What `request` asks for, and whether it is a batch. Takes it whole: while its head is held, the connection cannot use
/// the memory that it lies in again.
async fn append_request(state: &RestState, request: Request) -> Result<(AppendRequest, bool), ApiError> {
    let (Parts { headers, .. }, body) = request.into_parts();
    let mode = ContentMode::of(&headers)?;
    let bytes_max = request_body::body_bytes_max(state.service.limits());
    let body = request_body::read(&headers, body, bytes_max).await?;
    let (events, is_batch) = match mode.read(&headers, body, state.service.limits().batch_events_max)? {
        NewEvents::One(event) => (vec![event], false),
        NewEvents::Batch(events) => (events, true),
    };
    let preconditions = preconditions(&headers, &events)?;
    Ok((AppendRequest { events, preconditions }, is_batch))
}

/// `GET /events/get`.
pub(super) async fn get(
    State(state): State<Arc<RestState>>,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, ApiError> {
    let position = query.id()?;
    let representation = Representation::of_event(&query, &headers)?;
    let event = state.service.get(position, query.min_position()?).await?;
    let event = event.ok_or_else(|| ApiError::new(ApiErrorKind::NotFound, format!("there is no event {position}")))?;
    Ok(representation.event(&event))
}

/// `GET /events/historic`.
pub(super) async fn historic(
    State(state): State<Arc<RestState>>,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, ApiError> {
    let representation = Representation::of_events(&query, &headers)?;
    let Range { start, order, is_latest, after_subject, min_position } = query.range()?;
    let (filter, limit, bytes_max) = (query.filter()?, query.limit()?, HISTORY_BYTES_MAX);
    let history = if is_latest {
        let request = LatestRequest { filter, after: after_subject, min_position, limit, bytes_max };
        state.service.latest(request).await?
    } else {
        let request = HistoryRequest { filter, start, order, until: None, min_position, limit, bytes_max };
        state.service.history(request).await?
    };
    Ok(representation.events(&history))
}

/// `GET /events/stream`.
pub(super) async fn stream(
    State(state): State<Arc<RestState>>,
    method: Method,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, ApiError> {
    query.refuse(&["after_subject", "limit"], "is not for streams")?;
    let Range { start, order, is_latest, min_position, .. } = query.range()?;
    if order == Order::Descending {
        return Err(ApiError::invalid("order", "must be asc in a stream"));
    }
    let last_event_id = last_event_id(&headers)?;
    let representation = Representation::of_stream(&query)?;
    let request = SubscriptionRequest {
        filter: query.filter()?,
        start: last_event_id.unwrap_or(start),
        // Who comes back has had the last events.
        latest: is_latest && last_event_id.is_none(),
        min_position,
        heartbeat: state.heartbeat,
        protocol: Protocol::Sse,
    };
    if method == Method::HEAD {
        // Of unknown length, like the stream, but without taking a slot.
        let nothing = Body::from_stream(stream::empty::<Result<Bytes, ApiError>>());
        return Ok((STREAM_HEADERS, nothing).into_response());
    }
    let subscription = state.service.subscribe(request).await?;
    let cut = Extension(ResponseCut::by(subscription.end(), subscription.over()));
    Ok((STREAM_HEADERS, cut, sse::body(subscription.into_stream(), representation)).into_response())
}
