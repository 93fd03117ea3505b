//! What Prometheus sees, through OpenTelemetry.

pub mod operation;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, MeterProvider, ObservableGauge};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};

use crate::adapters::metrics::operation::Operation;

/// Bucket bounds in seconds: from a read out of memory to the longest wait for a database.
const DURATION_BOUNDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// The metrics could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the metrics cannot be set up")]
pub struct MetricsError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// The instruments of this process, under the names that the Go service gave them.
pub struct Metrics {
    registry: Registry,
    operations: Counter<u64>,
    durations: Histogram<f64>,
    _streams: ObservableGauge<u64>,
    _provider: SdkMeterProvider,
}

impl Metrics {
    /// Sets the instruments up; `open_streams` is asked at every scrape.
    ///
    /// # Errors
    /// [`MetricsError`] when an instrument is refused.
    pub fn new(open_streams: impl Fn() -> u64 + Send + Sync + 'static) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process)).map_err(|error| MetricsError(error.into()))?;
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|error| MetricsError(error.into()))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("events-db");
        // The exporter appends the unit and `_total`.
        let operations = meter
            .u64_counter("app_event_operations")
            .with_description("Operations on events, over all protocols.")
            .build();
        let durations = meter
            .f64_histogram("app_event_operation_duration")
            .with_unit("s")
            .with_boundaries(DURATION_BOUNDS.to_vec())
            .with_description("Time until an operation was answered or a stream was open.")
            .build();
        let streams = meter
            .u64_observable_gauge("app_active_event_streams")
            .with_description("Open event streams, over all protocols.")
            .with_callback(move |observer| observer.observe(open_streams(), &[]))
            .build();
        Ok(Self { registry, operations, durations, _streams: streams, _provider: provider })
    }

    /// Counts one operation and how long it took.
    pub fn record(&self, operation: Operation, succeeded: bool, duration: Duration) {
        let name = KeyValue::new("operation", operation.as_str());
        let status = KeyValue::new("status", if succeeded { "success" } else { "error" });
        self.operations.add(1, &[name.clone(), status]);
        self.durations.record(duration.as_secs_f64(), &[name]);
    }

    /// All instruments in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be encoded");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_go_service_stay() {
        let metrics = Metrics::new(|| 7).unwrap();
        metrics.record(Operation::CreateEvent, true, Duration::from_millis(3));
        metrics.record(Operation::GetEvent, false, Duration::from_millis(3));
        let text = metrics.render();
        for line in [
            r#"app_event_operations_total{operation="create_event",status="success"} 1"#,
            r#"app_event_operations_total{operation="get_event",status="error"} 1"#,
            r#"app_event_operation_duration_seconds_count{operation="create_event"} 1"#,
            r#"app_event_operation_duration_seconds_bucket{operation="create_event",le="0.005"} 1"#,
            "app_active_event_streams 7",
            "# TYPE app_active_event_streams gauge",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
    }
}
