//! How many operations there were, and whose fault it was when they failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::adapters::metrics::operation::{Fault, Operation};

/// Counts for each operation. Plain numbers that a scrape asks for: an instrument would look its labels up each time.
///
/// All are there before the first operation, so that a rate sees it.
#[derive(Default)]
pub(super) struct OperationCounts {
    succeeded: [AtomicU64; Operation::ALL.len()],
    /// By whose fault it was.
    failed: [[AtomicU64; Fault::ALL.len()]; Operation::ALL.len()],
}

impl OperationCounts {
    pub(super) fn count(&self, operation: Operation, fault: Option<Fault>) {
        let counter = match fault {
            None => &self.succeeded[operation as usize],
            Some(fault) => &self.failed[operation as usize][fault as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows them to `meter`, whose exporter appends `_total`.
    pub(super) fn watch(self: &Arc<Self>, meter: &Meter) {
        let counts = Arc::clone(self);
        meter
            .u64_observable_counter("app_event_operations")
            .with_description("Operations on events, over all protocols.")
            .with_callback(move |observer| {
                for operation in Operation::ALL {
                    let succeeded = counts.succeeded[operation as usize].load(Ordering::Relaxed);
                    let failed = Fault::ALL.map(|fault| counts.failed(operation, fault)).into_iter().sum();
                    for (status, count) in [("success", succeeded), ("error", failed)] {
                        observer.observe(count, &[name(operation), KeyValue::new("status", status)]);
                    }
                }
            })
            .build();
        let counts = Arc::clone(self);
        meter
            .u64_observable_counter("eventsdb_operation_errors")
            .with_description("Operations that failed, by whose fault it was.")
            .with_callback(move |observer| {
                for (operation, fault) in Operation::ALL.into_iter().flat_map(|o| Fault::ALL.map(|fault| (o, fault))) {
                    let labels = [name(operation), KeyValue::new("fault", fault.as_str())];
                    observer.observe(counts.failed(operation, fault), &labels);
                }
            })
            .build();
    }

    fn failed(&self, operation: Operation, fault: Fault) -> u64 {
        self.failed[operation as usize][fault as usize].load(Ordering::Relaxed)
    }
}

fn name(operation: Operation) -> KeyValue {
    KeyValue::new("operation", operation.as_str())
}
