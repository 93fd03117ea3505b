//! A collector that takes spans over OTLP.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;

use crate::harness::Server;

/// What came so far.
#[derive(Clone, Default)]
pub struct Collector {
    port: u16,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    /// Starts one that takes spans at the path of the specification.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self { port: listener.local_addr().unwrap().port(), requests: Arc::default() };
        let kept = Arc::clone(&collector.requests);
        let take = async move |headers: HeaderMap, body: Bytes| {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            kept.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
        };
        let site = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, site).await });
        collector
    }

    /// Its URL, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All spans.
    pub fn spans(&self) -> Vec<Span> {
        let requests = self.requests.lock().unwrap();
        let scopes = requests.iter().flat_map(|request| &request.resource_spans).flat_map(|spans| &spans.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Attributes of the resources by which servers call themselves.
    pub fn service_names(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans).filter_map(|s| s.resource.as_ref());
        let attributes = resources.flat_map(|resource| &resource.attributes).filter(|one| one.key == "service.name");
        attributes.map(|one| text(one.value.as_ref().and_then(|value| value.value.as_ref()))).collect()
    }

    /// Waits for a span of this name in this trace.
    pub async fn span(&self, server: &Server, trace_id: &str, name: &str) -> Span {
        server
            .eventually(&format!("the span {name} of {trace_id} is here"), async || {
                let spans = self.spans();
                let found = spans.iter().find(|span| span.name == name && hex(&span.trace_id) == trace_id);
                found.cloned().ok_or(format!("{spans:#?}"))
            })
            .await
    }
}

/// The value of an attribute as text.
pub fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    text(found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()))
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A port that takes connections and answers nothing.
pub async fn silent_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    port
}

/// Longer than a test waits for anything: whoever sends at this interval has been told to.
pub const NEVER: Duration = Duration::from_hours(1);
