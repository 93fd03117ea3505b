//! A span for every request.

use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};
use std::time::SystemTime;

use futures_util::future::{BoxFuture, Either};
use http::{Request, Response, Version};
use opentelemetry::trace::{SpanBuilder, SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use tower::{Layer, Service};

use crate::adapters::traces::calls::Call;
use crate::adapters::traces::parent;

tokio::task_local! {
    /// The request that the task of a handler answers.
    static CURRENT: Arc<RequestSpan>;
}

/// The context of the request that this task answers, if it does; `parent` is the parent of its span in case the request
/// has named none and has no span yet.
pub(super) fn current(parent: impl FnOnce() -> Option<Context>) -> Option<Context> {
    CURRENT.try_with(|request| request.context(parent).clone()).ok()
}

/// The span of a request. It begins with the request but is made later, because an event in the body may name its parent.
struct RequestSpan {
    tracer: SdkTracer,
    call: Call,
    begun: SystemTime,
    attributes: Vec<KeyValue>,
    named_parent: Option<Context>,
    context: OnceLock<Context>,
}

impl RequestSpan {
    fn context(&self, parent: impl FnOnce() -> Option<Context>) -> &Context {
        self.context.get_or_init(|| {
            let parent = self.named_parent.clone().or_else(parent).unwrap_or_default();
            let span = SpanBuilder::from_name(self.call.name())
                .with_kind(SpanKind::Server)
                .with_start_time(self.begun)
                .with_attributes(self.attributes.clone())
                .start_with_context(&self.tracer, &parent);
            parent.with_span(span)
        })
    }

    /// Streams go on after their head, and so may what is answered here; its span ends with the head all the same.
    fn end<R>(&self, response: &Response<R>) {
        let span = self.context(|| None).span();
        let status = response.status();
        if self.call.is_rpc() {
            // None in the headers: messages follow, and the operation has succeeded so far.
            let code = response.headers().get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok());
            let code: i64 = code.unwrap_or(0);
            span.set_attribute(KeyValue::new("rpc.grpc.status_code", code));
            // Source: OpenTelemetry semantic conventions, "gRPC": these codes are the server's errors.
            if [2, 4, 12, 13, 14, 15].contains(&code) {
                span.set_status(Status::error(""));
            }
        } else {
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
            if status.is_server_error() {
                span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
                span.set_status(Status::error(""));
            }
        }
        span.end();
    }
}

/// Makes a span of every request that passes.
#[derive(Clone)]
pub struct RequestLayer {
    tracer: SdkTracer,
    scheme: &'static str,
}

/// See [`RequestLayer`].
#[derive(Clone)]
pub struct RequestService<S> {
    inner: S,
    layer: RequestLayer,
}

impl RequestLayer {
    pub(super) fn new(tracer: SdkTracer, is_tls: bool) -> Self {
        Self { tracer, scheme: if is_tls { "https" } else { "http" } }
    }

    /// `None` for what is not traced.
    fn begin<B>(&self, request: &Request<B>) -> Option<RequestSpan> {
        let call = Call::of(request)?;
        let mut attributes = call.attributes();
        if !call.is_rpc() {
            attributes.push(KeyValue::new("url.scheme", self.scheme));
            attributes.push(KeyValue::new("url.path", request.uri().path().to_owned()));
            attributes.push(KeyValue::new("network.protocol.version", http_version(request.version())));
        }
        let named_parent = parent::of_headers(request.headers());
        let (tracer, begun) = (self.tracer.clone(), SystemTime::now());
        Some(RequestSpan { tracer, call, begun, attributes, named_parent, context: OnceLock::new() })
    }
}

fn http_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

impl<S> Layer<S> for RequestLayer {
    type Service = RequestService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestService { inner, layer: self.clone() }
    }
}

impl<S, B, R> Service<Request<B>> for RequestService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<BoxFuture<'static, Result<S::Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(span) = self.layer.begin(&request) else { return Either::Right(self.inner.call(request)) };
        let span = Arc::new(span);
        let answer = CURRENT.scope(Arc::clone(&span), self.inner.call(request));
        Either::Left(Box::pin(async move {
            let answer = answer.await;
            if let Ok(response) = &answer {
                span.end(response);
            }
            answer
        }))
    }
}
