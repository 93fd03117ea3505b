//! `AppendStream`: many appends in flight on one call, answered in order.

use futures_util::stream::{self, Stream, StreamExt};
use prost::Message;
use tonic::{Status, Streaming};
use tonic_types::Status as WireStatus;

use super::{EventStore, convert};
use crate::adapters::grpc::proto::v1;
use crate::adapters::grpc::proto::v1::append_stream_response::Outcome;
use crate::adapters::grpc::status::from_api_error;
use crate::domain::subscription::SubscriptionEnded;

/// Requests in flight on one call; more wait in the transport, which stops the client.
const IN_FLIGHT_MAX: usize = 1_024;

/// An answer to each of `requests`, in their order. A request that cannot be read ends the call. When the server shuts down,
/// no more of them are taken; those that were are answered before the call ends.
///
/// The queue takes requests in the order in which they are first polled here, which is their own.
pub(super) fn answers(
    store: EventStore,
    requests: Streaming<v1::AppendStreamRequest>,
) -> impl Stream<Item = Result<v1::AppendStreamResponse, Status>> + Send {
    let shutdown = store.service.shutdown().clone();
    let ending = shutdown.clone().cancelled_owned();
    let answer = move |request: Result<v1::AppendStreamRequest, Status>| {
        let store = store.clone();
        async move { Ok(answer(&store, request?).await) }
    };
    let unavailable = stream::iter([()]).filter_map(move |()| {
        let ended = shutdown.is_cancelled().then(|| Err(from_api_error(SubscriptionEnded::ShuttingDown.into())));
        async { ended }
    });
    requests.take_until(ending).map(answer).buffered(IN_FLIGHT_MAX).chain(unavailable)
}

async fn answer(store: &EventStore, request: v1::AppendStreamRequest) -> v1::AppendStreamResponse {
    let v1::AppendStreamRequest { events, preconditions } = request;
    let appended = async { store.append(convert::append(events, preconditions)?).await };
    let outcome = match appended.await {
        Ok(appended) => Outcome::Appended(appended),
        Err(error) => Outcome::Error(wire_status(&from_api_error(error))),
    };
    v1::AppendStreamResponse { outcome: Some(outcome) }
}

/// What the trailers of a call of its own would say.
fn wire_status(status: &Status) -> WireStatus {
    let told = WireStatus::decode(status.details()).unwrap_or_default();
    WireStatus { code: status.code() as i32, message: status.message().to_owned(), details: told.details }
}
