//! The calls of `eventsdb.v1.EventStore`: decode, use case, encode.

mod append_stream;
mod convert;
pub(super) mod messages;
mod read;

use std::time::Duration;

use futures_util::stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::convert::place;
use super::proto::v1;
use super::status::from_api_error;
use super::{Answers, protocol, streaming};
use crate::adapters::api_error::{ApiError, ApiErrorKind};
use crate::adapters::cloudevents::to_message;
use crate::adapters::response_cut::ResponseCut;
use crate::domain::attribute::{EventType, Subject};
use crate::domain::filter::{Filter, SubjectFilter};
use crate::domain::log::Protocol;
use crate::domain::position::Position;
use crate::domain::service::{EventService, HistoryRequest};
use crate::domain::subscription::{Start, SubscriptionEnded, SubscriptionItem, SubscriptionRequest};
use crate::ports::event_repository::Order;

use messages::{Place, ReadResponse, SubscribeResponse, SubscriptionMessage};
use read::Reading;

/// The service.
#[derive(Clone)]
pub(super) struct EventStore {
    service: EventService,
    heartbeat: Duration,
}

impl EventStore {
    pub(super) fn new(service: EventService, heartbeat: Duration) -> Self {
        Self { service, heartbeat }
    }

    async fn get(&self, request: v1::GetRequest) -> Result<v1::GetResponse, ApiError> {
        let position = convert::required_position("position", request.position)?;
        let min_position = place("min_position", request.min_position)?;
        let event = self.service.get(position, min_position).await?;
        let event = event.ok_or_else(|| {
            ApiError::new(ApiErrorKind::NotFound, format!("there is no event at position {position}"))
        })?;
        Ok(v1::GetResponse { event: Some(to_message(&event)) })
    }

    async fn subscribe(
        &self,
        request: v1::SubscribeRequest,
        protocol: Protocol,
    ) -> Result<(impl Stream<Item = Result<SubscribeResponse, Status>> + use<>, ResponseCut), ApiError> {
        let (start, latest) = convert::start(request.start)?;
        let request = SubscriptionRequest {
            filter: convert::filter(request.filter)?,
            start,
            latest,
            min_position: place("min_position", request.min_position)?,
            heartbeat: self.heartbeat,
            protocol,
        };
        let subscription = self.service.subscribe(request).await?;
        let cut = ResponseCut::by(subscription.end(), subscription.over());
        Ok((subscription.into_stream().map(message), cut))
    }

    async fn list_subjects(&self, request: v1::ListSubjectsRequest) -> Result<v1::ListSubjectsResponse, ApiError> {
        let limit = convert::page_size(request.page_size)?;
        let prefix = convert::subject("prefix", request.prefix)?;
        let token = Some(request.page_token).filter(|token| !token.is_empty());
        let after = token.map(|token| convert::subject("page_token", token)).transpose()?;
        let mut subjects = Vec::new();
        if after.is_none() && self.has_events_of(&prefix).await? {
            subjects.push(prefix.clone());
        }
        let above = after.max(Some(prefix.clone()));
        // One more tells whether there is another page.
        let more = self.service.subjects(above, limit + 1 - subjects.len()).await?;
        subjects.extend(more.into_iter().take_while(|subject| subject.as_str().starts_with(prefix.as_str())));
        let (subjects, next_page_token) = page(subjects.into_iter().map(Subject::into_string), limit);
        Ok(v1::ListSubjectsResponse { subjects, next_page_token })
    }

    async fn list_types(&self, request: v1::ListTypesRequest) -> Result<v1::ListTypesResponse, ApiError> {
        let limit = convert::page_size(request.page_size)?;
        let token = Some(request.page_token).filter(|token| !token.is_empty());
        let after = token.map(|token| convert::event_type("page_token", token)).transpose()?;
        let types = self.service.types(after, limit + 1).await?;
        let (types, next_page_token) = page(types.into_iter().map(EventType::into_string), limit);
        Ok(v1::ListTypesResponse { types, next_page_token })
    }

    async fn has_events_of(&self, subject: &Subject) -> Result<bool, ApiError> {
        let history = self.service.history(HistoryRequest {
            filter: Filter { subjects: SubjectFilter::exact(vec![subject.clone()]), ..Filter::default() },
            start: Start::After(None),
            order: Order::Ascending,
            until: None,
            min_position: None,
            limit: 1,
            bytes_max: 1,
        });
        Ok(!history.await?.events.is_empty())
    }

    async fn delete(&self, request: v1::DeleteRequest) -> Result<v1::DeleteResponse, ApiError> {
        if request.filter.is_none() {
            return Err(ApiError::invalid("filter", "is missing; an empty one selects every event"));
        }
        let filter = convert::filter(request.filter)?;
        let from = place("from_position", request.from_position)?.unwrap_or(Position::FIRST);
        let deleted = self.service.delete(filter, from).await?;
        Ok(v1::DeleteResponse { deleted: i64::try_from(deleted).unwrap_or(i64::MAX) })
    }
}

#[tonic::async_trait]
impl v1::event_store_server::EventStore for EventStore {
    type AppendStreamStream = Answers<v1::AppendStreamResponse>;
    type ReadStream = Answers<ReadResponse>;
    type SubscribeStream = Answers<SubscribeResponse>;

    async fn append(&self, request: Request<v1::AppendRequest>) -> Result<Response<v1::AppendResponse>, Status> {
        let v1::AppendRequest { events, preconditions } = request.into_inner();
        let request = convert::append(events, preconditions).map_err(from_api_error)?;
        match self.service.append(request).await {
            Ok(appended) => Ok(Response::new(convert::appended(appended))),
            Err(error) => Err(from_api_error(error.into())),
        }
    }

    async fn append_stream(
        &self,
        request: Request<Streaming<v1::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let answers = append_stream::answers(self.service.clone(), request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        self.get(request.into_inner()).await.map(Response::new).map_err(from_api_error)
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let reading = Reading::begin(self.service.clone(), request.into_inner()).await.map_err(from_api_error)?;
        Ok(Response::new(Box::pin(reading.into_stream())))
    }

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let protocol = protocol(&request);
        let (stream, cut) = self.subscribe(request.into_inner(), protocol).await.map_err(from_api_error)?;
        Ok(streaming(stream, cut))
    }

    async fn list_subjects(
        &self,
        request: Request<v1::ListSubjectsRequest>,
    ) -> Result<Response<v1::ListSubjectsResponse>, Status> {
        self.list_subjects(request.into_inner()).await.map(Response::new).map_err(from_api_error)
    }

    async fn list_types(
        &self,
        request: Request<v1::ListTypesRequest>,
    ) -> Result<Response<v1::ListTypesResponse>, Status> {
        self.list_types(request.into_inner()).await.map(Response::new).map_err(from_api_error)
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        self.delete(request.into_inner()).await.map(Response::new).map_err(from_api_error)
    }
}

/// The first `limit` of `texts`, and the token of the next page: the last of this one, empty when there are no more.
fn page(texts: impl Iterator<Item = String>, limit: usize) -> (Vec<String>, String) {
    let mut texts: Vec<String> = texts.collect();
    let has_more = texts.len() > limit;
    texts.truncate(limit);
    let last = texts.last().filter(|_| has_more).cloned();
    (texts, last.unwrap_or_default())
}

/// One item of a subscription as a message. A page is small enough for one.
fn message(item: Result<SubscriptionItem, SubscriptionEnded>) -> Result<SubscribeResponse, Status> {
    let at = |position: Option<Position>| Place { position: position.map_or(0, Position::get) };
    let message = match item.map_err(|ended| from_api_error(ended.into()))? {
        SubscriptionItem::Events(events) | SubscriptionItem::Latest(events) => {
            SubscriptionMessage::Events(ReadResponse::of(&events))
        }
        SubscriptionItem::CaughtUp(position) => SubscriptionMessage::CaughtUp(at(position)),
        SubscriptionItem::Heartbeat(position) => SubscriptionMessage::Heartbeat(at(position)),
    };
    Ok(message.into())
}
