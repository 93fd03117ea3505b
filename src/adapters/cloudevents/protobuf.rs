//! The protobuf event format.

use std::collections::HashMap;

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost::{DecodeError, Message};
use prost_types::{Any, Timestamp as WireTime};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::proto::cloud_event::cloud_event_attribute_value::Attr;
use super::proto::cloud_event::{CloudEventAttributeValue, Data};
use super::proto::{CloudEvent, CloudEventBatch};
use crate::adapters::api_error::ApiError;
use crate::adapters::cloudevents::attributes::{Attributes, POSITION, RECORDED_TIME, SPEC_VERSION, context_of, id_of};
use crate::adapters::cloudevents::own_bytes::own_bytes;
use crate::domain::context::{Context, DataForm, ExtensionValue, InvalidExtension, MediaType};
use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::service::AppendEventsError;

/// Nanoseconds of a second.
const SECOND: i128 = 1_000_000_000;

/// Reads an event that is a body of its own.
///
/// # Errors
/// `InvalidArgument` naming the attribute.
pub fn from_protobuf(body: Bytes) -> Result<NewEvent, ApiError> {
    from_message(CloudEvent::decode(body).map_err(|_| undecodable("CloudEvent"))?)
}

/// Reads a batch that is a body of its own.
///
/// # Errors
/// `InvalidArgument` naming the attribute, with the index of its event; `TooLarge` for more than `events_max` of them.
pub fn from_protobuf_batch(body: Bytes, events_max: usize) -> Result<Vec<NewEvent>, ApiError> {
    // Counted before they are made: an event that takes two bytes here takes hundreds in memory.
    let events = count_fields(body.clone()).map_err(|_| undecodable("CloudEventBatch"))?;
    if events > events_max {
        return Err(AppendEventsError::TooManyEvents { events, events_max }.into());
    }
    let batch = CloudEventBatch::decode(body).map_err(|_| undecodable("CloudEventBatch"))?;
    let events = batch.events.into_iter().enumerate();
    events.map(|(index, event)| from_message(event).map_err(|error| error.of_event(index))).collect()
}

/// How many fields a message has; the one of a batch repeats.
fn count_fields(mut body: Bytes) -> Result<usize, DecodeError> {
    let mut count = 0;
    while body.has_remaining() {
        let (tag, wire_type) = decode_key(&mut body)?;
        skip_field(wire_type, tag, &mut body, DecodeContext::default())?;
        count += 1;
    }
    Ok(count)
}

fn undecodable(message: &str) -> ApiError {
    ApiError::invalid("the body", format!("must be a protobuf message io.cloudevents.v1.{message}"))
}

/// Takes a message as an event. Attributes may come as any type whose text is theirs.
///
/// # Errors
/// `InvalidArgument` naming the attribute.
pub fn from_message(message: CloudEvent) -> Result<NewEvent, ApiError> {
    let mut attributes = Attributes::default();
    let required = [
        ("specversion", message.spec_version),
        ("id", message.id),
        ("source", message.source),
        ("type", message.r#type),
    ];
    for (name, text) in required {
        // A field that is not set is empty.
        if text.is_empty() {
            return Err(ApiError::invalid(name, "must not be empty"));
        }
        attributes.set_text(name, text)?;
    }
    for (name, CloudEventAttributeValue { attr }) in message.attributes {
        let attr = attr.ok_or_else(|| ApiError::invalid(&name, "has no value"))?;
        match name.as_str() {
            "specversion" | "id" | "source" | "type" => {
                return Err(ApiError::invalid(&name, "is a field of its own and not among the attributes"));
            }
            "subject" | "time" | "datacontenttype" | "dataschema" => {
                let value = extension(attr).map_err(|problem| ApiError::invalid(&name, problem))?;
                attributes.set_text(&name, value.to_text().into_owned())?;
            }
            _ => attributes.set_extension(&name, extension(attr))?,
        }
    }
    let (data, form) = match message.data {
        None => (Bytes::new(), DataForm::Absent),
        Some(Data::BinaryData(data)) => (own_bytes(data), DataForm::Binary),
        Some(Data::TextData(text)) => (text.into(), DataForm::Text),
        Some(Data::ProtoData(Any { type_url, value })) => (value.into(), DataForm::Protobuf { type_url }),
    };
    attributes.event(data, form)
}

fn extension(attr: Attr) -> Result<ExtensionValue, InvalidExtension> {
    match attr {
        Attr::CeBoolean(value) => Ok(ExtensionValue::Boolean(value)),
        Attr::CeInteger(number) => Ok(ExtensionValue::Integer(number)),
        Attr::CeString(text) => ExtensionValue::text(text),
        Attr::CeBytes(bytes) => Ok(ExtensionValue::Binary(bytes)),
        Attr::CeUri(text) => ExtensionValue::uri(text),
        Attr::CeUriRef(text) => ExtensionValue::uri_reference(text),
        Attr::CeTimestamp(time) => {
            let text = time_text(time).ok_or(InvalidExtension::Value("a time of the years 1 to 9999"))?;
            ExtensionValue::time(text)
        }
    }
}

/// The message of `event`.
#[must_use]
pub fn to_message(event: &StoredEvent) -> CloudEvent {
    let context = context_of(event);
    let string = |text: &str| Attr::CeString(text.to_owned());
    let mut attributes: Vec<(&str, Attr)> = Vec::with_capacity(context.extensions.len() + 6);
    if !event.subject.as_str().is_empty() {
        attributes.push(("subject", string(event.subject.as_str())));
    }
    if let Some(time) = event.given_time() {
        attributes.push(("time", time_attr(&time)));
    }
    let media_type = match context.data_form {
        // The field says that it is text.
        DataForm::Text => context.data_content_type.as_ref().map(MediaType::as_str),
        _ => context.told_content_type(),
    };
    if let Some(media_type) = media_type {
        attributes.push(("datacontenttype", string(media_type)));
    }
    if let Some(schema) = &context.data_schema {
        attributes.push(("dataschema", Attr::CeUri(schema.as_str().to_owned())));
    }
    for (name, value) in &context.extensions {
        let attr = match value {
            ExtensionValue::Boolean(value) => Attr::CeBoolean(*value),
            ExtensionValue::Integer(number) => Attr::CeInteger(*number),
            ExtensionValue::Text(text) => string(text),
            ExtensionValue::Binary(bytes) => Attr::CeBytes(bytes.clone()),
            ExtensionValue::Uri(text) => Attr::CeUri(text.clone()),
            ExtensionValue::UriReference(text) => Attr::CeUriRef(text.clone()),
            ExtensionValue::Time(text) => time_attr(text),
        };
        attributes.push((name.as_str(), attr));
    }
    let position = event.position.to_string();
    attributes.push((POSITION, string(&position)));
    if let Some(recorded) = event.recorded_time {
        attributes.push((RECORDED_TIME, time_attr(&recorded.to_rfc3339())));
    }
    let named =
        attributes.into_iter().map(|(name, attr)| (name.to_owned(), CloudEventAttributeValue { attr: Some(attr) }));
    CloudEvent {
        id: id_of(event).into_owned(),
        source: event.event_source.as_str().to_owned(),
        spec_version: SPEC_VERSION.to_owned(),
        r#type: event.event_type.as_str().to_owned(),
        attributes: named.collect::<HashMap<_, _>>(),
        data: data(event, context),
    }
}

/// Text goes out as text, as far as it is UTF-8.
fn data(event: &StoredEvent, context: &Context) -> Option<Data> {
    let bytes = || event.data.clone();
    match &context.data_form {
        DataForm::Absent => None,
        DataForm::Binary => Some(Data::BinaryData(bytes())),
        DataForm::Text | DataForm::Json => Some(match String::from_utf8(event.data.to_vec()) {
            Ok(text) => Data::TextData(text),
            Err(_) => Data::BinaryData(bytes()),
        }),
        DataForm::Protobuf { type_url } => {
            Some(Data::ProtoData(Any { type_url: type_url.clone(), value: event.data.to_vec() }))
        }
    }
}

/// A time that the message can hold, or else its text.
fn time_attr(text: &str) -> Attr {
    let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) else { return Attr::CeString(text.to_owned()) };
    let nanos = i32::try_from(time.nanosecond()).unwrap_or(0);
    Attr::CeTimestamp(WireTime { seconds: time.unix_timestamp(), nanos })
}

/// Source: `google.protobuf.Timestamp`: nanoseconds are from 0 to 999,999,999, whatever the sign of the seconds.
fn time_text(WireTime { seconds, nanos }: WireTime) -> Option<String> {
    let nanos = i128::from(nanos);
    if !(0..SECOND).contains(&nanos) {
        return None;
    }
    let time =
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(seconds) * SECOND + nanos).ok()?.to_offset(UtcOffset::UTC);
    if (1..=9999).contains(&time.year()) { time.format(&Rfc3339).ok() } else { None }
}
