//! One port for both interfaces: which request head goes to gRPC and which to REST.
//!
//! The content type decides, not the HTTP version: gRPC-web arrives over HTTP/1.1 and HTTP/2, and so does REST.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::future::RouteFuture;
use futures_util::future::Either;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use tower::{Layer, Service};
use tower_http::cors::{AllowHeaders, AllowOrigin, Cors, CorsLayer, ResponseFuture};

const GRPC_MEDIA_TYPE: &[u8] = b"application/grpc";

/// How long a browser may remember the answer to a preflight request; the browsers' own ceilings are two hours or more.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_hours(1);

/// Who answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC or gRPC-web.
    Grpc,
    /// REST, server-sent events, health, metrics.
    Rest,
}

/// Tells gRPC from REST by the content type: `application/grpc` in any case, alone or followed by `+`, `-`, `;` or a
/// space, is gRPC.
///
/// Source: "gRPC over HTTP2", Content-Type; `PROTOCOL-WEB.md` for `application/grpc-web` and `-text`.
#[must_use]
pub fn classify(parts: &Parts) -> Protocol {
    let Some(content_type) = parts.headers.get(CONTENT_TYPE) else { return Protocol::Rest };
    let Some((start, rest)) = content_type.as_bytes().split_at_checked(GRPC_MEDIA_TYPE.len()) else {
        return Protocol::Rest;
    };
    let ends_here = matches!(rest.first(), None | Some(b'+' | b'-' | b';' | b' '));
    if ends_here && start.eq_ignore_ascii_case(GRPC_MEDIA_TYPE) { Protocol::Grpc } else { Protocol::Rest }
}

/// Both interfaces as one service.
#[derive(Debug, Clone)]
pub struct Multiplex<R = Router> {
    /// Answers what [`classify`] calls [`Protocol::Grpc`].
    pub grpc: Router,
    /// Answers everything else; always ready, like a router.
    pub rest: R,
}

impl<R: Clone> Multiplex<R> {
    /// Puts CORS in front, if any origin is allowed: outermost, since a preflight request carries no credentials.
    #[must_use]
    pub fn with_cors(self, origins: &CorsOrigins) -> CrossOrigin<R> {
        CrossOrigin { cors: cors_layer(origins).map(|layer| layer.layer(self.clone())), plain: self }
    }
}

/// Both interfaces, perhaps behind CORS.
#[derive(Debug, Clone)]
pub struct CrossOrigin<R = Router> {
    cors: Option<Cors<Multiplex<R>>>,
    plain: Multiplex<R>,
}

/// The answer of either interface.
type Answer<F> = Either<RouteFuture<Infallible>, F>;

impl<R> Service<Request<Body>> for CrossOrigin<R>
where
    R: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<ResponseFuture<Answer<R::Future>>, Answer<R::Future>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The layer would answer every OPTIONS, also those that are no preflight but the handshake of a web hook.
        // Source: WHATWG Fetch, "CORS-preflight request".
        let is_other =
            request.method() == Method::OPTIONS && !request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        match &mut self.cors {
            Some(cors) if !is_other => Either::Left(cors.call(request)),
            Some(_) | None => Either::Right(self.plain.call(request)),
        }
    }
}

impl<R> Service<Request<Body>> for Multiplex<R>
where
    R: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<R::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready: it forwards to a fresh clone of its route.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let protocol = classify(&parts);
        let request = Request::from_parts(parts, body);
        match protocol {
            Protocol::Grpc => Either::Left(self.grpc.call(request)),
            Protocol::Rest => Either::Right(self.rest.call(request)),
        }
    }
}

/// Which web pages may call us from a browser.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CorsOrigins {
    /// None: no answer carries a CORS header.
    #[default]
    None,
    /// Every page (`*`).
    Any,
    /// Pages of these origins, never empty.
    Only(Vec<HeaderValue>),
}

/// An origin that is not `*` and not of the form `scheme://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin; give `*` or `scheme://host[:port]`, separated by commas")]
pub struct InvalidOrigin(String);

impl std::str::FromStr for CorsOrigins {
    type Err = InvalidOrigin;

    /// Reads a list separated by commas. Empty means none; `*` anywhere means every origin.
    fn from_str(list: &str) -> Result<Self, InvalidOrigin> {
        let names: Vec<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let mut origins = Vec::with_capacity(names.len());
        for name in names.iter().filter(|name| **name != "*") {
            origins.push(origin(name).ok_or_else(|| InvalidOrigin((*name).to_owned()))?);
        }
        Ok(match (names.contains(&"*"), origins.is_empty()) {
            (true, _) => Self::Any,
            (false, true) => Self::None,
            (false, false) => Self::Only(origins),
        })
    }
}

/// Browsers send an origin in lower case and without a path, and it is compared byte by byte.
fn origin(name: &str) -> Option<HeaderValue> {
    let (scheme, host) = name.split_once("://")?;
    let complete = !scheme.is_empty() && !host.is_empty();
    if !complete || host.contains(['/', '?', '#', '@', ' ', '*']) {
        return None;
    }
    HeaderValue::from_str(&name.to_ascii_lowercase()).ok()
}

/// The CORS answers for these origins; `None` if no origin is allowed, since even an empty layer would add `vary` and
/// answer every `OPTIONS`.
///
/// The exposed `grpc-` headers matter: an error before the first message puts its status there, and a gRPC-web client
/// that may not read it reports `UNKNOWN`.
#[must_use]
pub fn cors_layer(origins: &CorsOrigins) -> Option<CorsLayer> {
    let allowed = match origins {
        CorsOrigins::None => return None,
        CorsOrigins::Any => AllowOrigin::any(),
        CorsOrigins::Only(list) => AllowOrigin::list(list.iter().cloned()),
    };
    let exposed_headers = [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "ce-dataschema",
        "ce-id",
        "ce-position",
        "ce-recordedtime",
        "ce-source",
        "ce-specversion",
        "ce-subject",
        "ce-time",
        "ce-type",
        "events-has-more",
    ]
    .map(HeaderName::from_static);
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::HEAD, Method::OPTIONS, Method::POST])
            // Any: the extensions of an event in binary mode are headers of any name.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(exposed_headers.into_iter().chain([RETRY_AFTER]).collect::<Vec<_>>())
            .max_age(PREFLIGHT_MAX_AGE),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::listener::HttpService;
    use axum::routing::post;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    fn request(content_type: Option<&str>) -> Request<Body> {
        let mut builder = Request::post("/x");
        if let Some(content_type) = content_type {
            builder = builder.header(CONTENT_TYPE, content_type);
        }
        builder.body(Body::empty()).unwrap()
    }

    fn multiplex() -> Multiplex {
        Multiplex {
            grpc: Router::new().route("/x", post(|| async { "grpc" })),
            rest: Router::new().route("/x", post(|| async { "rest" })),
        }
    }

    #[test]
    fn classify_follows_the_content_type() {
        let table = [
            (Some("application/grpc"), Protocol::Grpc),
            (Some("application/grpc+proto"), Protocol::Grpc),
            (Some("application/grpc-web"), Protocol::Grpc),
            (Some("application/grpc-web-text+proto"), Protocol::Grpc),
            (Some("application/grpc; charset=utf-8"), Protocol::Grpc),
            (Some("application/grpc ; x=y"), Protocol::Grpc),
            (Some("APPLICATION/gRPC-Web"), Protocol::Grpc),
            (Some("application/grpcfoo"), Protocol::Rest),
            (Some("application/grp"), Protocol::Rest),
            (Some("application/json"), Protocol::Rest),
            (Some("application/cloudevents+json"), Protocol::Rest),
            (Some("text/application/grpc"), Protocol::Rest),
            (Some(""), Protocol::Rest),
            (None, Protocol::Rest),
        ];
        for (content_type, protocol) in table {
            assert_eq!(classify(&request(content_type).into_parts().0), protocol, "{content_type:?}");
        }
    }

    #[tokio::test]
    async fn multiplex_forwards_to_the_router_of_the_protocol() {
        for (content_type, answer) in [("application/grpc-web", "grpc"), ("application/json", "rest")] {
            let response = multiplex().oneshot(request(Some(content_type))).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), answer);
        }
    }

    #[test]
    fn origins_are_parsed() {
        let only = |names: &[&'static str]| {
            Ok(CorsOrigins::Only(names.iter().map(|name| HeaderValue::from_static(name)).collect()))
        };
        assert_eq!("".parse(), Ok(CorsOrigins::None));
        assert_eq!(" , ".parse(), Ok(CorsOrigins::None));
        assert_eq!("https://a.example, *".parse(), Ok(CorsOrigins::Any));
        assert_eq!(
            "https://A.example, http://b:81".parse::<CorsOrigins>(),
            only(&["https://a.example", "http://b:81"])
        );
        for bad in ["a.example", "https://", "://a", "https://a/", "https://*.a", "https://a b"] {
            assert_eq!(bad.parse::<CorsOrigins>(), Err(InvalidOrigin(bad.to_owned())));
        }
    }

    #[test]
    fn listener_can_serve_the_multiplexer_with_and_without_cors() {
        fn servable(_: impl HttpService) {}
        servable(multiplex());
        servable(multiplex().with_cors(&CorsOrigins::Any));
    }

    const ASKED: &str = "authorization,ce-ofmine,content-type,grpc-timeout,if-match,last-event-id,x-grpc-web";

    fn preflight(origin: &'static str) -> Request<Body> {
        Request::options("/x")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", ASKED)
            .body(Body::empty())
            .unwrap()
    }

    #[tokio::test]
    async fn preflight_from_an_allowed_origin_names_methods_and_headers() {
        let service = multiplex().with_cors(&"https://a.example".parse().unwrap());
        let response = service.clone().oneshot(preflight("https://a.example")).await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(response.status(), 200);
        assert_eq!(header("access-control-allow-origin"), "https://a.example");
        assert!(header("access-control-allow-methods").contains("POST"));
        assert_eq!(header("access-control-allow-headers"), ASKED);
        assert!(header("vary").contains("access-control-request-headers"));
        assert_eq!(header("access-control-max-age"), "3600");

        let response = service.oneshot(preflight("https://b.example")).await.unwrap();
        assert!(!response.headers().contains_key("access-control-allow-origin"));
    }

    #[tokio::test]
    async fn answers_expose_the_grpc_status() {
        let mut request = request(Some("application/grpc-web"));
        request.headers_mut().insert("origin", HeaderValue::from_static("https://a.example"));
        let response = multiplex().with_cors(&CorsOrigins::Any).oneshot(request).await.unwrap();
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
        for name in
            ["grpc-status", "grpc-message", "grpc-status-details-bin", "ce-id", "events-has-more", "retry-after"]
        {
            assert!(exposed.split(',').any(|exposed| exposed == name), "{name}");
        }
    }

    #[tokio::test]
    async fn options_that_are_no_preflight_are_for_the_interface() {
        for origins in [CorsOrigins::None, CorsOrigins::Any] {
            let request = Request::options("/x").header("origin", "https://a.example").body(Body::empty()).unwrap();
            let response = multiplex().with_cors(&origins).oneshot(request).await.unwrap();
            assert_eq!(response.status(), 405);
        }
    }

    #[tokio::test]
    async fn without_origins_no_answer_speaks_of_cors() {
        let service = multiplex().with_cors(&CorsOrigins::None);
        for request in [preflight("https://a.example"), request(None)] {
            let response = service.clone().oneshot(request).await.unwrap();
            let cors = |name: &HeaderName| name == "vary" || name.as_str().starts_with("access-control-");
            assert!(!response.headers().keys().any(cors), "{:?}", response.headers());
        }
    }
}
