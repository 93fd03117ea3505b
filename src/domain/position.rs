//! The place of an event in the one global order.

use std::fmt;

/// An event's place in the one global order: a positive 64-bit integer, given at commit.
///
/// Where a place may also be "before the first event", it is an `Option<Position>`: `None` sorts below every position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(i64);

/// A number that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a position is a whole number from 1 to 9223372036854775807")]
pub struct InvalidPosition;

impl Position {
    /// The place of the first event of a log.
    pub const FIRST: Self = Self(1);

    /// Takes `value` as a position.
    ///
    /// # Errors
    /// [`InvalidPosition`] when `value` is zero or negative.
    pub const fn new(value: i64) -> Result<Self, InvalidPosition> {
        if value > 0 { Ok(Self(value)) } else { Err(InvalidPosition) }
    }

    /// The position as the integer that clients see.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The place just above, or `None` when there is none.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// The place just below, or `None` when this is the first one.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        Self::new(self.0 - 1).ok()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_is_positive() {
        assert_eq!(Position::new(0), Err(InvalidPosition));
        assert_eq!(Position::new(-1), Err(InvalidPosition));
        assert_eq!(Position::new(1), Ok(Position::FIRST));
        assert_eq!(Position::new(i64::MAX).map(Position::get), Ok(i64::MAX));
    }

    #[test]
    fn nothing_comes_before_the_first_position() {
        assert_eq!(Position::FIRST.previous(), None);
        assert!(None < Some(Position::FIRST));
    }
}
