//! Messages to values of the domain.

use prost_types::Timestamp as WireTime;

use crate::adapters::api_error::ApiError;
use crate::adapters::cloudevents::from_message;
use crate::adapters::cloudevents::proto::CloudEvent;
use crate::adapters::grpc::convert::{check_repeats, in_field, place};
use crate::adapters::grpc::proto::v1::{self, precondition, subscribe_request};
use crate::domain::append::{AppendRequest, Appended, Precondition};
use crate::domain::attribute::{EventSource, EventType, InvalidAttribute, Subject};
use crate::domain::filter::{Filter, SubjectFilter};
use crate::domain::position::Position;
use crate::domain::subscription::Start;
use crate::domain::timestamp::Timestamp;

/// What may be listed in one answer.
const PAGE_SIZE_MAX: usize = 1_000;

pub(super) fn append(events: Vec<CloudEvent>, preconditions: Vec<v1::Precondition>) -> Result<AppendRequest, ApiError> {
    let events = events.into_iter().enumerate();
    let events =
        events.map(|(index, event)| from_message(event).map_err(|error| error.within(&element("events", index))));
    let preconditions = preconditions.into_iter().enumerate();
    let preconditions = preconditions
        .map(|(index, item)| precondition(item).map_err(|error| error.within(&element("preconditions", index))));
    Ok(AppendRequest {
        events: events.collect::<Result<_, _>>()?,
        preconditions: preconditions.collect::<Result<_, _>>()?,
    })
}

pub(super) fn appended(appended: Vec<Appended>) -> v1::AppendResponse {
    let result =
        |Appended { position, is_duplicate }| v1::AppendResult { position: position.get(), duplicate: is_duplicate };
    v1::AppendResponse { results: appended.into_iter().map(result).collect() }
}

fn element(field: &str, index: usize) -> String {
    format!("{field}[{index}].")
}

fn precondition(precondition: v1::Precondition) -> Result<Precondition, ApiError> {
    let last = match precondition.expectation {
        Some(precondition::Expectation::LastPosition(position)) => Some(required_position("last_position", position)?),
        Some(precondition::Expectation::NoEvents(true)) => None,
        Some(precondition::Expectation::NoEvents(false)) => return Err(ApiError::invalid("no_events", "must be true")),
        None => return Err(ApiError::invalid("expectation", "is missing: last_position or no_events")),
    };
    let subject = Subject::new(precondition.subject).map_err(in_field("subject"))?;
    Ok(Precondition { subject, last })
}

pub(super) fn required_position(name: &str, position: i64) -> Result<Position, ApiError> {
    Position::new(position).map_err(|_| ApiError::invalid(name, "must be at least 1"))
}

pub(super) fn time(name: &str, WireTime { seconds, nanos }: WireTime) -> Result<Timestamp, ApiError> {
    let invalid = || ApiError::invalid(name, "must be a time of the years 1 to 9999");
    let nanos = i64::from(nanos);
    if !(0..1_000_000_000).contains(&nanos) {
        return Err(invalid());
    }
    let micros = seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(nanos / 1_000));
    Timestamp::from_unix_micros(micros.ok_or_else(invalid)?).map_err(|_| invalid())
}

pub(super) fn filter(filter: Option<v1::Filter>) -> Result<Filter, ApiError> {
    let Some(v1::Filter { subjects, subject_prefixes, types, sources }) = filter else { return Ok(Filter::default()) };
    if !subjects.is_empty() && !subject_prefixes.is_empty() {
        return Err(ApiError::invalid("filter.subjects", "and filter.subject_prefixes exclude each other"));
    }
    let types = texts("filter.types", types, EventType::new)?;
    let subjects = match (subjects.is_empty(), subject_prefixes.is_empty()) {
        (true, true) => SubjectFilter::All,
        (true, false) => SubjectFilter::prefixes(texts("filter.subject_prefixes", subject_prefixes, Subject::new)?),
        (false, _) => SubjectFilter::exact(texts("filter.subjects", subjects, Subject::new)?),
    };
    Ok(Filter::new(subjects, types).of_sources(texts("filter.sources", sources, EventSource::new)?))
}

fn texts<T>(
    name: &str,
    texts: Vec<String>,
    take: impl Fn(String) -> Result<T, InvalidAttribute>,
) -> Result<Vec<T>, ApiError> {
    check_repeats(name, &texts)?;
    let texts = texts.into_iter().enumerate();
    texts.map(|(index, text)| take(text).map_err(in_field(&format!("{name}[{index}]")))).collect()
}

pub(super) fn start(start: Option<subscribe_request::Start>) -> Result<(Start, bool), ApiError> {
    use subscribe_request::Start::{AfterPosition, FromTime, Head, LatestPerSubject};
    match start {
        None => Ok((Start::After(None), false)),
        Some(AfterPosition(position)) => Ok((Start::After(place("after_position", position)?), false)),
        Some(Head(true)) => Ok((Start::Head, false)),
        Some(FromTime(from)) => Ok((Start::Time(time("from_time", from)?), false)),
        Some(LatestPerSubject(true)) => Ok((Start::After(None), true)),
        Some(Head(false)) => Err(ApiError::invalid("head", "must be true")),
        Some(LatestPerSubject(false)) => Err(ApiError::invalid("latest_per_subject", "must be true")),
    }
}

pub(super) fn page_size(size: i32) -> Result<usize, ApiError> {
    match usize::try_from(size) {
        Ok(0) => Ok(PAGE_SIZE_MAX),
        Ok(size) if size <= PAGE_SIZE_MAX => Ok(size),
        Ok(_) | Err(_) => Err(ApiError::invalid("page_size", format!("must be from 0 to {PAGE_SIZE_MAX}"))),
    }
}

pub(super) fn subject(name: &str, text: String) -> Result<Subject, ApiError> {
    Subject::new(text).map_err(in_field(name))
}

pub(super) fn event_type(name: &str, text: String) -> Result<EventType, ApiError> {
    EventType::new(text).map_err(in_field(name))
}
