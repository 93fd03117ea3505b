//! The JSON event format.
//!
//! Data that is JSON is taken and given as it is written, so that no digit of a number is lost on the way.

use std::fmt;
use std::io::Write;

use bytes::Bytes;
use memchr::memchr2;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::adapters::api_error::ApiError;
use crate::adapters::cloudevents::attributes::{
    Attributes, OWN_ID, OfLog, POSITION, RECORDED_TIME, SPEC_VERSION, context_of, id_of,
};
use crate::adapters::cloudevents::base64::{decode_base64, write_base64};
use crate::adapters::cloudevents::json_value::{JsonValue, json_text, parse_json, parse_json_array};
use crate::domain::context::{Context, DataForm, ExtensionValue, InvalidExtension, MediaType};
use crate::domain::event::{NewEvent, StoredEvent};

/// Bytes of names, punctuation, position and times around the attributes and the data.
const FRAME_BYTES: usize = 320;

/// Bytes of name and punctuation around an extension.
const EXTENSION_BYTES: usize = 8;

/// Reads a structured event.
///
/// # Errors
/// `InvalidArgument` naming the attribute.
pub fn from_json(body: &[u8]) -> Result<NewEvent, ApiError> {
    let members: Members<'_> = parse_json(json_text(body)?, "must be a JSON object")?;
    members.event()
}

/// Reads a batch.
///
/// # Errors
/// `InvalidArgument` naming the attribute, with the index of its event; `TooLarge` for more than `events_max` of them.
pub fn from_json_batch(body: &[u8], events_max: usize) -> Result<Vec<NewEvent>, ApiError> {
    let batch: Vec<Members<'_>> = parse_json_array(json_text(body)?, events_max)?;
    let events = batch.into_iter().enumerate();
    events.map(|(index, members)| members.event().map_err(|error| error.of_event(index))).collect()
}

/// The members of an event's object.
#[derive(Default)]
struct Members<'a> {
    attributes: Attributes,
    data: Option<&'a RawValue>,
    data_base64: Option<Bytes>,
    /// What is wrong with one of them; the first counts.
    problem: Option<ApiError>,
}

impl Members<'_> {
    fn event(self) -> Result<NewEvent, ApiError> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let (data, form) = match (self.data, self.data_base64) {
            (Some(_), Some(_)) => return Err(ApiError::invalid("data", "and data_base64 exclude each other")),
            (None, None) => (Bytes::new(), DataForm::Absent),
            (None, Some(bytes)) => (bytes, DataForm::Binary),
            (Some(json), None) => data(json, self.attributes.data_content_type.as_ref())?,
        };
        self.attributes.event(data, form)
    }

    fn take(&mut self, name: &str, value: JsonValue<'_>) -> Result<(), ApiError> {
        match value {
            // An attribute that is null is not set.
            JsonValue::Null => Ok(()),
            JsonValue::Text(text) if name == "data_base64" => {
                let is_new = self.data_base64.replace(decode_base64(name, &text)?).is_none();
                if is_new { Ok(()) } else { Err(ApiError::invalid(name, "must not be given more than once")) }
            }
            JsonValue::Text(text) => self.attributes.set_text(name, text.into_owned()),
            _ if is_text(name) => Err(ApiError::invalid(name, "must be a string")),
            JsonValue::Boolean(value) => self.attributes.set_extension(name, Ok(ExtensionValue::Boolean(value))),
            JsonValue::Integer(number) => self.attributes.set_extension(name, integer(number)),
            JsonValue::Number | JsonValue::Other => self.attributes.set_extension(name, Err(NO_VALUE)),
        }
    }
}

const NO_VALUE: InvalidExtension =
    InvalidExtension::Value("a string, a boolean or a whole number from -2147483648 to 2147483647");

/// Source: `CloudEvents` 1.0.2, "Type System", Integer: 32 bits.
fn integer(number: i64) -> Result<ExtensionValue, InvalidExtension> {
    i32::try_from(number).map(ExtensionValue::Integer).map_err(|_| NO_VALUE)
}

/// Whether the member `name` is always a string.
fn is_text(name: &str) -> bool {
    matches!(
        name,
        "specversion"
            | "id"
            | "source"
            | "type"
            | "subject"
            | "time"
            | "datacontenttype"
            | "dataschema"
            | "data_base64"
    )
}

/// Data in the member `data`: JSON, or text in a string where the type is another one. Source: JSON event format 1.0.2,
/// section 3.1.
fn data(json: &RawValue, media_type: Option<&MediaType>) -> Result<(Bytes, DataForm), ApiError> {
    let raw = json.get();
    if raw.starts_with('"') && media_type.is_some_and(|media_type| !media_type.is_json()) {
        let text: String = serde_json::from_str(raw)
            .map_err(|_| ApiError::invalid("data", "must be a string of Unicode characters"))?;
        return Ok((text.into(), DataForm::Text));
    }
    Ok((Bytes::copy_from_slice(raw.as_bytes()), DataForm::Json))
}

/// Reads members into those that it begins with.
struct MembersVisitor<'a>(Members<'a>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor(Members::default()))
    }
}

/// The members of an event's object in an archive.
pub(super) struct ArchivedMembers<'a>(Members<'a>);

impl<'de> Deserialize<'de> for ArchivedMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let begin = Members { attributes: Attributes::archived(), ..Members::default() };
        deserializer.deserialize_map(MembersVisitor(begin)).map(Self)
    }
}

impl ArchivedMembers<'_> {
    /// The event, and what its log knew of it.
    pub(super) fn event(mut self) -> Result<(NewEvent, OfLog), ApiError> {
        let log = self.0.attributes.take_log();
        Ok((self.0.event()?, log))
    }
}

impl<'de> Visitor<'de> for MembersVisitor<'de> {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = self.0;
        while let Some(JsonValue::Text(name)) = map.next_key()? {
            if members.problem.is_some() {
                map.next_value::<IgnoredAny>()?;
            } else if name == "data" {
                if members.data.replace(map.next_value()?).is_some() {
                    members.problem = Some(ApiError::invalid("data", "must not be given more than once"));
                }
            } else {
                members.problem = members.take(&name, map.next_value()?).err();
            }
        }
        Ok(members)
    }
}

/// About how many bytes [`write_json`] writes: exact but for escapes.
#[must_use]
pub fn json_bytes(event: &StoredEvent) -> usize {
    let extensions = event.context.as_ref().map_or(0, |context| context.extensions.len());
    event.size_bytes() + event.data.len() / 3 + extensions * EXTENSION_BYTES + FRAME_BYTES
}

/// Appends `event` to `out` as a structured event, on one line.
pub fn write_json(out: &mut Vec<u8>, event: &StoredEvent) {
    write_event(out, event, false);
}

/// The same for an archive. Where the line would not keep every byte of the data, they go out in Base64.
pub(super) fn write_archived_json(out: &mut Vec<u8>, event: &StoredEvent) {
    write_event(out, event, true);
}

fn write_event(out: &mut Vec<u8>, event: &StoredEvent, is_archived: bool) {
    let context = context_of(event);
    let is_padded = || event.data.trim_ascii().len() < event.data.len();
    let keeps_bytes = is_archived && (is_padded() || memchr2(b'\n', b'\r', &event.data).is_some());
    out.extend_from_slice(b"{\"specversion\":\"");
    out.extend_from_slice(SPEC_VERSION.as_bytes());
    out.push(b'"');
    write_member(out, "id", &id_of(event));
    write_member(out, "source", event.event_source.as_str());
    write_member(out, "type", event.event_type.as_str());
    if !event.subject.as_str().is_empty() {
        write_member(out, "subject", event.subject.as_str());
    }
    if let Some(time) = event.given_time() {
        write_member(out, "time", &time);
    }
    let media_type = if keeps_bytes { context.told_content_type() } else { media_type(context) };
    if let Some(media_type) = media_type {
        write_member(out, "datacontenttype", media_type);
    }
    if let Some(schema) = &context.data_schema {
        write_member(out, "dataschema", schema.as_str());
    }
    for (name, value) in &context.extensions {
        match value {
            ExtensionValue::Boolean(_) | ExtensionValue::Integer(_) => {
                write_to(out, format_args!(",\"{}\":{}", name.as_str(), value.to_text()));
            }
            _ => write_member(out, name.as_str(), &value.to_text()),
        }
    }
    write_to(out, format_args!(",\"{POSITION}\":\"{}\"", event.position));
    if let Some(recorded) = event.recorded_time {
        write_member(out, RECORDED_TIME, &recorded.to_rfc3339());
    }
    if is_archived && event.id.as_ref().is_some_and(|id| id.as_str() == event.position.to_string()) {
        write_to(out, format_args!(",\"{OWN_ID}\":true"));
    }
    if keeps_bytes && context.declares_json() {
        write_binary(out, &event.data);
    } else {
        write_data(out, event, context);
    }
    out.push(b'}');
}

/// JSON needs no word for data that is JSON.
fn media_type(context: &Context) -> Option<&str> {
    match context.data_form {
        DataForm::Json => context.data_content_type.as_ref().map(MediaType::as_str),
        _ => context.told_content_type(),
    }
}

/// Appends `text` to `out` as a JSON string.
pub fn write_json_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a text is always JSON, and memory takes it");
}

/// Appends `value`, whose display never fails by itself, to `out`.
pub fn write_to(out: &mut Vec<u8>, value: impl fmt::Display) {
    // Nor does writing to a vector. Source: std, `impl Write for Vec<u8>`.
    write!(out, "{value}").expect("neither the display nor memory fails");
}

fn write_member(out: &mut Vec<u8>, name: &str, text: &str) {
    write_to(out, format_args!(",\"{name}\":"));
    write_json_text(out, text);
}

/// Data declared to be JSON goes out as JSON if it is. Source: JSON event format 1.0.2, section 3.1.1.
fn write_data(out: &mut Vec<u8>, event: &StoredEvent, context: &Context) {
    let data = &event.data;
    match &context.data_form {
        DataForm::Absent => {}
        DataForm::Json => write_raw(out, data),
        DataForm::Binary | DataForm::Text if context.declares_json() && is_json(data) => write_raw(out, data),
        form => {
            let is_text = *form == DataForm::Text && !context.declares_json();
            if let Some(text) = std::str::from_utf8(data).ok().filter(|_| is_text) {
                write_member(out, "data", text);
            } else {
                write_binary(out, data);
            }
        }
    }
}

fn write_binary(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(b",\"data_base64\":\"");
    write_base64(out, data);
    out.push(b'"');
}

/// Whether `data` is JSON in UTF-8.
pub(super) fn is_json(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok_and(|text| serde_json::from_str::<&RawValue>(text).is_ok())
}

/// Writes JSON on one line: a line break in it is white space, since strings have none.
fn write_raw(out: &mut Vec<u8>, json: &[u8]) {
    out.extend_from_slice(b",\"data\":");
    let mut rest = json;
    while let Some(at) = memchr2(b'\n', b'\r', rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(b' ');
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}
