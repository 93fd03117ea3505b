//! Decides, with the log held still, what of a group of requests is stored and where.

use std::collections::HashMap;

use crate::domain::append::{AppendOutcome, AppendRefusal, AppendRequest, Appended};
use crate::domain::attribute::{EventId, EventSource, Subject};
use crate::domain::event::{NewEvent, StoredEvent};
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

/// What names an event: its source and the id that its producer gave it.
///
/// Source: `CloudEvents` 1.0.2, "id": events with the same source and id are duplicates.
pub type EventKey<'a> = (&'a EventSource, &'a EventId);

/// What the requests need to know of the log, read while nobody else can append.
#[derive(Debug, Default)]
pub struct LogView {
    /// Stored events that have the key of an event of the requests.
    pub stored: Vec<StoredEvent>,
    /// The last position of each subject of the preconditions, `None` when it has no events.
    pub last_positions: HashMap<Subject, Option<Position>>,
}

/// What is to be stored, and what the requests are answered once it is.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The events that are new, for positions from the first free one on.
    pub new_events: Vec<&'a NewEvent>,
    /// One outcome per request, in their order.
    pub outcomes: Vec<AppendOutcome>,
}

/// Plans `requests` one after the other, as if each came alone: a refused one leaves no trace for those behind it.
///
/// `first` is the first free position. A request whose events are all stored already is answered with their positions
/// whatever its preconditions say: it is one that was carried out and is sent again.
///
/// # Panics
/// When the positions run out, which the caller must have excluded.
#[must_use]
pub fn plan<'a>(requests: &'a [AppendRequest], first: Position, view: &LogView) -> Plan<'a> {
    let stored = view.stored.iter().filter_map(|event| Some((event.key()?, Known::Stored(event)))).collect();
    let lasts = view.last_positions.iter().map(|(subject, last)| (subject, *last)).collect();
    let mut planner = Planner { next: first.get(), known: stored, lasts, new_events: Vec::new() };
    let outcomes = requests.iter().map(|request| planner.request(request)).collect();
    Plan { new_events: planner.new_events, outcomes }
}

/// An event that has its place, or will have it with this group.
#[derive(Clone, Copy)]
enum Known<'a> {
    Stored(&'a StoredEvent),
    Planned(&'a NewEvent, Position),
}

struct Planner<'a, 'v> {
    next: i64,
    known: HashMap<EventKey<'v>, Known<'v>>,
    lasts: HashMap<&'v Subject, Option<Position>>,
    new_events: Vec<&'a NewEvent>,
}

impl<'a: 'v, 'v> Planner<'a, 'v> {
    fn request(&mut self, request: &'a AppendRequest) -> AppendOutcome {
        let mut planned: Vec<(&'a NewEvent, Position)> = Vec::new();
        let mut own: HashMap<EventKey<'a>, Known<'a>> = HashMap::new();
        let mut appended = Vec::with_capacity(request.events.len());
        for (index, event) in request.events.iter().enumerate() {
            let known = event.key().and_then(|key| own.get(&key).or_else(|| self.known.get(&key)).copied());
            if let Some(known) = known {
                let position = known.position();
                if !known.has_content_of(event) {
                    return Err(AppendRefusal::IdConflict { index, position });
                }
                appended.push(Appended { position, is_duplicate: true });
                continue;
            }
            let position = self.place(planned.len());
            if let Some(key) = event.key() {
                own.insert(key, Known::Planned(event, position));
            }
            planned.push((event, position));
            appended.push(Appended { position, is_duplicate: false });
        }
        let is_repeat = planned.is_empty() && !appended.is_empty();
        if !is_repeat {
            self.check(request)?;
        }
        self.next += i64::try_from(planned.len()).expect("a request holds fewer events than there are positions");
        self.known.extend(own);
        for (event, position) in planned {
            if let Some(last) = self.lasts.get_mut(&event.subject) {
                *last = Some(position);
            }
            self.new_events.push(event);
        }
        Ok(appended)
    }

    fn place(&self, ahead: usize) -> Position {
        let place = i64::try_from(ahead).ok().and_then(|ahead| self.next.checked_add(ahead));
        place.and_then(|place| Position::new(place).ok()).expect("the caller saw that positions are left")
    }

    fn check(&self, request: &AppendRequest) -> Result<(), AppendRefusal> {
        for precondition in &request.preconditions {
            let last = self.lasts.get(&precondition.subject).copied().flatten();
            if last != precondition.last {
                return Err(AppendRefusal::Precondition { subject: precondition.subject.clone(), last });
            }
        }
        Ok(())
    }
}

/// When nothing was recorded or happened: a microsecond after the beginning of the year 1.
const NEVER_MICROS: i64 = -62_135_596_799_999_999;

impl Known<'_> {
    fn position(&self) -> Position {
        match self {
            Self::Stored(event) => event.position,
            Self::Planned(_, position) => *position,
        }
    }

    fn has_content_of(&self, event: &NewEvent) -> bool {
        match self {
            Self::Stored(stored) => stored.has_content_of(event),
            // By the same rule, as it will be stored; what comes without a time gets the one of the commit.
            Self::Planned(planned, position) => {
                let recorded = Timestamp::from_unix_micros(NEVER_MICROS).expect("a time of the year 1");
                (*planned).clone().stored(*position, recorded).has_content_of(event)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::append::Precondition;
    use crate::domain::attribute::EventType;
    use crate::domain::context::{Context, ExtensionName, ExtensionValue, Extensions};

    fn subject(text: &str) -> Subject {
        Subject::from_stored(text.to_owned())
    }

    fn event(id: &str, about: &str, data: &'static str) -> NewEvent {
        NewEvent {
            id: (!id.is_empty()).then(|| EventId::from_stored(id.to_owned())),
            event_source: EventSource::from_stored("source".to_owned()),
            event_type: EventType::from_stored("type".to_owned()),
            subject: subject(about),
            time: None,
            data: Bytes::from_static(data.as_bytes()),
            context: None,
        }
    }

    fn stored(position: i64, event: NewEvent) -> StoredEvent {
        event.stored(at(position), Timestamp::from_unix_micros(position).unwrap())
    }

    fn at(position: i64) -> Position {
        Position::new(position).unwrap()
    }

    fn request(events: Vec<NewEvent>) -> AppendRequest {
        AppendRequest { events, preconditions: Vec::new() }
    }

    fn expecting(last: Option<i64>, event: NewEvent) -> AppendRequest {
        let precondition = Precondition { subject: event.subject.clone(), last: last.map(at) };
        AppendRequest { events: vec![event], preconditions: vec![precondition] }
    }

    fn new(position: i64) -> Appended {
        Appended { position: at(position), is_duplicate: false }
    }

    fn again(position: i64) -> Appended {
        Appended { position: at(position), is_duplicate: true }
    }

    /// A log whose first free position is 10.
    fn outcomes(requests: &[AppendRequest], view: &LogView) -> (usize, Vec<AppendOutcome>) {
        let plan = plan(requests, at(10), view);
        (plan.new_events.len(), plan.outcomes)
    }

    #[test]
    fn positions_follow_each_other_over_requests() {
        let requests = [request(vec![event("", "a", ""), event("", "a", "")]), request(vec![event("", "a", "")])];
        let expected = vec![Ok(vec![new(10), new(11)]), Ok(vec![new(12)])];
        assert_eq!(outcomes(&requests, &LogView::default()), (3, expected));
    }

    #[test]
    fn same_event_again_gets_the_first_position() {
        let view = LogView { stored: vec![stored(4, event("x", "a", "1"))], ..LogView::default() };
        let twice = request(vec![event("y", "a", "1"), event("y", "a", "1"), event("x", "a", "1")]);
        let requests = [twice, request(vec![event("y", "a", "1")])];
        let expected = vec![Ok(vec![new(10), again(10), again(4)]), Ok(vec![again(10)])];
        assert_eq!(outcomes(&requests, &view), (1, expected));
    }

    #[test]
    fn same_event_in_another_form_is_the_same_before_it_is_stored_too() {
        let in_form = |value: ExtensionValue| {
            let extensions = Extensions::from([(ExtensionName::new("n".to_owned()).unwrap(), value)]);
            NewEvent { context: Some(Box::new(Context { extensions, ..Context::default() })), ..event("x", "a", "1") }
        };
        let (number, text) =
            (in_form(ExtensionValue::Integer(5)), in_form(ExtensionValue::text("5".to_owned()).unwrap()));
        let requests = [request(vec![number.clone(), text.clone()]), request(vec![text])];
        assert_eq!(
            outcomes(&requests, &LogView::default()),
            (1, vec![Ok(vec![new(10), again(10)]), Ok(vec![again(10)])])
        );
        let timed = NewEvent { time: Some(Timestamp::from_unix_micros(0).unwrap()), ..event("x", "a", "1") };
        let requests = [request(vec![timed.clone()]), request(vec![event("x", "a", "1")]), request(vec![timed])];
        let taken = Err(AppendRefusal::IdConflict { index: 0, position: at(10) });
        assert_eq!(outcomes(&requests, &LogView::default()), (1, vec![Ok(vec![new(10)]), taken, Ok(vec![again(10)])]));
    }

    #[test]
    fn same_id_with_other_content_refuses_its_request_alone() {
        let view = LogView { stored: vec![stored(4, event("x", "a", "1"))], ..LogView::default() };
        let mut later = event("x", "a", "1");
        later.time = Some(Timestamp::from_unix_micros(5).unwrap());
        let requests = [
            request(vec![event("n", "a", ""), event("x", "a", "2")]),
            request(vec![event("n", "a", "other")]),
            request(vec![later]),
            request(vec![event("n", "a", "another")]),
        ];
        let conflict = |index, position| Err(AppendRefusal::IdConflict { index, position: at(position) });
        let expected = vec![conflict(1, 4), Ok(vec![new(10)]), conflict(0, 4), conflict(0, 10)];
        assert_eq!(outcomes(&requests, &view), (1, expected));
    }

    #[test]
    fn preconditions_see_what_came_before_them_in_the_group() {
        let last_positions = HashMap::from([(subject("a"), Some(at(7))), (subject("b"), None)]);
        let view = LogView { stored: Vec::new(), last_positions };
        let requests = [
            expecting(Some(6), event("", "a", "")),
            expecting(Some(7), event("", "a", "")),
            expecting(Some(7), event("", "a", "")),
            expecting(Some(10), event("", "a", "")),
            expecting(None, event("", "b", "")),
            expecting(None, event("", "b", "")),
        ];
        let failed =
            |about, last: i64| Err(AppendRefusal::Precondition { subject: subject(about), last: Some(at(last)) });
        let expected = vec![
            failed("a", 7),
            Ok(vec![new(10)]),
            failed("a", 10),
            Ok(vec![new(11)]),
            Ok(vec![new(12)]),
            failed("b", 12),
        ];
        assert_eq!(outcomes(&requests, &view), (3, expected));
    }

    #[test]
    fn request_that_was_carried_out_is_not_refused_when_it_is_sent_again() {
        let last_positions = HashMap::from([(subject("a"), Some(at(4)))]);
        let view = LogView { stored: vec![stored(4, event("x", "a", "1"))], last_positions };
        let requests = [expecting(None, event("x", "a", "1")), expecting(None, event("y", "a", "1"))];
        let failed = Err(AppendRefusal::Precondition { subject: subject("a"), last: Some(at(4)) });
        assert_eq!(outcomes(&requests, &view), (0, vec![Ok(vec![again(4)]), failed]));
    }

    #[test]
    fn request_without_events_checks_its_preconditions() {
        let last_positions = HashMap::from([(subject("a"), None)]);
        let view = LogView { stored: Vec::new(), last_positions };
        let mut requests = [expecting(None, event("", "a", "")), expecting(Some(1), event("", "a", ""))];
        for request in &mut requests {
            request.events.clear();
        }
        let failed = Err(AppendRefusal::Precondition { subject: subject("a"), last: None });
        assert_eq!(outcomes(&requests, &view), (0, vec![Ok(vec![]), failed]));
    }
}
