//! Takes a request body within its limits.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;

use crate::adapters::api_error::{ApiError, ApiErrorKind};
use crate::domain::service::ServiceLimits;

/// How long a body may take to arrive: a client that trickles must not hold its memory for ever.
const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes of a body beside its events: names, line breaks, escapes.
const ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of an event in a batch beside its data and attributes: names, quotes, the time, some room between.
const BATCHED_EVENT_BYTES_MAX: usize = 256;

/// Bytes in the body of `POST /events` for one event or a batch as large as they may be.
pub(super) fn body_bytes_max(limits: &ServiceLimits) -> usize {
    let encoded = |bytes: usize| bytes.div_ceil(3) * 4;
    let batch = encoded(limits.batch_bytes_max) + limits.batch_events_max * BATCHED_EVENT_BYTES_MAX;
    encoded(limits.event_bytes_max).max(batch) + ENVELOPE_BYTES_MAX
}

/// Takes the whole body, up to `bytes_max`. What is left of a larger one is its transport's business.
pub(super) async fn read(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0_usize);
    if announced > bytes_max {
        return Err(too_large(bytes_max));
    }
    let mut collecting = pin!(collect(body, bytes_max));
    // A small body comes with its head, and needs no clock.
    if let Some(collected) = collecting.as_mut().now_or_never() {
        return collected;
    }
    match tokio::time::timeout(ARRIVAL_TIME_MAX, collecting).await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::invalid("the body", "did not arrive in time")),
    }
}

async fn collect(mut body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::invalid("the body", "did not arrive"))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > bytes_max - collected.len() - first.len() {
            return Err(too_large(bytes_max));
        }
        if first.is_empty() && collected.is_empty() {
            // Often the only one, and then it need not be copied.
            first = data;
            continue;
        }
        collected.extend_from_slice(&std::mem::take(&mut first));
        collected.extend_from_slice(&data);
    }
    Ok(if first.is_empty() { collected.freeze() } else { first })
}

fn too_large(bytes_max: usize) -> ApiError {
    ApiError::new(ApiErrorKind::TooLarge, format!("the body must have at most {bytes_max} bytes"))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn body_is_taken_up_to_its_limit() {
        let read = |bytes| read_without_headers(Body::from(vec![b'x'; bytes]));
        assert_eq!(read(10).await.unwrap().len(), 10);
        assert_eq!(read(11).await.unwrap_err().kind, ApiErrorKind::TooLarge);
        assert_eq!(read(1_000).await.unwrap_err().kind, ApiErrorKind::TooLarge);
    }

    #[tokio::test]
    async fn announced_excess_is_refused_unread() {
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("11"))]);
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(&headers, never, 10).await.unwrap_err().kind, ApiErrorKind::TooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_does_not_arrive_is_given_up() {
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read_without_headers(never).await.unwrap_err().kind, ApiErrorKind::InvalidArgument);
        let broken = Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("reset"))]));
        assert_eq!(read_without_headers(broken).await.unwrap_err().detail, "the body did not arrive");
    }

    async fn read_without_headers(body: Body) -> Result<Bytes, ApiError> {
        read(&HeaderMap::new(), body, 10).await
    }
}
