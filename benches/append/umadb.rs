//! Appends to `UmaDB`, as its own client does: a connection for each client, an event per call.

use http::uri::PathAndQuery;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::load::Client;
use crate::payload::payload;
use crate::{Outcome, subject};

/// The variable that names the server.
pub(crate) const VARIABLE: &str = "EVENTS_DB_BENCH_UMADB_URL";

/// The variable that tells the server's version, which it does not tell itself.
pub(crate) const VERSION_VARIABLE: &str = "EVENTS_DB_BENCH_UMADB_VERSION";

const APPEND: PathAndQuery = PathAndQuery::from_static("/umadb.v1.DCB/Append");

/// What the server needs to know of an event. Source: `umadb.v1.Event`.
#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(string, tag = "1")]
    r#type: String,
    #[prost(string, repeated, tag = "2")]
    tags: Vec<String>,
    #[prost(bytes = "vec", tag = "3")]
    data: Vec<u8>,
}

/// An append without a condition. Source: `umadb.v1.AppendRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct AppendRequest {
    #[prost(message, repeated, tag = "1")]
    events: Vec<Event>,
}

/// Source: `umadb.v1.AppendResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct AppendResponse {
    #[prost(uint64, tag = "1")]
    position: u64,
}

/// One connection that appends one event at a time; its tag is what the subject is here.
pub(crate) struct UmaDbClient {
    client: Grpc<Channel>,
    request: AppendRequest,
    last: u64,
}

impl UmaDbClient {
    pub(crate) async fn connect(url: &str, number: usize) -> Outcome<Self> {
        let channel = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await?;
        let event = Event { r#type: "made".to_owned(), tags: vec![subject(number)], data: payload() };
        Ok(Self { client: Grpc::new(channel), request: AppendRequest { events: vec![event] }, last: 0 })
    }
}

impl Client for UmaDbClient {
    async fn call(&mut self) -> Outcome<()> {
        self.client.ready().await?;
        let codec = ProstCodec::<AppendRequest, AppendResponse>::default();
        let answer = self.client.unary(Request::new(self.request.clone()), APPEND, codec).await;
        let answer = answer.map_err(|status| format!("UmaDB {:?}: {}", status.code(), status.message()))?;
        let position = answer.into_inner().position;
        if position <= self.last {
            return Err(format!("UmaDB gives position {position} after {}", self.last).into());
        }
        self.last = position;
        Ok(())
    }
}
