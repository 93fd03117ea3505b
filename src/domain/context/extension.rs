//! Extension attributes and their types.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::domain::attribute::{attribute, check_text};
use crate::domain::context::check_uri_reference;
use crate::domain::context::syntax::has_scheme;
use crate::domain::timestamp::Timestamp;

/// Characters of a name at the most. The specification advises 20 and sets no limit.
const NAME_CHARS_MAX: usize = 255;

/// Names that mean something else. Source: `CloudEvents` 1.0.2, "Required Attributes", "Optional Attributes", and the
/// members of the JSON format.
const TAKEN: [&str; 9] =
    ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data"];

/// Why something cannot be an extension.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExtension {
    /// The name has other characters than the specification allows, or none.
    #[error("is not a name of an attribute: those have lower-case letters and digits of ASCII only")]
    Name,
    /// The name is longer than 255 characters.
    #[error("is too long for the name of an attribute: at most {NAME_CHARS_MAX} characters")]
    LongName,
    /// The name is that of something that is no extension.
    #[error("cannot be the name of an extension")]
    TakenName,
    /// The value has a character that `CloudEvents` forbids in strings.
    #[error("must not contain control characters or Unicode noncharacters")]
    ForbiddenCharacter,
    /// The value is not of the type it says it has.
    #[error("must be {0}")]
    Value(&'static str),
}

attribute! {
    /// The name of an extension: `a` to `z` and digits. Source: `CloudEvents` 1.0.2, "Naming Conventions".
    ExtensionName
}

impl ExtensionName {
    /// Takes `name`.
    ///
    /// # Errors
    /// As the variants of [`InvalidExtension`] that speak of names.
    pub fn new(name: String) -> Result<Self, InvalidExtension> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(InvalidExtension::Name);
        }
        if name.len() > NAME_CHARS_MAX {
            return Err(InvalidExtension::LongName);
        }
        if TAKEN.contains(&name.as_str()) {
            return Err(InvalidExtension::TakenName);
        }
        Ok(Self(name))
    }
}

/// The value of an extension, of the type that its form told. Source: `CloudEvents` 1.0.2, "Type System".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtensionValue {
    /// Boolean.
    Boolean(bool),
    /// Integer.
    Integer(i32),
    /// String; also what a form without types has for everything else.
    Text(String),
    /// Binary.
    Binary(Bytes),
    /// URI.
    Uri(String),
    /// URI-reference.
    UriReference(String),
    /// Timestamp, as RFC 3339 has it.
    Time(String),
}

impl ExtensionValue {
    /// Takes a string, empty or not.
    ///
    /// # Errors
    /// [`InvalidExtension::ForbiddenCharacter`].
    pub fn text(text: String) -> Result<Self, InvalidExtension> {
        check_text(&text).map_err(|_| InvalidExtension::ForbiddenCharacter)?;
        Ok(Self::Text(text))
    }

    /// Takes a URI.
    ///
    /// # Errors
    /// [`InvalidExtension::Value`] when it is none.
    pub fn uri(text: String) -> Result<Self, InvalidExtension> {
        let is_uri = has_scheme(&text) && check_uri_reference(&text).is_ok() && check_text(&text).is_ok();
        if is_uri { Ok(Self::Uri(text)) } else { Err(InvalidExtension::Value("a URI (RFC 3986)")) }
    }

    /// Takes a URI-reference.
    ///
    /// # Errors
    /// [`InvalidExtension::Value`] when it is none.
    pub fn uri_reference(text: String) -> Result<Self, InvalidExtension> {
        let is_reference = check_uri_reference(&text).is_ok() && check_text(&text).is_ok();
        if is_reference {
            Ok(Self::UriReference(text))
        } else {
            Err(InvalidExtension::Value("a URI-reference (RFC 3986)"))
        }
    }

    /// Takes a time.
    ///
    /// # Errors
    /// [`InvalidExtension::Value`] when it is none.
    pub fn time(text: String) -> Result<Self, InvalidExtension> {
        match Timestamp::parse(&text) {
            Ok(_) => Ok(Self::Time(text)),
            Err(_) => Err(InvalidExtension::Value("an RFC 3339 time")),
        }
    }

    /// The value as text, which every type has. Source: `CloudEvents` 1.0.2, "Type System".
    #[must_use]
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Boolean(true) => "true".into(),
            Self::Boolean(false) => "false".into(),
            Self::Integer(number) => number.to_string().into(),
            Self::Text(text) | Self::Uri(text) | Self::UriReference(text) | Self::Time(text) => text.into(),
            Self::Binary(bytes) => STANDARD.encode(bytes).into(),
        }
    }

    /// Bytes of the value.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Boolean(_) => 1,
            Self::Integer(_) => 4,
            Self::Text(text) | Self::Uri(text) | Self::UriReference(text) | Self::Time(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_lower_case_letters_and_digits() {
        for name in ["a", "0", "traceparent", &"x".repeat(NAME_CHARS_MAX)] {
            assert!(ExtensionName::new(name.to_owned()).is_ok(), "{name}");
        }
        for (name, problem) in [
            ("", InvalidExtension::Name),
            ("A", InvalidExtension::Name),
            ("a-b", InvalidExtension::Name),
            ("a_b", InvalidExtension::Name),
            ("é", InvalidExtension::Name),
            ("data", InvalidExtension::TakenName),
            ("datacontenttype", InvalidExtension::TakenName),
            (&"x".repeat(NAME_CHARS_MAX + 1), InvalidExtension::LongName),
        ] {
            assert_eq!(ExtensionName::new(name.to_owned()), Err(problem), "{name}");
        }
    }

    #[test]
    fn values_are_of_their_type() {
        assert!(ExtensionValue::text(String::new()).is_ok());
        assert_eq!(ExtensionValue::text("a\tb".to_owned()), Err(InvalidExtension::ForbiddenCharacter));
        assert!(ExtensionValue::uri("urn:a".to_owned()).is_ok());
        assert!(ExtensionValue::uri("/a".to_owned()).is_err());
        assert!(ExtensionValue::uri_reference("/a".to_owned()).is_ok());
        assert!(ExtensionValue::uri_reference("a b".to_owned()).is_err());
        assert!(ExtensionValue::time("2024-05-01T12:00:00+01:00".to_owned()).is_ok());
        assert!(ExtensionValue::time("noon".to_owned()).is_err());
    }
}
