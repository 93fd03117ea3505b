//! `AppendStream`: many appends in flight on one call, answered in order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{Stream, StreamExt};
use prost::Message;
use tonic::{Status, Streaming};
use tonic_types::Status as WireStatus;

use super::convert;
use crate::adapters::api_error::ApiError;
use crate::adapters::grpc::proto::v1;
use crate::adapters::grpc::proto::v1::append_stream_response::Outcome;
use crate::adapters::grpc::status::{from_api_error, name_oversize};
use crate::domain::append::Appended;
use crate::domain::service::{EventService, Submitted};
use crate::domain::subscription::SubscriptionEnded;

/// Requests in flight on one call; more wait in the transport, which stops the client.
const IN_FLIGHT_MAX: usize = 1_024;

/// An answer to each of `requests`, in their order. A request that cannot be read ends the call. When the server shuts down,
/// no more of them are taken; those that were are answered before the call ends.
pub(super) fn answers(
    service: EventService,
    requests: Streaming<v1::AppendStreamRequest>,
) -> impl Stream<Item = Result<v1::AppendStreamResponse, Status>> + Send {
    let requests = requests.take_until(service.shutdown().clone().cancelled_owned());
    Answers { service, requests: Box::pin(requests), is_over: false, in_flight: VecDeque::new() }
}

struct Answers<R> {
    service: EventService,
    requests: Pin<Box<R>>,
    /// Whether no more requests come.
    is_over: bool,
    in_flight: VecDeque<InFlight>,
}

/// What becomes of a request that was taken.
enum InFlight {
    Submitted(Submitted),
    /// Its answer, or why the call ends.
    Decided(Result<v1::AppendStreamResponse, Status>),
}

impl<R: Stream<Item = Result<v1::AppendStreamRequest, Status>>> Answers<R> {
    /// Takes what has come, in its order.
    fn take_requests(&mut self, context: &mut Context<'_>) {
        while !self.is_over && self.in_flight.len() < IN_FLIGHT_MAX {
            let Poll::Ready(request) = self.requests.as_mut().poll_next(context) else { return };
            self.in_flight.push_back(match request {
                Some(Ok(v1::AppendStreamRequest { events, preconditions })) => {
                    match convert::append(events, preconditions) {
                        Ok(request) => InFlight::Submitted(self.service.submit(request)),
                        Err(refused) => InFlight::Decided(Ok(response(Err(refused)))),
                    }
                }
                Some(Err(unreadable)) => {
                    self.is_over = true;
                    InFlight::Decided(Err(name_oversize(unreadable)))
                }
                None => {
                    self.is_over = true;
                    if !self.service.shutdown().is_cancelled() {
                        return;
                    }
                    InFlight::Decided(Err(from_api_error(SubscriptionEnded::ShuttingDown.into())))
                }
            });
        }
    }
}

impl<R: Stream<Item = Result<v1::AppendStreamRequest, Status>>> Stream for Answers<R> {
    type Item = Result<v1::AppendStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.take_requests(context);
        match self.in_flight.pop_front() {
            Some(InFlight::Decided(answer)) => Poll::Ready(Some(answer)),
            Some(InFlight::Submitted(mut submitted)) => match Pin::new(&mut submitted).poll(context) {
                Poll::Ready(answer) => Poll::Ready(Some(Ok(response(answer.map_err(ApiError::from))))),
                Poll::Pending => {
                    // Only the first one is waited for: those behind it wake nobody.
                    self.in_flight.push_front(InFlight::Submitted(submitted));
                    Poll::Pending
                }
            },
            None if self.is_over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

fn response(answer: Result<Vec<Appended>, ApiError>) -> v1::AppendStreamResponse {
    let outcome = match answer {
        Ok(appended) => Outcome::Appended(convert::appended(appended)),
        Err(error) => Outcome::Error(wire_status(&from_api_error(error))),
    };
    v1::AppendStreamResponse { outcome: Some(outcome) }
}

/// What the trailers of a call of its own would say.
fn wire_status(status: &Status) -> WireStatus {
    let told = WireStatus::decode(status.details()).unwrap_or_default();
    WireStatus { code: status.code() as i32, message: status.message().to_owned(), details: told.details }
}
