//! The REST interface. `openapi.yaml` is its contract.

mod append_json;
mod content_mode;
mod event_json;
mod events;
mod new_event;
mod operations;
mod parameters;
mod preconditions;
mod problem;
mod representation;
mod request_body;
mod sse;
mod subjects;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod web_hook;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use tokio::sync::watch;
use tower::Layer;
use tower_http::validate_request::{ValidateRequest, ValidateRequestHeader, ValidateRequestHeaderLayer};

use crate::adapters::api_error::{ApiError, ApiErrorKind};
use crate::domain::service::EventService;
use crate::ports::authenticator::Authenticator;

/// What the calls work with.
pub struct RestState {
    /// The use cases.
    pub service: EventService,
    /// Who may call; asked before anything else but the public calls.
    pub authenticator: Arc<dyn Authenticator>,
    /// Whether `/readyz` says yes.
    pub ready: watch::Receiver<bool>,
    /// Writes the metrics in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// How long a stream may be silent.
    pub heartbeat: Duration,
}

/// The calls that need no token.
const PUBLIC: [&str; 6] = ["/", "/health", "/livez", "/metrics", "/openapi.yaml", "/readyz"];

/// What answers the calls of [`router`].
pub type RestService = ValidateRequestHeader<Router, Authenticate>;

/// All calls. A caller without the right token learns nothing but the public ones, not even which paths there are.
pub fn router(state: RestState) -> RestService {
    let authenticate = Authenticate(Arc::clone(&state.authenticator));
    let router = Router::new()
        .route("/", get(operations::index))
        .route("/openapi.yaml", get(operations::openapi))
        .route("/health", get(operations::health))
        .route("/livez", get(operations::livez))
        .route("/readyz", get(operations::readyz))
        .route("/metrics", get(operations::metrics))
        .route("/events", post(events::append).options(web_hook::handshake))
        .route("/events/get", get(events::get))
        .route("/events/historic", get(events::historic))
        .route("/events/stream", get(events::stream))
        .route("/subjects", get(subjects::list))
        .route("/subjects/delete", post(subjects::delete))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(Arc::new(state));
    // Around all of them, since a layer within is a future in a box for each request.
    ValidateRequestHeaderLayer::custom(authenticate).layer(router)
}

/// Lets in whom the authenticator lets in.
#[derive(Clone)]
pub struct Authenticate(Arc<dyn Authenticator>);

impl<B> ValidateRequest<B> for Authenticate {
    type ResponseBody = Body;

    fn validate(&mut self, request: &mut http::Request<B>) -> Result<(), Response> {
        if PUBLIC.contains(&request.uri().path()) {
            return Ok(());
        }
        let authorization = request.headers().get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
        self.0.authenticate(authorization).map_err(|error| ApiError::from(error).into_response())
    }
}

async fn not_found() -> ApiError {
    ApiError::new(ApiErrorKind::NotFound, "there is nothing at this path")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(ApiErrorKind::MethodNotAllowed, "this path does not have this method, see the header Allow")
}

fn json(body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.into()).into_response()
}
