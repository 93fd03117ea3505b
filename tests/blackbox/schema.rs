//! What the server says in structured mode, held against the JSON schema of `CloudEvents`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::Client;
use serde_json::{Value, json};

use crate::harness::{Server, event_body, tool};

/// What is wrong with each event, as the schema and the specification see it; nothing where it is empty.
fn faults(events: &[String]) -> Vec<String> {
    let mut validator = Command::new(tool("EVENTS_DB_TEST_NODE"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/validate_events.mjs"))
        .arg(tool("EVENTS_DB_TEST_NODE_MODULES"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = validator.stdin.take().unwrap();
    let lines = events.join("\n");
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = validator.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success());
    let faults: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(faults.len(), events.len());
    faults
}

fn assert_valid(events: &[String]) {
    let wrong: Vec<_> = faults(events).into_iter().zip(events).filter(|(fault, _)| !fault.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn event(id: &str, more: &Value) -> Value {
    let mut event = json!({"specversion": "1.0", "id": id, "source": "/schema", "type": "com.example.made"});
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

/// Events that are valid and that a careless server would give back otherwise.
fn awkward() -> Vec<Value> {
    let forms = [
        json!({}),
        json!({"data": null}),
        json!({"data": ""}),
        json!({"data": "\u{0}\u{7f}\u{2028}😀", "datacontenttype": "text/plain"}),
        json!({"data": [1.5, -0.0, 1e300, u64::MAX, {"a": {"b": []}}]}),
        json!({"data": false, "datacontenttype": "application/vnd.api+json; charset=utf-8"}),
        json!({"data_base64": ""}),
        json!({"data_base64": "AP8="}),
        json!({"data_base64": "eyJhIjoxfQ==", "datacontenttype": "application/json"}),
        json!({"data_base64": "AA==", "datacontenttype": "application/protobuf"}),
        json!({"source": "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66", "dataschema": "urn:x"}),
        json!({"source": "1-555-123-4567", "dataschema": "https://[::1]:8080/a%20b?c=d&e#f"}),
        json!({"source": "?only=a#query", "subject": "Größe \"😀\"\\"}),
        json!({"time": "2016-12-31T23:59:60Z"}),
        json!({"time": "1985-04-12t23:20:50.52z"}),
        json!({"time": "2024-02-29T00:00:00.123456789-11:30"}),
        json!({"flag": false, "least": i32::MIN, "most": i32::MAX, "a1": "", "42": "€ \"quoted\" 100%"}),
        json!({"position": "7", "recordedtime": "2000-01-01T00:00:00Z"}),
    ];
    let numbered = forms.into_iter().enumerate();
    numbered.map(|(number, more)| event(&format!("id {number} ü"), &more)).collect()
}

/// Every way to get the whole log in structured mode, an event a line.
async fn structured(server: &Server) -> Vec<(&'static str, Vec<String>)> {
    let client = Client::new();
    let get = async |path: &str, accept: &str| {
        client.get(server.at(path)).header("accept", accept).send().await.unwrap().error_for_status().unwrap()
    };
    let lines = |text: String| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let history = "/events/historic?recursive=true&limit=1000";
    let batch = get(history, "application/cloudevents-batch+json").await.text().await.unwrap();
    let batch: Vec<&serde_json::value::RawValue> = serde_json::from_str(&batch).unwrap();
    let batch: Vec<String> = batch.iter().map(|event| event.get().to_owned()).collect();
    let newline_delimited = lines(get(history, "application/x-ndjson").await.text().await.unwrap());
    let mut single = Vec::new();
    for position in 1..=batch.len() {
        let answer = get(&format!("/events/get?id={position}"), "application/cloudevents+json").await;
        single.push(answer.text().await.unwrap());
    }
    let mut stream = get("/events/stream?recursive=true&format=cloudevents", "text/event-stream").await;
    let mut bytes = Vec::new();
    while !bytes.windows(9).any(|window| window == b"caught-up") {
        bytes.extend(stream.chunk().await.unwrap().unwrap());
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let caught_up = text.find("event: caught-up").unwrap();
    let streamed = text[..caught_up].lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
    vec![("get", single), ("batch", batch), ("x-ndjson", newline_delimited), ("stream", streamed.collect())]
}

#[tokio::test(flavor = "multi_thread")]
async fn structured_answers_match_the_schema() {
    let server = Server::start(&[], &[]).await;
    let events = awkward();
    let post = async |media_type: &str, body: &Value| {
        let request = Client::new().post(server.at("/events")).header("content-type", media_type);
        let answer = request.body(body.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    };
    post("application/cloudevents-batch+json", &json!(events)).await;
    // Without an id, a time or a subject, and with bytes that are no text.
    post("application/json", &event_body("s", b"\xff")).await;
    for (way, answers) in structured(&server).await {
        assert_eq!(answers.len(), events.len() + 1, "{way}");
        assert_valid(&answers);
    }
}

/// Each character at each place of a URI: what the server takes is a URI for the schema too.
#[tokio::test(flavor = "multi_thread")]
async fn uris_that_are_taken_match_the_schema() {
    const SOURCES: [&str; 11] = ["_", "a_b", "/a_b", "_:b", "a_:b", "a:_", "//_", "//a_b/c", "//a:1_", "a?_", "a#_"];
    // Without a fragment or a query right behind the scheme, which are legal, but not for the validator's library.
    const SCHEMAS: [&str; 6] = ["_:b", "a_:b", "a:b_", "a:/_", "a://b_", "a://b?_"];
    let server = Server::start(&[], &[]).await;
    let client = Client::new();
    let places = SOURCES.map(|form| ("source", form)).into_iter().chain(SCHEMAS.map(|form| ("dataschema", form)));
    let events = places.flat_map(|(name, form)| {
        ('!'..='~').map(move |character| json!({name: form.replace('_', &character.to_string())}))
    });
    let mut taken = Vec::new();
    for (number, more) in events.enumerate() {
        let event = event(&number.to_string(), &more).to_string();
        let request = client.post(server.at("/events")).header("content-type", "application/cloudevents+json");
        match request.body(event.clone()).send().await.unwrap().status().as_u16() {
            200 => taken.push(event),
            400 => {}
            other => panic!("{event}: {other}"),
        }
    }
    assert!(taken.len() > 1000, "only {} were taken", taken.len());
    assert_valid(&taken);
}

/// The validator sees what is wrong.
#[test]
fn the_schema_refuses_what_the_specification_does() {
    let wrong = [
        json!({"id": ""}),
        json!({"id": null}),
        json!({"source": "a b"}),
        json!({"type": 1}),
        json!({"specversion": ""}),
        json!({"datacontenttype": ""}),
        json!({"dataschema": "relative"}),
        json!({"subject": ""}),
        json!({"time": "2018-04-05"}),
        json!({"data_base64": "_w"}),
        json!({"data": 1, "data_base64": "MQ=="}),
        json!({"Upper": "a"}),
        json!({"ext": 1.5}),
        json!({"ext": 2_147_483_648_i64}),
        json!({"ext": null}),
    ];
    let wrong: Vec<String> = wrong.into_iter().map(|more| event("1", &more).to_string()).collect();
    let overlooked: Vec<_> = faults(&wrong).into_iter().zip(&wrong).filter(|(fault, _)| fault.is_empty()).collect();
    assert!(overlooked.is_empty(), "{overlooked:#?}");
    assert_valid(&[event("1", &json!({})).to_string()]);
}
