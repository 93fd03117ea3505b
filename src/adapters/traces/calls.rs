//! What a span of a request is called: names of a closed set, whatever clients send.

use http::header::CONTENT_TYPE;
use http::{Method, Request};
use opentelemetry::KeyValue;

/// Calls of probes and scrapers: a span each would bury the others.
const UNTRACED: [&str; 4] = ["/health", "/livez", "/metrics", "/readyz"];

const ROUTES: [&str; 8] = [
    "/",
    "/events",
    "/events/get",
    "/events/historic",
    "/events/stream",
    "/openapi.yaml",
    "/subjects",
    "/subjects/delete",
];

const METHODS: [&str; 18] = [
    "eventsdb.v1.EventStore/Append",
    "eventsdb.v1.EventStore/AppendStream",
    "eventsdb.v1.EventStore/Delete",
    "eventsdb.v1.EventStore/Get",
    "eventsdb.v1.EventStore/ListSubjects",
    "eventsdb.v1.EventStore/ListTypes",
    "eventsdb.v1.EventStore/Read",
    "eventsdb.v1.EventStore/Subscribe",
    "grpc.EventsDB/CreateEvent",
    "grpc.EventsDB/DeleteFromSubject",
    "grpc.EventsDB/GetEventByID",
    "grpc.EventsDB/GetHistoricEventsFromSubject",
    "grpc.EventsDB/StreamEventsFromSubject",
    "io.cloudevents.v1.CloudEventService/Publish",
    "io.cloudevents.v1.CloudEventService/Subscribe",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "grpc.health.v1.Health/List",
];

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// A method of ours, as `package.Service/Method`.
    Rpc(&'static str),
    /// A gRPC method that is not ours.
    UnknownRpc,
    /// A route of REST.
    Route(&'static str, &'static str),
    /// A path that is no route.
    UnknownRoute(&'static str),
}

impl Call {
    /// `None` for what is not traced.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        let path = request.uri().path();
        let content_type = request.headers().get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        if content_type.is_some_and(|content_type| content_type.starts_with(b"application/grpc")) {
            let is_probe = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"].contains(&path);
            let known = METHODS.into_iter().find(|method| path.strip_prefix('/') == Some(method));
            return (!is_probe).then_some(known.map_or(Self::UnknownRpc, Self::Rpc));
        }
        if UNTRACED.contains(&path) {
            return None;
        }
        let method = method(request.method());
        let route = ROUTES.into_iter().find(|route| path == *route);
        Some(route.map_or(Self::UnknownRoute(method), |route| Self::Route(method, route)))
    }

    pub(super) fn is_rpc(self) -> bool {
        match self {
            Self::Rpc(_) | Self::UnknownRpc => true,
            Self::Route(..) | Self::UnknownRoute(_) => false,
        }
    }

    /// Source: OpenTelemetry semantic conventions, "HTTP spans" and "gRPC": `{method} {route}`, `package.Service/Method`.
    pub(super) fn name(self) -> String {
        match self {
            Self::UnknownRpc => "grpc".to_owned(),
            Self::Route(method, route) => format!("{method} {route}"),
            Self::UnknownRoute("_OTHER") => "HTTP".to_owned(),
            Self::Rpc(method) | Self::UnknownRoute(method) => method.to_owned(),
        }
    }

    pub(super) fn attributes(self) -> Vec<KeyValue> {
        match self {
            Self::Rpc(full) => {
                let (service, method) = full.split_once('/').expect("each method has a service");
                vec![
                    KeyValue::new("rpc.system", "grpc"),
                    KeyValue::new("rpc.service", service),
                    KeyValue::new("rpc.method", method),
                ]
            }
            Self::UnknownRpc => vec![KeyValue::new("rpc.system", "grpc")],
            Self::Route(method, route) => {
                vec![KeyValue::new("http.request.method", method), KeyValue::new("http.route", route)]
            }
            Self::UnknownRoute(method) => vec![KeyValue::new("http.request.method", method)],
        }
    }
}

/// Source: OpenTelemetry semantic conventions, `http.request.method`: what is not known is `_OTHER`.
fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
    KNOWN.into_iter().find(|known| method.as_str() == *known).unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, path: &str, content_type: &str) -> Option<String> {
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, content_type).body(()).unwrap();
        Call::of(&request).map(Call::name)
    }

    #[test]
    fn names_are_of_a_closed_set() {
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(call("POST", "/events?x=1", "application/json"), named("POST /events"));
        assert_eq!(call("GET", "/events/secret-4711", ""), named("GET"));
        assert_eq!(call("BREW", "/coffee", ""), named("HTTP"));
        assert_eq!(call("GET", "/readyz", ""), None);
        assert_eq!(call("POST", "/grpc.EventsDB/CreateEvent", "application/grpc"), named("grpc.EventsDB/CreateEvent"));
        assert_eq!(call("POST", "/some.Other/Thing", "application/grpc-web"), named("grpc"));
        assert_eq!(call("POST", "/grpc.health.v1.Health/Check", "application/grpc"), None);
    }
}
