use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::testing::{TOKEN, state, state_without_store};
use http::Request;

use super::*;

async fn send(router: &RestService, method: &str, uri: &str, body: impl Into<Body>) -> Response {
    let request = Request::builder().method(method).uri(uri).header(AUTHORIZATION, TOKEN).body(body.into()).unwrap();
    router.clone().oneshot(request).await.unwrap()
}

async fn content(response: Response) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

async fn get_json(router: &RestService, uri: &str) -> (u16, Value) {
    let response = send(router, "GET", uri, Body::empty()).await;
    (response.status().as_u16(), content(response).await)
}

#[tokio::test]
async fn appended_event_is_read_back() {
    let router = router(state(&["a"]));
    let body = json!({"source": "shop", "type": "order.placed", "subject": "b", "data": "eHk="}).to_string();
    let response = send(&router, "POST", "/events", body).await;
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    assert_eq!(content(response).await, json!({"id": 2}));
    let event = json!({
        "id": 2, "source": "shop", "type": "order.placed", "subject": "b", "time": "2024-05-01T12:00:00Z", "data": "eHk="
    });
    assert_eq!(get_json(&router, "/events/get?id=2").await, (200, event.clone()));
    let page = json!({"events": [event], "has_more": false});
    assert_eq!(get_json(&router, "/events/historic?recursive=true&from_id=1").await, (200, page));
    assert_eq!(get_json(&router, "/events/get?id=3").await.0, 404);
}

#[tokio::test]
async fn refused_appends_say_why() {
    let router = router(state(&[]));
    let event = |data: &str| json!({"source": "a", "type": "b", "subject": "c", "data": data}).to_string();
    for (body, status) in [
        (String::new(), 400),
        (event("?"), 400),
        (event(&"AAAA".repeat(333)), 200),
        (event(&"AAAA".repeat(334)), 413),
        (event(&"A".repeat(70_000)), 413),
    ] {
        let answer = send(&router, "POST", "/events", body).await;
        assert_eq!(answer.status(), status);
    }
    let request = Request::post("/events").header(AUTHORIZATION, TOKEN).header(CONTENT_TYPE, "text/xml");
    let answer = router.oneshot(request.body(Body::from(event(""))).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 415);
}

#[tokio::test]
async fn history_is_cut_at_its_limit() {
    let router = router(state(&["a", "b", "a"]));
    let (_, page) = get_json(&router, "/events/historic?subject=a&limit=1").await;
    assert_eq!((&page["events"][0]["id"], &page["has_more"]), (&json!(1), &json!(true)));
    let (_, page) = get_json(&router, "/events/historic?subject=a&limit=1&from_id=1").await;
    assert_eq!((&page["events"][0]["id"], &page["has_more"]), (&json!(3), &json!(false)));
    assert_eq!(get_json(&router, "/events/historic").await.0, 400);
}

#[tokio::test]
async fn stream_holds_its_slot_until_the_reader_leaves() {
    let router = router(state(&["a", "b", "a"]));
    let uri = "/events/stream?subject=a&from_id=1";
    let head = send(&router, "HEAD", uri, Body::empty()).await;
    let first = send(&router, "GET", uri, Body::empty()).await;
    for answer in [&head, &first] {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-cache, no-store");
        assert_eq!(answer.headers()["x-accel-buffering"], "no");
        assert!(!answer.headers().contains_key("content-length"));
    }
    let second = send(&router, "GET", uri, Body::empty()).await;
    assert_eq!((second.status().as_u16(), &second.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    let mut body = first.into_body();
    let mut chunks = Vec::new();
    for _ in 0..3 {
        chunks.push(body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    assert!(chunks[1].starts_with(b"id: 3\ndata: {\"id\":3,"));
    assert_eq!(chunks[2], "event: caught-up\nid: 3\ndata: {\"position\":3}\n\n");
    drop(body);
    assert_eq!(send(&router, "GET", uri, Body::empty()).await.status(), 200);
}

#[tokio::test]
async fn subjects_are_listed_across_pages() {
    for count in [0, 1, 999, 1_000, 1_001, 2_000, 2_500] {
        let names: Vec<_> = (0..count).map(|number| format!("s{number:04}")).collect();
        let router = router(state(&names.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(get_json(&router, "/subjects").await, (200, json!(names)), "{count}");
    }
}

#[tokio::test]
async fn deletion_starts_at_from_id() {
    let router = router(state(&["a", "b", "a", "a"]));
    for (query, deleted) in [("subject=a&from_id=3&type=other", 0), ("subject=a&from_id=3", 2), ("subject=a", 1)] {
        let answer = send(&router, "POST", &format!("/subjects/delete?{query}"), Body::empty()).await;
        assert_eq!(content(answer).await, json!({"status": "ok", "deleted": deleted}), "{query}");
    }
    assert_eq!(send(&router, "POST", "/subjects/delete", Body::empty()).await.status(), 400);
    assert_eq!(get_json(&router, "/subjects").await.1, json!(["b"]));
}

#[tokio::test]
async fn only_public_calls_go_without_a_token() {
    let router = router(state(&[]));
    for (uri, status) in [
        ("/", 200),
        ("/openapi.yaml", 200),
        ("/health", 200),
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/subjects", 401),
        ("/events", 401),
        ("/health/", 401),
        ("/nowhere", 401),
    ] {
        for token in [None, Some("Bearer wrong")] {
            let mut request = Request::get(uri);
            request.headers_mut().unwrap().extend(token.map(|token| (AUTHORIZATION, token.parse().unwrap())));
            let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status, "{uri}");
            assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401, "{uri}");
        }
    }
}

#[tokio::test]
async fn wrong_path_and_wrong_method_are_told_apart() {
    let router = router(state(&[]));
    for (method, uri, status, allow) in [
        ("GET", "/nowhere", 404, None),
        ("GET", "/events", 405, Some("POST,OPTIONS")),
        ("DELETE", "/subjects", 405, Some("GET,HEAD")),
        ("POST", "/health", 405, Some("GET,HEAD")),
        ("GET", "/subjects/delete", 405, Some("POST")),
    ] {
        let answer = send(&router, method, uri, Body::empty()).await;
        assert_eq!(answer.status(), status, "{uri}");
        assert_eq!(answer.headers().get("allow").map(|value| value.to_str().unwrap()), allow, "{uri}");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(content(answer).await["status"], status);
    }
}

#[tokio::test]
async fn store_that_is_gone_is_told_as_such() {
    let router = router(state_without_store());
    let unhealthy = json!({"status": "unhealthy", "error": "the event store is unavailable"});
    assert_eq!(get_json(&router, "/health").await, (503, unhealthy));
    for uri in ["/events/get?id=1", "/events/historic?subject=a", "/subjects"] {
        assert_eq!(get_json(&router, uri).await.0, 503, "{uri}");
    }
    assert_eq!(get_json(&router, "/livez").await.0, 200);
}

#[tokio::test]
async fn readiness_follows_its_latch() {
    let latch = watch::Sender::new(false);
    let router = router(RestState { ready: latch.subscribe(), ..state(&[]) });
    assert_eq!(get_json(&router, "/readyz").await, (503, json!({"status": "unavailable"})));
    latch.send_replace(true);
    assert_eq!(get_json(&router, "/readyz").await, (StatusCode::OK.as_u16(), json!({"status": "ok"})));
}

#[tokio::test]
async fn documented_calls_are_the_ones_there_are() {
    let router = router(state(&[]));
    let contract = include_str!("../../../openapi.yaml");
    let mut path = "";
    let mut calls = 0;
    for line in contract.lines().take_while(|line| *line != "components:") {
        match line.trim_end_matches(':') {
            text if text.starts_with("  /") => path = text.trim(),
            text @ ("    get" | "    post") => {
                let answer = send(&router, &text.trim().to_uppercase(), path, Body::empty()).await;
                assert!(![404, 405].contains(&answer.status().as_u16()), "{path}");
                calls += 1;
            }
            _ => {}
        }
    }
    assert_eq!(calls, 12);
}

#[test]
fn every_kind_of_problem_is_documented() {
    let contract = include_str!("../../../openapi.yaml");
    for kind in [
        ApiErrorKind::InvalidArgument,
        ApiErrorKind::Unauthenticated,
        ApiErrorKind::NotFound,
        ApiErrorKind::MethodNotAllowed,
        ApiErrorKind::TooLarge,
        ApiErrorKind::UnsupportedMediaType,
        ApiErrorKind::TooManyStreams,
        ApiErrorKind::Unavailable,
        ApiErrorKind::OutcomeUnknown,
        ApiErrorKind::Internal,
    ] {
        assert!(contract.contains(&format!("- urn:eventsdb:problem:{}\n", kind.row().slug)), "{kind:?}");
    }
}
