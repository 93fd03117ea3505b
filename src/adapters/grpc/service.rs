//! The calls of `grpc.EventsDB`: decode, use case, encode.

use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::status::from_api_error;
use super::{convert, proto};
use crate::adapters::api_error::{ApiError, ApiErrorKind};
use crate::domain::append::AppendRequest;
use crate::domain::position::Position;
use crate::domain::service::{EventService, HISTORY_LIMIT_MAX, History, HistoryRequest};
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
        let event = self.service.get(convert::position(request.id)?).await?;
        event
            .map(convert::event)
            .ok_or_else(|| ApiError::new(ApiErrorKind::NotFound, format!("there is no event with id {}", request.id)))
    }

    async fn history(
        &self,
        request: proto::EventsFromSubjectRequest,
    ) -> Result<proto::EventsFromSubjectReply, ApiError> {
        let after = convert::from_id(&request)?;
        let filter = convert::filter(request)?;
        let request = HistoryRequest { filter, after, limit: HISTORY_LIMIT_MAX, bytes_max: HISTORY_BYTES_MAX };
        let History { events, has_more } = self.service.history(request).await?;
        Ok(proto::EventsFromSubjectReply { events: events.into_iter().map(convert::event).collect(), has_more })
    }

    fn stream(
        &self,
        request: proto::EventsFromSubjectRequest,
    ) -> Result<impl Stream<Item = Result<proto::EventsFromSubjectReply, Status>> + use<>, ApiError> {
        let after = convert::from_id(&request)?;
        let filter = convert::filter(request)?;
        let subscription = self.service.subscribe(SubscriptionRequest { filter, after })?;
        let batch_events = self.stream_batch_events;
        Ok(subscription.into_stream().flat_map(move |item| stream::iter(messages(item, batch_events))))
    }

    async fn delete(&self, request: proto::EventsFromSubjectRequest) -> Result<proto::OkReply, ApiError> {
        let from = convert::from_id(&request)?.unwrap_or(Position::FIRST);
        self.service.delete(convert::filter(request)?, from).await?;
        Ok(proto::OkReply { ok: true })
    }
}

#[tonic::async_trait]
impl proto::events_db_server::EventsDb for EventsDb {
    type StreamEventsFromSubjectStream =
        Pin<Box<dyn Stream<Item = Result<proto::EventsFromSubjectReply, Status>> + Send>>;

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
        let stream = self.stream(request.into_inner()).map_err(from_api_error)?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_historic_events_from_subject(
        &self,
        request: Request<proto::EventsFromSubjectRequest>,
    ) -> Result<Response<proto::EventsFromSubjectReply>, Status> {
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
) -> Vec<Result<proto::EventsFromSubjectReply, Status>> {
    match item {
        Ok(SubscriptionItem::Events(events)) => {
            let mut batches = Vec::with_capacity(events.len().div_ceil(batch_events));
            let mut events = events.into_iter().map(convert::event);
            while events.len() > 0 {
                let events = events.by_ref().take(batch_events).collect();
                batches.push(Ok(proto::EventsFromSubjectReply { events, has_more: true }));
            }
            batches
        }
        // This interface has no word for it.
        Ok(SubscriptionItem::CaughtUp(_)) => Vec::new(),
        Err(ended) => vec![Err(from_api_error(ended.into()))],
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::attribute::{EventSource, EventType, Subject};
    use crate::domain::event::StoredEvent;
    use crate::domain::timestamp::Timestamp;

    fn stored(id: i64) -> StoredEvent {
        StoredEvent {
            position: Position::new(id).unwrap(),
            id: None,
            event_source: EventSource::from_stored("source".to_owned()),
            event_type: EventType::from_stored("type".to_owned()),
            subject: Subject::from_stored("subject".to_owned()),
            time: Timestamp::from_unix_micros(0).unwrap(),
            recorded_time: None,
            data: Bytes::from_static(b"data"),
        }
    }

    fn ids(item: SubscriptionItem, batch_events: usize) -> Vec<Vec<i64>> {
        let messages = messages(Ok(item), batch_events).into_iter().map(Result::unwrap);
        messages
            .inspect(|message| assert!(message.has_more))
            .map(|message| message.events.iter().map(|event| event.id).collect())
            .collect()
    }

    #[test]
    fn page_is_sent_in_batches() {
        let page = || SubscriptionItem::Events((1..=5).map(stored).collect());
        assert_eq!(ids(page(), 2), [vec![1, 2], vec![3, 4], vec![5]]);
        assert_eq!(ids(page(), 5), [vec![1, 2, 3, 4, 5]]);
        assert_eq!(ids(page(), 1_000), [vec![1, 2, 3, 4, 5]]);
    }

    #[test]
    fn end_of_history_is_not_a_message() {
        assert!(ids(SubscriptionItem::CaughtUp(None), 10).is_empty());
    }

    #[test]
    fn shutdown_ends_a_stream_as_unavailable() {
        let ending = messages(Err(SubscriptionEnded::ShuttingDown), 10);
        assert_eq!(ending[0].as_ref().unwrap_err().code(), tonic::Code::Unavailable);
    }
}
