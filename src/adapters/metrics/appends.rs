//! The instruments of the append queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use crate::adapters::metrics::seconds;
use crate::domain::service::{Failures, GroupReport, QueueDepth};

/// Bucket bounds of the events in a commit: powers of two up to what a transaction takes.
const EVENTS_BOUNDS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

pub(super) struct Appends {
    commit_events: Histogram<u64>,
    commit_duration: Histogram<f64>,
    wait: Histogram<f64>,
    duplicates: Counter<u64>,
    refusals: Arc<Refusals>,
    failures: Counter<u64>,
}

/// Requests refused by the state of the log.
#[derive(Default)]
struct Refusals {
    preconditions: AtomicU64,
    id_conflicts: AtomicU64,
}

impl Appends {
    pub(super) fn new(meter: &Meter) -> Self {
        let appends = Self {
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
            refusals: Arc::default(),
            failures: meter
                .u64_counter("eventsdb_append_failures")
                .with_description("Requests that the store did not acknowledge, by reason.")
                .build(),
        };
        // A counter that is there before the first failure lets a rate see it.
        for (reason, _) in by_reason(Failures::default()) {
            appends.failures.add(0, &[KeyValue::new("reason", reason)]);
        }
        appends.duplicates.add(0, &[]);
        appends
    }

    pub(super) fn watch(
        &self,
        meter: &Meter,
        queue: impl Fn() -> QueueDepth + Send + Sync + 'static,
        retries: impl Fn() -> [(&'static str, u64); 3] + Send + Sync + 'static,
    ) {
        let queue = Arc::new(queue);
        let (depth, bytes, refused) = (queue.clone(), queue.clone(), queue);
        let counted = Arc::clone(&self.refusals);
        meter
            .u64_observable_gauge("eventsdb_append_queue_events")
            .with_description("Events that wait for their commit.")
            .with_callback(move |observer| observer.observe(depth().events as u64, &[]))
            .build();
        // The unit is in the name: given as one, the exporter would say it twice.
        meter
            .u64_observable_gauge("eventsdb_append_queue_bytes")
            .with_description("Bytes of events that wait for their commit.")
            .with_callback(move |observer| observer.observe(bytes().bytes as u64, &[]))
            .build();
        meter
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
        meter
            .u64_observable_counter("eventsdb_append_retries")
            .with_description("Commits tried again, by cause.")
            .with_callback(move |observer| {
                for (cause, count) in retries() {
                    observer.observe(count, &[KeyValue::new("cause", cause)]);
                }
            })
            .build();
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
        for (reason, count) in by_reason(group.failures).into_iter().filter(|(_, count)| *count > 0) {
            self.failures.add(count as u64, &[KeyValue::new("reason", reason)]);
        }
    }
}

fn by_reason(failures: Failures) -> [(&'static str, usize); 4] {
    let Failures { rejected, unavailable, overdue, outcome_unknown } = failures;
    [("rejected", rejected), ("unavailable", unavailable), ("overdue", overdue), ("outcome_unknown", outcome_unknown)]
}
