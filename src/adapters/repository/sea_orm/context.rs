//! The context of an event as a column: a protobuf message, which is short and can grow.

use bytes::Bytes;
use prost::Message;
use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::row::undecodable;
use crate::domain::context::{Context, DataForm, ExtensionName, ExtensionValue, GivenTime, MediaType, Uri};

/// What is written now. A column is never empty, since it says so.
const VERSION: u32 = 1;

/// The column.
#[derive(Clone, PartialEq, Message)]
struct Column {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(enumeration = "Form", tag = "2")]
    form: i32,
    #[prost(string, optional, tag = "3")]
    type_url: Option<String>,
    #[prost(bool, tag = "4")]
    has_time: bool,
    /// Where it is not what the column `time` makes of it.
    #[prost(string, optional, tag = "5")]
    time: Option<String>,
    #[prost(string, optional, tag = "6")]
    data_content_type: Option<String>,
    #[prost(string, optional, tag = "7")]
    data_schema: Option<String>,
    #[prost(message, repeated, tag = "8")]
    extensions: Vec<Extension>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum Form {
    Absent = 0,
    Binary = 1,
    Text = 2,
    Json = 3,
    Protobuf = 4,
}

#[derive(Clone, PartialEq, Message)]
struct Extension {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(oneof = "Value", tags = "2, 3, 4, 5, 6, 7, 8")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(bool, tag = "2")]
    Boolean(bool),
    #[prost(sint32, tag = "3")]
    Integer(i32),
    #[prost(string, tag = "4")]
    Text(String),
    #[prost(bytes = "bytes", tag = "5")]
    Binary(Bytes),
    #[prost(string, tag = "6")]
    Uri(String),
    #[prost(string, tag = "7")]
    UriReference(String),
    #[prost(string, tag = "8")]
    Time(String),
}

/// What the column holds for `context`.
pub(super) fn encode(context: &Context) -> Vec<u8> {
    let (form, type_url) = match &context.data_form {
        DataForm::Absent => (Form::Absent, None),
        DataForm::Binary => (Form::Binary, None),
        DataForm::Text => (Form::Text, None),
        DataForm::Json => (Form::Json, None),
        DataForm::Protobuf { type_url } => (Form::Protobuf, Some(type_url.clone())),
    };
    let (has_time, time) = match &context.time {
        GivenTime::Absent => (false, None),
        GivenTime::AsKept => (true, None),
        GivenTime::Text(text) => (true, Some(text.clone())),
    };
    let extensions = context.extensions.iter();
    let column = Column {
        version: VERSION,
        form: form.into(),
        type_url,
        has_time,
        time,
        data_content_type: context.data_content_type.as_ref().map(|media_type| media_type.as_str().to_owned()),
        data_schema: context.data_schema.as_ref().map(|schema| schema.as_str().to_owned()),
        extensions: extensions
            .map(|(name, value)| Extension { name: name.as_str().to_owned(), value: Some(value.into()) })
            .collect(),
    };
    column.encode_to_vec()
}

/// What the column says.
pub(super) fn decode(column: &[u8]) -> Result<Box<Context>, Error> {
    let column = Column::decode(column).map_err(undecodable)?;
    if column.version != VERSION {
        return Err(undecodable(format!("version {} of the column context is not known", column.version)));
    }
    let data_form = match Form::try_from(column.form).map_err(undecodable)? {
        Form::Absent => DataForm::Absent,
        Form::Binary => DataForm::Binary,
        Form::Text => DataForm::Text,
        Form::Json => DataForm::Json,
        Form::Protobuf => DataForm::Protobuf { type_url: column.type_url.unwrap_or_default() },
    };
    let time = match (column.has_time, column.time) {
        (false, _) => GivenTime::Absent,
        (true, None) => GivenTime::AsKept,
        (true, Some(text)) => GivenTime::Text(text),
    };
    let extension = |Extension { name, value }| {
        let value = value.ok_or_else(|| undecodable("an extension has no value that is known"))?;
        Ok((ExtensionName::from_stored(name), value.into()))
    };
    Ok(Box::new(Context {
        time,
        data_form,
        data_content_type: column.data_content_type.map(MediaType::from_stored),
        data_schema: column.data_schema.map(Uri::from_stored),
        extensions: column.extensions.into_iter().map(extension).collect::<Result<_, Error>>()?,
    }))
}

impl From<&ExtensionValue> for Value {
    fn from(value: &ExtensionValue) -> Self {
        match value {
            ExtensionValue::Boolean(value) => Self::Boolean(*value),
            ExtensionValue::Integer(number) => Self::Integer(*number),
            ExtensionValue::Text(text) => Self::Text(text.clone()),
            ExtensionValue::Binary(bytes) => Self::Binary(bytes.clone()),
            ExtensionValue::Uri(text) => Self::Uri(text.clone()),
            ExtensionValue::UriReference(text) => Self::UriReference(text.clone()),
            ExtensionValue::Time(text) => Self::Time(text.clone()),
        }
    }
}

impl From<Value> for ExtensionValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Boolean(value) => Self::Boolean(value),
            Value::Integer(number) => Self::Integer(number),
            Value::Text(text) => Self::Text(text),
            Value::Binary(bytes) => Self::Binary(bytes),
            Value::Uri(text) => Self::Uri(text),
            Value::UriReference(text) => Self::UriReference(text),
            Value::Time(text) => Self::Time(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_context_is_a_byte_or_two() {
        assert_eq!(encode(&Context::default()), [8, 1]);
        assert_eq!(*decode(&[8, 1]).unwrap(), Context::default());
    }

    #[test]
    fn what_a_later_version_wrote_is_not_guessed_at() {
        for column in [&[8, 2][..], &[], &[8, 1, 16, 9], &[8, 1, 66, 0], &[0xff]] {
            assert!(decode(column).is_err(), "{column:?}");
        }
    }
}
