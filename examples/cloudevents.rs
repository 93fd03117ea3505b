//! Appends a `CloudEvent` over `eventsdb.v1.EventStore` and follows its subject. Argument: the server.

use std::collections::HashMap;

use proto::eventsdb::v1::event_store_client::EventStoreClient;
use proto::eventsdb::v1::subscribe_response::Message;
use proto::eventsdb::v1::{AppendRequest, Filter, SubscribeRequest};
use proto::io::cloudevents::v1::CloudEvent;
use proto::io::cloudevents::v1::cloud_event::cloud_event_attribute_value::Attr;
use proto::io::cloudevents::v1::cloud_event::{CloudEventAttributeValue, Data};

#[path = "../tests/blackbox/proto.rs"]
mod proto;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "http://localhost:8080".to_owned());
    let mut store = EventStoreClient::connect(server).await?;
    let subject = format!("rust/{}", std::process::id());
    let attribute = CloudEventAttributeValue { attr: Some(Attr::CeString(subject.clone())) };
    let event = CloudEvent {
        id: subject.clone(),
        source: "/examples/rust".to_owned(),
        spec_version: "1.0".to_owned(),
        r#type: "com.example.greeted".to_owned(),
        attributes: HashMap::from([("subject".to_owned(), attribute)]),
        data: Some(Data::TextData("{\"hello\":\"world\"}".to_owned())),
    };
    let appended = store.append(AppendRequest { events: vec![event], preconditions: Vec::new() }).await?;
    println!("appended: {:?}", appended.into_inner().results);

    let filter = Some(Filter { subjects: vec![subject], ..Filter::default() });
    let mut stream = store.subscribe(SubscribeRequest { filter, ..SubscribeRequest::default() }).await?.into_inner();
    while let Some(message) = stream.message().await? {
        match message.message {
            Some(Message::Events(events)) => {
                for event in events.events {
                    println!("{} {:?}", event.id, event.data);
                }
            }
            Some(Message::CaughtUp(place)) => {
                println!("caught up at {}", place.position);
                return Ok(());
            }
            Some(Message::Heartbeat(_)) | None => {}
        }
    }
    Err("the stream ended".into())
}
