//! All four protocols through a proxy, by its published file, on one port in front of two replicas.

use bytes::Bytes;
use prost::Message as _;
use reqwest::{Client, Version};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::databases;
use crate::event_store::event;
use crate::front::{Front, Kind};
use crate::harness::{CEILING, Server, event_body};
use crate::proto::events_db_client::EventsDbClient;
use crate::proto::eventsdb::v1::append_stream_response::Outcome;
use crate::proto::eventsdb::v1::event_store_client::EventStoreClient;
use crate::proto::eventsdb::v1::{AppendStreamRequest, AppendStreamResponse};
use crate::proto::{
    CreateEventReply, CreateEventRequest, EventsFromSubjectReply, EventsFromSubjectRequest, GetEventByIdRequest,
};
use crate::readers::connection::take_frame;
use crate::seeded::{self, Random};
use crate::sse::Reader;

const GRPC_WEB: &str = "application/grpc-web+proto";

struct Scene {
    servers: [Server; 2],
    front: Front,
}

impl Scene {
    async fn start(kind: Kind) -> Self {
        let database =
            databases::fresh("EVENTS_DB_TEST_MARIADB_URL", &format!("proxies_{kind:?}").to_lowercase()).await;
        let envs = [("DATABASE_URL", database.as_str())];
        let servers = [Server::start(&[], &envs).await, Server::start(&[], &envs).await];
        let ports = servers.each_ref().map(Server::port);
        let front = Front::start(kind, &ports, &mut Random::new(seeded::seed())).await;
        Self { servers, front }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.front.url)
    }

    async fn append(&self, client: &Client, subject: &str) -> i64 {
        let answer = client.post(self.at("/events")).json(&event_body(subject, b"x")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json::<Value>().await.unwrap()["id"].as_i64().unwrap()
    }

    /// REST, errors as the server says them, and Server-Sent Events that come at once and resume.
    async fn speaks_http(&self, client: &Client, version: Version) {
        let subject = format!("http-{version:?}");
        let first = self.append(client, &subject).await;
        let answer = client.get(self.at(&format!("/events/get?id={first}"))).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        let answer = client.get(self.at("/events/get?id=999999")).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert_eq!(answer.status(), 404);
        let large = client.post(self.at("/events")).json(&event_body(&subject, &vec![b'x'; 1024 * 1024])).send().await;
        assert_eq!(large.unwrap().status(), 200, "an event of the largest size passes");

        let stream = self.at(&format!("/events/stream?subject={subject}&from_id={first}"));
        let answer = client.get(&stream).send().await.unwrap();
        assert_eq!(answer.version(), version);
        let mut reader = Reader::new(answer);
        let large = reader.ids(1).await[0];
        let live = self.append(client, &subject).await;
        assert_eq!(reader.ids(1).await, [live], "{large} is followed by what comes");
        drop(reader);
        let missed = self.append(client, &subject).await;
        let resumed = client.get(&stream).header("last-event-id", live).send().await.unwrap();
        assert_eq!(Reader::new(resumed).ids(1).await, [missed]);
    }

    async fn speaks_grpc(&self) {
        let channel = self.front.channel().await;
        let mut client = EventsDbClient::new(channel.clone());
        let id = client.create_event(new_event("grpc")).await.unwrap().into_inner().id;
        let get = |id| GetEventByIdRequest { id, ..Default::default() };
        assert_eq!(client.get_event_by_id(get(id)).await.unwrap().into_inner().subject, "grpc");
        assert_eq!(client.get_event_by_id(get(999_999)).await.unwrap_err().code(), Code::NotFound);

        let mut stream = client.stream_events_from_subject(of("grpc")).await.unwrap().into_inner();
        assert_eq!(next_ids(&mut stream).await, [id]);
        let live = client.create_event(new_event("grpc")).await.unwrap().into_inner().id;
        assert_eq!(next_ids(&mut stream).await, [live]);
        append_in_turn(channel).await;
    }

    /// Unary, failed and streaming, with messages that come at once.
    async fn speaks_grpc_web(&self, client: &Client, version: Version) {
        let subject = format!("web-{version:?}");
        let body = self.call(client, "CreateEvent", &new_event(&subject).encode_to_vec()).await;
        let mut body = body.bytes().await.unwrap().to_vec();
        let (flag, message) = take_frame(&mut body).unwrap();
        let id = CreateEventReply::decode(message.as_slice()).unwrap().id;
        let (trailers, text) = take_frame(&mut body).unwrap();
        assert!(flag == 0 && trailers == 0x80 && String::from_utf8(text).unwrap().contains("grpc-status:0"));

        let missing = GetEventByIdRequest { id: 999_999, ..Default::default() }.encode_to_vec();
        let answer = self.call(client, "GetEventByID", &missing).await;
        assert_eq!(answer.version(), version);
        assert_eq!(answer.headers()["grpc-status"], "5");

        let mut stream = self.call(client, "StreamEventsFromSubject", &of(&subject).encode_to_vec()).await;
        let mut buffer = Vec::new();
        let live = async || self.append(client, &subject).await;
        for wanted in [None, Some(live)] {
            let wanted = match wanted {
                None => id,
                Some(append) => append().await,
            };
            let reply = loop {
                if let Some((0, message)) = take_frame(&mut buffer) {
                    break EventsFromSubjectReply::decode(message.as_slice()).unwrap();
                }
                let chunk = timeout(CEILING, stream.chunk()).await.expect("the stream is silent").unwrap();
                buffer.extend(chunk.expect("the stream goes on"));
            };
            assert_eq!(reply.events[0].id, wanted);
        }
    }

    async fn call(&self, client: &Client, method: &str, message: &[u8]) -> reqwest::Response {
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        let request = client.post(self.at(&format!("/grpc.EventsDB/{method}"))).body(body);
        let request = request.header("content-type", GRPC_WEB).header("accept", GRPC_WEB).header("x-grpc-web", "1");
        let answer = request.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, GRPC_WEB));
        answer
    }
}

/// Appends on one call, each after the answer to the one before: both directions are open at once.
async fn append_in_turn(channel: Channel) {
    let (requests, open) = mpsc::channel(1);
    let mut answers: Option<Streaming<AppendStreamResponse>> = None;
    let mut client = EventStoreClient::new(channel);
    let mut last = 0;
    let mut opening = Some(ReceiverStream::new(open));
    for id in ["bidi-1", "bidi-2", "bidi-3"] {
        let request = AppendStreamRequest { events: vec![event(id, "bidi")], preconditions: Vec::new() };
        requests.send(request).await.unwrap();
        if let Some(open) = opening.take() {
            answers = Some(client.append_stream(open).await.unwrap().into_inner());
        }
        let answer = timeout(CEILING, answers.as_mut().unwrap().message()).await.expect("no answer").unwrap().unwrap();
        let Some(Outcome::Appended(appended)) = answer.outcome else { panic!("{answer:?}") };
        assert!(appended.results[0].position > last, "{appended:?} after {last}");
        last = appended.results[0].position;
    }
}

async fn next_ids(stream: &mut Streaming<EventsFromSubjectReply>) -> Vec<i64> {
    let reply = timeout(CEILING, stream.message()).await.expect("the stream is silent").unwrap().unwrap();
    reply.events.iter().map(|event| event.id).collect()
}

fn new_event(subject: &str) -> CreateEventRequest {
    CreateEventRequest {
        source: "tests".to_owned(),
        r#type: "made".to_owned(),
        subject: subject.to_owned(),
        data: Bytes::from_static(b"x"),
    }
}

fn of(subject: &str) -> EventsFromSubjectRequest {
    EventsFromSubjectRequest { subject: subject.to_owned(), ..Default::default() }
}

async fn everything_passes(kind: Kind) {
    let scene = Scene::start(kind).await;
    for (is_http2, version) in [(false, Version::HTTP_11), (true, Version::HTTP_2)] {
        let client = scene.front.client(is_http2);
        scene.speaks_http(&client, version).await;
        scene.speaks_grpc_web(&client, version).await;
    }
    scene.speaks_grpc().await;
    for server in &scene.servers {
        assert!(server.metric("app_event_operations_total").await > 0, "a replica is never asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_four_protocols_pass_haproxy_on_one_port() {
    everything_passes(Kind::HaProxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_four_protocols_pass_nginx_on_one_port() {
    everything_passes(Kind::Nginx).await;
}
