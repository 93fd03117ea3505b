//! Appends over gRPC, many in flight on one call.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::load::Client;
use crate::payload::payload;
use crate::proto::eventsdb::v1::AppendStreamRequest;
use crate::proto::eventsdb::v1::append_stream_response::Outcome as Answer;
use crate::proto::eventsdb::v1::event_store_client::EventStoreClient;
use crate::proto::io::cloudevents::v1::CloudEvent;
use crate::proto::io::cloudevents::v1::cloud_event::cloud_event_attribute_value::Attr;
use crate::proto::io::cloudevents::v1::cloud_event::{CloudEventAttributeValue, Data};
use crate::{Outcome, STREAMS, subject};

/// Who waits for the answers of a call, in the order of the requests.
type Waiting = Arc<Mutex<VecDeque<oneshot::Sender<Result<(), String>>>>>;

/// One request in flight at a time on a call that others use too.
pub(crate) struct StreamClient {
    requests: mpsc::Sender<AppendStreamRequest>,
    waiting: Waiting,
    event: CloudEvent,
    number: usize,
    sent: usize,
}

impl StreamClient {
    /// Makes `count` clients that share [`STREAMS`] calls, each with a connection of its own.
    pub(crate) async fn connect(port: u16, count: usize) -> Outcome<Vec<Self>> {
        let mut calls = Vec::new();
        for _ in 0..STREAMS {
            let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.tcp_nodelay(true);
            let mut client = EventStoreClient::new(endpoint.connect().await?);
            let (requests, receiver) = mpsc::channel(count);
            let mut answers = client.append_stream(ReceiverStream::new(receiver)).await?.into_inner();
            let waiting = Waiting::default();
            let asked = Arc::clone(&waiting);
            tokio::spawn(async move {
                while let Some(answer) = answers.next().await {
                    let answer = match answer.map(|answer| answer.outcome) {
                        Ok(Some(Answer::Appended(_))) => Ok(()),
                        other => Err(format!("{other:?}")),
                    };
                    let first = asked.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    if let Some(first) = first {
                        let _gone = first.send(answer);
                    }
                }
            });
            calls.push((requests, waiting));
        }
        let run = std::process::id();
        let client = |number: usize| {
            let (requests, waiting) = calls[number % calls.len()].clone();
            let subject = CloudEventAttributeValue { attr: Some(Attr::CeString(subject(number))) };
            let event = CloudEvent {
                id: String::new(),
                source: format!("/bench/{run}"),
                spec_version: "1.0".to_owned(),
                r#type: "made".to_owned(),
                attributes: HashMap::from([("subject".to_owned(), subject)]),
                data: Some(Data::BinaryData(payload().into())),
            };
            Self { requests, waiting, event, number, sent: 0 }
        };
        Ok((0..count).map(client).collect())
    }
}

impl Client for StreamClient {
    async fn call(&mut self) -> Outcome<()> {
        self.sent += 1;
        self.event.id = format!("{}-{}-{:?}", self.number, self.sent, std::time::Instant::now());
        let request = AppendStreamRequest { events: vec![self.event.clone()], preconditions: Vec::new() };
        let permit = self.requests.reserve().await?;
        let (sender, answer) = oneshot::channel();
        {
            // Both under the lock, so that answers find who asked.
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push_back(sender);
            permit.send(request);
        }
        Ok(answer.await??)
    }
}
