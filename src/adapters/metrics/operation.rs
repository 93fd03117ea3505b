//! Counts operations at the door, so that every protocol counts alike.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
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
    /// List the types.
    ListTypes,
    /// Delete events.
    DeleteEvents,
}

/// Whose fault it is that an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller's: what it asked for is wrong, not there, or not allowed.
    Client,
    /// A limit's: too much waits or is open already.
    Limit,
    /// The server's or the database's.
    Server,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Client, Self::Limit, Self::Server];

    /// The value of the label `fault`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Limit => "limit",
            Self::Server => "server",
        }
    }

    /// A gRPC call that fails before its first message says so in the headers; after that, the operation has succeeded.
    fn of<R>(response: &Response<R>) -> Option<Self> {
        if let Some(status) = response.headers().get("grpc-status") {
            // Source: gRPC, "Status codes and their use in gRPC".
            return match status.as_bytes() {
                b"0" => None,
                b"8" => Some(Self::Limit),
                // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS
                b"2" | b"4" | b"13" | b"14" | b"15" => Some(Self::Server),
                _ => Some(Self::Client),
            };
        }
        match response.status() {
            StatusCode::TOO_MANY_REQUESTS => Some(Self::Limit),
            status if status.is_server_error() => Some(Self::Server),
            status if status.is_success() => None,
            _ => Some(Self::Client),
        }
    }
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CreateEvent,
        Self::GetEvent,
        Self::StreamEvents,
        Self::HistoricEvents,
        Self::ListSubjects,
        Self::ListTypes,
        Self::DeleteEvents,
    ];

    /// The value of the label `operation`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateEvent => "create_event",
            Self::GetEvent => "get_event",
            Self::StreamEvents => "stream_events",
            Self::HistoricEvents => "historic_events",
            Self::ListSubjects => "list_subjects",
            Self::ListTypes => "list_types",
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
            ("POST", "/eventsdb.v1.EventStore/ListTypes") => Some(Self::ListTypes),
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
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Recorded<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let operation = Operation::of(request.method(), request.uri().path());
        let started = Instant::now();
        Recorded { answer: self.inner.call(request), operation, started, metrics: Arc::clone(&self.metrics) }
    }
}

pin_project! {
    /// An answer that is recorded when it is there.
    pub struct Recorded<F> {
        #[pin]
        answer: F,
        operation: Option<Operation>,
        started: Instant,
        metrics: Arc<Metrics>,
    }
}

impl<F, R, E> Future for Recorded<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(context));
        if let Some(operation) = *this.operation {
            let fault = answer.as_ref().map_or(Some(Fault::Server), Fault::of);
            this.metrics.record(operation, fault, this.started.elapsed());
        }
        Poll::Ready(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_apart_by_the_status() {
        let http = |status: u16| Fault::of(&Response::builder().status(status).body(()).unwrap());
        let grpc = |status: &str| Fault::of(&Response::builder().header("grpc-status", status).body(()).unwrap());
        for (fault, expected) in [
            (http(200), None),
            (http(400), Some(Fault::Client)),
            (http(404), Some(Fault::Client)),
            (http(412), Some(Fault::Client)),
            (http(429), Some(Fault::Limit)),
            (http(500), Some(Fault::Server)),
            (http(503), Some(Fault::Server)),
            (grpc("0"), None),
            (grpc("5"), Some(Fault::Client)),
            (grpc("8"), Some(Fault::Limit)),
            (grpc("14"), Some(Fault::Server)),
        ] {
            assert_eq!(fault, expected);
        }
    }
}
