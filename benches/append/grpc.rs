//! Appends over gRPC.

use tonic::transport::{Channel, Endpoint};

use crate::load::Client;
use crate::payload::payload;
use crate::proto::CreateEventRequest;
use crate::proto::events_db_client::EventsDbClient;
use crate::{GRPC_CONNECTIONS, Outcome, subject};

/// One call at a time over a connection that others use too.
pub(crate) struct GrpcClient {
    client: EventsDbClient<Channel>,
    request: CreateEventRequest,
}

impl GrpcClient {
    /// Makes `count` clients that share [`GRPC_CONNECTIONS`] connections.
    pub(crate) async fn connect(port: u16, count: usize) -> Outcome<Vec<Self>> {
        let mut clients = Vec::new();
        for _ in 0..GRPC_CONNECTIONS {
            let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.tcp_nodelay(true);
            clients.push(EventsDbClient::new(endpoint.connect().await?));
        }
        let client = |number: usize| Self {
            client: clients[number % clients.len()].clone(),
            request: CreateEventRequest {
                source: "bench".to_owned(),
                r#type: "made".to_owned(),
                subject: subject(number),
                data: payload().into(),
            },
        };
        Ok((0..count).map(client).collect())
    }
}

impl Client for GrpcClient {
    async fn call(&mut self) -> Outcome<()> {
        let answer = self.client.create_event(self.request.clone()).await;
        answer.map_err(|status| format!("gRPC {:?}: {}", status.code(), status.message()))?;
        Ok(())
    }
}
