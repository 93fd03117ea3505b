//! What Prometheus sees, through OpenTelemetry.

mod appends;
mod log;
pub mod operation;
mod operation_counts;
pub mod state;
mod store;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};

use crate::adapters::metrics::appends::Appends;
use crate::adapters::metrics::operation::{Fault, Operation};
use crate::adapters::metrics::operation_counts::OperationCounts;
use crate::adapters::metrics::state::State;
use crate::adapters::metrics::store::{StoreCalls, TimedRepository};
use crate::domain::log::LogReport;
use crate::domain::service::{GroupReport, QueueDepth};
use crate::ports::event_repository::EventRepository;

/// Bucket bounds in seconds: from a read out of memory to the longest wait for a database.
const DURATION_BOUNDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// The metrics could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the metrics cannot be set up")]
pub struct MetricsError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// What is asked for at every scrape.
pub struct Watched {
    /// Open event streams.
    pub open_streams: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The log and its readers.
    pub log: Box<dyn Fn() -> LogReport + Send + Sync>,
    /// How full the queue of appends is.
    pub queue: Box<dyn Fn() -> QueueDepth + Send + Sync>,
    /// How often appends were written again, by cause.
    pub retries: Box<dyn Fn() -> [(&'static str, u64); 3] + Send + Sync>,
    /// Where the process stands.
    pub state: State,
}

/// The instruments of this process; those of the Go service under the names that it gave them.
pub struct Metrics {
    registry: Registry,
    meter: Meter,
    operations: Arc<OperationCounts>,
    durations: Histogram<f64>,
    appends: Appends,
    store: StoreCalls,
    _provider: SdkMeterProvider,
}

impl Metrics {
    /// Sets the instruments up.
    ///
    /// # Errors
    /// [`MetricsError`] when an instrument is refused.
    pub fn new() -> Result<Self, MetricsError> {
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
        let operations = Arc::new(OperationCounts::default());
        operations.watch(&meter);
        let durations = meter
            .f64_histogram("app_event_operation_duration")
            .with_unit("s")
            .with_boundaries(DURATION_BOUNDS.to_vec())
            .with_description("Time until an operation was answered or a stream was open.")
            .build();
        let appends = Appends::new(&meter);
        let store = StoreCalls::new(&meter);
        Ok(Self { registry, meter, operations, durations, appends, store, _provider: provider })
    }

    /// Asks `watched` at every scrape. To be called once.
    pub fn watch(&self, watched: Watched) {
        let Watched { open_streams, log, queue, retries, state } = watched;
        self.meter
            .u64_observable_gauge("app_active_event_streams")
            .with_description("Open event streams, over all protocols.")
            .with_callback(move |observer| observer.observe(open_streams(), &[]))
            .build();
        self.appends.watch(&self.meter, queue, retries);
        log::watch(&self.meter, log);
        state::watch(&self.meter, state);
    }

    /// `repository` with its calls timed.
    #[must_use]
    pub fn timed(&self, repository: Arc<dyn EventRepository>) -> Arc<dyn EventRepository> {
        Arc::new(TimedRepository { inner: repository, calls: self.store.clone() })
    }

    /// Counts one operation, whose fault it was if it failed, and how long it took.
    pub fn record(&self, operation: Operation, fault: Option<Fault>, duration: Duration) {
        self.operations.count(operation, fault);
        self.durations.record(duration.as_secs_f64(), &[KeyValue::new("operation", operation.as_str())]);
    }

    /// Counts what became of a group of appends.
    pub fn record_group(&self, group: &GroupReport) {
        self.appends.record(group);
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

fn seconds(meter: &Meter, name: &'static str, description: &'static str) -> Histogram<f64> {
    let histogram = meter.f64_histogram(name).with_unit("s").with_boundaries(DURATION_BOUNDS.to_vec());
    histogram.with_description(description).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::metrics::state::Limits;
    use crate::domain::log::{ProtocolReaders, ReadersReport};
    use crate::domain::position::Position;
    use crate::domain::service::Failures;

    fn metrics() -> Metrics {
        let metrics = Metrics::new().unwrap();
        metrics.watch(Watched {
            open_streams: Box::new(|| 7),
            log: Box::new(log_report),
            queue: Box::new(|| QueueDepth { events: 3, bytes: 300, refused: 4 }),
            retries: Box::new(|| [("conflict", 5), ("duplicate_key", 0), ("lost_connection", 1)]),
            state: State {
                is_ready: Box::new(|| false),
                is_database_up: Box::new(|| true),
                is_nats_connected: Some(Box::new(|| true)),
                connections: Box::new(|| 11),
                certificate_expires_at: Some(Box::new(|| Some(1_900_000_000))),
                limits: Limits { connections: 20, streams: 21, queue_events: 22, queue_bytes: 23 },
            },
        });
        metrics
    }

    fn log_report() -> LogReport {
        let sse = ProtocolReaders { open: 5, delivered: 100, ended_slow: 1 };
        let grpc = ProtocolReaders { open: 2, ..ProtocolReaders::default() };
        let by_protocol = [sse, grpc, ProtocolReaders::default()];
        LogReport {
            head: Position::new(90).ok(),
            announced: None,
            readers: ReadersReport { by_protocol, on_tail: 6, on_store: 1, slowest_lag_events: 9, wakes: 8 },
            tail_events: 40,
            tail_bytes: 4_000,
            tail_hits: 30,
            tail_misses: 3,
            delay: Duration::from_millis(250),
            wakes: [4, 3, 2, 1],
        }
    }

    #[test]
    fn readers_and_the_log_before_them_are_watched() {
        let text = metrics().render();
        for line in [
            "eventsdb_head_position 90",
            "eventsdb_announced_position 0",
            r#"eventsdb_streams{protocol="sse"} 5"#,
            r#"eventsdb_streams{protocol="grpc"} 2"#,
            r#"eventsdb_streams{protocol="grpc_web"} 0"#,
            r#"eventsdb_stream_events_total{protocol="sse"} 100"#,
            r#"eventsdb_slow_streams_ended_total{protocol="sse"} 1"#,
            r#"eventsdb_stream_readers{source="tail"} 6"#,
            r#"eventsdb_stream_readers{source="store"} 1"#,
            "eventsdb_stream_lag_events 9",
            "eventsdb_stream_wakes_total 8",
            "eventsdb_tail_events 40",
            "eventsdb_tail_bytes 4000",
            r#"eventsdb_log_reads_total{source="tail"} 30"#,
            r#"eventsdb_log_reads_total{source="store"} 3"#,
            "eventsdb_tail_delay_seconds 0.25",
            r#"eventsdb_tail_wakes_total{cause="append"} 4"#,
            r#"eventsdb_tail_wakes_total{cause="hint"} 3"#,
            r#"eventsdb_tail_wakes_total{cause="poll"} 2"#,
            r#"eventsdb_tail_wakes_total{cause="read"} 1"#,
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn groups_are_counted_by_what_became_of_their_requests() {
        let metrics = metrics();
        metrics.record_group(&GroupReport {
            waits: vec![Duration::from_millis(1), Duration::from_millis(2)],
            store_time: Duration::from_millis(3),
            stored: 12,
            duplicates: 2,
            failed_preconditions: 1,
            id_conflicts: 1,
            failures: Failures { outcome_unknown: 1, ..Failures::default() },
            error: None,
        });
        metrics.record_group(&GroupReport { duplicates: 1, ..GroupReport::default() });
        let text = metrics.render();
        for line in [
            "eventsdb_commit_events_sum 12",
            "eventsdb_commit_events_count 1",
            r#"eventsdb_commit_events_bucket{le="16"} 1"#,
            "eventsdb_commit_duration_seconds_count 1",
            "eventsdb_append_wait_seconds_count 2",
            "eventsdb_append_queue_events 3",
            "eventsdb_append_queue_bytes 300",
            "eventsdb_append_duplicates_total 3",
            r#"eventsdb_append_refusals_total{reason="precondition"} 1"#,
            r#"eventsdb_append_refusals_total{reason="id_conflict"} 1"#,
            r#"eventsdb_append_refusals_total{reason="queue_full"} 4"#,
            r#"eventsdb_append_failures_total{reason="outcome_unknown"} 1"#,
            r#"eventsdb_append_failures_total{reason="unavailable"} 0"#,
            r#"eventsdb_append_retries_total{cause="conflict"} 5"#,
            r#"eventsdb_append_retries_total{cause="lost_connection"} 1"#,
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_process_tells_what_it_is_and_how_far_its_limits_are() {
        let text = metrics().render();
        for line in [
            concat!(r#"eventsdb_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
            "eventsdb_ready 0",
            "eventsdb_database_up 1",
            "eventsdb_nats_connected 1",
            "eventsdb_connections 11",
            "eventsdb_connections_limit 20",
            "eventsdb_streams_limit 21",
            "eventsdb_append_queue_limit_events 22",
            "eventsdb_append_queue_limit_bytes 23",
            "eventsdb_certificate_expiry_timestamp_seconds 1900000000",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_names_of_the_go_service_stay() {
        let metrics = metrics();
        metrics.record(Operation::CreateEvent, None, Duration::from_millis(3));
        metrics.record(Operation::GetEvent, Some(Fault::Client), Duration::from_millis(3));
        let text = metrics.render();
        for line in [
            r#"app_event_operations_total{operation="create_event",status="success"} 1"#,
            r#"app_event_operations_total{operation="get_event",status="error"} 1"#,
            r#"app_event_operation_duration_seconds_count{operation="create_event"} 1"#,
            r#"app_event_operation_duration_seconds_bucket{operation="create_event",le="0.005"} 1"#,
            r#"eventsdb_operation_errors_total{fault="client",operation="get_event"} 1"#,
            r#"eventsdb_operation_errors_total{fault="server",operation="get_event"} 0"#,
            "app_active_event_streams 7",
            "# TYPE app_active_event_streams gauge",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
    }
}
