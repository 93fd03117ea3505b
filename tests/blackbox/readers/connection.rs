//! One stream of events in any protocol.

use std::collections::HashMap;

use prost::Message as _;
use reqwest::{Client, Response};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

use crate::load::token;
use crate::proto::events_db_client::EventsDbClient;
use crate::proto::{Event, EventsFromSubjectReply};
use crate::readers::filter::Filter;
use crate::sse;

/// Media type of gRPC-web.
const GRPC_WEB: &str = "application/grpc-web+proto";

/// Bytes before a message of gRPC-web: a flag and the length.
///
/// Source: `PROTOCOL-WEB.md`, "Message framing".
const FRAME_HEAD: usize = 5;

/// The protocol of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Sse,
    Grpc,
    GrpcWeb,
}

pub const PROTOCOLS: [Protocol; 3] = [Protocol::Sse, Protocol::Grpc, Protocol::GrpcWeb];

/// Something that moves the place to resume after.
#[derive(Debug)]
pub struct Step {
    pub position: i64,
    /// What the writer of the event at the position called it; `None` where there is only the position.
    pub token: Option<String>,
}

/// Opens streams.
pub struct Connector {
    pub protocol: Protocol,
    http: Client,
    channels: HashMap<String, EventsDbClient<Channel>>,
}

/// An open stream.
pub enum Connection {
    Sse(sse::Reader),
    Grpc(Streaming<EventsFromSubjectReply>),
    GrpcWeb(Response, Vec<u8>),
}

impl Connector {
    /// `is_http2` where the protocol leaves the choice.
    pub fn new(protocol: Protocol, is_http2: bool) -> Self {
        let http = if is_http2 { Client::builder().http2_prior_knowledge() } else { Client::builder() };
        Self { protocol, http: http.build().unwrap(), channels: HashMap::new() }
    }

    /// Lets go of all connections that no stream uses.
    pub fn forget(&mut self) {
        self.channels.clear();
    }

    /// Opens a stream of what is selected after a position; fails only when the server cannot be reached.
    pub async fn open(&mut self, url: &str, filter: &Filter, after: i64, resumes: bool) -> Result<Connection, String> {
        match self.protocol {
            Protocol::Sse => self.open_sse(url, filter, after, resumes).await,
            Protocol::Grpc => self.open_grpc(url, filter, after).await,
            Protocol::GrpcWeb => self.open_grpc_web(url, filter, after).await,
        }
    }

    async fn open_sse(&self, url: &str, filter: &Filter, after: i64, resumes: bool) -> Result<Connection, String> {
        let mut request = self.http.get(format!("{url}/events/stream")).query(&filter.query());
        request = if resumes {
            // As a browser does: the place where it began stays in the address.
            request.query(&[("from_id", 0)]).header("last-event-id", after)
        } else {
            request.query(&[("from_id", after)])
        };
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        Ok(Connection::Sse(sse::Reader::new(response)))
    }

    async fn open_grpc(&mut self, url: &str, filter: &Filter, after: i64) -> Result<Connection, String> {
        let connect = || {
            let channel = Endpoint::from_shared(url.to_owned()).unwrap().connect_lazy();
            EventsDbClient::new(channel).max_decoding_message_size(usize::MAX)
        };
        let client = self.channels.entry(url.to_owned()).or_insert_with(connect);
        match client.stream_events_from_subject(filter.request(after)).await {
            Ok(answer) => Ok(Connection::Grpc(answer.into_inner())),
            Err(status) => {
                assert!(!is_refusal(status.code()), "{status}");
                Err(status.to_string())
            }
        }
    }

    async fn open_grpc_web(&self, url: &str, filter: &Filter, after: i64) -> Result<Connection, String> {
        let message = filter.request(after).encode_to_vec();
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        let request = self.http.post(format!("{url}/grpc.EventsDB/StreamEventsFromSubject")).body(body);
        let request = request.header("content-type", GRPC_WEB).header("accept", GRPC_WEB).header("x-grpc-web", "1");
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        assert_eq!(response.status(), 200);
        // An answer without a message has its status in the headers.
        assert!(!response.headers().contains_key("grpc-status"), "{:?}", response.headers());
        Ok(Connection::GrpcWeb(response, Vec::new()))
    }
}

/// Whether a server that works has answered so.
fn is_refusal(code: Code) -> bool {
    // What the client itself says when the connection breaks is one of these.
    !matches!(code, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled)
}

impl Connection {
    /// What comes next, at least one step; `None` when the stream has ended. Nothing is lost when this is dropped.
    pub async fn next(&mut self) -> Option<Vec<Step>> {
        match self {
            Self::Sse(reader) => loop {
                let frame = reader.frame().await?;
                if frame.field("id").is_some() {
                    return Some(vec![sse_step(&frame)]);
                }
            },
            Self::Grpc(stream) => match stream.message().await {
                Ok(reply) => Some(grpc_steps(reply?)),
                Err(status) => {
                    assert!(!is_refusal(status.code()), "{status}");
                    None
                }
            },
            Self::GrpcWeb(response, buffer) => loop {
                if let Some((flag, message)) = take_frame(buffer) {
                    // Trailers are the end.
                    return (flag == 0)
                        .then(|| grpc_steps(EventsFromSubjectReply::decode(message.as_slice()).unwrap()));
                }
                buffer.extend(response.chunk().await.ok()??);
            },
        }
    }
}

fn sse_step(frame: &sse::Frame) -> Step {
    let position = frame.id();
    let is_event = frame.field("data").is_some() && frame.field("event").is_none();
    let token = is_event.then(|| {
        let event = frame.data();
        assert_eq!(event["id"], position);
        token(&event)
    });
    Step { position, token }
}

fn grpc_steps(reply: EventsFromSubjectReply) -> Vec<Step> {
    assert!(reply.has_more && !reply.events.is_empty());
    let step = |event: Event| Step { position: event.id, token: Some(String::from_utf8(event.data.into()).unwrap()) };
    reply.events.into_iter().map(step).collect()
}

/// Takes the first frame out of a body if it is complete.
pub fn take_frame(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (head, rest) = buffer.split_at_checked(FRAME_HEAD)?;
    let (flag, length) = (head[0], u32::from_be_bytes(head[1..].try_into().unwrap()) as usize);
    let message = rest.get(..length)?.to_vec();
    buffer.drain(..FRAME_HEAD + length);
    Some((flag, message))
}
