//! In which form events go out: the reader chooses, by `format` or by `Accept`.

use std::fmt::Write;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;

use crate::adapters::api_error::ApiError;
use crate::adapters::cloudevents::{
    JSON_BATCH, JSON_EVENT, PROTOBUF_BATCH, PROTOBUF_EVENT, json_bytes, proto, to_message, write_headers, write_json,
};
use crate::adapters::rest::event_json;
use crate::adapters::rest::parameters::Query;
use crate::domain::event::StoredEvent;
use crate::domain::service::History;

/// Events as a reader wants them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Representation {
    /// The JSON of the Go service.
    Plain,
    /// `CloudEvents` as JSON; several of them as a batch.
    CloudEvents,
    /// `CloudEvents` as protobuf.
    Protobuf,
    /// One `CloudEvent` in binary mode.
    Binary,
    /// `CloudEvents` as JSON, one on each line.
    Lines,
}

use Representation::{Binary, CloudEvents, Lines, Plain, Protobuf};

/// Says whether more events match behind a page that has no room of its own for that.
const HAS_MORE: HeaderName = HeaderName::from_static("events-has-more");

const PLAIN: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// The forms of one call by their names in `format` and their media types; the first is what is sent without a wish.
type Offers = [(&'static str, Option<&'static str>, Representation)];

const EVENT: &Offers = &[
    ("json", Some(PLAIN), Plain),
    ("cloudevents", Some(JSON_EVENT), CloudEvents),
    ("protobuf", Some(PROTOBUF_EVENT), Protobuf),
    ("binary", None, Binary),
];

const EVENTS: &Offers = &[
    ("json", Some(PLAIN), Plain),
    ("cloudevents", Some(JSON_BATCH), CloudEvents),
    ("protobuf", Some(PROTOBUF_BATCH), Protobuf),
    ("ndjson", Some(LINES), Lines),
];

const STREAM: &Offers = &[("json", None, Plain), ("cloudevents", None, CloudEvents)];

impl Representation {
    /// What is wanted of one event.
    pub(super) fn of_event(query: &Query, headers: &HeaderMap) -> Result<Self, ApiError> {
        choose(EVENT, query, headers)
    }

    /// What is wanted of a page.
    pub(super) fn of_events(query: &Query, headers: &HeaderMap) -> Result<Self, ApiError> {
        choose(EVENTS, query, headers)
    }

    /// What is wanted of a stream, which is an event stream whatever is accepted.
    pub(super) fn of_stream(query: &Query) -> Result<Self, ApiError> {
        choose(STREAM, query, &HeaderMap::new())
    }

    /// One event as an answer.
    pub(super) fn event(self, event: &StoredEvent) -> Response {
        match self {
            Plain | Lines => answer(PLAIN, event_json::event(event)),
            CloudEvents => {
                let mut out = Vec::with_capacity(json_bytes(event));
                write_json(&mut out, event);
                answer(JSON_EVENT, out)
            }
            Protobuf => answer(PROTOBUF_EVENT, to_message(event).encode_to_vec()),
            Binary => {
                let mut response = Body::from(event.data.clone()).into_response();
                write_headers(response.headers_mut(), event);
                vary(response)
            }
        }
    }

    /// A page as an answer.
    pub(super) fn events(self, history: &History) -> Response {
        let (media_type, body) = match self {
            Plain | Binary => return answer(PLAIN, event_json::history(history)),
            CloudEvents => (JSON_BATCH, json_events(history, b"[", b",", b"]")),
            Lines => (LINES, json_events(history, b"", b"\n", b"\n")),
            Protobuf => (PROTOBUF_BATCH, batch(history)),
        };
        let mut response = answer(media_type, body);
        let has_more = if history.has_more { "true" } else { "false" };
        response.headers_mut().insert(HAS_MORE, HeaderValue::from_static(has_more));
        response
    }
}

fn answer(media_type: &'static str, body: impl Into<Body>) -> Response {
    vary(([(CONTENT_TYPE, media_type)], body.into()).into_response())
}

fn vary(mut response: Response) -> Response {
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

fn json_events(history: &History, before: &[u8], between: &[u8], after: &[u8]) -> Vec<u8> {
    let bytes: usize = history.events.iter().map(|event| json_bytes(event.stored()) + between.len()).sum();
    let mut out = Vec::with_capacity(bytes + before.len() + after.len());
    out.extend_from_slice(before);
    for (index, event) in history.events.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(between);
        }
        write_json(&mut out, event.stored());
    }
    if !history.events.is_empty() || !before.is_empty() {
        out.extend_from_slice(after);
    }
    out
}

/// One message at a time, so that the page is not in memory twice.
fn batch(history: &History) -> Vec<u8> {
    let mut out = Vec::new();
    for event in &history.events {
        let events = vec![to_message(event.stored())];
        proto::CloudEventBatch { events }.encode(&mut out).expect("memory takes everything");
    }
    out
}

/// Chooses among `offers`. What nobody offers is as good as no wish: the Go service never looked.
fn choose(offers: &Offers, query: &Query, headers: &HeaderMap) -> Result<Representation, ApiError> {
    if let Some(wish) = query.format()? {
        let offer = offers.iter().find(|(name, _, _)| *name == wish);
        return offer.map(|(_, _, form)| *form).ok_or_else(|| ApiError::invalid("format", names(offers)));
    }
    let ranges: Vec<Range<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(Range::parse)
        .collect();
    let mut chosen = (Plain, (0, 0));
    for (_, media_type, form) in offers {
        let rank = media_type.and_then(|media_type| ranges.iter().filter_map(|range| range.rank(media_type)).max());
        // The more exact range says how much a type is wanted; of equals, the one that was named is meant.
        if let Some((exactness, quality)) =
            rank.filter(|(exactness, quality)| *quality > 0 && (*quality, *exactness) > chosen.1)
        {
            chosen = (*form, (quality, exactness));
        }
    }
    Ok(chosen.0)
}

fn names(offers: &Offers) -> String {
    let mut text = "must be ".to_owned();
    for (index, (name, _, _)) in offers.iter().enumerate() {
        let separator = match index {
            0 => "",
            last if last + 1 == offers.len() => " or ",
            _ => ", ",
        };
        let _written = write!(text, "{separator}{name}");
    }
    text
}

/// An element of `Accept`. Source: RFC 9110, section 12.5.1.
struct Range<'a> {
    media_type: &'a str,
    /// Thousandths.
    quality: u32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Self { media_type, quality: quality.map_or(1_000, thousandths) }
    }

    /// How exactly it means `media_type`, and how much it wants it; `None` when it does not mean it.
    fn rank(&self, media_type: &str) -> Option<(u32, u32)> {
        let exactness = if self.media_type.eq_ignore_ascii_case(media_type) {
            3
        } else if self.media_type.eq_ignore_ascii_case("application/*") {
            2
        } else if self.media_type == "*/*" {
            1
        } else {
            return None;
        };
        Some((exactness, self.quality))
    }
}

/// What is no number wants nothing.
fn thousandths(quality: &str) -> u32 {
    let (whole, fraction) = quality.split_once('.').unwrap_or((quality, ""));
    let digits = format!("{fraction:0<3}");
    match (whole, digits.get(..3).and_then(|digits| digits.parse::<u32>().ok())) {
        ("0", Some(fraction)) => fraction,
        ("1", Some(_)) => 1_000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(offers: &Offers, query: &str, accept: &[&'static str]) -> Representation {
        let headers = accept.iter().map(|value| (ACCEPT, HeaderValue::from_static(value)));
        choose(offers, &Query::parse(query).unwrap(), &headers.collect()).unwrap()
    }

    #[test]
    fn accept_chooses_by_quality_and_by_name() {
        for (accept, form) in [
            (&[][..], Plain),
            (&["*/*"], Plain),
            (&["application/*"], Plain),
            (&["text/html"], Plain),
            (&["application/json"], Plain),
            (&["application/cloudevents+json"], CloudEvents),
            (&["Application/CloudEvents+JSON; charset=utf-8"], CloudEvents),
            (&["application/cloudevents+json, */*"], CloudEvents),
            (&["*/*", "application/cloudevents+protobuf"], Protobuf),
            (&["application/cloudevents+json;q=0.5, application/json"], Plain),
            (&["application/json;q=0.5, application/cloudevents+json;q=0.501"], CloudEvents),
            (&["application/cloudevents+json;q=0, */*"], Plain),
            (&["application/json;q=0, application/cloudevents+json;q=0.1"], CloudEvents),
            (&["application/cloudevents+json;q=x"], Plain),
            (&["application/cloudevents-batch+json"], Plain),
        ] {
            assert_eq!(chosen(EVENT, "", accept), form, "{accept:?}");
        }
        for (accept, form) in [
            ("application/cloudevents-batch+json", CloudEvents),
            ("application/cloudevents-batch+protobuf", Protobuf),
            ("application/x-ndjson", Lines),
            ("application/cloudevents+json", Plain),
        ] {
            assert_eq!(chosen(EVENTS, "", &[accept]), form, "{accept}");
        }
    }

    #[test]
    fn format_wins() {
        for (query, form) in [
            ("format=json", Plain),
            ("format=cloudevents", CloudEvents),
            ("format=protobuf", Protobuf),
            ("format=binary", Binary),
            ("format=", Protobuf),
        ] {
            assert_eq!(chosen(EVENT, query, &["application/cloudevents+protobuf"]), form, "{query}");
        }
        let problem = choose(EVENT, &Query::parse("format=ndjson").unwrap(), &HeaderMap::new()).unwrap_err();
        assert_eq!(problem.detail, "format must be json, cloudevents, protobuf or binary");
        let problem = choose(STREAM, &Query::parse("format=binary").unwrap(), &HeaderMap::new()).unwrap_err();
        assert_eq!(problem.detail, "format must be json or cloudevents");
    }
}
