//! A reader over gRPC.

use std::time::Instant;

use tonic::transport::Endpoint;

use self::proto::events_db_client::EventsDbClient;
use crate::Outcome;
use crate::clock::nanoseconds;
use crate::results::per_second;

mod proto {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic)]
    include!(concat!(env!("OUT_DIR"), "/client/grpc.rs"));
}

/// Reads `count` events of `subject` from its beginning; events per second.
pub(crate) async fn read(port: u16, subject: &str, count: u64) -> Outcome<f64> {
    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.tcp_nodelay(true).connect().await?;
    let mut client = EventsDbClient::new(channel);
    let started = Instant::now();
    let request = proto::EventsFromSubjectRequest { subject: subject.to_owned(), ..Default::default() };
    let mut replies = client.stream_events_from_subject(request).await?.into_inner();
    let (mut seen, mut last_id) = (0, 0);
    while seen < count {
        for event in replies.message().await?.ok_or("the stream ended")?.events {
            if event.id <= last_id {
                return Err(format!("position {} comes after {last_id}", event.id).into());
            }
            last_id = event.id;
            seen += 1;
        }
    }
    Ok(per_second(seen, nanoseconds(started.elapsed())))
}
