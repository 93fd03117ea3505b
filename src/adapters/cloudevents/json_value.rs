//! JSON as it comes in: what is wrong with a body, and a value as far as an attribute needs it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::adapters::api_error::ApiError;
use crate::domain::service::AppendEventsError;

/// A value of JSON. What no attribute can be is read past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonValue<'a> {
    /// `null`.
    Null,
    /// A string.
    Text(Cow<'a, str>),
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Number,
    /// An array or an object.
    Other,
}

/// The text of a body.
///
/// # Errors
/// `InvalidArgument` when it is not UTF-8.
pub fn json_text(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|_| ApiError::invalid("the body", "must be UTF-8"))
}

/// Reads a body of the shape that `shape` tells, such as `must be a JSON object`. What serde says about syntax repeats
/// nothing of the input; what it says about types might.
///
/// # Errors
/// `InvalidArgument` about the body.
pub fn parse_json<'a, T: Deserialize<'a>>(text: &'a str, shape: &str) -> Result<T, ApiError> {
    serde_json::from_str(text).map_err(|error| unread(&error, shape))
}

fn unread(error: &serde_json::Error, shape: &str) -> ApiError {
    if error.is_data() {
        ApiError::invalid("the body", shape)
    } else {
        ApiError::invalid("the body", format!("must be JSON: {error}"))
    }
}

/// The shape of a batch.
const ARRAY: &str = "must be a JSON array of objects";

/// Reads a body that is an array of objects, no more than `count_max` of them: a small body may have very many.
///
/// # Errors
/// `InvalidArgument` about the body; `TooLarge` for more.
pub fn parse_json_array<'a, T: Deserialize<'a>>(text: &'a str, count_max: usize) -> Result<Vec<T>, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = (&mut deserializer).deserialize_seq(UpTo { count_max, item: PhantomData });
    let (items, count) =
        read.and_then(|read| deserializer.end().map(|()| read)).map_err(|error| unread(&error, ARRAY))?;
    if count > count_max {
        return Err(AppendEventsError::TooManyEvents { events: count, events_max: count_max }.into());
    }
    Ok(items)
}

/// Takes up to so many items, and counts the others.
struct UpTo<T> {
    count_max: usize,
    item: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for UpTo<T> {
    type Value = (Vec<T>, usize);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.count_max {
            let Some(item) = sequence.next_element()? else { break };
            items.push(item);
        }
        let mut count = items.len();
        while sequence.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((items, count))
    }
}

struct ValueVisitor;

impl<'de> Deserialize<'de> for JsonValue<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = JsonValue<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(JsonValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(JsonValue::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(JsonValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(JsonValue::Boolean(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(JsonValue::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).map_or(JsonValue::Number, JsonValue::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(JsonValue::Number)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(JsonValue::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(JsonValue::Other)
    }
}
