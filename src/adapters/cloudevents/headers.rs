//! The binary content mode of the HTTP protocol binding: attributes in headers, data in the body.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::adapters::api_error::ApiError;
use crate::adapters::cloudevents::attributes::{Attributes, POSITION, RECORDED_TIME, SPEC_VERSION, context_of, id_of};
use crate::adapters::cloudevents::json::is_json;
use crate::adapters::cloudevents::own_bytes::own_bytes;
use crate::domain::context::{DataForm, MediaType};
use crate::domain::event::{NewEvent, StoredEvent};

/// What the names of attributes begin with.
const PREFIX: &str = "ce-";

const UPPER_HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Whether a request without a media type of `CloudEvents` carries an event in binary mode.
#[must_use]
pub fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

/// Reads an event in binary mode.
///
/// # Errors
/// `InvalidArgument` naming the header.
pub fn from_headers(headers: &HeaderMap, body: Bytes) -> Result<NewEvent, ApiError> {
    let mut attributes = Attributes::default();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix(PREFIX) else { continue };
        // Source: HTTP protocol binding 1.0.2, section 3.1.1: the content type is a header of HTTP's own.
        if name == "datacontenttype" {
            return Err(ApiError::invalid(header.as_str(), "is not allowed, the header content-type says it"));
        }
        let text = decode(value.as_bytes()).ok_or_else(|| ApiError::invalid(header.as_str(), "must be UTF-8"))?;
        attributes.set_text(name, text).map_err(|error| error.within(PREFIX))?;
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter().filter(|value| !value.is_empty());
    if let Some(value) = types.next() {
        let text = value.to_str().map_err(|_| ApiError::invalid("content-type", "must be ASCII"))?;
        let media_type = MediaType::new(text.to_owned());
        attributes.data_content_type =
            Some(media_type.map_err(|problem| ApiError::attribute("content-type", problem))?);
    }
    if types.next().is_some() {
        return Err(ApiError::invalid("content-type", "must not be given more than once"));
    }
    let form = form(&body, attributes.data_content_type.as_ref());
    attributes.event(own_bytes(body), form)
}

/// What the data is: a body of its own says nothing but bytes and a type. An empty one is none.
fn form(body: &[u8], media_type: Option<&MediaType>) -> DataForm {
    match media_type {
        _ if body.is_empty() => DataForm::Absent,
        Some(media_type) if media_type.is_json() && is_json(body) => DataForm::Json,
        Some(media_type) if media_type.is_text() && std::str::from_utf8(body).is_ok() => DataForm::Text,
        Some(_) | None => DataForm::Binary,
    }
}

/// Writes the attributes of `event` into `headers`; its data is the body.
pub fn write_headers(headers: &mut HeaderMap, event: &StoredEvent) {
    let context = context_of(event);
    let mut put = |name: &str, text: &str| {
        let name = HeaderName::try_from(format!("{PREFIX}{name}")).expect("names of attributes are header names");
        headers.insert(name, encode(text));
    };
    put("specversion", SPEC_VERSION);
    put("id", &id_of(event));
    put("source", event.event_source.as_str());
    put("type", event.event_type.as_str());
    if !event.subject.as_str().is_empty() {
        put("subject", event.subject.as_str());
    }
    if let Some(time) = event.given_time() {
        put("time", &time);
    }
    if let Some(schema) = &context.data_schema {
        put("dataschema", schema.as_str());
    }
    for (name, value) in &context.extensions {
        put(name.as_str(), &value.to_text());
    }
    put(POSITION, &event.position.to_string());
    if let Some(recorded) = event.recorded_time {
        put(RECORDED_TIME, &recorded.to_rfc3339());
    }
    let media_type = context.told_content_type().map(HeaderValue::try_from);
    if let Some(Ok(media_type)) = media_type {
        headers.insert(CONTENT_TYPE, media_type);
    }
}

/// Source: HTTP protocol binding 1.0.2, section 3.1.3.2: quotes are taken off first, then percent signs decoded, once. A
/// percent sign that escapes nothing stands for itself. `None` for what is not UTF-8 then.
fn decode(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii();
    let unquoted = unquote(value);
    let value = unquoted.as_deref().unwrap_or(value);
    let mut decoded = Vec::with_capacity(value.len());
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        let escaped = value.get(at + 1..at + 3).filter(|_| *byte == b'%').and_then(|digits| {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
        });
        decoded.push(escaped.unwrap_or(*byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).ok()
}

/// What stands in a quoted string; `None` when it is none. Source: RFC 7230, section 3.2.6.
fn unquote(value: &[u8]) -> Option<Vec<u8>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => text.push(*bytes.next()?),
            b'"' => return None,
            other => text.push(*other),
        }
    }
    Some(text)
}

/// Source: HTTP protocol binding 1.0.2, section 3.1.3.2: what is not visible ASCII, the double quote and the percent sign
/// are percent-encoded, byte by byte of UTF-8.
fn encode(text: &str) -> HeaderValue {
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            encoded.push(byte);
        } else {
            encoded.extend([b'%', UPPER_HEX[usize::from(byte >> 4)], UPPER_HEX[usize::from(byte & 15)]]);
        }
    }
    HeaderValue::from_maybe_shared(Bytes::from(encoded)).expect("visible ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Source: HTTP protocol binding 1.0.2, section 3.1.3.2, its examples, and what senders are known to do.
    #[test]
    fn values_are_decoded_once() {
        for (value, text) in [
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            ("%e2%82%ac", "€"),
            ("a%22b", "a\"b"),
            ("\"a b\"", "a b"),
            ("\"a \\\"b\\\" \\\\ %41\"", "a \"b\" \\ A"),
            ("\"", "\""),
            ("\"a\"b\"", "\"a\"b\""),
            ("\"a\\\"", "\"a\\\""),
            ("%2541", "%41"),
            ("%41%5a", "AZ"),
            ("100%", "100%"),
            ("%zz", "%zz"),
            ("%4", "%4"),
            ("%+4", "%+4"),
            (" x ", "x"),
            ("", ""),
            ("é", "é"),
        ] {
            assert_eq!(decode(value.as_bytes()).as_deref(), Some(text), "{value}");
        }
        // Overlong, cut short, half of a surrogate pair, a stray byte.
        for value in [&b"%C0%AF"[..], b"%E2%82", b"%ED%A0%80", b"\xff"] {
            assert_eq!(decode(value), None, "{value:?}");
        }
    }

    #[test]
    fn values_are_encoded_where_they_must_be() {
        for (text, value) in
            [("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"), ("a\"b%c\\", "a%22b%25c\\"), ("!~", "!~"), ("", "")]
        {
            assert_eq!(encode(text), value);
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_through(text in any::<String>()) {
            prop_assert_eq!(decode(encode(&text).as_bytes()), Some(text));
        }
    }
}
