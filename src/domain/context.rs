//! What a `CloudEvent` says beside the attributes that every event has.
//!
//! Source: `CloudEvents` 1.0.2, "Context Attributes".

mod extension;
mod syntax;

pub use extension::{ExtensionName, ExtensionValue, InvalidExtension};

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::domain::attribute::{InvalidAttribute, attribute, check_not_empty, check_text};
use crate::domain::timestamp::{InvalidTimestamp, Timestamp};

/// The extensions of an event, by name.
pub type Extensions = BTreeMap<ExtensionName, ExtensionValue>;

/// The part of a `CloudEvent` that an event of the plain interfaces does not have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context {
    /// How its producer wrote the time.
    pub time: GivenTime,
    /// What the data is.
    pub data_form: DataForm,
    /// The attribute `datacontenttype`.
    pub data_content_type: Option<MediaType>,
    /// The attribute `dataschema`.
    pub data_schema: Option<Uri>,
    /// The other attributes.
    pub extensions: Extensions,
}

/// The attribute `time` as its producer wrote it, where the log keeps UTC and microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GivenTime {
    /// The event came without.
    #[default]
    Absent,
    /// As the log writes it.
    AsKept,
    /// With an offset, finer digits, or digits that say nothing.
    Text(String),
}

/// What the data of an event is, as far as its form tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DataForm {
    /// There is none, which is not the same as empty data.
    #[default]
    Absent,
    /// Bytes.
    Binary,
    /// Text in UTF-8.
    Text,
    /// A JSON value in UTF-8, as its producer wrote it.
    Json,
    /// A protobuf message.
    Protobuf {
        /// Which message: the `type_url` of `google.protobuf.Any`.
        type_url: String,
    },
}

attribute! {
    /// A media type, such as `application/json; charset=utf-8`. Source: RFC 2046.
    MediaType
}

attribute! {
    /// An absolute URI. Source: RFC 3986; characters beyond ASCII are taken as RFC 3987 has them.
    Uri
}

/// The media type that JSON data without one has. Source: `CloudEvents` 1.0.2, `datacontenttype`.
pub const JSON_MEDIA_TYPE: &str = "application/json";

/// The media type of text that came without one, where nothing would tell it from JSON.
const TEXT_MEDIA_TYPE: &str = "text/plain";

/// The media type of a protobuf message that came without one.
const PROTOBUF_MEDIA_TYPE: &str = "application/protobuf";

impl Context {
    /// Bytes of what it holds.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let time = if let GivenTime::Text(text) = &self.time { text.len() } else { 0 };
        let type_url = if let DataForm::Protobuf { type_url } = &self.data_form { type_url.len() } else { 0 };
        let media_type = self.data_content_type.as_ref().map_or(0, |media_type| media_type.0.len());
        let schema = self.data_schema.as_ref().map_or(0, |schema| schema.0.len());
        let extensions = self.extensions.iter().map(|(name, value)| name.as_str().len() + value.size_bytes());
        time + type_url + media_type + schema + extensions.sum::<usize>()
    }

    /// The content type where one must be told: what one form implies is said in others.
    ///
    /// Source: `CloudEvents` 1.0.2, `datacontenttype`, on translating events to another format.
    #[must_use]
    pub fn told_content_type(&self) -> Option<&str> {
        match (&self.data_content_type, &self.data_form) {
            (Some(media_type), _) => Some(media_type.as_str()),
            (None, DataForm::Json) => Some(JSON_MEDIA_TYPE),
            (None, DataForm::Protobuf { .. }) => Some(PROTOBUF_MEDIA_TYPE),
            (None, DataForm::Text) => Some(TEXT_MEDIA_TYPE),
            (None, DataForm::Absent | DataForm::Binary) => None,
        }
    }

    /// Whether the data is declared to be JSON, by its type or for want of one.
    #[must_use]
    pub fn declares_json(&self) -> bool {
        self.data_content_type.as_ref().map_or(self.data_form == DataForm::Json, MediaType::is_json)
    }

    /// Whether `other` says the same of an event, in this form or another: what is typed in one is text in the other.
    #[must_use]
    pub fn says_what(&self, other: &Self) -> bool {
        self.told_content_type() == other.told_content_type()
            && self.data_schema == other.data_schema
            && self.extensions.len() == other.extensions.len()
            && self.extensions.iter().zip(&other.extensions).all(|((name, value), (other_name, other_value))| {
                name == other_name && value.to_text() == other_value.to_text()
            })
    }
}

impl GivenTime {
    /// Reads the attribute as an RFC 3339 text.
    ///
    /// # Errors
    /// As [`Timestamp::parse`].
    pub fn parse(text: &str) -> Result<(Timestamp, Self), InvalidTimestamp> {
        let time = Timestamp::parse(text)?;
        let given = if time.to_rfc3339() == text { Self::AsKept } else { Self::Text(text.to_owned()) };
        Ok((time, given))
    }

    /// The attribute of an event whose time is kept as `kept`; `None` when it came without.
    #[must_use]
    pub fn text(&self, kept: Timestamp) -> Option<Cow<'_, str>> {
        match self {
            Self::Absent => None,
            Self::AsKept => Some(kept.to_rfc3339().into()),
            Self::Text(text) => Some(text.as_str().into()),
        }
    }
}

impl MediaType {
    /// Takes `text` as a media type.
    ///
    /// # Errors
    /// Empty, or not `type/subtype` with parameters, in ASCII.
    pub fn new(text: String) -> Result<Self, InvalidAttribute> {
        check_not_empty(&text)?;
        if syntax::is_media_type(&text) { Ok(Self(text)) } else { Err(InvalidAttribute::NoMediaType) }
    }

    /// Whether it is `*/json` or `*/*+json`, in any case and with any parameters.
    #[must_use]
    pub fn is_json(&self) -> bool {
        let subtype = self.subtype();
        subtype.eq_ignore_ascii_case("json") || has_suffix(subtype, "+json")
    }

    /// Whether it is text by its name: `text/*` or XML, in UTF-8.
    #[must_use]
    pub fn is_text(&self) -> bool {
        let subtype = self.subtype();
        let is_text = self.0.get(..5).is_some_and(|head| head.eq_ignore_ascii_case("text/"))
            || subtype.eq_ignore_ascii_case("xml")
            || has_suffix(subtype, "+xml");
        let charset = syntax::charset(&self.0);
        is_text
            && charset.is_none_or(|charset| ["utf-8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name)))
    }

    fn subtype(&self) -> &str {
        let (essence, _) = self.0.split_once(';').unwrap_or((&self.0, ""));
        essence.split_once('/').map_or("", |(_, subtype)| subtype).trim_end()
    }
}

fn has_suffix(text: &str, suffix: &str) -> bool {
    let at = text.len().checked_sub(suffix.len());
    at.and_then(|at| text.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

impl Uri {
    /// Takes `text` as a URI.
    ///
    /// # Errors
    /// Empty, without a scheme, or with what no URI has.
    pub fn new(text: String) -> Result<Self, InvalidAttribute> {
        check_not_empty(&text)?;
        check_text(&text)?;
        if !syntax::has_scheme(&text) {
            return Err(InvalidAttribute::NoUri);
        }
        check_uri_reference(&text).map(|()| Self(text))
    }
}

/// Refuses what no URI reference has: white space, some punctuation, percent signs that escape nothing.
///
/// Source: RFC 3986, appendix A; characters beyond ASCII as in RFC 3987.
///
/// # Errors
/// [`InvalidAttribute::NoUriReference`] with the first character that cannot stand.
pub fn check_uri_reference(text: &str) -> Result<(), InvalidAttribute> {
    syntax::not_of_a_uri(text).map_or(Ok(()), |character| Err(InvalidAttribute::NoUriReference { character }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media_type(text: &str) -> MediaType {
        MediaType::new(text.to_owned()).expect("a media type")
    }

    #[test]
    fn json_is_told_by_the_subtype_whatever_its_case_and_parameters() {
        for text in ["application/json", "text/JSON", "application/vnd.api+Json; charset=utf-8", "a/json ;b=c"] {
            assert!(media_type(text).is_json(), "{text}");
        }
        for text in ["application/jsonp", "json/xml", "text/plain; a=json", "application/x-ndjson", "a/b;c=\"+json\""] {
            assert!(!media_type(text).is_json(), "{text}");
        }
    }

    #[test]
    fn text_is_told_by_the_name_and_must_be_utf_8() {
        for text in [
            "text/plain",
            "TEXT/csv; header=present",
            "application/xml",
            "image/svg+xml",
            "text/plain; charset=\"UTF-8\"",
        ] {
            assert!(media_type(text).is_text(), "{text}");
        }
        for text in ["application/octet-stream", "text/plain; charset=iso-8859-1", "application/json", "texts/plain"] {
            assert!(!media_type(text).is_text(), "{text}");
        }
    }

    #[test]
    fn time_is_kept_as_given_where_it_would_come_back_otherwise() {
        for (text, given) in [
            ("2024-05-01T12:00:00Z", GivenTime::AsKept),
            ("2024-05-01T12:00:00.5Z", GivenTime::AsKept),
            ("2024-05-01T12:00:00.500Z", GivenTime::Text("2024-05-01T12:00:00.500Z".to_owned())),
            ("2024-05-01T12:00:00.123456789+02:00", GivenTime::Text("2024-05-01T12:00:00.123456789+02:00".to_owned())),
        ] {
            let (time, found) = GivenTime::parse(text).unwrap();
            assert_eq!(found, given);
            assert_eq!(found.text(time).as_deref(), Some(text));
        }
        assert_eq!(GivenTime::Absent.text(Timestamp::now()), None);
        assert!(GivenTime::parse("noon").is_err());
    }

    #[test]
    fn schema_is_an_absolute_uri() {
        for text in ["https://example.com/schema#v1", "urn:x:y", "HTTP://[::1]/%C3%A9", "a+b-c.1:?q=é"] {
            assert!(Uri::new(text.to_owned()).is_ok(), "{text}");
        }
        for (text, problem) in [
            ("", InvalidAttribute::Empty),
            ("/schema", InvalidAttribute::NoUri),
            ("1a:b", InvalidAttribute::NoUri),
            ("a b:c", InvalidAttribute::NoUri),
            ("https://example.com/a b", InvalidAttribute::NoUriReference { character: ' ' }),
            ("https://example.com/%zz", InvalidAttribute::NoUriReference { character: '%' }),
            ("a:\n", InvalidAttribute::ForbiddenCharacter),
        ] {
            assert_eq!(Uri::new(text.to_owned()), Err(problem), "{text}");
        }
    }

    #[test]
    fn what_is_typed_in_one_form_says_the_same_as_text_in_another() {
        let name = |name: &str| ExtensionName::new(name.to_owned()).unwrap();
        let with = |value| Context { extensions: Extensions::from([(name("a"), value)]), ..Context::default() };
        let text = |text: &str| ExtensionValue::Text(text.to_owned());
        assert!(with(ExtensionValue::Integer(-5)).says_what(&with(text("-5"))));
        assert!(with(ExtensionValue::Boolean(true)).says_what(&with(text("true"))));
        assert!(!with(text("a")).says_what(&with(text("b"))));
        assert!(!with(text("a")).says_what(&Context::default()));
        let json = Context { data_form: DataForm::Json, ..Context::default() };
        let said = Context { data_content_type: Some(media_type(JSON_MEDIA_TYPE)), ..Context::default() };
        assert!(json.says_what(&said));
    }
}
