//! gRPC: every call, its errors, streams, health, reflection; a foreign client.

use std::process::Command;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::harness::{CEILING, Server, tool};
use crate::proto::events_db_client::EventsDbClient;
use crate::proto::{CreateEventRequest, Event, EventsFromSubjectReply, EventsFromSubjectRequest, GetEventByIdRequest};

const MEBIBYTE: usize = 1024 * 1024;

async fn connect(server: &Server) -> Channel {
    Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap()
}

async fn client(server: &Server) -> EventsDbClient<Channel> {
    EventsDbClient::new(connect(server).await)
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

fn with_authorization<T>(message: T, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(value).unwrap());
    request
}

async fn create(client: &EventsDbClient<Channel>, subject: &str, data: impl Into<Bytes>) -> i64 {
    client.clone().create_event(new_event(subject, data)).await.unwrap().into_inner().id
}

async fn create_many(client: &EventsDbClient<Channel>, subject: &str, count: usize) {
    let created = stream::iter(0..count).map(|_| create(client, subject, "x")).buffer_unordered(64);
    assert_eq!(created.count().await, count);
}

fn ids(events: &[Event]) -> Vec<i64> {
    events.iter().map(|event| event.id).collect()
}

/// The next message of a stream.
async fn next(stream: &mut Streaming<EventsFromSubjectReply>) -> Result<EventsFromSubjectReply, Status> {
    timeout(CEILING, stream.message()).await.expect("the stream is silent").map(|reply| reply.expect("it never ends"))
}

/// The ids of the next messages of a stream, at least `count` of them.
async fn next_ids(stream: &mut Streaming<EventsFromSubjectReply>, count: usize) -> Vec<i64> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.extend(ids(&next(stream).await.unwrap().events));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_does_what_it_says() {
    let server = Server::start(&[], &[]).await;
    let mut client = client(&server).await;
    let data = (0..=255).collect::<Vec<u8>>();
    assert_eq!(create(&client, "s", data.clone()).await, 1);
    assert_eq!(create(&client, "other", Bytes::new()).await, 2);
    assert_eq!(create(&client, "s", "three").await, 3);

    let event = client.get_event_by_id(GetEventByIdRequest { id: 1, ..Default::default() }).await.unwrap().into_inner();
    assert_eq!((event.id, event.source.as_str(), event.r#type.as_str()), (1, "tests", "made"));
    assert_eq!((event.subject.as_str(), event.data.as_ref()), ("s", data.as_slice()));
    assert!(event.time.ends_with('Z') && event.time.contains('T'), "{}", event.time);

    let history = client.get_historic_events_from_subject(of("s")).await.unwrap().into_inner();
    assert_eq!((ids(&history.events), history.has_more), (vec![1, 3], false));
    assert_eq!(history.events[0], event);

    let from_third = EventsFromSubjectRequest { from_id: Some(3), ..of("s") };
    assert!(client.delete_from_subject(from_third).await.unwrap().into_inner().ok);
    let gone = client.get_event_by_id(GetEventByIdRequest { id: 3, ..Default::default() }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert!(client.get_event_by_id(GetEventByIdRequest { id: 1, ..Default::default() }).await.is_ok());
    assert!(client.delete_from_subject(of("s")).await.unwrap().into_inner().ok);
    assert!(client.get_event_by_id(GetEventByIdRequest { id: 1, ..Default::default() }).await.is_err());
    assert!(client.get_event_by_id(GetEventByIdRequest { id: 2, ..Default::default() }).await.is_ok());
    assert_eq!(create(&client, "s", "four").await, 4, "an id is never given twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_selected_by_subject_prefix_type_and_place() {
    let server = Server::start(&[], &[]).await;
    let mut client = client(&server).await;
    for subject in ["user-1", "user-2", "User-1", "user_", "user-1"] {
        create(&client, subject, "x").await;
    }
    let typed = CreateEventRequest { r#type: "other".to_owned(), ..new_event("user-1", "x") };
    assert_eq!(client.create_event(typed).await.unwrap().into_inner().id, 6);
    let none = EventsFromSubjectRequest::default;
    for (request, selected) in [
        (of("user-1"), vec![1, 5, 6]),
        (EventsFromSubjectRequest { recursive: Some(false), ..of("user-") }, vec![]),
        (EventsFromSubjectRequest { recursive: Some(true), ..of("user-") }, vec![1, 2, 5, 6]),
        (EventsFromSubjectRequest { recursive: Some(true), ..of("user_") }, vec![4]),
        (EventsFromSubjectRequest { recursive: Some(true), ..none() }, vec![1, 2, 3, 4, 5, 6]),
        (EventsFromSubjectRequest { r#type: Some("other".to_owned()), ..of("user-1") }, vec![6]),
        (EventsFromSubjectRequest { r#type: Some(String::new()), ..of("user-1") }, vec![1, 5, 6]),
        (EventsFromSubjectRequest { from_id: Some(0), ..of("user-1") }, vec![1, 5, 6]),
        (EventsFromSubjectRequest { from_id: Some(1), ..of("user-1") }, vec![5, 6]),
        (EventsFromSubjectRequest { from_id: Some(i64::MAX), ..of("user-1") }, vec![]),
    ] {
        let history = client.get_historic_events_from_subject(request.clone()).await.unwrap().into_inner();
        assert_eq!((ids(&history.events), history.has_more), (selected.clone(), false), "{request:?}");
        let mut stream = client.stream_events_from_subject(request.clone()).await.unwrap().into_inner();
        assert_eq!(next_ids(&mut stream, selected.len()).await, selected, "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_and_the_field_is_named() {
    let server = Server::start(&[], &[]).await;
    let mut client = client(&server).await;
    let good = || new_event("s", "x");
    for (request, field) in [
        (CreateEventRequest { source: String::new(), ..good() }, "source"),
        (CreateEventRequest { r#type: String::new(), ..good() }, "type"),
        (CreateEventRequest { subject: String::new(), ..good() }, "subject"),
        (CreateEventRequest { subject: "s".repeat(256), ..good() }, "subject"),
        (CreateEventRequest { source: "a\0b".to_owned(), ..good() }, "source"),
        (CreateEventRequest { r#type: "a\u{ffff}".to_owned(), ..good() }, "type"),
    ] {
        let refusal = client.create_event(request).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert!(refusal.message().starts_with(field), "{refusal}");
    }
    for (request, field) in [
        (of(""), "subject"),
        (EventsFromSubjectRequest { recursive: Some(false), ..of("") }, "subject"),
        (EventsFromSubjectRequest { from_id: Some(-1), ..of("s") }, "from_id"),
        (EventsFromSubjectRequest { r#type: Some("t".repeat(256)), ..of("s") }, "type"),
    ] {
        let refusals = [
            client.get_historic_events_from_subject(request.clone()).await.unwrap_err(),
            client.stream_events_from_subject(request.clone()).await.unwrap_err(),
            client.delete_from_subject(request).await.unwrap_err(),
        ];
        for refusal in refusals {
            assert_eq!(refusal.code(), Code::InvalidArgument);
            assert!(refusal.message().starts_with(field), "{refusal}");
        }
    }
    for id in [0, -1] {
        let refusal = client.get_event_by_id(GetEventByIdRequest { id, ..Default::default() }).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.message()), (Code::InvalidArgument, "id must be at least 1"));
    }
    assert_eq!(create(&client, "s", "x").await, 1, "nothing was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_data_is_exhaustion_and_the_limit_itself_is_not() {
    let server = Server::start(&[], &[]).await;
    let mut client = client(&server).await;
    for bytes in [MEBIBYTE + 1, 3 * MEBIBYTE, 8 * MEBIBYTE] {
        let refusal = client.create_event(new_event("s", vec![b'x'; bytes])).await.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted, "{bytes}: {refusal}");
    }
    let longest = CreateEventRequest { source: "ü".repeat(255), ..new_event(&"s".repeat(255), vec![b'x'; MEBIBYTE]) };
    assert_eq!(client.create_event(longest).await.unwrap().into_inner().id, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_comes_in_answers_that_clients_take() {
    let server = Server::start(&[], &[]).await;
    let mut client = client(&server).await;
    create_many(&client, "many", 1_001).await;
    let first = client.get_historic_events_from_subject(of("many")).await.unwrap().into_inner();
    assert_eq!((first.events.len(), first.has_more), (1_000, true));
    let rest = EventsFromSubjectRequest { from_id: Some(first.events[999].id), ..of("many") };
    let rest = client.get_historic_events_from_subject(rest).await.unwrap().into_inner();
    assert_eq!((rest.events.len(), rest.has_more), (1, false));

    let mut large = Vec::new();
    for _ in 0..5 {
        large.push(create(&client, "large", vec![b'x'; MEBIBYTE]).await);
    }
    let first = client.get_historic_events_from_subject(of("large")).await.unwrap().into_inner();
    assert_eq!((ids(&first.events), first.has_more), (large[..3].to_vec(), true));
    let rest = EventsFromSubjectRequest { from_id: Some(large[2]), ..of("large") };
    let rest = client.get_historic_events_from_subject(rest).await.unwrap().into_inner();
    assert_eq!((ids(&rest.events), rest.has_more), (large[3..].to_vec(), false));
    let mut stream = client.stream_events_from_subject(of("large")).await.unwrap().into_inner();
    assert_eq!(next_ids(&mut stream, 5).await, large);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_sends_history_in_batches_then_what_comes() {
    let server = Server::start(&["--stream-batch-size", "2"], &[]).await;
    let mut client = client(&server).await;
    create_many(&client, "s", 25).await;
    let mut stream = client.stream_events_from_subject(of("s")).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while seen.len() < 25 {
        let reply = next(&mut stream).await.unwrap();
        assert!((1..=2).contains(&reply.events.len()) && reply.has_more);
        seen.extend(ids(&reply.events));
    }
    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
    create(&client, "other", "x").await;
    create(&client, "s", "live").await;
    server.append("s", b"by REST").await;
    assert_eq!(next_ids(&mut stream, 2).await, [27, 28]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_across_the_seam_misses_and_repeats_nothing() {
    let server = Server::start(&[], &[]).await;
    let client = client(&server).await;
    create_many(&client, "s", 200).await;
    let writer = tokio::spawn({
        let client = client.clone();
        async move { create_many(&client, "s", 400).await }
    });
    let readers = (0..4).map(|_| {
        let mut client = client.clone();
        async move {
            let mut stream = client.stream_events_from_subject(of("s")).await.unwrap().into_inner();
            assert_eq!(next_ids(&mut stream, 600).await, (1..=600).collect::<Vec<_>>());
        }
    });
    futures_util::future::join_all(readers).await;
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_stream_is_open_before_its_first_event() {
    let server = Server::start(&[], &[]).await;
    let mut client = client(&server).await;
    let opened = timeout(CEILING, client.stream_events_from_subject(of("s"))).await.expect("no headers");
    let mut stream = opened.unwrap().into_inner();
    create(&client, "s", "x").await;
    assert_eq!(next_ids(&mut stream, 1).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_limited_and_a_slot_is_free_when_its_reader_is_gone() {
    let server = Server::start(&["--max-total-clients", "1"], &[]).await;
    let mut client = client(&server).await;
    let first = client.stream_events_from_subject(of("s")).await.unwrap();
    let refusal = client.stream_events_from_subject(of("s")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    drop(first);
    server
        .eventually("the slot is free", async || {
            client.clone().stream_events_from_subject(of("s")).await.map_err(|refusal| refusal.to_string())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_taken_bare_and_as_bearer() {
    let server = Server::start(&[], &[("AUTH_TOKEN", "secret")]).await;
    let channel = connect(&server).await;
    let mut client = EventsDbClient::new(channel.clone());
    for value in ["secret", "Bearer secret", "bearer secret"] {
        let created = client.create_event(with_authorization(new_event("s", "x"), value)).await;
        assert!(created.is_ok(), "{value}: {created:?}");
        let stream = client.stream_events_from_subject(with_authorization(of("s"), value)).await;
        assert_eq!(next_ids(&mut stream.unwrap().into_inner(), 1).await[0], 1);
    }
    for value in ["", "Bearer", "Bearer ", "secre", "secret2", "Bearer Secret", "Basic secret"] {
        let refusal = client.create_event(with_authorization(new_event("s", "x"), value)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unauthenticated, "{value}");
    }
    assert_eq!(client.create_event(new_event("s", "x")).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(
        client.get_event_by_id(GetEventByIdRequest { id: 1, ..Default::default() }).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let refusals = [
        client.stream_events_from_subject(of("s")).await.unwrap_err(),
        client.get_historic_events_from_subject(of("s")).await.unwrap_err(),
        client.delete_from_subject(of("s")).await.unwrap_err(),
        call_unknown(channel.clone(), "/grpc.Other/Call").await,
        reflect(channel.clone(), MessageRequest::ListServices(String::new())).await.unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal.code(), Code::Unauthenticated);
    }
    let health = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
}

async fn call_unknown(channel: Channel, path: &'static str) -> Status {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    grpc.unary(Request::new(()), PathAndQuery::from_static(path), codec).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_services_and_methods_are_unimplemented() {
    let server = Server::start(&[], &[]).await;
    let channel = connect(&server).await;
    for path in ["/grpc.EventsDB/Other", "/grpc.Other/CreateEvent", "/grpc.EventsDB", "/"] {
        assert_eq!(call_unknown(channel.clone(), path).await.code(), Code::Unimplemented, "{path}");
    }
}

async fn reflect(channel: Channel, request: MessageRequest) -> Result<MessageResponse, Status> {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let answers = ServerReflectionClient::new(channel).server_reflection_info(stream::iter([request])).await?;
    let answers: Vec<ServerReflectionResponse> = answers.into_inner().try_collect().await?;
    Ok(answers.into_iter().next().unwrap().message_response.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_describes_the_service() {
    let server = Server::start(&[], &[]).await;
    let channel = connect(&server).await;
    let services = match reflect(channel.clone(), MessageRequest::ListServices(String::new())).await.unwrap() {
        MessageResponse::ListServicesResponse(list) => list.service,
        other => panic!("{other:?}"),
    };
    assert!(services.iter().any(|service| service.name == "grpc.EventsDB"), "{services:?}");
    let symbol = MessageRequest::FileContainingSymbol("grpc.EventsDB.CreateEvent".to_owned());
    match reflect(channel, symbol).await.unwrap() {
        MessageResponse::FileDescriptorResponse(files) => {
            let name = b"eventsdb.proto";
            let described = files.file_descriptor_proto[0].windows(name.len()).any(|window| window == name);
            assert!(described);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_streams_so_that_clients_go_on_elsewhere() {
    let server = Server::start(&[], &[]).await;
    let channel = connect(&server).await;
    let mut client = EventsDbClient::new(channel.clone());
    let mut health = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    create(&client, "s", "x").await;
    let mut stream = client.stream_events_from_subject(of("s")).await.unwrap().into_inner();
    assert_eq!(next_ids(&mut stream, 1).await, [1]);
    server.signal("TERM");
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(matches!(timeout(CEILING, health.message()).await, Ok(Ok(None))), "a watcher does not hold up the exit");
    assert!(server.wait_for_exit().await.success());
    assert!(!server.log_text().contains("drain timeout has passed"), "{}", server.log_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_works_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let files = [("TLS_CERT_FILE", certificate.to_str().unwrap()), ("TLS_KEY_FILE", key.to_str().unwrap())];
    let server = Server::start(&[], &files).await;
    let authority = Certificate::from_pem(certified.cert.pem());
    let tls = ClientTlsConfig::new().ca_certificate(authority).domain_name("localhost");
    let endpoint = Endpoint::from_shared(server.url()).unwrap().tls_config(tls).unwrap();
    let client = EventsDbClient::new(endpoint.connect().await.unwrap());
    assert_eq!(create(&client, "s", "x").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn python_client_creates_reads_and_streams() {
    let server = Server::start(&[], &[("AUTH_TOKEN", "secret")]).await;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let generated = server.directory().join("python");
    std::fs::create_dir(&generated).unwrap();
    let python = tool("EVENTS_DB_TEST_PYTHON");
    let compiled = Command::new(&python)
        .args(["-m", "grpc_tools.protoc", "--proto_path"])
        .arg(root.join("proto"))
        .args([format!("--python_out={}", generated.display()), format!("--grpc_python_out={}", generated.display())])
        .arg("eventsdb.proto")
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let ran = Command::new(&python)
        .arg(root.join("tests/tools/grpc_client.py"))
        .args([format!("127.0.0.1:{}", server.port()), "secret".to_owned()])
        .env("PYTHONPATH", &generated)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
