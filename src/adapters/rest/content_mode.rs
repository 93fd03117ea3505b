//! In which form an event comes in.
//!
//! Source: `CloudEvents` HTTP protocol binding 1.0.2, section 3: the media type decides, batch before structured; what is
//! neither is binary mode if it says a version, and else the plain JSON of this interface.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use crate::adapters::api_error::{ApiError, ApiErrorKind};
use crate::adapters::cloudevents::{
    JSON_BATCH, JSON_EVENT, PROTOBUF_BATCH, PROTOBUF_EVENT, from_headers, from_json, from_json_batch, from_protobuf,
    from_protobuf_batch, is_binary,
};
use crate::adapters::rest::new_event::{self, NewEvents};

/// What the media types of `CloudEvents` begin with.
const CLOUD_EVENTS: &str = "application/cloudevents";

/// The form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentMode {
    /// The JSON of the Go service, or an array of such.
    Plain,
    /// Attributes in headers, data in the body.
    Binary,
    StructuredJson,
    BatchedJson,
    StructuredProtobuf,
    BatchedProtobuf,
}

impl ContentMode {
    /// The form that `headers` announce.
    ///
    /// # Errors
    /// `UnsupportedMediaType` with what is supported.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let is_plain = |coding: &HeaderValue| coding.is_empty() || coding.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
            let problem = "Content-Encoding must be left out or identity: compressed bodies are not taken";
            return Err(ApiError::new(ApiErrorKind::UnsupportedMediaType, problem));
        }
        let value = headers.get(CONTENT_TYPE).filter(|value| !value.is_empty());
        let text = value.map_or(Ok(""), |value| value.to_str()).map_err(|_| unsupported())?.to_ascii_lowercase();
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let is_utf8 = parts
            .filter_map(|part| part.strip_prefix("charset="))
            .all(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"));
        let mode = match media_type {
            JSON_BATCH => Self::BatchedJson,
            JSON_EVENT => Self::StructuredJson,
            PROTOBUF_BATCH => return Ok(Self::BatchedProtobuf),
            PROTOBUF_EVENT => return Ok(Self::StructuredProtobuf),
            other if other.starts_with(CLOUD_EVENTS) => return Err(unsupported()),
            _ if is_binary(headers) => return Ok(Self::Binary),
            // What `curl -d` says by itself counts as JSON, because the Go service never looked.
            "application/json" | "application/x-www-form-urlencoded" => Self::Plain,
            "" if text.is_empty() => Self::Plain,
            _ => return Err(unsupported()),
        };
        if is_utf8 { Ok(mode) } else { Err(unsupported()) }
    }

    /// Reads the events of a request.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field, attribute or header, in a batch with the index of its event.
    /// `TooLarge` for a batch of more than `events_max` events.
    pub(super) fn read(self, headers: &HeaderMap, body: Bytes, events_max: usize) -> Result<NewEvents, ApiError> {
        match self {
            Self::Plain => new_event::parse(&body, events_max),
            Self::Binary => from_headers(headers, body).map(NewEvents::One),
            Self::StructuredJson => from_json(&body).map(NewEvents::One),
            Self::BatchedJson => from_json_batch(&body, events_max).map(NewEvents::Batch),
            Self::StructuredProtobuf => from_protobuf(body).map(NewEvents::One),
            Self::BatchedProtobuf => from_protobuf_batch(body, events_max).map(NewEvents::Batch),
        }
    }
}

fn unsupported() -> ApiError {
    let types = [JSON_EVENT, JSON_BATCH, PROTOBUF_EVENT, PROTOBUF_BATCH].join(", ");
    let detail = format!(
        "the body must be application/json, {types}, JSON in UTF-8, or of any type beside the header ce-specversion"
    );
    ApiError::new(ApiErrorKind::UnsupportedMediaType, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(media_type: &'static str, has_version: bool) -> Option<ContentMode> {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
        if has_version {
            headers.insert("ce-specversion", HeaderValue::from_static("1.0"));
        }
        ContentMode::of(&headers).ok()
    }

    #[test]
    fn media_type_decides_then_the_version() {
        for has_version in [false, true] {
            for (media_type, mode) in [
                ("application/cloudevents+json", Some(ContentMode::StructuredJson)),
                ("Application/CloudEvents+JSON ; charset=\"UTF-8\"; x=y", Some(ContentMode::StructuredJson)),
                ("application/cloudevents-batch+json;charset=utf-8", Some(ContentMode::BatchedJson)),
                ("application/cloudevents+protobuf", Some(ContentMode::StructuredProtobuf)),
                ("application/cloudevents-batch+protobuf", Some(ContentMode::BatchedProtobuf)),
                ("application/cloudevents+avro", None),
                ("application/cloudevents", None),
                ("application/cloudevents+json; charset=utf-16", None),
            ] {
                assert_eq!(of(media_type, has_version), mode, "{media_type}");
            }
        }
        for media_type in ["", "application/json", "text/plain", "image/png", "application/json;charset=iso-8859-1"] {
            assert_eq!(of(media_type, true), Some(ContentMode::Binary), "{media_type}");
        }
    }

    #[test]
    fn compressed_bodies_are_refused() {
        for (coding, is_taken) in
            [("identity", true), ("", true), ("Identity", true), ("gzip", false), ("identity, gzip", false)]
        {
            for has_version in [false, true] {
                let mut headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(coding))]);
                if has_version {
                    headers.insert("ce-specversion", HeaderValue::from_static("1.0"));
                }
                assert_eq!(ContentMode::of(&headers).is_ok(), is_taken, "{coding}");
            }
        }
    }

    #[test]
    fn plain_events_are_json_in_utf8() {
        for (media_type, is_taken) in [
            ("", true),
            ("application/json", true),
            ("Application/JSON; charset=\"UTF-8\"; x=y", true),
            ("application/x-www-form-urlencoded", true),
            ("application/json;charset=iso-8859-1", false),
            ("application/jsonp", false),
            ("text/plain", false),
            (";", false),
        ] {
            assert_eq!(of(media_type, false), is_taken.then_some(ContentMode::Plain), "{media_type}");
        }
        assert_eq!(ContentMode::of(&HeaderMap::new()).ok(), Some(ContentMode::Plain));
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_bytes(b"application/json\xff").unwrap())]);
        assert_eq!(ContentMode::of(&headers).unwrap_err().kind, ApiErrorKind::UnsupportedMediaType);
    }
}
