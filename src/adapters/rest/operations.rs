//! The calls that operators, probes and newcomers make; none asks for a token.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use crate::adapters::api_error::ApiError;
use crate::adapters::rest::{RestState, json};

/// `GET /`.
pub(super) async fn index() -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    ([(CONTENT_SECURITY_POLICY, policy)], Html(include_str!("index.html"))).into_response()
}

/// `GET /openapi.yaml`.
pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/yaml")], include_str!("../../../openapi.yaml")).into_response()
}

/// `GET /health`: whether the store answers.
pub(super) async fn health(State(state): State<Arc<RestState>>) -> Response {
    match state.service.refresh_head().await {
        Ok(_) => json("{\"status\":\"healthy\"}"),
        Err(error) => {
            let error = ApiError::from(error);
            error.log();
            let body = serde_json::json!({"status": "unhealthy", "error": error.detail});
            (StatusCode::SERVICE_UNAVAILABLE, json(body.to_string())).into_response()
        }
    }
}

/// `GET /livez`: the process answers; restarting it would not help with anything else.
pub(super) async fn livez() -> Response {
    json("{\"status\":\"ok\"}")
}

/// `GET /readyz`: whether to send clients here.
pub(super) async fn readyz(State(state): State<Arc<RestState>>) -> Response {
    if *state.ready.borrow() {
        json("{\"status\":\"ok\"}")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, json("{\"status\":\"unavailable\"}")).into_response()
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(state): State<Arc<RestState>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (state.metrics)()).into_response()
}
