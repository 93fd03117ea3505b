//! The text attributes by which events are found and told apart: source, type, subject and id.

/// How many characters (Unicode scalar values) an attribute may have: the width of the column it is stored in.
pub const ATTRIBUTE_CHARS_MAX: usize = 255;

/// Why a text cannot be an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAttribute {
    /// The text is empty where something must stand.
    #[error("must not be empty")]
    Empty,
    /// The text has more than [`ATTRIBUTE_CHARS_MAX`] characters.
    #[error("must have at most {ATTRIBUTE_CHARS_MAX} characters")]
    TooLong,
    /// The text has a character that `CloudEvents` forbids in strings.
    #[error("must not contain control characters or Unicode noncharacters")]
    ForbiddenCharacter,
    /// The text is not a media type.
    #[error("must be a media type (RFC 2046), such as application/json")]
    NoMediaType,
    /// The text has no scheme.
    #[error("must be an absolute URI (RFC 3986), such as https://example.com/schema")]
    NoUri,
    /// The text has what no URI reference has.
    #[error("must be a URI-reference (RFC 3986), in which {character:?} cannot stand here: escape it with %")]
    NoUriReference {
        /// The first character that cannot stand where it does.
        character: char,
    },
}

/// A text of an attribute, checked once by its constructor.
macro_rules! attribute {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes what the store holds, which may be older than our rules.
            #[must_use]
            pub fn from_stored(text: String) -> Self {
                Self(text)
            }

            /// The attribute as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The attribute as the text it was made of.
            #[must_use]
            pub fn into_string(self) -> String {
                self.0
            }
        }
    };
}

pub(in crate::domain) use attribute;

/// The constructor of an attribute that is never empty.
macro_rules! never_empty {
    ($name:ident) => {
        impl $name {
            /// Takes `text` as this attribute.
            ///
            /// # Errors
            /// Empty, longer than [`ATTRIBUTE_CHARS_MAX`] characters, or with a forbidden character.
            pub fn new(text: String) -> Result<Self, InvalidAttribute> {
                check_not_empty(&text)?;
                check(&text)?;
                Ok(Self(text))
            }
        }
    };
}

attribute! {
    /// The context in which an event happened.
    EventSource
}
never_empty!(EventSource);

attribute! {
    /// What kind of event it is.
    EventType
}
never_empty!(EventType);

attribute! {
    /// The `id` that the producer chose: together with the source it names the event.
    EventId
}
never_empty!(EventId);

attribute! {
    /// The path an event belongs to; compared by bytes. Empty when the event came without one.
    Subject
}

impl Default for Subject {
    /// That of an event that came without.
    fn default() -> Self {
        Self(String::new())
    }
}

impl Subject {
    /// Takes `text` as a subject. An empty one is legal: the event came without.
    ///
    /// # Errors
    /// Longer than [`ATTRIBUTE_CHARS_MAX`] characters, or with a forbidden character.
    pub fn new(text: String) -> Result<Self, InvalidAttribute> {
        check(&text)?;
        Ok(Self(text))
    }

    /// Takes `text` as a subject where one must be named.
    ///
    /// # Errors
    /// As [`Subject::new`], and when `text` is empty.
    pub fn named(text: String) -> Result<Self, InvalidAttribute> {
        check_not_empty(&text)?;
        Self::new(text)
    }
}

pub(in crate::domain) fn check_not_empty(text: &str) -> Result<(), InvalidAttribute> {
    if text.is_empty() { Err(InvalidAttribute::Empty) } else { Ok(()) }
}

/// Refuses what no log can hold as an attribute.
///
/// # Errors
/// [`InvalidAttribute::TooLong`].
pub fn check_length(text: &str) -> Result<(), InvalidAttribute> {
    if text.chars().nth(ATTRIBUTE_CHARS_MAX).is_some() { Err(InvalidAttribute::TooLong) } else { Ok(()) }
}

fn check(text: &str) -> Result<(), InvalidAttribute> {
    check_length(text)?;
    check_text(text)
}

/// Refuses what no string of a `CloudEvent` has.
pub(in crate::domain) fn check_text(text: &str) -> Result<(), InvalidAttribute> {
    if text.chars().any(is_forbidden) { Err(InvalidAttribute::ForbiddenCharacter) } else { Ok(()) }
}

/// Source: `CloudEvents` 1.0.2, "Type System", String: control characters and noncharacters are disallowed.
fn is_forbidden(character: char) -> bool {
    let code = u32::from(character);
    character.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters_not_bytes() {
        assert!(Subject::new("ü".repeat(ATTRIBUTE_CHARS_MAX)).is_ok());
        assert_eq!(Subject::new("ü".repeat(ATTRIBUTE_CHARS_MAX + 1)), Err(InvalidAttribute::TooLong));
    }

    #[test]
    fn control_characters_and_noncharacters_are_refused() {
        for text in ["a\nb", "\0", "\u{7f}", "\u{9f}", "\u{fdd0}", "\u{ffff}", "\u{1fffe}"] {
            assert_eq!(EventType::new(text.to_owned()), Err(InvalidAttribute::ForbiddenCharacter), "{text:?}");
        }
        for text in [" ", "\u{a0}", "\u{fdcf}", "\u{fdf0}", "\u{fffd}", "😀"] {
            assert!(EventType::new(text.to_owned()).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn only_a_subject_may_be_empty() {
        assert_eq!(EventSource::new(String::new()), Err(InvalidAttribute::Empty));
        assert_eq!(EventType::new(String::new()), Err(InvalidAttribute::Empty));
        assert_eq!(EventId::new(String::new()), Err(InvalidAttribute::Empty));
        assert_eq!(Subject::named(String::new()), Err(InvalidAttribute::Empty));
        assert!(Subject::new(String::new()).is_ok());
    }
}
