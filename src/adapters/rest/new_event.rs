//! Reads the body of `POST /events` into new events.
//!
//! The fields are taken apart by hand, so that a refusal names the field and never repeats the client's data.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::adapters::api_error::ApiError;
use crate::adapters::cloudevents::{JsonValue, decode_base64, json_text, parse_json, parse_json_array};
use crate::domain::attribute::{EventId, EventSource, EventType, InvalidAttribute, Subject};
use crate::domain::event::NewEvent;
use crate::domain::timestamp::Timestamp;

/// The fields that count; others are ignored.
const FIELDS: [&str; 6] = ["source", "type", "subject", "data", "time", "id"];

/// What a body holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NewEvents {
    One(NewEvent),
    /// To be stored together or not at all.
    Batch(Vec<NewEvent>),
}

/// Reads `body`: an object is an event, an array of objects a batch.
///
/// # Errors
/// `InvalidArgument` naming the field, in a batch with the index of its event.
/// `TooLarge` for more than `events_max` of them.
pub(super) fn parse(body: &[u8], events_max: usize) -> Result<NewEvents, ApiError> {
    let text = json_text(body)?;
    if text.trim_ascii_start().starts_with('[') {
        let batch: Vec<Fields<'_>> = parse_json_array(text, events_max)?;
        let events =
            batch.into_iter().enumerate().map(|(index, fields)| event(fields).map_err(|error| error.of_event(index)));
        return events.collect::<Result<_, _>>().map(NewEvents::Batch);
    }
    event(parse_json(text, "must be a JSON object")?).map(NewEvents::One)
}

fn event(fields: Fields<'_>) -> Result<NewEvent, ApiError> {
    if let Some(name) = fields.repeated {
        return Err(ApiError::invalid(name, "must not be given more than once"));
    }
    let [event_source, event_type, subject, data, time, id] = fields.values;
    Ok(NewEvent {
        id: read_id(id)?,
        event_source: attribute("source", event_source, EventSource::new)?,
        event_type: attribute("type", event_type, EventType::new)?,
        subject: attribute("subject", subject, Subject::named)?,
        data: decode_base64("data", &required("data", data)?)?,
        time: optional("time", time)?.map(|text| read_time(&text)).transpose()?,
        context: None,
    })
}

fn attribute<T>(
    name: &str,
    value: Option<JsonValue<'_>>,
    take: fn(String) -> Result<T, InvalidAttribute>,
) -> Result<T, ApiError> {
    take(required(name, value)?.into_owned()).map_err(|problem| ApiError::attribute(name, problem))
}

fn required<'a>(name: &str, value: Option<JsonValue<'a>>) -> Result<Cow<'a, str>, ApiError> {
    optional(name, value)?.ok_or_else(|| ApiError::invalid(name, "is missing"))
}

/// Null is as good as absent.
fn optional<'a>(name: &str, value: Option<JsonValue<'a>>) -> Result<Option<Cow<'a, str>>, ApiError> {
    match value {
        Some(JsonValue::Text(text)) => Ok(Some(text)),
        Some(JsonValue::Boolean(_) | JsonValue::Integer(_) | JsonValue::Number | JsonValue::Other) => {
            Err(ApiError::invalid(name, "must be a string"))
        }
        Some(JsonValue::Null) | None => Ok(None),
    }
}

/// The producer's id is a text. Clients of the Go service that send back an event they read have a number there, its
/// position, which says nothing here.
fn read_id(value: Option<JsonValue<'_>>) -> Result<Option<EventId>, ApiError> {
    let text = match value {
        Some(JsonValue::Integer(_) | JsonValue::Number) => None,
        other => optional("id", other)?,
    };
    let id = text.map(|text| EventId::new(text.into_owned())).transpose();
    id.map_err(|problem| ApiError::attribute("id", problem))
}

fn read_time(text: &str) -> Result<Timestamp, ApiError> {
    Timestamp::parse(text).map_err(|problem| ApiError::invalid("time", problem))
}

/// The JSON object, its known fields in the order of [`FIELDS`].
#[derive(Default)]
struct Fields<'a> {
    values: [Option<JsonValue<'a>>; FIELDS.len()],
    repeated: Option<&'static str>,
}

struct FieldsVisitor;

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(JsonValue::Text(key)) = map.next_key()? {
            let Some(index) = FIELDS.iter().position(|field| *field == key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if fields.values[index].replace(map.next_value()?).is_some() {
                fields.repeated = Some(FIELDS[index]);
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;
    use crate::adapters::api_error::ApiErrorKind;

    fn one(events: NewEvents) -> NewEvent {
        match events {
            NewEvents::One(event) => event,
            NewEvents::Batch(events) => panic!("a batch: {events:?}"),
        }
    }

    fn detail(body: &str) -> String {
        parse(body.as_bytes(), 2).unwrap_err().detail
    }

    #[test]
    fn event_is_read_with_what_counts() {
        let body = r#"{"x":[{"y":1e999}],"source":"sh\u006fp","type":"t","subject":"s","data":"AP8=","time":null}"#;
        let event = one(parse(body.as_bytes(), 2).unwrap());
        assert_eq!(event.event_source.as_str(), "shop");
        assert_eq!(event.event_type.as_str(), "t");
        assert_eq!(event.subject.as_str(), "s");
        assert_eq!(event.data, &b"\x00\xff"[..]);
        assert_eq!(event.time, None);
    }

    #[test]
    fn refusal_names_the_field() {
        let whole = serde_json::json!({"source": "a", "type": "b", "subject": "c", "data": "", "time": null});
        for name in ["source", "type", "subject", "data", "time"] {
            for (value, problem) in [
                (Some(serde_json::json!(1)), "must be a string"),
                (Some(serde_json::json!(-1)), "must be a string"),
                (Some(serde_json::json!(1.5)), "must be a string"),
                (Some(serde_json::json!(true)), "must be a string"),
                (Some(serde_json::json!(["a", [1]])), "must be a string"),
                (Some(serde_json::json!({"a": {"b": 1}})), "must be a string"),
                (Some(serde_json::json!("\u{1}")), "must"),
                (Some(serde_json::json!(null)), "is missing"),
                (None, "is missing"),
            ] {
                let mut body = whole.clone();
                match value {
                    Some(value) => body[name] = value,
                    None => drop(body.as_object_mut().unwrap().remove(name)),
                }
                if name == "time" && problem == "is missing" {
                    assert!(parse(body.to_string().as_bytes(), 2).is_ok());
                } else {
                    assert!(detail(&body.to_string()).starts_with(&format!("{name} {problem}")), "{body}");
                }
            }
        }
    }

    #[test]
    fn empty_attributes_are_refused() {
        assert_eq!(detail(r#"{"source":""}"#), "source must not be empty");
        assert_eq!(detail(r#"{"source":"a","type":""}"#), "type must not be empty");
        assert_eq!(detail(r#"{"source":"a","type":"b","subject":""}"#), "subject must not be empty");
    }

    #[test]
    fn id_is_a_text_or_says_nothing() {
        let whole = serde_json::json!({"source": "a", "type": "b", "subject": "c", "data": ""});
        let read = |id: serde_json::Value| {
            let mut body = whole.clone();
            body["id"] = id;
            parse(body.to_string().as_bytes(), 2).map(one).map(|event| event.id).map_err(|error| error.detail)
        };
        assert_eq!(read("x".into()), Ok(Some(EventId::from_stored("x".to_owned()))));
        for nothing in [serde_json::json!(null), serde_json::json!(7), serde_json::json!(-1), serde_json::json!(0.5)] {
            assert_eq!(read(nothing), Ok(None));
        }
        assert_eq!(read(true.into()), Err("id must be a string".to_owned()));
        assert_eq!(read("".into()), Err("id must not be empty".to_owned()));
        assert_eq!(read("x".repeat(256).into()), Err("id must have at most 255 characters".to_owned()));
    }

    #[test]
    fn array_is_a_batch_whose_wrong_event_is_named() {
        let event = |subject| serde_json::json!({"source": "a", "type": "b", "subject": subject, "data": ""});
        let batch = parse(serde_json::json!([event("x"), event("y")]).to_string().as_bytes(), 2).unwrap();
        let NewEvents::Batch(events) = batch else { panic!("{batch:?}") };
        assert_eq!(events.iter().map(|event| event.subject.as_str()).collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(parse(b" [ ] ", 2).unwrap(), NewEvents::Batch(vec![]));
        let three = serde_json::json!([event("x"), event("y"), event("z")]).to_string();
        let refused = parse(three.as_bytes(), 2).unwrap_err();
        assert_eq!(
            (refused.kind, refused.detail.as_str()),
            (ApiErrorKind::TooLarge, "the request has 3 events, at most 2 are allowed")
        );
        // Not one of them is looked at.
        assert_eq!(parse(b"[{},{},{}]", 2).unwrap_err().kind, ApiErrorKind::TooLarge);
        let wrong = serde_json::json!([event("x"), event("")]).to_string();
        assert_eq!(detail(&wrong), "[1].subject must not be empty");
        assert_eq!(detail("[1]"), "the body must be a JSON array of objects");
        assert_eq!(detail("[[]]"), "the body must be a JSON array of objects");
        assert!(detail("[{}").starts_with("the body must be JSON: "));
    }

    #[test]
    fn repeated_field_is_refused() {
        assert_eq!(detail(r#"{"data":"","source":"a","data":null}"#), "data must not be given more than once");
    }

    #[test]
    fn what_is_no_object_is_refused_without_an_echo() {
        for body in
            ["", "{", "{}x", "{\"a\"}", "nul", "{'a':1}", "\u{feff}{}", "{\"type\":\"\\ud800\"}", "{\"a\":\"\n\"}"]
        {
            assert!(detail(body).starts_with("the body must be JSON"), "{body}");
        }
        for body in ["null", "1", "\"secret\"", "true"] {
            assert_eq!(detail(body), "the body must be a JSON object");
        }
        assert_eq!(parse(b"{\"a\":\"\xff\"}", 2).unwrap_err().detail, "the body must be UTF-8");
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&body, 2);
        }

        #[test]
        fn data_comes_through(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let body = serde_json::json!({"source": "a", "type": "b", "subject": "c", "data": STANDARD.encode(&data)});
            prop_assert_eq!(one(parse(body.to_string().as_bytes(), 2).unwrap()).data, data);
        }
    }
}
