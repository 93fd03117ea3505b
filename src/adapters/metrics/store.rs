//! How long the store takes, by call.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use crate::adapters::metrics::seconds;
use crate::domain::append::AppendRequest;
use crate::domain::attribute::{EventType, Subject};
use crate::domain::event::StoredEvent;
use crate::domain::filter::Filter;
use crate::domain::log_state::LogState;
use crate::domain::position::Position;
use crate::ports::event_repository::{
    AppendError, DeleteError, EventRepository, GroupAppended, LatestPage, LatestQuery, Page, ReadError, ReadQuery,
    RestoreError,
};

/// The calls of the port, as values of the label `call`.
const CALLS: [&str; 9] = ["append", "restore", "get", "read", "latest", "state", "subjects", "types", "delete"];

#[derive(Clone)]
pub(super) struct StoreCalls {
    duration: Histogram<f64>,
    failures: Counter<u64>,
}

impl StoreCalls {
    pub(super) fn new(meter: &Meter) -> Self {
        let duration = seconds(meter, "eventsdb_store_call_duration", "Time until the store answered, by call.");
        let failures = meter
            .u64_counter("eventsdb_store_call_failures")
            .with_description("Calls that the store did not answer, by call.")
            .build();
        for call in CALLS {
            failures.add(0, &[KeyValue::new("call", call)]);
        }
        Self { duration, failures }
    }

    async fn timed<T, E>(&self, call: &'static str, answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let started = Instant::now();
        let answer = answer.await;
        let call = [KeyValue::new("call", call)];
        self.duration.record(started.elapsed().as_secs_f64(), &call);
        if answer.is_err() {
            self.failures.add(1, &call);
        }
        answer
    }
}

/// A store whose calls are timed.
pub(super) struct TimedRepository {
    pub(super) inner: Arc<dyn EventRepository>,
    pub(super) calls: StoreCalls,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventRepository for TimedRepository {
    async fn append(&self, requests: Arc<[AppendRequest]>) -> Result<GroupAppended, AppendError> {
        self.calls.timed("append", self.inner.append(requests)).await
    }

    async fn restore(&self, events: Vec<StoredEvent>) -> Result<(), RestoreError> {
        self.calls.timed("restore", self.inner.restore(events)).await
    }

    async fn get(&self, position: Position) -> Result<Option<StoredEvent>, ReadError> {
        self.calls.timed("get", self.inner.get(position)).await
    }

    async fn read(&self, query: ReadQuery) -> Result<Page, ReadError> {
        self.calls.timed("read", self.inner.read(query)).await
    }

    async fn latest(&self, query: LatestQuery) -> Result<LatestPage, ReadError> {
        self.calls.timed("latest", self.inner.latest(query)).await
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        self.calls.timed("state", self.inner.state()).await
    }

    async fn subjects(&self, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError> {
        self.calls.timed("subjects", self.inner.subjects(after, limit)).await
    }

    async fn types(&self, after: Option<Position>, through: Position) -> Result<Vec<EventType>, ReadError> {
        self.calls.timed("types", self.inner.types(after, through)).await
    }

    async fn delete(&self, filter: Filter, from: Position, through: Position) -> Result<u64, DeleteError> {
        self.calls.timed("delete", self.inner.delete(filter, from, through)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::adapters::metrics::Metrics;
    use crate::adapters::repository::memory::MemoryRepository;

    #[tokio::test]
    async fn calls_are_timed_by_name() {
        let metrics = Metrics::new().unwrap();
        let store = metrics.timed(Arc::new(MemoryRepository::default()));
        store.state().await.unwrap();
        let text = metrics.render();
        for line in [
            r#"eventsdb_store_call_duration_seconds_count{call="state"} 1"#,
            r#"eventsdb_store_call_failures_total{call="state"} 0"#,
            r#"eventsdb_store_call_failures_total{call="append"} 0"#,
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
    }
}
