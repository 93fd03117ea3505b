//! gRPC-web as bytes, binary and text, and what browsers ask before they call.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use reqwest::header::{HeaderMap, ORIGIN};
use reqwest::{Client, Method, Response, StatusCode, Version};
use tokio::time::timeout;

use crate::harness::{CEILING, Server};
use crate::proto::{
    CreateEventReply, CreateEventRequest, Event, EventsFromSubjectReply, EventsFromSubjectRequest, GetEventByIdRequest,
};

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";

/// Flag of a frame that holds trailers instead of a message.
///
/// Source: `PROTOCOL-WEB.md`, "Message framing".
const TRAILERS: u8 = 0x80;

const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNIMPLEMENTED: i32 = 12;
const UNAUTHENTICATED: i32 = 16;

/// One client of a kind: a media type and a version of HTTP.
struct Caller<'a> {
    server: &'a Server,
    client: Client,
    media_type: &'static str,
}

/// A finished answer.
#[derive(Debug)]
struct Answer {
    headers: HeaderMap,
    messages: Vec<Vec<u8>>,
    /// From the trailers, or from the headers when there is no message.
    code: i32,
    text: String,
}

impl<'a> Caller<'a> {
    fn all(server: &'a Server) -> Vec<Self> {
        let clients = || [Client::new(), Client::builder().http2_prior_knowledge().build().unwrap()];
        let with = |media_type| move |client| Self { server, client, media_type };
        clients().map(with(BINARY)).into_iter().chain(clients().map(with(TEXT))).collect()
    }

    fn binary(server: &'a Server) -> Self {
        Self { server, client: Client::new(), media_type: BINARY }
    }

    async fn send(&self, method: &str, message: &impl Message, headers: &[(&str, &str)]) -> Response {
        let message = message.encode_to_vec();
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        if self.media_type == TEXT {
            body = STANDARD.encode(body).into_bytes();
        }
        let url = self.server.at(&format!("/grpc.EventsDB/{method}"));
        let mut request = self.client.post(url).body(body);
        request = request.header("content-type", self.media_type).header("accept", self.media_type);
        request = request.header("x-grpc-web", "1").header("x-user-agent", "tests");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], self.media_type);
        response
    }

    async fn call(&self, method: &str, message: &impl Message) -> Answer {
        self.call_with(method, message, &[]).await
    }

    async fn call_with(&self, method: &str, message: &impl Message, headers: &[(&str, &str)]) -> Answer {
        let response = self.send(method, message, headers).await;
        let headers = response.headers().clone();
        let frames = self.frames(&response.bytes().await.unwrap());
        let messages = frames.iter().filter(|(flag, _)| *flag == 0).map(|(_, payload)| payload.clone()).collect();
        let trailers = frames.iter().find(|(flag, _)| *flag == TRAILERS).map(|(_, payload)| payload.clone());
        assert!(trailers.is_none() || frames.last().unwrap().0 == TRAILERS, "trailers come last");
        let trailers = String::from_utf8(trailers.unwrap_or_default()).unwrap();
        let find = |name: &str| {
            let in_trailers = trailers.split("\r\n").filter_map(|line| line.split_once(':'));
            let mut found = in_trailers.filter(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned());
            let in_headers = || headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            found.next().or_else(in_headers)
        };
        let code = find("grpc-status").expect("an answer has a status").parse().unwrap();
        let text = find("grpc-message").unwrap_or_default();
        Answer { headers, messages, code, text }
    }

    /// The complete frames at the start of `body`.
    fn frames(&self, body: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let bytes = if self.media_type == TEXT { decode_text(body) } else { body.to_vec() };
        let mut rest = bytes.as_slice();
        let mut frames = Vec::new();
        while let Some((head, tail)) = rest.split_at_checked(5) {
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            let Some((payload, tail)) = tail.split_at_checked(length) else { break };
            frames.push((head[0], payload.to_vec()));
            rest = tail;
        }
        frames
    }
}

/// Every part of the body may be padded on its own, so it is decoded four characters at a time.
fn decode_text(body: &[u8]) -> Vec<u8> {
    body.chunks_exact(4).flat_map(|group| STANDARD.decode(group).unwrap()).collect()
}

fn new_event(subject: &str, data: impl Into<Bytes>) -> CreateEventRequest {
    CreateEventRequest {
        source: "tests".to_owned(),
        r#type: "made".to_owned(),
        subject: subject.to_owned(),
        data: data.into(),
    }
}

fn of(subject: &str) -> EventsFromSubjectRequest {
    EventsFromSubjectRequest { subject: subject.to_owned(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn unary_calls_work_in_every_form() {
    let server = Server::start(&[], &[]).await;
    for (caller, round) in Caller::all(&server).into_iter().zip(0..) {
        for bytes in [0, 1, 2, 100_000] {
            let data = vec![0xFF; bytes];
            let subject = format!("{round}-{bytes}");
            let created = caller.call("CreateEvent", &new_event(&subject, data.clone())).await;
            assert_eq!((created.code, created.messages.len()), (0, 1), "{created:?}");
            let id = CreateEventReply::decode(created.messages[0].as_slice()).unwrap().id;
            let read = caller.call("GetEventByID", &GetEventByIdRequest { id, ..Default::default() }).await;
            let event = Event::decode(read.messages[0].as_slice()).unwrap();
            assert_eq!((event.id, event.subject, event.data.as_ref()), (id, subject, data.as_slice()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_work_in_every_form() {
    let server = Server::start(&["--stream-batch-size", "1"], &[]).await;
    for (caller, round) in Caller::all(&server).into_iter().zip(0..) {
        let subject = format!("s{round}");
        let mut seen = vec![server.append(&subject, b"1").await, server.append(&subject, b"22").await];
        let mut response = caller.send("StreamEventsFromSubject", &of(&subject), &[]).await;
        let version = response.version();
        assert!([Version::HTTP_11, Version::HTTP_2].contains(&version));
        let mut body = Vec::new();
        for count in 2..=4 {
            while caller.frames(&body).len() < count {
                let chunk = timeout(CEILING, response.chunk()).await.expect("the stream is silent").unwrap();
                body.extend(chunk.expect("the stream goes on"));
            }
            seen.push(server.append(&subject, b"live").await);
        }
        let ids = caller.frames(&body).into_iter().map(|(flag, payload)| {
            assert_eq!(flag, 0);
            let reply = EventsFromSubjectReply::decode(payload.as_slice()).unwrap();
            assert!(reply.has_more && reply.events.len() == 1);
            reply.events[0].id
        });
        assert_eq!(ids.collect::<Vec<_>>(), seen[..4]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_ends_with_a_trailer_frame() {
    let server = Server::start(&[], &[]).await;
    let caller = Caller::binary(&server);
    let id = server.append("s", b"x").await;
    let mut response = caller.send("StreamEventsFromSubject", &of("s"), &[]).await;
    let mut body = response.chunk().await.unwrap().unwrap().to_vec();
    server.signal("TERM");
    while let Some(chunk) = timeout(CEILING, response.chunk()).await.expect("the stream does not end").unwrap() {
        body.extend(chunk);
    }
    let frames = caller.frames(&body);
    let [(0, message), (TRAILERS, trailers)] = frames.as_slice() else { panic!("{frames:?}") };
    assert_eq!(EventsFromSubjectReply::decode(message.as_slice()).unwrap().events[0].id, id);
    let trailers = String::from_utf8_lossy(trailers);
    assert!(trailers.lines().any(|line| line.replace(' ', "") == "grpc-status:14"), "{trailers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_can_be_read_in_every_form() {
    let server = Server::start(&["--max-event-bytes", "100"], &[("AUTH_TOKEN", "secret")]).await;
    let auth = [("authorization", "secret")];
    for caller in Caller::all(&server) {
        let nothing = CreateEventRequest::default();
        let refused = caller.call_with("CreateEvent", &nothing, &auth).await;
        assert_eq!((refused.code, refused.messages.len()), (INVALID_ARGUMENT, 0));
        assert!(refused.text.starts_with("source"), "{refused:?}");
        let missing =
            caller.call_with("GetEventByID", &GetEventByIdRequest { id: 1, ..Default::default() }, &auth).await;
        assert_eq!(missing.code, NOT_FOUND);
        let large = new_event("s", vec![0; 101]);
        assert_eq!(caller.call_with("CreateEvent", &large, &auth).await.code, RESOURCE_EXHAUSTED);
        let huge = new_event("s", vec![0; 2 * 1024 * 1024]);
        assert_eq!(caller.call_with("CreateEvent", &huge, &auth).await.code, RESOURCE_EXHAUSTED);
        assert_eq!(caller.call_with("Other", &nothing, &auth).await.code, UNIMPLEMENTED);
        assert_eq!(caller.call_with("StreamEventsFromSubject", &of(""), &auth).await.code, INVALID_ARGUMENT);
        let stranger = caller.call("CreateEvent", &new_event("s", "x")).await;
        assert_eq!((stranger.code, stranger.messages.len()), (UNAUTHENTICATED, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_answered_and_harms_nobody() {
    let server = Server::start(&[], &[]).await;
    let url = server.at("/grpc.EventsDB/CreateEvent");
    let client = Client::new();
    for media_type in [BINARY, TEXT] {
        for body in [&b""[..], b"\0", b"\0\0\0\0\x05abc", b"\x07\0\0\0\0", b"\0\xff\xff\xff\xff", b"!!!!", b"AAAA="] {
            let sent = client.post(&url).header("content-type", media_type).body(body.to_vec()).send();
            let answer = timeout(CEILING, sent).await.expect("no answer").unwrap();
            let failed = answer.headers().get("grpc-status").is_some_and(|code| code != "0");
            let body = answer.bytes().await.unwrap();
            assert!(failed || !body.is_empty(), "{media_type} {body:?}");
        }
    }
    assert_eq!(server.append("s", b"x").await, 1, "nothing was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_may_call() {
    let allowed = "https://app.example.org";
    let envs = [("AUTH_TOKEN", "secret"), ("CORS_ALLOWED_ORIGINS", "https://app.example.org,http://localhost:3000")];
    let server = Server::start(&[], &envs).await;
    let asked =
        ["authorization", "ce-ofmine", "content-type", "grpc-timeout", "if-match", "x-grpc-web", "x-user-agent"];
    let preflight = |origin: &'static str| {
        let request = Client::new().request(Method::OPTIONS, server.at("/grpc.EventsDB/CreateEvent"));
        let request = request.header(ORIGIN, origin).header("access-control-request-method", "POST");
        request.header("access-control-request-headers", asked.join(",")).send()
    };
    for origin in [allowed, "http://localhost:3000"] {
        let answer = preflight(origin).await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        assert_eq!(answer.headers()["access-control-allow-origin"], origin);
        let headers = answer.headers()["access-control-allow-headers"].to_str().unwrap().to_ascii_lowercase();
        for name in asked {
            assert!(headers.split(',').any(|allowed| allowed.trim() == name), "{name} is not in {headers}");
        }
        let methods = answer.headers()["access-control-allow-methods"].to_str().unwrap().to_owned();
        assert!(methods.contains("POST"), "{methods}");
    }
    for origin in ["https://evil.example.org", "http://app.example.org", "https://app.example.org:444", "null"] {
        let answer = preflight(origin).await.unwrap();
        assert!(!answer.headers().contains_key("access-control-allow-origin"), "{origin} {answer:?}");
    }
    let caller = Caller::binary(&server);
    for (token, code) in [("secret", 0), ("wrong", UNAUTHENTICATED)] {
        let headers = [("authorization", token), ("origin", allowed)];
        let answer = caller.call_with("CreateEvent", &new_event("s", "x"), &headers).await;
        assert_eq!((answer.code, &answer.headers["access-control-allow-origin"]), (code, &allowed.parse().unwrap()));
        let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap().to_ascii_lowercase();
        for name in ["grpc-status", "grpc-message"] {
            assert!(exposed.split(',').any(|header| header.trim() == name), "{name} is not in {exposed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_origin_is_allowed_unless_set() {
    let server = Server::start(&[], &[]).await;
    let headers = [("origin", "https://app.example.org")];
    let answer = Caller::binary(&server).call_with("CreateEvent", &new_event("s", "x"), &headers).await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
}
