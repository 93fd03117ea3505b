//! Spans of appends: how long each waits, and the group that it is written with.

use std::sync::PoisonError;

use opentelemetry::trace::{Link, Span, SpanBuilder, SpanContext, SpanKind, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

use crate::adapters::traces::{Group, parent, request};
use crate::domain::append::AppendRequest;
use crate::ports::append_observer::{AppendObserver, Wait};

/// Traces of its events that a request is linked to at the most; the SDK keeps no more.
const LINKS_MAX: usize = 128;

pub(super) struct AppendSpans {
    pub(super) tracer: SdkTracer,
    pub(super) group: Group,
}

/// An append in the queue.
struct Waiting {
    request: SpanContext,
    span: SdkSpan,
}

impl AppendObserver for AppendSpans {
    fn queued(&self, request: &AppendRequest) -> Wait {
        let of_events = || parent::of_events(request).next();
        // One append of many on a call has no request of its own.
        let parent = request::current(of_events).or_else(of_events).unwrap_or_default();
        let asked = parent.span().span_context().clone();
        let others = parent::of_events(request).map(|context| context.span().span_context().clone());
        let others = others.filter(|other| other.trace_id() != asked.trace_id()).take(LINKS_MAX);
        let span = SpanBuilder::from_name("append wait")
            .with_kind(SpanKind::Internal)
            .with_attributes([KeyValue::new("eventsdb.events", count(request.events.len()))])
            .with_links(others.map(Link::with_context).collect())
            .start_with_context(&self.tracer, &parent);
        Box::new(Waiting { request: asked, span })
    }

    /// The group's span is in the trace of its first request that is sampled, linked to all of them.
    fn taken(&self, waits: Vec<Wait>) {
        let mut waits: Vec<Waiting> = waits.into_iter().filter_map(|wait| Some(*wait.downcast().ok()?)).collect();
        let requests =
            waits.iter().map(|wait| if wait.request.is_valid() { &wait.request } else { wait.span.span_context() });
        let sampled: Vec<_> = requests.filter(|request| request.is_sampled()).cloned().collect();
        let group = sampled.first().map(|first| {
            let parent = Context::new().with_remote_span_context(first.clone());
            let span = SpanBuilder::from_name("append group")
                .with_kind(SpanKind::Internal)
                .with_attributes([KeyValue::new("eventsdb.requests", count(waits.len()))])
                .with_links(sampled.iter().cloned().map(Link::with_context).collect())
                .start_with_context(&self.tracer, &parent);
            parent.with_span(span)
        });
        if let Some(group) = &group {
            for wait in &mut waits {
                wait.span.add_link(group.span().span_context().clone(), Vec::new());
            }
        }
        for mut wait in waits {
            wait.span.end();
        }
        *self.group.lock().unwrap_or_else(PoisonError::into_inner) = group;
    }
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
