//! `grpc.health.v1.Health`, which says what the readiness latch says.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

use super::cloud_event_service::Broker;
use super::event_store::EventStore;
use super::proto::events_db_server::EventsDbServer;
use super::proto::v1::event_store_server::EventStoreServer;
use super::service::EventsDb;
use crate::adapters::cloudevents::proto::cloud_event_service_server::CloudEventServiceServer;

/// The services by their names; the empty one means the whole server.
const KNOWN: [&str; 4] = [
    "",
    <EventsDbServer<EventsDb> as NamedService>::NAME,
    <EventStoreServer<EventStore> as NamedService>::NAME,
    <CloudEventServiceServer<Broker> as NamedService>::NAME,
];

/// The health of the whole server and of each service: they are ready together.
pub(super) struct Health {
    ready: watch::Receiver<bool>,
}

impl Health {
    pub(super) fn new(ready: watch::Receiver<bool>) -> Self {
        Self { ready }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request.get_ref().service) {
            return Err(Status::not_found("there is no service of this name"));
        }
        Ok(Response::new(answer(serving(*self.ready.borrow()))))
    }

    /// Ends when the sender of the latch is gone, so that a watcher does not hold up a shutdown.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request.get_ref().service);
        let answers = WatchStream::new(self.ready.clone())
            .map(move |ready| Ok(answer(if known { serving(ready) } else { ServingStatus::ServiceUnknown })));
        Ok(Response::new(Box::pin(answers)))
    }
}

fn is_known(service: &str) -> bool {
    KNOWN.contains(&service)
}

fn serving(ready: bool) -> ServingStatus {
    if ready { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[cfg(test)]
mod tests {
    use super::health_server::Health as _;
    use super::*;

    fn asking_for(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    #[tokio::test]
    async fn check_says_what_the_latch_says() {
        let (sender, ready) = watch::channel(false);
        let health = Health::new(ready);
        for (latch, status) in [(false, ServingStatus::NotServing), (true, ServingStatus::Serving)] {
            sender.send_replace(latch);
            for service in ["", "grpc.EventsDB", "eventsdb.v1.EventStore", "io.cloudevents.v1.CloudEventService"] {
                let answer = health.check(asking_for(service)).await.unwrap().into_inner();
                assert_eq!(answer.status(), status, "{service}");
            }
        }
        let refusal = health.check(asking_for("grpc.Other")).await.unwrap_err();
        assert_eq!(refusal.code(), tonic::Code::NotFound);
    }

    #[tokio::test]
    async fn watch_follows_the_latch_and_ends_with_it() {
        let (sender, ready) = watch::channel(false);
        let health = Health::new(ready);
        let mut known = health.watch(asking_for("")).await.unwrap().into_inner();
        let mut unknown = health.watch(asking_for("grpc.Other")).await.unwrap().into_inner();
        assert_eq!(known.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        assert_eq!(unknown.next().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
        sender.send_replace(true);
        assert_eq!(known.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
        drop(sender);
        assert!(known.next().await.is_none());
    }
}
