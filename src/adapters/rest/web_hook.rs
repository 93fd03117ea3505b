//! The handshake by which a sender asks whether it may deliver here.
//!
//! Source: `CloudEvents` "HTTP 1.1 Web Hooks for Event Delivery" 1.0.2, section 4.

use http::header::ALLOW;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// What `POST /events` is asked for with.
const METHODS: &str = "OPTIONS, POST";

const REQUEST_ORIGIN: &str = "webhook-request-origin";
const REQUEST_RATE: &str = "webhook-request-rate";
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

/// `OPTIONS /events`: whoever has the token may deliver, as fast as the queue takes it.
pub(super) async fn handshake(request: HeaderMap) -> (StatusCode, HeaderMap) {
    let mut answer = HeaderMap::from_iter([(ALLOW, HeaderValue::from_static(METHODS))]);
    if let Some(origin) = request.get(REQUEST_ORIGIN) {
        answer.insert(ALLOWED_ORIGIN, origin.clone());
        if request.contains_key(REQUEST_RATE) {
            answer.insert(ALLOWED_RATE, HeaderValue::from_static("*"));
        }
    }
    (StatusCode::OK, answer)
}
