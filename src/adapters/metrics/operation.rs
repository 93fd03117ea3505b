//! Counts operations at the door, so that every protocol counts alike.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use tower::{Layer, Service};

use crate::adapters::metrics::Metrics;

/// What a request asks for, whatever protocol it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Append an event.
    CreateEvent,
    /// Read one event.
    GetEvent,
    /// Open a subscription.
    StreamEvents,
    /// Read stored events.
    HistoricEvents,
    /// List the subjects.
    ListSubjects,
    /// Delete events.
    DeleteEvents,
}

impl Operation {
    /// The value of the label `operation`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateEvent => "create_event",
            Self::GetEvent => "get_event",
            Self::StreamEvents => "stream_events",
            Self::HistoricEvents => "historic_events",
            Self::ListSubjects => "list_subjects",
            Self::DeleteEvents => "delete_events",
        }
    }

    fn of(method: &Method, path: &str) -> Option<Self> {
        match (method.as_str(), path) {
            (
                "POST",
                "/events"
                | "/grpc.EventsDB/CreateEvent"
                | "/eventsdb.v1.EventStore/Append"
                | "/eventsdb.v1.EventStore/AppendStream"
                | "/io.cloudevents.v1.CloudEventService/Publish",
            ) => Some(Self::CreateEvent),
            ("GET", "/events/get") | ("POST", "/grpc.EventsDB/GetEventByID" | "/eventsdb.v1.EventStore/Get") => {
                Some(Self::GetEvent)
            }
            ("GET", "/events/stream")
            | (
                "POST",
                "/grpc.EventsDB/StreamEventsFromSubject"
                | "/eventsdb.v1.EventStore/Subscribe"
                | "/io.cloudevents.v1.CloudEventService/Subscribe",
            ) => Some(Self::StreamEvents),
            ("GET", "/events/historic")
            | ("POST", "/grpc.EventsDB/GetHistoricEventsFromSubject" | "/eventsdb.v1.EventStore/Read") => {
                Some(Self::HistoricEvents)
            }
            ("GET", "/subjects") | ("POST", "/eventsdb.v1.EventStore/ListSubjects") => Some(Self::ListSubjects),
            ("POST", "/subjects/delete" | "/grpc.EventsDB/DeleteFromSubject" | "/eventsdb.v1.EventStore/Delete") => {
                Some(Self::DeleteEvents)
            }
            (_, _) => None,
        }
    }
}

/// Records every operation that passes.
#[derive(Clone)]
pub struct OperationLayer {
    metrics: Arc<Metrics>,
}

/// See [`OperationLayer`].
#[derive(Clone)]
pub struct OperationService<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl OperationLayer {
    /// Records into `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for OperationLayer {
    type Service = OperationService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        OperationService { inner, metrics: Arc::clone(&self.metrics) }
    }
}

impl<S, B, R> Service<Request<B>> for OperationService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let operation = Operation::of(request.method(), request.uri().path());
        let started = Instant::now();
        let answer = self.inner.call(request);
        let metrics = Arc::clone(&self.metrics);
        Box::pin(async move {
            let answer = answer.await;
            if let Some(operation) = operation {
                metrics.record(operation, answer.as_ref().is_ok_and(succeeded), started.elapsed());
            }
            answer
        })
    }
}

/// A gRPC call that fails before its first message says so in the headers; after that, the operation has succeeded.
fn succeeded<R>(response: &Response<R>) -> bool {
    let grpc_status = response.headers().get("grpc-status");
    response.status().is_success() && grpc_status.is_none_or(|status| status.as_bytes() == b"0")
}
