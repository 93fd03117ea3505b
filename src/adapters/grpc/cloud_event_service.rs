//! The calls of `io.cloudevents.v1.CloudEventService`.

use futures_util::stream::{self, Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::status::from_api_error;
use super::{Answers, QUIET_HEARTBEAT, protocol, streaming};
use crate::adapters::api_error::ApiError;
use crate::adapters::cloudevents::proto::cloud_event_service_server::CloudEventService;
use crate::adapters::cloudevents::proto::{CloudEvent, PublishRequest, SubscriptionRequest};
use crate::adapters::cloudevents::{from_message, to_message};
use crate::adapters::response_cut::ResponseCut;
use crate::domain::append::AppendRequest;
use crate::domain::attribute::EventSource;
use crate::domain::filter::Filter;
use crate::domain::log::Protocol;
use crate::domain::service::EventService;
use crate::domain::subscription::{Start, SubscriptionEnded, SubscriptionItem, SubscriptionRequest as Subscribing};

/// The service.
pub(super) struct Broker {
    service: EventService,
}

impl Broker {
    pub(super) fn new(service: EventService) -> Self {
        Self { service }
    }

    async fn publish(&self, request: PublishRequest) -> Result<(), ApiError> {
        let event = request.event.ok_or_else(|| ApiError::invalid("event", "is missing"))?;
        let event = from_message(event).map_err(|error| error.within("event."))?;
        let request = AppendRequest { events: vec![event], preconditions: Vec::new() };
        self.service.append(request).await?;
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscriptionRequest,
        protocol: Protocol,
    ) -> Result<(impl Stream<Item = Result<CloudEvent, Status>> + use<>, ResponseCut), ApiError> {
        let source = Some(request.source).filter(|source| !source.is_empty());
        let source = source.map(EventSource::new).transpose();
        let source = source.map_err(|problem| ApiError::attribute("source", problem))?;
        let subscription = self.service.subscribe(Subscribing {
            filter: Filter::default().of_sources(source.into_iter().collect()),
            start: Start::Head,
            latest: false,
            min_position: None,
            heartbeat: QUIET_HEARTBEAT,
            protocol,
        });
        let subscription = subscription.await?;
        let cut = ResponseCut::by(subscription.end(), subscription.over());
        let events = subscription.into_stream().flat_map(|item| stream::iter(messages(item)));
        Ok((events, cut))
    }
}

/// The events of an item.
fn messages(item: Result<SubscriptionItem, SubscriptionEnded>) -> Vec<Result<CloudEvent, Status>> {
    match item {
        Ok(SubscriptionItem::Events(events) | SubscriptionItem::Latest(events)) => {
            events.iter().map(|event| Ok(to_message(event.stored()))).collect()
        }
        // This interface has no words for them.
        Ok(SubscriptionItem::CaughtUp(_) | SubscriptionItem::Heartbeat(_)) => Vec::new(),
        Err(ended) => vec![Err(from_api_error(ended.into()))],
    }
}

#[tonic::async_trait]
impl CloudEventService for Broker {
    type SubscribeStream = Answers<CloudEvent>;

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<()>, Status> {
        self.publish(request.into_inner()).await.map(Response::new).map_err(from_api_error)
    }

    async fn subscribe(
        &self,
        request: Request<SubscriptionRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let protocol = protocol(&request);
        let (stream, cut) = self.subscribe(request.into_inner(), protocol).await.map_err(from_api_error)?;
        Ok(streaming(stream, cut))
    }
}
