//! Spans of requests, appends and the store, told to an OpenTelemetry collector.
//!
//! All of it is made only when a collector is configured: without one, no layer and no decorator is there.

mod appends;
mod calls;
mod export;
mod parent;
pub mod request;
mod store;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, Key};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use crate::adapters::traces::appends::AppendSpans;
use crate::adapters::traces::export::Collector;
use crate::adapters::traces::request::RequestLayer;
use crate::adapters::traces::store::TracedRepository;
use crate::ports::append_observer::AppendObserver;
use crate::ports::event_repository::EventRepository;

/// What we are called when nobody says otherwise.
const SERVICE_NAME: &str = "events-db";

/// Spans cannot be exported as the variables say.
#[derive(Debug, thiserror::Error)]
#[error("spans cannot be exported")]
pub struct TracesError(#[source] ExporterBuildError);

/// The group that is being written: its span, for the call to the store that carries it out.
type Group = Arc<Mutex<Option<Context>>>;

/// What makes spans and sends them.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    group: Group,
}

impl Traces {
    /// Sends spans as the variables of the OpenTelemetry specification say, which the SDK reads by itself. To be called
    /// within a runtime.
    ///
    /// # Errors
    /// [`TracesError`] when they cannot be followed.
    pub fn start() -> Result<Self, TracesError> {
        let collector = Collector::new(Handle::current());
        let exporter = SpanExporter::builder().with_http().with_http_client(collector).build().map_err(TracesError)?;
        let mut resource = Resource::builder().build();
        let name = resource.get(&Key::from_static_str("service.name"));
        // What the SDK makes up when the variables name nothing.
        if name.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
            resource = Resource::builder().with_service_name(SERVICE_NAME).build();
        }
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        let tracer = provider.tracer("events-db");
        Ok(Self { provider, tracer, group: Group::default() })
    }

    /// Makes a span of every request; `is_tls` says how they come.
    #[must_use]
    pub fn layer(&self, is_tls: bool) -> RequestLayer {
        RequestLayer::new(self.tracer.clone(), is_tls)
    }

    /// Makes spans of the waits of appends and of their groups.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn AppendObserver> {
        Arc::new(AppendSpans { tracer: self.tracer.clone(), group: Arc::clone(&self.group) })
    }

    /// `repository` with spans of the calls that requests make.
    #[must_use]
    pub fn traced(&self, repository: Arc<dyn EventRepository>) -> Arc<dyn EventRepository> {
        let (tracer, group) = (self.tracer.clone(), Arc::clone(&self.group));
        Arc::new(TracedRepository { inner: repository, tracer, group })
    }

    /// Sends what is left, for so long at the most. No span is taken afterwards.
    pub async fn finish(&self, within: Duration) {
        let provider = self.provider.clone();
        let finished = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(within)).await;
        if !matches!(finished, Ok(Ok(()))) {
            tracing::warn!("the last spans were not exported in time");
        }
    }
}
