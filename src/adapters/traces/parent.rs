//! Where a trace comes from: the headers of a request, or the extensions of an event.
//!
//! Source: W3C Trace Context; `CloudEvents` 1.0.2, "Distributed Tracing" extension.

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::domain::append::AppendRequest;
use crate::domain::context::{ExtensionName, ExtensionValue, Extensions};

/// The span that a request names as its parent.
pub(super) fn of_headers(headers: &HeaderMap) -> Option<Context> {
    extract(&HeaderExtractor(headers))
}

/// The spans that the events of a request name, without those of their neighbours.
pub(super) fn of_events(request: &AppendRequest) -> impl Iterator<Item = Context> {
    let extensions =
        request.events.iter().filter_map(|event| event.context.as_ref()).map(|context| &context.extensions);
    let mut last: Option<SpanContext> = None;
    extensions.filter_map(|extensions| extract(&EventExtractor(extensions))).filter(move |context| {
        let found = context.span().span_context().clone();
        last.replace(found.clone()) != Some(found)
    })
}

fn extract(from: &dyn Extractor) -> Option<Context> {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), from);
    context.span().span_context().is_valid().then_some(context)
}

struct EventExtractor<'a>(&'a Extensions);

impl Extractor for EventExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.as_str() == key).and_then(|(_, value)| match value {
            ExtensionValue::Text(text) => Some(text.as_str()),
            ExtensionValue::Boolean(_)
            | ExtensionValue::Integer(_)
            | ExtensionValue::Binary(_)
            | ExtensionValue::Uri(_)
            | ExtensionValue::UriReference(_)
            | ExtensionValue::Time(_) => None,
        })
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(ExtensionName::as_str).collect()
    }
}
