//! Reads query parameters into domain values.
//!
//! An empty optional parameter counts as absent: the clients of the Go service send such.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;

use crate::adapters::api_error::ApiError;
use crate::domain::attribute::{EventSource, EventType, InvalidAttribute, Subject};
use crate::domain::filter::{Filter, SubjectFilter};
use crate::domain::position::Position;
use crate::domain::service::HISTORY_LIMIT_MAX;
use crate::domain::subscription::Start;
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::Order;

/// Events in a page of history when the client does not say.
const HISTORY_LIMIT_DEFAULT: usize = 100;

/// How often `subject`, `type` or `source` may stand in one query: each costs a look into the index.
const REPEATS_MAX: usize = 100;

/// The header by which a browser says what it saw last.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

/// The decoded pairs of a query string, in order.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

/// Where a read begins, and how it goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// Where to begin.
    pub(super) start: Start,
    /// From which end.
    pub(super) order: Order,
    /// Whether the last event of each subject is asked for.
    pub(super) is_latest: bool,
    /// Of these, only subjects above this one.
    pub(super) after_subject: Option<Subject>,
    /// How far the log must have come.
    pub(super) min_position: Option<Position>,
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Query {
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        let pairs: Option<_> = pairs.collect();
        pairs.map(Self).ok_or_else(|| ApiError::invalid("the query", "must be percent-encoded UTF-8"))
    }

    /// The position in `id`.
    pub(super) fn id(&self) -> Result<Position, ApiError> {
        let text = self.single("id")?.ok_or_else(|| ApiError::invalid("id", "is missing"))?;
        let position = text.parse().ok().and_then(|value| Position::new(value).ok());
        position.ok_or_else(|| ApiError::invalid("id", "must be a whole number from 1 to 9223372036854775807"))
    }

    /// The number of events in `limit`.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.single("limit")? else { return Ok(HISTORY_LIMIT_DEFAULT) };
        let limit = text.parse().ok().filter(|limit| (1..=HISTORY_LIMIT_MAX).contains(limit));
        limit.ok_or_else(|| ApiError::invalid("limit", format!("must be a whole number from 1 to {HISTORY_LIMIT_MAX}")))
    }

    /// Which events.
    pub(super) fn filter(&self) -> Result<Filter, ApiError> {
        Ok(Filter::new(self.subjects(self.recursive()?)?, self.types()?).of_sources(self.sources()?))
    }

    /// The value of `from_id`; `None` for 0 and when it is absent. Whether it is a bound from above or from below is the
    /// call's own business.
    pub(super) fn after_id(&self) -> Result<Option<Position>, ApiError> {
        self.single("from_id")?.map_or(Ok(None), |text| resume_point("from_id", text))
    }

    /// The position in `min_position`; `None` for 0 and when it is absent.
    pub(super) fn min_position(&self) -> Result<Option<Position>, ApiError> {
        self.single("min_position")?.map_or(Ok(None), |text| resume_point("min_position", text))
    }

    /// Where a read begins, and how it goes on.
    pub(super) fn range(&self) -> Result<Range, ApiError> {
        let start = self.start()?;
        let order = match self.single("order")? {
            None | Some("asc") => Order::Ascending,
            Some("desc") => Order::Descending,
            Some(_) => return Err(ApiError::invalid("order", "must be asc or desc")),
        };
        let is_latest = match self.single("latest")? {
            None => false,
            Some("subject") => true,
            Some(_) => return Err(ApiError::invalid("latest", "must be subject")),
        };
        if is_latest && (start != Start::After(None) || order == Order::Descending) {
            let others = "cannot be combined with from_id, from, from_time and order=desc";
            return Err(ApiError::invalid("latest=subject", others));
        }
        let after_subject = self.single("after_subject")?;
        if after_subject.is_some() && !is_latest {
            return Err(ApiError::invalid("after_subject", "needs latest=subject"));
        }
        let after_subject = after_subject.map(|text| Subject::new(text.to_owned())).transpose();
        Ok(Range {
            start,
            order,
            is_latest,
            after_subject: after_subject.map_err(|problem| ApiError::attribute("after_subject", problem))?,
            min_position: self.min_position()?,
        })
    }

    /// The form in `format`.
    pub(super) fn format(&self) -> Result<Option<&str>, ApiError> {
        self.single("format")
    }

    /// Refuses the parameters called `names`: to overlook one would give or take more than was asked for.
    pub(super) fn refuse(&self, names: &[&str], problem: &str) -> Result<(), ApiError> {
        for name in names {
            if self.single(name)?.is_some() {
                return Err(ApiError::invalid(name, problem));
            }
        }
        Ok(())
    }

    fn start(&self) -> Result<Start, ApiError> {
        match (self.after_id()?, self.single("from")?, self.single("from_time")?) {
            (after, None, None) => Ok(Start::After(after)),
            (None, Some("head"), None) => Ok(Start::Head),
            (_, Some(other), _) if other != "head" => Err(ApiError::invalid("from", "must be head")),
            (None, None, Some(text)) => {
                Timestamp::parse(text).map(Start::Time).map_err(|problem| ApiError::invalid("from_time", problem))
            }
            (_, _, _) => Err(ApiError::invalid("from_id", "cannot be combined with from or from_time")),
        }
    }

    fn recursive(&self) -> Result<bool, ApiError> {
        match self.single("recursive")? {
            // Source: Go 1, `strconv.ParseBool`.
            Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
            None | Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
            Some(_) => Err(ApiError::invalid("recursive", "must be true or false")),
        }
    }

    fn subjects(&self, recursive: bool) -> Result<SubjectFilter, ApiError> {
        let take = if recursive { Subject::new } else { Subject::named };
        let subjects = self.all("subject")?.into_iter().map(|text| take(text.to_owned()));
        let subjects = subjects.collect::<Result<Vec<_>, _>>();
        let subjects = subjects.map_err(|problem| ApiError::attribute("subject", problem))?;
        if subjects.is_empty() && !recursive {
            return Err(ApiError::invalid("subject", "is missing; only recursive=true goes without"));
        }
        Ok(if recursive { SubjectFilter::prefixes(subjects) } else { SubjectFilter::exact(subjects) })
    }

    fn types(&self) -> Result<Vec<EventType>, ApiError> {
        self.attributes("type", EventType::new)
    }

    fn sources(&self) -> Result<Vec<EventSource>, ApiError> {
        self.attributes("source", EventSource::new)
    }

    /// The values of `name`, read by `take`; an empty one does not count.
    fn attributes<T>(
        &self,
        name: &str,
        take: impl Fn(String) -> Result<T, InvalidAttribute>,
    ) -> Result<Vec<T>, ApiError> {
        let values = self.all(name)?.into_iter().filter(|text| !text.is_empty());
        let values = values.map(|text| take(text.to_owned())).collect::<Result<_, _>>();
        values.map_err(|problem| ApiError::attribute(name, problem))
    }

    fn all(&self, name: &str) -> Result<Vec<&str>, ApiError> {
        // Some clients write lists as `name[]`. To overlook such a filter would give them more than they asked for.
        let is_bracketed =
            |pair: &(String, String)| pair.0.strip_prefix(name).is_some_and(|rest| rest.starts_with('['));
        if self.0.iter().any(is_bracketed) {
            return Err(ApiError::invalid(name, "must be given without brackets"));
        }
        let values: Vec<_> = self.0.iter().filter(|pair| pair.0 == name).map(|pair| pair.1.as_str()).collect();
        if values.len() > REPEATS_MAX {
            return Err(ApiError::invalid(name, format!("must not be given more than {REPEATS_MAX} times")));
        }
        Ok(values)
    }

    fn single(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.all(name)?.as_slice() {
            [] | [""] => Ok(None),
            [value] => Ok(Some(value)),
            [_, _, ..] => Err(ApiError::invalid(name, "must not be given more than once")),
        }
    }
}

/// What the client saw last, if it comes back.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<Start>, ApiError> {
    match headers.get(LAST_EVENT_ID) {
        Some(value) if !value.is_empty() => {
            let place = resume_point("Last-Event-ID", value.to_str().unwrap_or("not ASCII"))?;
            Ok(Some(Start::After(place)))
        }
        Some(_) | None => Ok(None),
    }
}

/// A place to go on from: 0 is the one before the first event.
fn resume_point(name: &str, text: &str) -> Result<Option<Position>, ApiError> {
    match text.parse() {
        Ok(0) => Ok(None),
        Ok(value) if value > 0 => Ok(Position::new(value).ok()),
        Ok(_) | Err(_) => Err(ApiError::invalid(name, "must be a whole number from 0 to 9223372036854775807")),
    }
}

/// Source: WHATWG URL, "application/x-www-form-urlencoded parsing", but a broken escape is an error.
fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests;
