//! The HTTP stack of the server with a handler that parses the request and stores nothing: what the store is measured
//! against.

use std::borrow::Cow;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use events_db::adapters::listener::limits::ConnectionLimits;
use events_db::adapters::listener::open::OpenConnections;
use events_db::adapters::listener::{self, Listener, Shutdown};
use events_db::adapters::metrics::operation::OperationLayer;
use events_db::adapters::metrics::state::{Limits, State};
use events_db::adapters::metrics::{Metrics, Watched};
use events_db::adapters::multiplex::{CorsOrigins, Multiplex};
use events_db::adapters::unread_body::read_on;
use events_db::domain::log::LogReport;
use events_db::domain::service::QueueDepth;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tower::Layer;
use tower::util::MapRequestLayer;

use crate::Outcome;
use crate::server::Server;

/// Starts this program as that server: a process of its own, as the real one is.
pub(crate) fn start() -> Outcome<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    Server::spawn(&mut command, |port| vec!["--null-server".to_owned(), port.to_string()])
}

/// Is that server, until killed; wired as the real one.
pub(crate) fn run(port: u16) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = Listener::bind(([127, 0, 0, 1], port).into())?;
        let rest = Router::new().route("/events", post(append)).route("/readyz", get(async || "ready"));
        let multiplex = Multiplex { grpc: Router::new(), rest }.with_cors(&CorsOrigins::None);
        let metrics = Metrics::new()?;
        metrics.watch(Watched {
            open_streams: Box::new(|| 0),
            log: Box::new(LogReport::default),
            queue: Box::new(|| QueueDepth { events: 0, bytes: 0, refused: 0 }),
            retries: Box::new(|| [("conflict", 0), ("duplicate_key", 0), ("lost_connection", 0)]),
            state: State {
                is_ready: Box::new(|| true),
                is_database_up: Box::new(|| true),
                is_nats_connected: None,
                connections: Box::new(|| 0),
                certificate_expires_at: None,
                limits: Limits::default(),
            },
        });
        let service = MapRequestLayer::new(read_on).layer(OperationLayer::new(Arc::new(metrics)).layer(multiplex));
        let never = Shutdown {
            stop_accepting: CancellationToken::new(),
            drain_timeout: Duration::ZERO,
            hard_stop: CancellationToken::new(),
        };
        listener::serve(vec![listener], service, None, ConnectionLimits::default(), OpenConnections::default(), never)
            .await;
        Ok(())
    })
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

async fn append(body: Body) -> Response {
    match parse(body).await {
        // The compiler must not find out that nobody needs what was parsed.
        Ok(bytes) => {
            std::hint::black_box(bytes);
            ([(CONTENT_TYPE, "application/json")], r#"{"id":1}"#).into_response()
        }
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn parse(body: Body) -> Outcome<(String, String, String, Vec<u8>)> {
    let bytes = body.collect().await?.to_bytes();
    let event: Event<'_> = serde_json::from_slice(&bytes)?;
    let data = STANDARD.decode(event.data.as_bytes())?;
    Ok((event.source.into_owned(), event.r#type.into_owned(), event.subject.into_owned(), data))
}
