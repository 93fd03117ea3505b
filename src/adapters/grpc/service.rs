//! The calls of `grpc.EventsDB`: decode, use case, encode.

use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::convert::Selection;
use super::reply::{EncodedReply, encoded};
use super::status::from_api_error;
use super::{Answers, QUIET_HEARTBEAT, convert, proto, protocol, streaming};
use crate::adapters::api_error::{ApiError, ApiErrorKind};
use crate::adapters::response_cut::ResponseCut;
use crate::domain::append::AppendRequest;
use crate::domain::log::{LogEvent, Protocol};
use crate::domain::position::Position;
use crate::domain::service::{EventService, HISTORY_LIMIT_MAX, History, HistoryRequest, LatestRequest};
use crate::domain::subscription::{
    PAGE_BYTES_MAX, PAGE_EVENTS_MAX, SubscriptionEnded, SubscriptionItem, SubscriptionRequest,
};

/// Bytes that gRPC clients take in one message unless told otherwise.
const CLIENT_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of events in one answer: what clients take, less what the encoding adds.
const HISTORY_BYTES_MAX: usize = CLIENT_MESSAGE_BYTES_MAX - 512 * 1024;

const _: () = {
    assert!(HISTORY_BYTES_MAX + HISTORY_LIMIT_MAX * convert::EVENT_OVERHEAD_BYTES_MAX < CLIENT_MESSAGE_BYTES_MAX);
    assert!(PAGE_BYTES_MAX + PAGE_EVENTS_MAX * convert::EVENT_OVERHEAD_BYTES_MAX < CLIENT_MESSAGE_BYTES_MAX);
};

/// The service.
pub(super) struct EventsDb {
    service: EventService,
    stream_batch_events: usize,
}

impl EventsDb {
    pub(super) fn new(service: EventService, stream_batch_events: usize) -> Self {
        Self { service, stream_batch_events: stream_batch_events.max(1) }
    }

    async fn create(&self, request: proto::CreateEventRequest) -> Result<proto::CreateEventReply, ApiError> {
        let request = AppendRequest { events: vec![convert::new_event(request)?], preconditions: Vec::new() };
        let appended = self.service.append(request).await?;
        let id = appended.first().expect("an append answers with one position per event").position.get();
        Ok(proto::CreateEventReply { id })
    }

    async fn get(&self, request: proto::GetEventByIdRequest) -> Result<proto::Event, ApiError> {
        let min_position = convert::min_position(request.min_position)?;
        let event = self.service.get(convert::position(request.id)?, min_position).await?;
        event
            .map(convert::event)
            .ok_or_else(|| ApiError::new(ApiErrorKind::NotFound, format!("there is no event with id {}", request.id)))
    }

    async fn history(&self, request: proto::EventsFromSubjectRequest) -> Result<EncodedReply, ApiError> {
        let selection = convert::selection(request, HISTORY_LIMIT_MAX)?;
        let Selection { filter, start, order, is_latest, after_subject, min_position, limit } = selection;
        let bytes_max = HISTORY_BYTES_MAX;
        let History { events, has_more } = if is_latest {
            let request = LatestRequest { filter, after: after_subject, min_position, limit, bytes_max };
            self.service.latest(request).await?
        } else {
            let request = HistoryRequest { filter, start, order, until: None, min_position, limit, bytes_max };
            self.service.history(request).await?
        };
        Ok(EncodedReply { events: events.iter().map(|event| encoded(event)).collect(), has_more })
    }

    async fn stream(
        &self,
        request: proto::EventsFromSubjectRequest,
        protocol: Protocol,
    ) -> Result<(impl Stream<Item = Result<EncodedReply, Status>> + use<>, ResponseCut), ApiError> {
        convert::check_stream(&request)?;
        let Selection { filter, start, is_latest: latest, min_position, .. } =
            convert::selection(request, HISTORY_LIMIT_MAX)?;
        let heartbeat = QUIET_HEARTBEAT;
        let request = SubscriptionRequest { filter, start, latest, min_position, heartbeat, protocol };
        let subscription = self.service.subscribe(request).await?;
        let batch_events = self.stream_batch_events;
        let cut = ResponseCut::by(subscription.end(), subscription.over());
        let replies = subscription.into_stream().flat_map(move |item| stream::iter(messages(item, batch_events)));
        Ok((replies, cut))
    }

    async fn delete(&self, request: proto::EventsFromSubjectRequest) -> Result<proto::OkReply, ApiError> {
        convert::check_deletion(&request)?;
        let from = convert::from_id(&request)?.unwrap_or(Position::FIRST);
        self.service.delete(convert::filter(request)?, from).await?;
        Ok(proto::OkReply { ok: true })
    }
}

#[tonic::async_trait]
impl proto::events_db_server::EventsDb for EventsDb {
    type StreamEventsFromSubjectStream = Answers<EncodedReply>;

    async fn create_event(
        &self,
        request: Request<proto::CreateEventRequest>,
    ) -> Result<Response<proto::CreateEventReply>, Status> {
        self.create(request.into_inner()).await.map(Response::new).map_err(from_api_error)
    }

    async fn get_event_by_id(
        &self,
        request: Request<proto::GetEventByIdRequest>,
    ) -> Result<Response<proto::Event>, Status> {
        self.get(request.into_inner()).await.map(Response::new).map_err(from_api_error)
    }

    async fn stream_events_from_subject(
        &self,
        request: Request<proto::EventsFromSubjectRequest>,
    ) -> Result<Response<Self::StreamEventsFromSubjectStream>, Status> {
        let protocol = protocol(&request);
        let (stream, cut) = self.stream(request.into_inner(), protocol).await.map_err(from_api_error)?;
        Ok(streaming(stream, cut))
    }

    async fn get_historic_events_from_subject(
        &self,
        request: Request<proto::EventsFromSubjectRequest>,
    ) -> Result<Response<EncodedReply>, Status> {
        self.history(request.into_inner()).await.map(Response::new).map_err(from_api_error)
    }

    async fn delete_from_subject(
        &self,
        request: Request<proto::EventsFromSubjectRequest>,
    ) -> Result<Response<proto::OkReply>, Status> {
        self.delete(request.into_inner()).await.map(Response::new).map_err(from_api_error)
    }
}

/// One item of a subscription as messages of at most `batch_events` events. A page is small enough for one message.
fn messages(
    item: Result<SubscriptionItem, SubscriptionEnded>,
    batch_events: usize,
) -> Vec<Result<EncodedReply, Status>> {
    match item {
        Ok(SubscriptionItem::Events(events) | SubscriptionItem::Latest(events)) => {
            let batches = events.chunks(batch_events);
            let reply = |events: &[Arc<LogEvent>]| EncodedReply {
                events: events.iter().map(|event| encoded(event)).collect(),
                has_more: true,
            };
            batches.map(|events| Ok(reply(events))).collect()
        }
        // This interface has no words for them.
        Ok(SubscriptionItem::CaughtUp(_) | SubscriptionItem::Heartbeat(_)) => Vec::new(),
        Err(ended) => vec![Err(from_api_error(ended.into()))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::grpc::reply::decoded;
    use crate::adapters::grpc::testing::stored;

    fn ids(item: SubscriptionItem, batch_events: usize) -> Vec<Vec<i64>> {
        let messages = messages(Ok(item), batch_events).into_iter().map(Result::unwrap);
        messages
            .inspect(|message| assert!(message.has_more))
            .map(|message| decoded(&message).iter().map(|event| event.id).collect())
            .collect()
    }

    #[test]
    fn page_is_sent_in_batches() {
        let page = || SubscriptionItem::Events((1..=5).map(|id| Arc::new(LogEvent::alone(stored(id)))).collect());
        assert_eq!(ids(page(), 2), [vec![1, 2], vec![3, 4], vec![5]]);
        assert_eq!(ids(page(), 5), [vec![1, 2, 3, 4, 5]]);
        assert_eq!(ids(page(), 1_000), [vec![1, 2, 3, 4, 5]]);
    }

    #[test]
    fn end_of_history_and_silence_are_no_messages() {
        assert!(ids(SubscriptionItem::CaughtUp(None), 10).is_empty());
        assert!(ids(SubscriptionItem::Heartbeat(None), 10).is_empty());
    }

    #[test]
    fn ended_stream_is_unavailable() {
        for ended in [SubscriptionEnded::ShuttingDown, SubscriptionEnded::TooSlow] {
            assert_eq!(messages(Err(ended), 10)[0].as_ref().unwrap_err().code(), tonic::Code::Unavailable);
        }
    }
}
