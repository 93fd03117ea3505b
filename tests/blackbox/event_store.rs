//! The native gRPC interface, and the one that brokers of `CloudEvents` have.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

use crate::harness::{CEILING, Server, event_body, tool};
use crate::proto::events_db_client::EventsDbClient;
use crate::proto::eventsdb::v1::append_stream_response::Outcome;
use crate::proto::eventsdb::v1::event_store_client::EventStoreClient;
use crate::proto::eventsdb::v1::precondition::Expectation;
use crate::proto::eventsdb::v1::subscribe_request::Start;
use crate::proto::eventsdb::v1::subscribe_response::Message;
use crate::proto::eventsdb::v1::{
    AppendRequest, AppendResult, AppendStreamRequest, DeleteRequest, Filter, GetRequest, ListSubjectsRequest,
    ListTypesRequest, Precondition, ReadRequest, SubscribeRequest, SubscribeResponse,
};
use crate::proto::io::cloudevents::v1::cloud_event::cloud_event_attribute_value::Attr;
use crate::proto::io::cloudevents::v1::cloud_event::{CloudEventAttributeValue, Data};
use crate::proto::io::cloudevents::v1::cloud_event_service_client::CloudEventServiceClient;
use crate::proto::io::cloudevents::v1::{CloudEvent, PublishRequest, SubscriptionRequest};
use crate::proto::{CreateEventRequest, GetEventByIdRequest};

async fn connect(server: &Server) -> Channel {
    Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap()
}

async fn client(server: &Server) -> EventStoreClient<Channel> {
    EventStoreClient::new(connect(server).await)
}

pub fn event(id: &str, subject: &str) -> CloudEvent {
    let subject = CloudEventAttributeValue { attr: Some(Attr::CeString(subject.to_owned())) };
    CloudEvent {
        id: id.to_owned(),
        source: "/tests".to_owned(),
        spec_version: "1.0".to_owned(),
        r#type: "made".to_owned(),
        attributes: HashMap::from([("subject".to_owned(), subject)]),
        data: Some(Data::TextData("x".to_owned())),
    }
}

fn append(events: Vec<CloudEvent>) -> AppendRequest {
    AppendRequest { events, preconditions: Vec::new() }
}

fn expecting(event: CloudEvent, subject: &str, expectation: Expectation) -> AppendRequest {
    let preconditions = vec![Precondition { subject: subject.to_owned(), expectation: Some(expectation) }];
    AppendRequest { events: vec![event], preconditions }
}

fn of(subjects: &[&str]) -> Filter {
    Filter { subjects: subjects.iter().map(|text| (*text).to_owned()).collect(), ..Filter::default() }
}

fn starting(prefixes: &[&str]) -> Filter {
    Filter { subject_prefixes: prefixes.iter().map(|text| (*text).to_owned()).collect(), ..Filter::default() }
}

fn ids(events: &[CloudEvent]) -> Vec<String> {
    events.iter().map(|event| event.id.clone()).collect()
}

fn with_token<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", "token".parse().unwrap());
    request
}

async fn append_each(client: &mut EventStoreClient<Channel>, pairs: &[(&str, &str)]) {
    for (id, subject) in pairs {
        client.append(append(vec![event(id, subject)])).await.unwrap();
    }
}

async fn read(client: &mut EventStoreClient<Channel>, request: ReadRequest) -> Vec<CloudEvent> {
    let pages = client.read(request).await.unwrap().into_inner();
    let pages: Vec<_> = timeout(CEILING, pages.collect()).await.expect("a read ends");
    pages.into_iter().flat_map(|page| page.unwrap().events).collect()
}

async fn next(stream: &mut Streaming<SubscribeResponse>) -> Message {
    timeout(CEILING, stream.message()).await.expect("a message comes").unwrap().unwrap().message.unwrap()
}

/// The ids that come, up to `caught-up`.
async fn history(stream: &mut Streaming<SubscribeResponse>) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        match next(stream).await {
            Message::Events(events) => found.extend(ids(&events.events)),
            Message::CaughtUp(_) => return found,
            Message::Heartbeat(_) => {}
        }
    }
}

fn field_of(status: &Status) -> String {
    status.get_error_details().bad_request().unwrap().field_violations[0].field.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_any_interface_are_read_by_all_others() {
    let server = Server::start(&[], &[]).await;
    let mut client = client(&server).await;
    let time = prost_types::Timestamp { seconds: 1_714_564_800, nanos: 123_456_789 };
    let value = |attr| CloudEventAttributeValue { attr: Some(attr) };
    let mut given = event("native", "s");
    given.attributes.insert("time".to_owned(), value(Attr::CeTimestamp(time)));
    given.attributes.insert("number".to_owned(), value(Attr::CeInteger(-7)));
    given.attributes.insert("raw".to_owned(), value(Attr::CeBytes(vec![0, 255].into())));
    given.data = Some(Data::BinaryData(vec![1, 2].into()));
    let answer = client.append(append(vec![given.clone()])).await.unwrap().into_inner();
    assert_eq!(answer.results, [AppendResult { position: 1, duplicate: false }]);
    let again = client.append(append(vec![given.clone()])).await.unwrap().into_inner();
    assert_eq!(again.results, [AppendResult { position: 1, duplicate: true }]);
    let get = |position| GetRequest { position, min_position: 0 };
    let mut read = client.get(get(1)).await.unwrap().into_inner().event.unwrap();
    assert_eq!(read.attributes.remove("position"), Some(value(Attr::CeString("1".to_owned()))));
    assert!(matches!(read.attributes.remove("recordedtime").unwrap().attr, Some(Attr::CeTimestamp(_))));
    assert_eq!(read, given);

    let http = Client::new();
    let structured: Value =
        http.get(server.at("/events/get?id=1&format=cloudevents")).send().await.unwrap().json().await.unwrap();
    assert_eq!(structured["time"], "2024-05-01T12:00:00.123456789Z");
    assert_eq!((&structured["number"], &structured["raw"]), (&json!(-7), &json!("AP8=")));
    assert_eq!(structured["data_base64"], "AQI=");
    let mut frozen = EventsDbClient::new(connect(&server).await);
    let event = frozen.get_event_by_id(GetEventByIdRequest { id: 1, min_position: None }).await.unwrap().into_inner();
    assert_eq!((event.subject.as_str(), event.time.as_str()), ("s", "2024-05-01T12:00:00.123456Z"));
    assert_eq!(event.data, vec![1, 2]);

    http.post(server.at("/events")).json(&event_body("plain", b"a")).send().await.unwrap();
    let created =
        CreateEventRequest { source: "a b".into(), r#type: "t".into(), subject: "s".into(), data: "b".into() };
    frozen.create_event(created).await.unwrap();
    let plain = client.get(get(2)).await.unwrap().into_inner().event.unwrap();
    assert_eq!((plain.id.as_str(), plain.data), ("2", Some(Data::BinaryData("a".into()))));
    let plain = client.get(get(3)).await.unwrap().into_inner().event.unwrap();
    assert_eq!((plain.id.as_str(), plain.source.as_str()), ("3", "a b"));
    assert_eq!(client.get(get(4)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(field_of(&client.get(get(0)).await.unwrap_err()), "position");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_appends_say_what_programs_need() {
    let server = Server::start(&["--max-event-bytes", "1000", "--max-batch-events", "3"], &[]).await;
    let mut client = client(&server).await;
    let nameless = CloudEvent { id: String::new(), ..event("", "s") };
    let refused = client.append(append(vec![event("1", "s"), nameless])).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "events[1].id must not be empty"));
    assert_eq!(field_of(&refused), "events[1].id");

    let new = expecting(event("1", "s"), "s", Expectation::NoEvents(true));
    client.append(new.clone()).await.unwrap();
    // What is stored already is carried out.
    assert!(client.append(new).await.unwrap().into_inner().results[0].duplicate);
    let moved = expecting(event("2", "s"), "s", Expectation::NoEvents(true));
    let refused = client.append(moved).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let details = refused.get_error_details();
    assert_eq!(details.precondition_failure().unwrap().violations[0].subject, "s");
    assert_eq!(details.error_info().unwrap().reason, "precondition-failed");
    assert_eq!(details.error_info().unwrap().metadata["last_position"], "1");
    let last = expecting(event("2", "s"), "s", Expectation::LastPosition(1));
    assert_eq!(client.append(last).await.unwrap().into_inner().results[0].position, 2);
    for (expectation, field) in [
        (Some(Expectation::LastPosition(0)), "preconditions[0].last_position"),
        (Some(Expectation::NoEvents(false)), "preconditions[0].no_events"),
        (None, "preconditions[0].expectation"),
    ] {
        let preconditions = vec![Precondition { subject: "s".to_owned(), expectation }];
        let request = AppendRequest { events: vec![event("3", "s")], preconditions };
        assert_eq!(field_of(&client.append(request).await.unwrap_err()), field);
    }

    let other = CloudEvent { data: None, ..event("1", "s") };
    let refused = client.append(append(vec![other])).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(refused.get_error_details().error_info().unwrap().metadata["position"], "1");

    let sized = |bytes| CloudEvent { data: Some(Data::BinaryData(vec![0; bytes].into())), ..event("big", "s") };
    assert_eq!(client.append(append(vec![sized(1_001)])).await.unwrap_err().code(), Code::ResourceExhausted);
    client.append(append(vec![sized(1_000)])).await.unwrap();
    let many = |count: usize| append((0..count).map(|index| event(&format!("many-{index}"), "s")).collect());
    assert_eq!(client.append(many(4)).await.unwrap_err().code(), Code::ResourceExhausted);
    let positions: Vec<_> = client.append(many(3)).await.unwrap().into_inner().results;
    assert_eq!(positions.iter().map(|result| result.position).collect::<Vec<_>>(), [4, 5, 6]);
    assert_eq!(client.append(many(0)).await.unwrap().into_inner().results, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn streamed_appends_are_answered_in_order_and_one_refusal_ends_nothing() {
    const REQUESTS: usize = 2_000;
    let server = Server::start(&[], &[]).await;
    let mut client = client(&server).await;
    let request = |index: usize| {
        // Every hundredth is wrong, every hundred and first was sent before.
        let id = match index % 100 {
            0 => String::new(),
            1 => "same".to_owned(),
            _ => format!("id-{index}"),
        };
        AppendStreamRequest { events: vec![event(&id, "s")], preconditions: Vec::new() }
    };
    let answers = client.append_stream(stream::iter((0..REQUESTS).map(request))).await.unwrap().into_inner();
    let answers: Vec<_> = timeout(CEILING, answers.collect()).await.expect("the call ends");
    assert_eq!(answers.len(), REQUESTS);
    let mut last = 0;
    for (index, answer) in answers.into_iter().enumerate() {
        match (index % 100, answer.unwrap().outcome.unwrap()) {
            (0, Outcome::Error(error)) => {
                assert_eq!((error.code, error.message.as_str()), (3, "events[0].id must not be empty"));
                assert!(error.details.iter().any(|detail| detail.type_url.ends_with("google.rpc.BadRequest")));
            }
            (1, Outcome::Appended(appended)) if index > 1 => {
                assert_eq!(appended.results, [AppendResult { position: 1, duplicate: true }]);
            }
            (_, Outcome::Appended(appended)) => {
                let [result] = appended.results.as_slice() else { panic!("{appended:?}") };
                assert!(!result.duplicate && result.position == last + 1, "{index}: {result:?} after {last}");
                last = result.position;
            }
            (_, outcome) => panic!("{index}: {outcome:?}"),
        }
    }
    assert_eq!(last, i64::try_from(REQUESTS - REQUESTS / 100 * 2 + 1).unwrap());
    let stored = read(&mut client, ReadRequest::default()).await;
    let expected = (0..REQUESTS).filter(|index| index % 100 > 1).map(|index| format!("id-{index}"));
    assert_eq!(ids(&stored[1..]), expected.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_message_is_told_and_ends_the_call() {
    let server = Server::start(&["--max-batch-events", "2"], &[]).await;
    let mut client = client(&server).await;
    let oversized = || {
        let data = Some(Data::BinaryData(vec![0; 7 * 1024 * 1024].into()));
        vec![CloudEvent { data, ..event("oversized", "s") }]
    };
    let told = |refused: &Status| {
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        assert_eq!(refused.get_error_details().error_info().unwrap().reason, "too-large");
    };
    told(&client.append(append(oversized())).await.unwrap_err());
    let request = |events| AppendStreamRequest { events, preconditions: Vec::new() };
    let requests = [vec![event("1", "s")], oversized(), vec![event("2", "s")]].map(request);
    let mut answers = client.append_stream(stream::iter(requests)).await.unwrap().into_inner();
    let first = timeout(CEILING, answers.message()).await.expect("an answer comes").unwrap().unwrap();
    assert!(matches!(first.outcome, Some(Outcome::Appended(_))), "{first:?}");
    told(&timeout(CEILING, answers.message()).await.expect("the call ends").unwrap_err());
    let assumed = |count| {
        let expectation = Some(Expectation::NoEvents(true));
        let assumed = |number: usize| Precondition { subject: format!("empty-{number}"), expectation };
        AppendRequest { preconditions: (0..count).map(assumed).collect(), ..append(vec![event("3", "s")]) }
    };
    told(&client.append(assumed(3)).await.unwrap_err());
    assert_eq!(client.append(assumed(2)).await.unwrap().into_inner().results[0].position, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn streamed_appends_end_with_the_server() {
    let server = Server::start(&["--drain-timeout", "60"], &[]).await;
    let mut client = client(&server).await;
    let request = AppendStreamRequest { events: vec![event("1", "s")], preconditions: Vec::new() };
    let open = stream::iter([request]).chain(stream::pending());
    let mut answers = client.append_stream(open).await.unwrap().into_inner();
    let first = timeout(CEILING, answers.message()).await.expect("an answer comes").unwrap().unwrap();
    assert!(matches!(first.outcome, Some(Outcome::Appended(_))), "{first:?}");
    server.signal("TERM");
    let ended = timeout(CEILING, answers.message()).await.expect("the call ends").unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(server.wait_for_exit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_end_at_the_head_from_either_side() {
    let server = Server::start(&[], &[]).await;
    let mut client = client(&server).await;
    assert!(read(&mut client, ReadRequest::default()).await.is_empty());
    append_each(&mut client, &[("1", "a"), ("2", "ab"), ("3", "b"), ("4", "a"), ("5", "a")]).await;
    let base = ReadRequest::default;
    for (request, expected) in [
        (base(), &["1", "2", "3", "4", "5"][..]),
        (ReadRequest { filter: Some(of(&["a"])), ..base() }, &["1", "4", "5"]),
        (ReadRequest { filter: Some(of(&["a", "b"])), ..base() }, &["1", "3", "4", "5"]),
        (ReadRequest { filter: Some(starting(&["a"])), ..base() }, &["1", "2", "4", "5"]),
        (ReadRequest { after_position: 2, before_position: 5, ..base() }, &["3", "4"]),
        (ReadRequest { after_position: 4, before_position: 4, ..base() }, &[]),
        (ReadRequest { backwards: true, ..base() }, &["5", "4", "3", "2", "1"]),
        (ReadRequest { backwards: true, after_position: 1, before_position: 4, ..base() }, &["3", "2"]),
        (ReadRequest { backwards: true, limit: 2, filter: Some(of(&["a"])), ..base() }, &["5", "4"]),
        (ReadRequest { limit: 3, ..base() }, &["1", "2", "3"]),
        (ReadRequest { latest_per_subject: true, ..base() }, &["5", "2", "3"]),
        (ReadRequest { latest_per_subject: true, limit: 1, filter: Some(starting(&["a"])), ..base() }, &["5"]),
        (ReadRequest { from_time: Some(prost_types::Timestamp::default()), ..base() }, &["1", "2", "3", "4", "5"]),
    ] {
        let found = read(&mut client, request.clone()).await;
        assert_eq!(ids(&found), expected, "{request:?}");
    }
    // More than a page.
    for chunk in 0..3 {
        let events = (0..1_000).map(|index| event(&format!("{chunk}-{index}"), "long")).collect();
        client.append(append(events)).await.unwrap();
    }
    assert_eq!(read(&mut client, ReadRequest { filter: Some(of(&["long"])), ..base() }).await.len(), 3_000);
    let backwards = ReadRequest { filter: Some(of(&["long"])), backwards: true, limit: 2_500, ..base() };
    let backwards = read(&mut client, backwards).await;
    assert_eq!((backwards.len(), backwards[0].id.as_str(), backwards[2_499].id.as_str()), (2_500, "2-999", "0-500"));
    let too_many = (0..101).map(|_| "s".to_owned()).collect();
    for (request, field) in [
        (ReadRequest { limit: -1, ..base() }, "limit"),
        (ReadRequest { after_position: -1, ..base() }, "after_position"),
        (ReadRequest { latest_per_subject: true, backwards: true, ..base() }, "latest_per_subject"),
        (ReadRequest { from_time: Some(prost_types::Timestamp::default()), after_position: 1, ..base() }, "from_time"),
        (ReadRequest { filter: Some(Filter { subjects: too_many, ..Filter::default() }), ..base() }, "filter.subjects"),
        (ReadRequest { filter: Some(of(&["\n"])), ..base() }, "filter.subjects[0]"),
    ] {
        assert_eq!(field_of(&client.read(request).await.unwrap_err()), field);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_go_from_history_to_what_comes() {
    let server = Server::start(&["--heartbeat-interval", "1"], &[]).await;
    let mut client = client(&server).await;
    append_each(&mut client, &[("1", "a"), ("2", "b"), ("3", "a")]).await;
    let subscribe = |start, filter| SubscribeRequest { filter, start, min_position: 0 };
    for (start, filter, expected) in [
        (None, None, &["1", "2", "3"][..]),
        (None, Some(of(&["a"])), &["1", "3"]),
        (Some(Start::AfterPosition(2)), None, &["3"]),
        (Some(Start::Head(true)), None, &[]),
        (Some(Start::FromTime(prost_types::Timestamp::default())), None, &["1", "2", "3"]),
        (Some(Start::LatestPerSubject(true)), None, &["3", "2"]),
    ] {
        let mut stream = client.subscribe(subscribe(start, filter)).await.unwrap().into_inner();
        assert_eq!(history(&mut stream).await, expected, "{start:?}");
    }
    let mut stream = client.subscribe(subscribe(None, Some(of(&["a"])))).await.unwrap().into_inner();
    history(&mut stream).await;
    append_each(&mut client, &[("4", "b"), ("5", "a")]).await;
    let mut beats = 0;
    let live = loop {
        match next(&mut stream).await {
            Message::Events(events) => break events.events,
            Message::Heartbeat(_) => beats += 1,
            Message::CaughtUp(_) => panic!("told twice after {beats} heartbeats"),
        }
    };
    assert_eq!(ids(&live), ["5"]);
    assert!(matches!(next(&mut stream).await, Message::Heartbeat(place) if place.position >= 5));
    for (start, field) in [
        (Start::Head(false), "head"),
        (Start::LatestPerSubject(false), "latest_per_subject"),
        (Start::AfterPosition(-1), "after_position"),
        (Start::FromTime(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }), "from_time"),
    ] {
        let refused = client.subscribe(subscribe(Some(start), None)).await.unwrap_err();
        assert_eq!(field_of(&refused), field);
    }
    let late = SubscribeRequest { min_position: 1_000, ..SubscribeRequest::default() };
    let refused = client.subscribe(late).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "position-not-reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_are_listed_in_pages_and_deleted() {
    let server = Server::start(&[], &[]).await;
    let mut client = client(&server).await;
    append_each(&mut client, &[("1", "b"), ("2", "a/1"), ("3", "a"), ("4", "a/2"), ("5", "a")]).await;
    let mut list = async |prefix: &str, page_size| {
        let mut pages = Vec::new();
        let mut request = ListSubjectsRequest { prefix: prefix.to_owned(), page_size, page_token: String::new() };
        loop {
            let page = client.list_subjects(request.clone()).await.unwrap().into_inner();
            pages.push(page.subjects.join(" "));
            if page.next_page_token.is_empty() {
                return pages;
            }
            request.page_token = page.next_page_token;
        }
    };
    assert_eq!(list("", 0).await, ["a a/1 a/2 b"]);
    assert_eq!(list("a", 1).await, ["a", "a/1", "a/2"]);
    assert_eq!(list("a/", 2).await, ["a/1 a/2"]);
    assert_eq!(list("a", 2).await, ["a a/1", "a/2"]);
    assert_eq!(list("c", 1_000).await, [""]);
    for page_size in [-1, 1_001] {
        let request = ListSubjectsRequest { page_size, ..ListSubjectsRequest::default() };
        assert_eq!(field_of(&client.list_subjects(request).await.unwrap_err()), "page_size");
    }
    let nothing = DeleteRequest { filter: None, from_position: 0 };
    assert_eq!(field_of(&client.delete(nothing).await.unwrap_err()), "filter");
    let deleted = client.delete(DeleteRequest { filter: Some(of(&["a"])), from_position: 4 }).await.unwrap();
    assert_eq!(deleted.into_inner().deleted, 1);
    assert_eq!(ids(&read(&mut client, ReadRequest::default()).await), ["1", "2", "3", "4"]);
    let everything = DeleteRequest { filter: Some(Filter::default()), from_position: 0 };
    assert_eq!(client.delete(everything).await.unwrap().into_inner().deleted, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_listed_as_they_come_and_go() {
    let server = Server::start(&[], &[]).await;
    let mut client = client(&server).await;
    let of_type = |id: &str, text: &str| CloudEvent { r#type: text.to_owned(), ..event(id, text) };
    let events = [("1", "b"), ("2", "a"), ("3", "b"), ("4", "c")].map(|(id, text)| of_type(id, text));
    client.append(append(events.into())).await.unwrap();
    let list = |page_size, page_token: &str| ListTypesRequest { page_size, page_token: page_token.to_owned() };
    let page = client.list_types(list(2, "")).await.unwrap().into_inner();
    assert_eq!((page.types.join(" ").as_str(), page.next_page_token.as_str()), ("a b", "b"));
    client.append(append(vec![of_type("5", "d")])).await.unwrap();
    let page = client.list_types(list(2, "b")).await.unwrap().into_inner();
    assert_eq!((page.types.join(" ").as_str(), page.next_page_token.as_str()), ("c d", ""));
    client.delete(DeleteRequest { filter: Some(of(&["b"])), from_position: 0 }).await.unwrap();
    assert_eq!(client.list_types(list(0, "")).await.unwrap().into_inner().types, ["a", "c", "d"]);
    assert_eq!(field_of(&client.list_types(list(1_001, "")).await.unwrap_err()), "page_size");
    let by_type = Filter { types: vec!["a".to_owned(), "d".to_owned()], ..Filter::default() };
    let found = read(&mut client, ReadRequest { filter: Some(by_type), ..ReadRequest::default() }).await;
    assert_eq!(ids(&found), ["2", "5"]);
    let elsewhere = CloudEvent { source: "/elsewhere".to_owned(), ..event("6", "a") };
    client.append(append(vec![elsewhere])).await.unwrap();
    let by_source = Filter { sources: vec!["/elsewhere".to_owned()], ..Filter::default() };
    let found = read(&mut client, ReadRequest { filter: Some(by_source), ..ReadRequest::default() }).await;
    assert_eq!(ids(&found), ["6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_clients_publish_and_subscribe() {
    let server = Server::start(&[], &[("AUTH_TOKEN", "token")]).await;
    let mut broker = CloudEventServiceClient::new(connect(&server).await);
    let publish = |event| PublishRequest { event };
    assert_eq!(broker.publish(publish(None)).await.unwrap_err().code(), Code::Unauthenticated);
    let refused = broker.publish(with_token(publish(None))).await.unwrap_err();
    assert_eq!(field_of(&refused), "event");
    let refused = broker.publish(with_token(publish(Some(event("", "s"))))).await.unwrap_err();
    assert_eq!(field_of(&refused), "event.id");
    broker.publish(with_token(publish(Some(event("before", "s"))))).await.unwrap();
    let request = SubscriptionRequest { source: "/tests".to_owned() };
    let mut stream = broker.subscribe(with_token(request)).await.unwrap().into_inner();
    let other = CloudEvent { source: "/other".to_owned(), ..event("other", "s") };
    for event in [other, event("after", "s")] {
        broker.publish(with_token(publish(Some(event)))).await.unwrap();
    }
    let found = timeout(CEILING, stream.message()).await.expect("an event comes").unwrap().unwrap();
    assert_eq!(found.id, "after");
}

/// What `proto/buf.yaml` asks for.
#[test]
fn protos_are_in_order() {
    let modules = tool("EVENTS_DB_TEST_NODE_MODULES");
    let machine = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x64" };
    let checked = std::process::Command::new(format!("{modules}/@bufbuild/buf-linux-{machine}/bin/buf"))
        .arg("lint")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/proto"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
