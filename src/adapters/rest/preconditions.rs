//! Reads `If-Match` and `If-None-Match` of `POST /events`: what must hold for the subject of its events.
//!
//! Source: RFC 9110, section 13.1. A subject's entity tag is the position of its last event.

use http::HeaderMap;
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};

use crate::adapters::api_error::ApiError;
use crate::domain::append::Precondition;
use crate::domain::attribute::Subject;
use crate::domain::event::NewEvent;
use crate::domain::position::Position;

/// The preconditions for `events`, which must then be of one subject.
pub(super) fn preconditions(headers: &HeaderMap, events: &[NewEvent]) -> Result<Vec<Precondition>, ApiError> {
    let matching = single(headers, &IF_MATCH, "If-Match")?;
    let none_matching = single(headers, &IF_NONE_MATCH, "If-None-Match")?;
    let (name, last) = match (matching, none_matching) {
        (None, None) => return Ok(Vec::new()),
        (Some(_), Some(_)) => return Err(ApiError::invalid("If-Match", "and If-None-Match exclude each other")),
        (Some(tag), None) => ("If-Match", Some(position(tag)?)),
        (None, Some("*")) => ("If-None-Match", None),
        (None, Some(_)) => return Err(ApiError::invalid("If-None-Match", "must be *: the subject has no events")),
    };
    let subject =
        one_subject(events).ok_or_else(|| ApiError::invalid(name, "needs events of one and the same subject"))?;
    Ok(vec![Precondition { subject: subject.clone(), last }])
}

fn single<'a>(headers: &'a HeaderMap, header: &HeaderName, name: &str) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(header).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::invalid(name, "must not be given more than once"));
    }
    Ok(Some(value.to_str().unwrap_or("not ASCII").trim()))
}

fn position(tag: &str) -> Result<Position, ApiError> {
    let digits = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let position = digits.and_then(|digits| digits.parse().ok()).and_then(|value| Position::new(value).ok());
    position.ok_or_else(|| {
        ApiError::invalid("If-Match", "must be the position of the subject's last event in quotes, such as \"7\"")
    })
}

fn one_subject(events: &[NewEvent]) -> Option<&Subject> {
    let (first, others) = events.split_first()?;
    others.iter().all(|event| event.subject == first.subject).then_some(&first.subject)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;
    use crate::domain::attribute::{EventSource, EventType};

    fn event(subject: &str) -> NewEvent {
        NewEvent {
            id: None,
            event_source: EventSource::from_stored("source".to_owned()),
            event_type: EventType::from_stored("type".to_owned()),
            subject: Subject::from_stored(subject.to_owned()),
            time: None,
            data: Bytes::new(),
            context: None,
        }
    }

    fn read(pairs: &[(HeaderName, &'static str)], events: &[NewEvent]) -> Result<Vec<Precondition>, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        preconditions(&headers, events).map_err(|error| error.detail)
    }

    #[test]
    fn headers_speak_of_the_subject_of_the_events() {
        let subject = || Subject::from_stored("a".to_owned());
        let events = [event("a"), event("a")];
        assert_eq!(read(&[], &events), Ok(vec![]));
        let last = Position::new(7).ok();
        assert_eq!(read(&[(IF_MATCH, " \"7\"")], &events), Ok(vec![Precondition { subject: subject(), last }]));
        let empty = Precondition { subject: subject(), last: None };
        assert_eq!(read(&[(IF_NONE_MATCH, "*")], &events), Ok(vec![empty]));
    }

    #[test]
    fn what_cannot_be_promised_is_refused() {
        for value in
            ["", "7", "W/\"7\"", "\"\"", "\"0\"", "\"-1\"", "\"+7\"", "*", "\"7\", \"8\"", "\"9223372036854775808\""]
        {
            let problem = read(&[(IF_MATCH, value)], &[event("a")]).unwrap_err();
            assert!(problem.starts_with("If-Match must be the position"), "{value:?}: {problem}");
        }
        for value in ["", "\"7\"", "**"] {
            let problem = read(&[(IF_NONE_MATCH, value)], &[event("a")]).unwrap_err();
            assert!(problem.starts_with("If-None-Match must be *"), "{value:?}: {problem}");
        }
        for pairs in [
            &[(IF_MATCH, "\"1\""), (IF_NONE_MATCH, "*")][..],
            &[(IF_MATCH, "\"1\""), (IF_MATCH, "\"2\"")],
            &[(IF_NONE_MATCH, "*"), (IF_NONE_MATCH, "*")],
        ] {
            assert!(read(pairs, &[event("a")]).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn events_of_several_subjects_or_none_have_no_last_position() {
        let detail = "If-None-Match needs events of one and the same subject";
        assert_eq!(read(&[(IF_NONE_MATCH, "*")], &[event("a"), event("b")]), Err(detail.to_owned()));
        assert_eq!(read(&[(IF_NONE_MATCH, "*")], &[]), Err(detail.to_owned()));
    }
}
