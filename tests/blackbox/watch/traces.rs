//! Spans at a collector: whose children they are, and that nobody suffers when it is away.

use reqwest::Client;
use serde_json::{Value, json};
use tonic::transport::Endpoint;

use crate::harness::{Server, event_body};
use crate::proto::CreateEventRequest;
use crate::proto::events_db_client::EventsDbClient;
use crate::watch::collector::{Collector, NEVER, attribute, hex, silent_port};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(trace: &str) -> String {
    format!("00-{trace}-{PARENT}-01")
}

async fn start(collector: &Collector, envs: &[(&str, &str)]) -> Server {
    let url = collector.url();
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "20")];
    all.extend(envs);
    Server::start(&[], &all).await
}

#[tokio::test(flavor = "multi_thread")]
async fn append_over_rest_continues_the_trace_of_its_header() {
    let collector = Collector::start().await;
    let server = start(&collector, &[]).await;
    let request = Client::new().post(server.at("/events")).json(&event_body("s", b"x"));
    let request = request.header("traceparent", traceparent(TRACE)).header("tracestate", "vendor=opaque");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let asked = collector.span(&server, TRACE, "POST /events").await;
    assert_eq!(hex(&asked.parent_span_id), PARENT);
    assert_eq!(asked.trace_state, "vendor=opaque");
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/events"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
    ] {
        assert_eq!(attribute(&asked, key), value, "{key}");
    }
    let wait = collector.span(&server, TRACE, "append wait").await;
    assert_eq!(wait.parent_span_id, asked.span_id);
    assert_eq!(attribute(&wait, "eventsdb.events"), "1");
    let group = collector.span(&server, TRACE, "append group").await;
    assert_eq!(group.links.iter().map(|link| &link.span_id).collect::<Vec<_>>(), [&asked.span_id]);
    assert_eq!(wait.links.iter().map(|link| &link.span_id).collect::<Vec<_>>(), [&group.span_id]);
    let store = collector.span(&server, TRACE, "store append").await;
    assert_eq!(store.parent_span_id, group.span_id);
    assert!(asked.start_time_unix_nano <= wait.start_time_unix_nano);
    assert!(store.end_time_unix_nano <= asked.end_time_unix_nano);
    assert!(collector.service_names().iter().all(|name| name == "events-db"));
}

#[tokio::test(flavor = "multi_thread")]
async fn append_over_grpc_continues_the_trace_of_its_metadata() {
    let collector = Collector::start().await;
    let server = start(&collector, &[("OTEL_SERVICE_NAME", "orders")]).await;
    let mut client = EventsDbClient::new(Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap());
    let event = CreateEventRequest {
        source: "tests".to_owned(),
        r#type: "made".to_owned(),
        subject: "s".to_owned(),
        data: b"x".to_vec().into(),
    };
    let mut request = tonic::Request::new(event);
    request.metadata_mut().insert("traceparent", traceparent(TRACE).parse().unwrap());
    client.create_event(request).await.unwrap();
    let asked = collector.span(&server, TRACE, "grpc.EventsDB/CreateEvent").await;
    assert_eq!(hex(&asked.parent_span_id), PARENT);
    for (key, value) in [
        ("rpc.system", "grpc"),
        ("rpc.service", "grpc.EventsDB"),
        ("rpc.method", "CreateEvent"),
        ("rpc.grpc.status_code", "0"),
    ] {
        assert_eq!(attribute(&asked, key), value, "{key}");
    }
    let wait = collector.span(&server, TRACE, "append wait").await;
    assert_eq!(wait.parent_span_id, asked.span_id);
    assert!(collector.service_names().iter().all(|name| name == "orders"));
}

#[tokio::test(flavor = "multi_thread")]
async fn event_names_the_parent_where_the_request_has_none_and_keeps_it() {
    let collector = Collector::start().await;
    let server = start(&collector, &[]).await;
    let traced = |id: &str, trace: &str| {
        json!({ "specversion": "1.0", "id": id, "source": "/tests", "type": "made", "subject": "s",
            "traceparent": traceparent(trace), "tracestate": "vendor=opaque" })
    };
    let append = async |event: &Value, header: Option<&str>| {
        let mut request = Client::new().post(server.at("/events")).body(event.to_string());
        request = request.header("content-type", "application/cloudevents+json");
        if let Some(trace) = header {
            request = request.header("traceparent", traceparent(trace));
        }
        assert_eq!(request.send().await.unwrap().status(), 200);
    };
    append(&traced("1", TRACE), None).await;
    let asked = collector.span(&server, TRACE, "POST /events").await;
    assert_eq!((hex(&asked.parent_span_id).as_str(), asked.trace_state.as_str()), (PARENT, "vendor=opaque"));
    let answer = Client::new().get(server.at("/events/get?id=1")).header("accept", "application/cloudevents+json");
    let stored: Value = answer.send().await.unwrap().json().await.unwrap();
    assert_eq!((&stored["traceparent"], &stored["tracestate"]), (&json!(traceparent(TRACE)), &json!("vendor=opaque")));

    // The header wins, and the event is linked.
    let header = "0af7651916cd43dd8448eb211c80319c";
    let of_event = "11111111111111111111111111111111";
    append(&traced("2", of_event), Some(header)).await;
    let wait = collector.span(&server, header, "append wait").await;
    let linked: Vec<_> = wait.links.iter().map(|link| hex(&link.trace_id)).collect();
    assert!(linked.contains(&of_event.to_owned()), "{linked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn read_has_its_calls_to_the_store_and_the_parent_decides_what_is_sampled() {
    let collector = Collector::start().await;
    let server = start(&collector, &[]).await;
    let read = async |traceparent: String| {
        let request = Client::new().get(server.at("/events/historic?subject=s"));
        assert_eq!(request.header("traceparent", traceparent).send().await.unwrap().status(), 200);
    };
    let unsampled = "22222222222222222222222222222222";
    read(format!("00-{unsampled}-{PARENT}-00")).await;
    read(traceparent(TRACE)).await;
    let asked = collector.span(&server, TRACE, "GET /events/historic").await;
    let state = collector.span(&server, TRACE, "store state").await;
    assert_eq!(state.parent_span_id, asked.span_id);
    assert!(collector.spans().iter().all(|span| hex(&span.trace_id) != unsampled));
    let probe = |name: &str| collector.spans().iter().any(|span| span.name.contains(name));
    assert!(!probe("readyz"), "probes are not traced");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_sends_what_is_left() {
    let collector = Collector::start().await;
    let (url, never) = (collector.url(), NEVER.as_millis().to_string());
    let envs = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", &never)];
    let server = Server::start(&[], &envs).await;
    server.append("s", b"x").await;
    server.signal("TERM");
    assert!(server.wait_for_exit().await.success());
    let spans = collector.spans();
    assert!(spans.iter().any(|span| span.name == "POST /events"), "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_over_tls_is_trusted_as_the_machine_says() {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|file| folder.path().join(file).display().to_string());
    std::fs::write(&certificate, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    // Any server with TLS will do: that it has no such path is an answer, too.
    let other = Server::start(&[], &[("TLS_CERT_FILE", &certificate), ("TLS_KEY_FILE", &key)]).await;
    let url = format!("https://localhost:{}", other.port());
    for (trusted, answer) in [(certificate.as_str(), "404"), ("/dev/null", "certificate")] {
        let envs = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
            ("SSL_CERT_FILE", trusted),
        ];
        let server = Server::start(&[], &envs).await;
        server.append("s", b"x").await;
        let said = async || {
            let line = server.log_line("spans cannot be exported, they are dropped").ok_or("nothing yet")?;
            let error = line["error"].as_str().unwrap().to_lowercase();
            if error.contains(answer) { Ok(()) } else { Err(error) }
        };
        server.eventually(&format!("the log says {answer}"), said).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_that_is_away_or_silent_harms_nobody() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for port in [gone, silent_port().await] {
        let url = format!("http://127.0.0.1:{port}");
        let envs = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "20")];
        let server = Server::start(&["--drain-timeout", "2"], &envs).await;
        for position in 1..=100 {
            assert_eq!(server.append("s", b"x").await, position);
        }
        if port == gone {
            let warned = "spans cannot be exported, they are dropped";
            let logged = async || server.log_line(warned).ok_or_else(|| server.log_text());
            server.eventually("the log says so", logged).await;
        }
        server.signal("TERM");
        assert!(server.wait_for_exit().await.success());
    }
}
