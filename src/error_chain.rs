//! An error with what is below it, for one log line.

use std::error::Error;

/// The error and its causes, outermost first, joined by `: `.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(error.source(), |error| (*error).source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::event_repository::ReadError;

    #[test]
    fn every_level_is_told() {
        let error = ReadError::Unavailable(std::io::Error::other("connection refused").into());
        assert_eq!(error_chain(&error), "the event store is unavailable: connection refused");
    }
}
