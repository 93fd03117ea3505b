//! The HTTP protocol binding of `CloudEvents`, in all its modes and in both directions.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Server, event_body};

/// Source: the conformance cases of the `CloudEvents` project, HTTP binding.
const CONFORMANCE_HEADERS: [(&str, &str); 5] = [
    ("ce-specversion", "1.0"),
    ("ce-id", "A234-1234-1234"),
    ("ce-type", "com.example.someevent"),
    ("ce-source", "/mycontext/subcontext"),
    ("ce-time", "2018-04-05T03:56:24Z"),
];

fn attributes() -> Value {
    json!({
        "specversion": "1.0", "id": "A234-1234-1234", "type": "com.example.someevent", "source": "/mycontext/subcontext",
        "time": "2018-04-05T03:56:24Z",
    })
}

fn merged(mut value: Value, more: &Value) -> Value {
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value
}

async fn appended(request: RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn problem(request: RequestBuilder) -> (StatusCode, String) {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    (status, answer.json::<Value>().await.unwrap()["detail"].as_str().unwrap().to_owned())
}

struct Api {
    server: Server,
    client: Client,
}

impl Api {
    async fn start(args: &[&str]) -> Self {
        Self { server: Server::start(args, &[]).await, client: Client::new() }
    }

    fn post(&self, media_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client.post(self.server.at("/events")).header("content-type", media_type).body(body)
    }

    fn post_binary(&self, pairs: &[(&str, &str)], body: &'static [u8]) -> RequestBuilder {
        let mut headers = HeaderMap::new();
        for (name, value) in CONFORMANCE_HEADERS.iter().chain(pairs) {
            headers.insert(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        self.client.post(self.server.at("/events")).headers(headers).body(body)
    }

    async fn get(&self, path: &str, accept: &str) -> Response {
        let answer = self.client.get(self.server.at(path)).header("accept", accept).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer
    }

    /// The event at `position` as a structured event, without what the server says of its place.
    async fn structured(&self, position: i64) -> Value {
        let answer = self.get(&format!("/events/get?id={position}"), "application/cloudevents+json").await;
        assert_eq!(answer.headers()["content-type"], "application/cloudevents+json");
        let mut event: Value = answer.json().await.unwrap();
        assert_eq!(event.as_object_mut().unwrap().remove("position"), Some(position.to_string().into()));
        assert!(event.as_object_mut().unwrap().remove("recordedtime").is_some_and(|time| time.is_string()));
        event
    }
}

/// Source: the conformance cases: binary and structured mode, with JSON and with XML.
#[tokio::test(flavor = "multi_thread")]
async fn conformance_events_are_taken_in_both_modes() {
    let api = Api::start(&[]).await;
    let xml = "<much wow=\"xml\"/>";
    let json_type = json!({"datacontenttype": "application/json", "data": {"message": "Hello World!"}});
    let xml_type = json!({"datacontenttype": "application/xml", "data": xml});
    let unique = |id: &str, more: &Value| merged(merged(attributes(), more), &json!({"id": id}));
    let binary = [
        ("b1", ("content-type", "application/json"), &br#"{"message":"Hello World!"}"#[..], &json_type),
        ("b2", ("content-type", "application/xml"), xml.as_bytes(), &xml_type),
    ];
    let mut position = 0;
    for (id, media_type, body, more) in binary {
        position += 1;
        assert_eq!(appended(api.post_binary(&[("ce-id", id), media_type], body)).await, json!({"id": position}));
        assert_eq!(api.structured(position).await, unique(id, more));
    }
    for (id, more) in [("s1", &json_type), ("s2", &xml_type)] {
        position += 1;
        let event = unique(id, more);
        let request = api.post("application/cloudevents+json", event.to_string());
        assert_eq!(appended(request).await, json!({"id": position}));
        assert_eq!(api.structured(position).await, event);
        let binary = api.get(&format!("/events/get?id={position}&format=binary"), "*/*").await;
        assert_eq!(binary.headers()["ce-id"], id);
        assert_eq!(binary.headers()["ce-source"], "/mycontext/subcontext");
        assert_eq!(binary.headers()["ce-time"], "2018-04-05T03:56:24Z");
        assert_eq!(binary.headers()["ce-position"], position.to_string());
        assert_eq!(binary.headers()["content-type"], more["datacontenttype"].as_str().unwrap());
        let data = binary.text().await.unwrap();
        assert_eq!(data, if id == "s1" { r#"{"message":"Hello World!"}"# } else { xml });
    }
}

/// Source: HTTP protocol binding 1.0.2, section 3.1.3.2.
#[tokio::test(flavor = "multi_thread")]
async fn header_values_are_decoded_once_and_encoded_again() {
    let api = Api::start(&[]).await;
    for (index, (value, text, encoded)) in [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("%e2%82%ac%41", "€A", "%E2%82%ACA"),
        ("\"quoted \\\"text\\\"\"", "quoted \"text\"", "quoted%20%22text%22"),
        ("100%25 %2541", "100% %41", "100%25%20%2541"),
        ("é", "é", "%C3%A9"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("id-{index}");
        let answer = appended(api.post_binary(&[("ce-id", &id), ("ce-comment", value)], b"")).await;
        let position = answer["id"].as_i64().unwrap();
        assert_eq!(api.structured(position).await["comment"], text, "{value}");
        let binary = api.get(&format!("/events/get?id={position}&format=binary"), "*/*").await;
        assert_eq!(binary.headers()["ce-comment"], encoded);
        assert!(!binary.headers().contains_key("content-type"));
    }
    for value in ["%C0%AF", "%ED%A0%80", "%E2%82"] {
        let (status, detail) = problem(api.post_binary(&[("ce-comment", value)], b"")).await;
        assert_eq!((status.as_u16(), detail.as_str()), (400, "ce-comment must be UTF-8"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_stored_together_and_read_in_every_form() {
    let api = Api::start(&[]).await;
    let event = |id: &str, data: Value| merged(attributes(), &json!({"id": id, "subject": "s", "data": data, "n": 1}));
    let events = [event("1", json!([1.5])), event("2", json!(null)), event("3", json!("text"))];
    let batch = api.post("application/cloudevents-batch+json; charset=utf-8", json!(events).to_string());
    assert_eq!(appended(batch).await, json!({"ids": [1, 2, 3]}));
    let again = api.post("application/cloudevents-batch+json", json!(events[..2]).to_string());
    assert_eq!(appended(again).await, json!({"ids": [1, 2], "duplicates": [1, 2]}));
    let wrong = json!([event("4", json!(1)), {"specversion": "1.0", "id": "5", "type": "t"}]);
    let (status, detail) = problem(api.post("application/cloudevents-batch+json", wrong.to_string())).await;
    assert_eq!((status.as_u16(), detail.as_str()), (400, "[1].source is missing"));
    assert_eq!(appended(api.post("application/cloudevents-batch+json", "[]")).await, json!({"ids": []}));

    let page = api.get("/events/historic?subject=s&limit=2", "application/cloudevents-batch+json").await;
    assert_eq!(page.headers()["content-type"], "application/cloudevents-batch+json");
    assert_eq!(page.headers()["events-has-more"], "true");
    let page: Vec<Value> = page.json().await.unwrap();
    assert_eq!(page.iter().map(|event| &event["id"]).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(page.iter().map(|event| &event["position"]).collect::<Vec<_>>(), ["1", "2"]);
    let lines = api.get("/events/historic?subject=s&from_id=1", "application/x-ndjson").await;
    assert_eq!(lines.headers()["content-type"], "application/x-ndjson");
    assert_eq!(lines.headers()["events-has-more"], "false");
    let lines: Vec<Value> =
        lines.text().await.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|event| &event["data"]).collect::<Vec<_>>(), [&json!(null), &json!("text")]);

    // What one server gives, another one takes, and finds the events it has.
    let whole = api.get("/events/historic?subject=s", "application/cloudevents-batch+protobuf").await;
    assert_eq!(whole.headers()["content-type"], "application/cloudevents-batch+protobuf");
    let whole = whole.bytes().await.unwrap();
    let again = appended(api.post("application/cloudevents-batch+protobuf", whole.clone())).await;
    assert_eq!(again, json!({"ids": [1, 2, 3], "duplicates": [1, 2, 3]}));
    let other = Api::start(&[]).await;
    let answer = appended(other.post("application/cloudevents-batch+protobuf", whole)).await;
    assert_eq!(answer, json!({"ids": [1, 2, 3]}));
    for position in 1..=3 {
        let told = merged(api.structured(position).await, &json!({"datacontenttype": "application/json"}));
        assert_eq!(other.structured(position).await, told);
    }
    let one = api.get("/events/get?id=3", "application/cloudevents+protobuf").await.bytes().await.unwrap();
    let again = appended(api.post("application/cloudevents+protobuf", one)).await;
    assert_eq!(again, json!({"id": 3, "duplicate": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_forms_read_what_any_other_wrote() {
    let api = Api::start(&[]).await;
    appended(api.client.post(api.server.at("/events")).json(&event_body("s", b"\xff"))).await;
    let plain = api.structured(1).await;
    assert_eq!((&plain["id"], &plain["data_base64"], &plain["subject"]), (&json!("1"), &json!("/w=="), &json!("s")));
    let without_subject = merged(attributes(), &json!({"data": {"a": 1}}));
    appended(api.post("application/cloudevents+json", without_subject.to_string())).await;
    let answer: Value = api.get("/events/get?id=2", "application/json").await.json().await.unwrap();
    assert_eq!(
        answer,
        json!({
            "id": 2, "source": "/mycontext/subcontext", "type": "com.example.someevent", "subject": "",
            "time": "2018-04-05T03:56:24Z", "data": "eyJhIjoxfQ==",
        })
    );
    let stream = api.client.get(api.server.at("/events/stream?recursive=true&format=cloudevents"));
    let mut stream = stream.send().await.unwrap();
    let mut text = String::new();
    while !text.contains("caught-up") {
        text.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
    }
    let messages: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((&messages[0]["id"], &messages[0]["position"]), (&json!("1"), &json!("1")));
    assert_eq!(
        merged(without_subject, &json!({"position": "2", "recordedtime": messages[1]["recordedtime"]})),
        messages[1]
    );
    // And live, where the event is encoded once for all.
    appended(api.post_binary(&[("ce-id", "live"), ("content-type", "text/plain")], b"a\nb")).await;
    while !text.contains("\"live\"") {
        text.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert!(text.contains("id: 3\ndata: {\"specversion\":\"1.0\",\"id\":\"live\""), "{text}");
    assert!(text.contains(r#""data":"a\nb"}"#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn preconditions_and_duplicates_hold_for_every_form() {
    let api = Api::start(&[]).await;
    let event = merged(attributes(), &json!({"subject": "s", "data": 1}));
    let request = api.post("application/cloudevents+json", event.to_string()).header("if-none-match", "*");
    assert_eq!(appended(request).await, json!({"id": 1}));
    let other = api.post_binary(&[("ce-id", "other"), ("ce-subject", "s")], b"").header("if-match", "\"7\"");
    assert_eq!(problem(other).await.0, 412);
    let same = api.post_binary(&[("ce-subject", "s"), ("content-type", "application/json")], b"1");
    assert_eq!(appended(same).await, json!({"id": 1, "duplicate": true}));
    let conflicting = api.post_binary(&[("ce-subject", "s"), ("content-type", "application/json")], b"2");
    assert_eq!(problem(conflicting).await.0, 409);
    let conflicting =
        api.post_binary(&[("ce-subject", "s"), ("content-type", "application/json"), ("ce-x", "1")], b"1");
    assert_eq!(problem(conflicting).await.0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_attribute_and_store_nothing() {
    let api = Api::start(&["--max-event-bytes", "1000"]).await;
    for (more, problem_of) in [
        (json!({"specversion": "0.3"}), "specversion"),
        (json!({"id": ""}), "id"),
        (json!({"source": "a b"}), "source"),
        (json!({"type": null}), "type"),
        (json!({"subject": ""}), "subject"),
        (json!({"time": "2018-04-05"}), "time"),
        (json!({"datacontenttype": "json"}), "datacontenttype"),
        (json!({"dataschema": "/relative"}), "dataschema"),
        (json!({"Upper": 1}), "Upper"),
        (json!({"ext": {"a": 1}}), "ext"),
        (json!({"data": 1, "data_base64": "MQ=="}), "data"),
        (json!({"data_base64": "!"}), "data_base64"),
    ] {
        let event = merged(attributes(), &more);
        let (status, detail) = problem(api.post("application/cloudevents+json", event.to_string())).await;
        assert!(status == 400 && detail.contains(problem_of), "{more}: {status} {detail}");
    }
    for media_type in ["application/cloudevents+avro", "application/cloudevents-batch+xml", "text/plain"] {
        let (status, detail) = problem(api.post(media_type, attributes().to_string())).await;
        assert!(status == 415 && detail.contains("application/cloudevents+json"), "{media_type}: {detail}");
    }
    let (status, detail) = problem(api.post_binary(&[("ce-datacontenttype", "text/plain")], b"")).await;
    assert!(status == 400 && detail.contains("ce-datacontenttype"), "{detail}");
    let (status, detail) = problem(api.post("application/cloudevents+protobuf", "\u{fffd}")).await;
    assert!(status == 400 && detail.contains("io.cloudevents.v1.CloudEvent"), "{detail}");
    // Data and extensions count together.
    let sized = |bytes: usize| merged(attributes(), &json!({"ext": "x".repeat(bytes), "data_base64": "AAAA"}));
    let answer = api.post("application/cloudevents+json", sized(995).to_string());
    let (status, detail) = problem(answer).await;
    assert!(status == 413 && detail.contains("1000"), "{detail}");
    appended(api.post("application/cloudevents+json", sized(994).to_string())).await;
    let page: Vec<Value> =
        api.get("/events/historic?recursive=true&format=cloudevents", "*/*").await.json().await.unwrap();
    assert_eq!(page.len(), 1);
    let (status, detail) = problem(api.client.get(api.server.at("/events/get?id=1&format=xml"))).await;
    assert_eq!((status.as_u16(), detail.as_str()), (400, "format must be json, cloudevents, protobuf or binary"));
}

/// Source: `CloudEvents` web hooks 1.0.2, section 4.
#[tokio::test(flavor = "multi_thread")]
async fn web_hook_senders_may_deliver_if_they_have_the_token() {
    let server = Server::start(&[], &[("AUTH_TOKEN", "secret"), ("CORS_ALLOWED_ORIGINS", "*")]).await;
    let options = || {
        let request = Client::new().request(reqwest::Method::OPTIONS, server.at("/events"));
        request.header("webhook-request-origin", "eventemitter.example.com").header("webhook-request-rate", "120")
    };
    assert_eq!(options().send().await.unwrap().status(), 401);
    let answer = options().bearer_auth("secret").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["webhook-allowed-origin"], "eventemitter.example.com");
    assert_eq!(answer.headers()["webhook-allowed-rate"], "*");
    assert_eq!(answer.headers()["allow"], "OPTIONS, POST");
    let other = Client::new().request(reqwest::Method::OPTIONS, server.at("/events")).bearer_auth("secret");
    assert!(!other.send().await.unwrap().headers().contains_key("webhook-allowed-origin"));
}

/// What the Rust SDK makes comes back to it as it was.
#[tokio::test(flavor = "multi_thread")]
async fn the_rust_sdk_reads_what_it_wrote() {
    use cloudevents::{AttributesReader, Event, EventBuilder, EventBuilderV10};

    let api = Api::start(&[]).await;
    let builder = || EventBuilderV10::new().source("/sdk/rust").ty("com.example.sdk").subject("s");
    let events: [Event; 3] = [
        builder().id("json").time("2024-05-01T12:00:00Z").data("application/json", json!({"a": [1, 2.5, null]})),
        builder().id("text").data("text/plain", "Grüße".to_owned()),
        builder().id("bytes").data("application/octet-stream", vec![0_u8, 255]),
    ]
    .map(|builder| builder.extension("flag", true).extension("number", -7).extension("word", "x y").build().unwrap());
    let batch = api.post("application/cloudevents-batch+json", serde_json::to_string(&events).unwrap());
    assert_eq!(appended(batch).await, json!({"ids": [1, 2, 3]}));
    let page = api.get("/events/historic?subject=s", "application/cloudevents-batch+json").await;
    let mut page: Vec<Event> = serde_json::from_str(&page.text().await.unwrap()).unwrap();
    for event in &mut page {
        assert!(event.remove_extension("position").is_some() && event.remove_extension("recordedtime").is_some());
    }
    assert_eq!(page.iter().map(AttributesReader::id).collect::<Vec<_>>(), ["json", "text", "bytes"]);
    assert_eq!(page, events);
}
