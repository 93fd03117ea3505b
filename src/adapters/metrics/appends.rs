//! The instruments of the append queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, ObservableCounter, ObservableGauge};

use crate::adapters::metrics::DURATION_BOUNDS;
use crate::domain::service::{GroupReport, QueueDepth};

/// Bucket bounds of the events in a commit: powers of two up to what a transaction takes.
const EVENTS_BOUNDS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

pub(super) struct Appends {
    commit_events: Histogram<u64>,
    commit_duration: Histogram<f64>,
    wait: Histogram<f64>,
    duplicates: Counter<u64>,
    refusals: Arc<Refusals>,
    failures: Counter<u64>,
    _gauges: [ObservableGauge<u64>; 2],
    _counters: [ObservableCounter<u64>; 2],
}

/// Requests refused by the state of the log.
#[derive(Default)]
struct Refusals {
    preconditions: AtomicU64,
    id_conflicts: AtomicU64,
}

impl Appends {
    pub(super) fn new(
        meter: &Meter,
        queue: impl Fn() -> QueueDepth + Send + Sync + 'static,
        retries: impl Fn() -> [(&'static str, u64); 3] + Send + Sync + 'static,
    ) -> Self {
        let queue = Arc::new(queue);
        let (depth, bytes, refused) = (queue.clone(), queue.clone(), queue);
        let refusals = Arc::new(Refusals::default());
        let counted = Arc::clone(&refusals);
        let events = meter
            .u64_observable_gauge("eventsdb_append_queue_events")
            .with_description("Events that wait for their commit.")
            .with_callback(move |observer| observer.observe(depth().events as u64, &[]))
            .build();
        // The unit is in the name: given as one, the exporter would say it twice.
        let bytes = meter
            .u64_observable_gauge("eventsdb_append_queue_bytes")
            .with_description("Bytes of events that wait for their commit.")
            .with_callback(move |observer| observer.observe(bytes().bytes as u64, &[]))
            .build();
        let all_refusals = meter
            .u64_observable_counter("eventsdb_append_refusals")
            .with_description("Requests refused, by reason; nothing of them is stored.")
            .with_callback(move |observer| {
                for (reason, count) in [
                    ("queue_full", refused().refused),
                    ("precondition", counted.preconditions.load(Ordering::Relaxed)),
                    ("id_conflict", counted.id_conflicts.load(Ordering::Relaxed)),
                ] {
                    observer.observe(count, &[KeyValue::new("reason", reason)]);
                }
            })
            .build();
        let retries = meter
            .u64_observable_counter("eventsdb_append_retries")
            .with_description("Commits tried again, by cause.")
            .with_callback(move |observer| {
                for (cause, count) in retries() {
                    observer.observe(count, &[KeyValue::new("cause", cause)]);
                }
            })
            .build();
        Self {
            commit_events: meter
                .u64_histogram("eventsdb_commit_events")
                .with_boundaries(EVENTS_BOUNDS.to_vec())
                .with_description("Events stored by one commit.")
                .build(),
            commit_duration: seconds(meter, "eventsdb_commit_duration", "Time the store took for a commit."),
            wait: seconds(meter, "eventsdb_append_wait", "Time a request waited before its commit began."),
            duplicates: meter
                .u64_counter("eventsdb_append_duplicates")
                .with_description("Events that were stored already and not stored again.")
                .build(),
            refusals,
            failures: meter
                .u64_counter("eventsdb_append_failures")
                .with_description("Requests that the store did not acknowledge.")
                .build(),
            _gauges: [events, bytes],
            _counters: [all_refusals, retries],
        }
    }

    pub(super) fn record(&self, group: &GroupReport) {
        if group.stored > 0 {
            self.commit_events.record(group.stored as u64, &[]);
            self.commit_duration.record(group.store_time.as_secs_f64(), &[]);
        }
        for wait in &group.waits {
            self.wait.record(wait.as_secs_f64(), &[]);
        }
        self.duplicates.add(group.duplicates as u64, &[]);
        self.refusals.preconditions.fetch_add(group.failed_preconditions as u64, Ordering::Relaxed);
        self.refusals.id_conflicts.fetch_add(group.id_conflicts as u64, Ordering::Relaxed);
        self.failures.add(group.failures as u64, &[]);
    }
}

fn seconds(meter: &Meter, name: &'static str, description: &'static str) -> Histogram<f64> {
    let histogram = meter.f64_histogram(name).with_unit("s").with_boundaries(DURATION_BOUNDS.to_vec());
    histogram.with_description(description).build()
}
