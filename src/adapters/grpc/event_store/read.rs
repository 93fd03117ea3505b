//! `Read`: stored events, page after page, up to the head that the call found.

use futures_util::stream::{self, Stream};
use tonic::Status;

use super::convert;
use super::messages::ReadResponse;
use crate::adapters::api_error::ApiError;
use crate::adapters::grpc::convert::place;
use crate::adapters::grpc::proto::v1;
use crate::adapters::grpc::status::from_api_error;
use crate::domain::attribute::Subject;
use crate::domain::filter::Filter;
use crate::domain::position::Position;
use crate::domain::service::{EventService, History, HistoryRequest, LatestRequest};
use crate::domain::subscription::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX, Start, StartError};
use crate::ports::event_repository::Order;

/// What is still to be read.
pub(super) struct Reading {
    service: EventService,
    filter: Filter,
    next: Next,
    /// How many events may still be sent.
    left: usize,
}

/// Where the next page begins.
enum Next {
    Along {
        start: Start,
        order: Order,
        /// The end of the way, itself left out.
        until: Option<Position>,
    },
    /// With the last event of the first subject above this one.
    Latest {
        after: Option<Subject>,
    },
    Nowhere,
}

impl Reading {
    pub(super) async fn begin(service: EventService, request: v1::ReadRequest) -> Result<Self, ApiError> {
        let after = place("after_position", request.after_position)?;
        let before = place("before_position", request.before_position)?;
        let min_position = place("min_position", request.min_position)?;
        let from_time = request.from_time.map(|time| convert::time("from_time", time)).transpose()?;
        let left = match usize::try_from(request.limit) {
            Ok(0) => usize::MAX,
            Ok(limit) => limit,
            Err(_) => return Err(ApiError::invalid("limit", "must not be negative")),
        };
        let filter = convert::filter(request.filter)?;
        let (order, from, until) =
            if request.backwards { (Order::Descending, before, after) } else { (Order::Ascending, after, before) };
        let next = match from_time.map(Start::Time) {
            _ if request.latest_per_subject => {
                if from_time.is_some() || after.is_some() || before.is_some() || request.backwards {
                    let others = "cannot be combined with after_position, before_position, from_time and backwards";
                    return Err(ApiError::invalid("latest_per_subject", others));
                }
                Next::Latest { after: None }
            }
            Some(_) if from.is_some() => {
                let other = if request.backwards { "before_position" } else { "after_position" };
                return Err(ApiError::invalid("from_time", format!("cannot be combined with {other}")));
            }
            Some(start) => Next::Along { start, order, until },
            None => Next::Along { start: Start::After(from), order, until },
        };
        // What comes meanwhile would keep the call from ending.
        let behind_head =
            service.head(min_position).await?.and_then(|head| Position::new(head.get().checked_add(1)?).ok());
        let next = match next {
            Next::Along { start, order: Order::Ascending, until } => {
                let until = until.into_iter().chain(behind_head).min();
                Next::Along { start, order: Order::Ascending, until }
            }
            other => other,
        };
        let next = if behind_head.is_none() { Next::Nowhere } else { next };
        Ok(Self { service, filter, next, left })
    }

    /// The pages, each a message.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<ReadResponse, Status>> + Send + 'static {
        stream::try_unfold(self, |mut reading| async move {
            let page = reading.page().await.map_err(|error| from_api_error(error.into()))?;
            Ok((!page.is_empty()).then_some((page, reading)))
        })
    }

    async fn page(&mut self) -> Result<ReadResponse, StartError> {
        let limit = self.left.min(PAGE_EVENTS_MAX);
        let (filter, min_position, bytes_max) = (self.filter.clone(), None, PAGE_BYTES_MAX);
        let History { events, has_more } = match &self.next {
            _ if limit == 0 => return Ok(ReadResponse::of(&[])),
            Next::Nowhere => return Ok(ReadResponse::of(&[])),
            Next::Along { start, order, until } => {
                let (start, order, until) = (*start, *order, *until);
                let request = HistoryRequest { filter, start, order, until, min_position, limit, bytes_max };
                self.service.history(request).await?
            }
            Next::Latest { after } => {
                let after = after.clone();
                self.service.latest(LatestRequest { filter, after, min_position, limit, bytes_max }).await?
            }
        };
        self.left -= events.len();
        let last = events.last().filter(|_| has_more).map(|event| event.stored());
        self.next = match (&self.next, last) {
            (Next::Along { order, until, .. }, Some(last)) => {
                Next::Along { start: Start::After(Some(last.position)), order: *order, until: *until }
            }
            (Next::Latest { .. }, Some(last)) => Next::Latest { after: Some(last.subject.clone()) },
            (_, None) | (Next::Nowhere, _) => Next::Nowhere,
        };
        Ok(ReadResponse::of(&events))
    }
}
