//! Spans of the calls to the store that requests make. What the process asks by itself has none.

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use opentelemetry::Context;
use opentelemetry::trace::{Span, SpanBuilder, SpanKind, Status};
use opentelemetry_sdk::trace::SdkTracer;

use crate::adapters::traces::{Group, request};
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

/// A store whose calls for requests are spans.
pub(super) struct TracedRepository {
    pub(super) inner: Arc<dyn EventRepository>,
    pub(super) tracer: SdkTracer,
    pub(super) group: Group,
}

impl TracedRepository {
    async fn traced<T, E: std::error::Error>(
        &self,
        name: &'static str,
        parent: Option<Context>,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Some(parent) = parent else { return answer.await };
        let span = SpanBuilder::from_name(name).with_kind(SpanKind::Client);
        let mut span = span.start_with_context(&self.tracer, &parent);
        let answer = answer.await;
        if let Err(error) = &answer {
            span.set_status(Status::error(error.to_string()));
        }
        span.end();
        answer
    }
}

fn asked() -> Option<Context> {
    request::current(|| None)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventRepository for TracedRepository {
    async fn append(&self, requests: Arc<[AppendRequest]>) -> Result<GroupAppended, AppendError> {
        // The span of the group ends with the last one who knows it, which is here.
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.traced("store append", group, self.inner.append(requests)).await
    }

    /// No request asks for this.
    async fn restore(&self, events: Vec<StoredEvent>) -> Result<(), RestoreError> {
        self.traced("store restore", asked(), self.inner.restore(events)).await
    }

    async fn get(&self, position: Position) -> Result<Option<StoredEvent>, ReadError> {
        self.traced("store get", asked(), self.inner.get(position)).await
    }

    async fn read(&self, query: ReadQuery) -> Result<Page, ReadError> {
        self.traced("store read", asked(), self.inner.read(query)).await
    }

    async fn latest(&self, query: LatestQuery) -> Result<LatestPage, ReadError> {
        self.traced("store latest", asked(), self.inner.latest(query)).await
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        self.traced("store state", asked(), self.inner.state()).await
    }

    async fn subjects(&self, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError> {
        self.traced("store subjects", asked(), self.inner.subjects(after, limit)).await
    }

    async fn types(&self, after: Option<Position>, through: Position) -> Result<Vec<EventType>, ReadError> {
        self.traced("store types", asked(), self.inner.types(after, through)).await
    }

    async fn delete(&self, filter: Filter, from: Position, through: Position) -> Result<u64, DeleteError> {
        self.traced("store delete", asked(), self.inner.delete(filter, from, through)).await
    }
}
