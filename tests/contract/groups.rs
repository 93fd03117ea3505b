//! Groups of requests: each succeeds, is refused or is a duplicate on its own.

use std::sync::Arc;

use bytes::Bytes;
use events_db::domain::append::{AppendOutcome, AppendRefusal, AppendRequest, Appended, Precondition};
use events_db::domain::attribute::EventId;
use events_db::domain::event::NewEvent;
use events_db::domain::timestamp::Timestamp;
use events_db::ports::event_repository::{AppendError, EventRepository};
use sea_orm::ConnectionTrait;

use crate::reading::{append, event, event_type, events, position, positions, subject, whole_log};
use crate::store::Store;

/// An event that its producer named.
pub(crate) fn named(id: &str, about: &str) -> NewEvent {
    NewEvent { id: Some(EventId::new(id.to_owned()).unwrap()), ..event(about) }
}

pub(crate) fn request(events: Vec<NewEvent>) -> AppendRequest {
    AppendRequest { events, preconditions: Vec::new() }
}

/// A request for one event whose subject must end at `last`.
pub(crate) fn expecting(last: Option<i64>, event: NewEvent) -> AppendRequest {
    let precondition = Precondition { subject: event.subject.clone(), last: last.map(position) };
    AppendRequest { events: vec![event], preconditions: vec![precondition] }
}

pub(crate) async fn group(repository: &dyn EventRepository, requests: Vec<AppendRequest>) -> Vec<AppendOutcome> {
    repository.append(requests.into()).await.unwrap().outcomes
}

fn new(at: i64) -> Appended {
    Appended { position: position(at), is_duplicate: false }
}

fn again(at: i64) -> Appended {
    Appended { position: position(at), is_duplicate: true }
}

pub(crate) fn taken(index: usize, at: i64) -> AppendOutcome {
    Err(AppendRefusal::IdConflict { index, position: position(at) })
}

fn unmet(about: &str, last: Option<i64>) -> AppendOutcome {
    Err(AppendRefusal::Precondition { subject: subject(about), last: last.map(position) })
}

pub(crate) async fn requests_of_a_group_follow_each_other(store: &Store) {
    let repository = store.open().await;
    for size in [1, 2, 3, 7, 8, 9, 31, 32, 33, 127, 128, 129, 300] {
        let first = repository.state().await.unwrap().head.map_or(1, |head| head.get() + 1);
        let requests = (0..size).map(|number| request(events(&["a", "b"][..=usize::from(number % 3 == 0)]))).collect();
        let outcomes = group(&*repository, requests).await;
        let given: Vec<i64> =
            outcomes.into_iter().flat_map(|outcome| outcome.unwrap()).map(|appended| appended.position.get()).collect();
        let last = first + i64::try_from(given.len()).unwrap();
        assert_eq!(given, (first..last).collect::<Vec<_>>());
        assert_eq!(repository.state().await.unwrap().head, Some(position(last - 1)));
    }
    let log = whole_log(&*repository).await;
    assert!(log.iter().enumerate().all(|(index, event)| event.position.get() == i64::try_from(index).unwrap() + 1));
}

pub(crate) async fn same_event_is_stored_once(store: &Store) {
    let repository = store.open().await;
    let other_process = store.open().await;
    assert_eq!(append(&*repository, vec![event("a"), named("x", "a")]).await, [position(1), position(2)]);
    for repository in [&repository, &other_process] {
        let outcomes = group(&**repository, vec![request(vec![named("x", "a")])]).await;
        assert_eq!(outcomes, [Ok(vec![again(2)])]);
    }
    let group_of_all = vec![
        request(vec![named("y", "a"), named("x", "a"), named("y", "a")]),
        request(vec![named("y", "a")]),
        request(vec![event("a")]),
    ];
    let expected = [Ok(vec![new(3), again(2), again(3)]), Ok(vec![again(3)]), Ok(vec![new(4)])];
    assert_eq!(group(&*repository, group_of_all).await, expected);
    // The same id of another source is another event, and an event without an id is never a duplicate.
    let mut elsewhere = named("x", "a");
    elsewhere.event_source = events_db::domain::attribute::EventSource::new("elsewhere".to_owned()).unwrap();
    let outcomes = group(&*repository, vec![request(vec![elsewhere.clone(), event("a"), event("a")])]).await;
    assert_eq!(outcomes, [Ok(vec![new(5), new(6), new(7)])]);
    let log = whole_log(&*other_process).await;
    assert_eq!(positions(&log), (1..=7).collect::<Vec<_>>());
    assert_eq!((&log[1].id, &log[4].id, &log[5].id), (&named("x", "a").id, &elsewhere.id, &None));
}

pub(crate) async fn same_id_with_other_content_is_a_conflict(store: &Store) {
    let repository = store.open().await;
    let mut timed = named("timed", "a");
    timed.time = Some(Timestamp::parse("2024-05-01T12:00:00.000001Z").unwrap());
    append(&*repository, vec![named("x", "a"), timed.clone()]).await;
    let changed: [fn(&mut NewEvent); 4] = [
        |event| event.event_type = event_type("other"),
        |event| event.subject = subject("b"),
        |event| event.data = Bytes::from_static(b"other data"),
        |event| event.time = Some(Timestamp::parse("2024-05-01T12:00:00.000002Z").unwrap()),
    ];
    for change in changed {
        let (mut plain, mut with_time) = (named("x", "a"), timed.clone());
        change(&mut plain);
        change(&mut with_time);
        let requests = vec![request(vec![event("n"), plain]), request(vec![with_time]), request(vec![timed.clone()])];
        assert_eq!(group(&*repository, requests).await, [taken(1, 1), taken(0, 2), Ok(vec![again(2)])]);
    }
    let mut untimed = timed.clone();
    untimed.time = None;
    assert_eq!(group(&*repository, vec![request(vec![untimed])]).await, [taken(0, 2)]);
    assert_eq!(positions(&whole_log(&*repository).await), [1, 2]);
}

pub(crate) async fn batch_with_a_bad_event_in_the_middle_stores_nothing_of_it(store: &Store) {
    let repository = store.open().await;
    append(&*repository, vec![named("x", "a")]).await;
    let mut bad = named("x", "a");
    bad.data = Bytes::from_static(b"other");
    let requests = vec![
        request(vec![event("first"), event("first")]),
        request(vec![event("bad"), bad, event("bad")]),
        request(vec![event("last")]),
    ];
    let expected = [Ok(vec![new(2), new(3)]), taken(1, 1), Ok(vec![new(4)])];
    assert_eq!(group(&*repository, requests).await, expected);
    let log = whole_log(&*repository).await;
    let subjects: Vec<&str> = log.iter().map(|event| event.subject.as_str()).collect();
    assert_eq!(subjects, ["a", "first", "first", "last"]);
}

pub(crate) async fn preconditions_hold_or_refuse(store: &Store) {
    let repository = store.open().await;
    append(&*repository, events(&["a", "a", "B", "a\u{e9}"])).await;
    let two = AppendRequest {
        events: events(&["a"]),
        preconditions: vec![
            Precondition { subject: subject("a"), last: Some(position(2)) },
            Precondition { subject: subject("none"), last: None },
        ],
    };
    let mut second_fails = two.clone();
    second_fails.preconditions[1].last = Some(position(1));
    let requests = vec![
        expecting(Some(1), event("a")),
        expecting(None, event("a")),
        expecting(Some(3), event("a")),
        expecting(None, event("b")),
        second_fails,
        two,
        expecting(Some(6), event("a")),
        expecting(Some(3), event("B")),
    ];
    let expected = [
        unmet("a", Some(2)),
        unmet("a", Some(2)),
        unmet("a", Some(2)),
        Ok(vec![new(5)]),
        unmet("none", None),
        Ok(vec![new(6)]),
        Ok(vec![new(7)]),
        Ok(vec![new(8)]),
    ];
    assert_eq!(group(&*repository, requests).await, expected);
    // Many subjects at once, known and unknown.
    let names: Vec<String> = (0..230).map(|number| format!("s-{number}")).collect();
    let all = names.iter().map(|name| expecting(None, event(name))).collect();
    assert!(group(&*repository, all).await.iter().all(Result::is_ok));
    let again = names.iter().map(|name| expecting(None, event(name))).collect();
    let refused = group(&*repository, again).await;
    let expected: Vec<_> = (9..).zip(&names).map(|(at, name)| unmet(name, Some(at))).collect();
    assert_eq!(refused, expected);
}

pub(crate) async fn carried_out_request_is_not_refused_when_repeated(store: &Store) {
    let repository = store.open().await;
    let first = expecting(None, named("x", "a"));
    assert_eq!(group(&*repository, vec![first.clone()]).await, [Ok(vec![new(1)])]);
    append(&*repository, events(&["a"])).await;
    assert_eq!(group(&*repository, vec![first]).await, [Ok(vec![again(1)])]);
    assert_eq!(group(&*repository, vec![expecting(None, named("y", "a"))]).await, [unmet("a", Some(2))]);
}

pub(crate) async fn precondition_follows_deletion(store: &Store) {
    let repository = store.open().await;
    append(&*repository, events(&["a", "a"])).await;
    let all = events_db::domain::filter::Filter::default();
    repository.delete(all.clone(), position(2), position(2)).await.unwrap();
    let requests = vec![expecting(Some(2), event("a")), expecting(Some(1), event("a"))];
    assert_eq!(group(&*repository, requests).await, [unmet("a", Some(1)), Ok(vec![new(3)])]);
    repository.delete(all, position(1), position(3)).await.unwrap();
    assert_eq!(group(&*repository, vec![expecting(None, named("x", "a"))]).await, [Ok(vec![new(4)])]);
}

pub(crate) async fn deleted_event_may_come_again(store: &Store) {
    let repository = store.open().await;
    append(&*repository, vec![named("x", "a")]).await;
    let all = events_db::domain::filter::Filter::default();
    repository.delete(all, position(1), position(1)).await.unwrap();
    assert_eq!(append(&*repository, vec![named("x", "b")]).await, [position(2)]);
}

pub(crate) async fn racing_preconditions_have_one_winner(store: &Store) {
    let processes = [store.open().await, store.open().await];
    for round in 0..5 {
        let name = format!("round-{round}");
        let racers: Vec<_> = (0..20)
            .map(|racer| {
                let repository = Arc::clone(&processes[racer % 2]);
                let request = expecting(None, event(&name));
                tokio::spawn(async move { group(&*repository, vec![request]).await.remove(0) })
            })
            .collect();
        let mut outcomes = Vec::new();
        for racer in racers {
            outcomes.push(racer.await.unwrap());
        }
        let winners: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        let [winner] = winners.as_slice() else { panic!("{outcomes:?}") };
        let refused = unmet(&name, Some(winner[0].position.get()));
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == refused).count(), 19, "{outcomes:?}");
    }
    assert_eq!(positions(&whole_log(&*processes[0]).await), [1, 2, 3, 4, 5]);
}

pub(crate) async fn racing_duplicates_get_one_position(store: &Store) {
    let processes = [store.open().await, store.open().await];
    for round in 0..10 {
        let racers: Vec<_> = (0..8)
            .map(|racer| {
                let repository = Arc::clone(&processes[racer % 2]);
                let requests = vec![request(vec![event("noise")]), request(vec![named(&format!("x-{round}"), "a")])];
                tokio::spawn(async move { group(&*repository, requests).await })
            })
            .collect();
        let mut given = Vec::new();
        for racer in racers {
            let outcomes = racer.await.unwrap();
            assert!(!outcomes[0].as_ref().unwrap()[0].is_duplicate);
            given.push(outcomes[1].as_ref().unwrap()[0]);
        }
        assert!(given.iter().all(|appended| appended.position == given[0].position), "{given:?}");
        assert_eq!(given.iter().filter(|appended| !appended.is_duplicate).count(), 1, "{given:?}");
    }
    let log = whole_log(&*processes[1]).await;
    assert_eq!(positions(&log), (1..=90).collect::<Vec<_>>());
    assert_eq!(log.iter().filter(|event| event.id.is_some()).count(), 10);
}

pub(crate) async fn request_that_the_database_rejects_can_be_told_apart(store: &Store) {
    let repository = store.open().await;
    // Somebody's own rule, the like of which operators add.
    let foreign = store.foreign().await;
    foreign.execute_unprepared(&store.rule_against("poison")).await.unwrap();
    let poison = || request(vec![event("a"), NewEvent { event_type: event_type("poison"), ..event("a") }]);
    for poisoned in [vec![poison()], vec![request(events(&["a"])), poison(), request(events(&["a"]))]] {
        let error = repository.append(poisoned.into()).await.unwrap_err();
        assert!(matches!(error, AppendError::Rejected(_)), "{error:?}");
    }
    let checked = AppendRequest { preconditions: expecting(None, event("a")).preconditions, ..poison() };
    let error = repository.append(Arc::new([checked])).await.unwrap_err();
    assert!(matches!(error, AppendError::Rejected(_)), "{error:?}");
    // Nothing is left of them, not even their positions.
    assert_eq!(append(&*repository, events(&["a", "b"])).await, [position(1), position(2)]);
}

pub(crate) async fn writer_whose_row_is_gone_goes_on(store: &Store) {
    let repository = store.open().await;
    let foreign = store.foreign().await;
    for round in 0..2 {
        append(&*repository, events(&["a", "b"])).await;
        foreign.execute_unprepared("DELETE FROM event_writer").await.unwrap();
        append(&*repository, events(&["a"])).await;
        foreign.execute_unprepared("DELETE FROM event_writer").await.unwrap();
        let checked = group(&*repository, vec![expecting(None, event(&format!("new-{round}")))]).await;
        assert!(checked[0].is_ok(), "{checked:?}");
    }
    assert_eq!(positions(&whole_log(&*repository).await), (1..=8).collect::<Vec<_>>());
}

pub(crate) async fn large_group_is_taken_whole(store: &Store) {
    let repository = store.open().await;
    let large = |bytes: usize| NewEvent { data: Bytes::from(vec![0xA5; bytes]), ..event("a") };
    // Around the size of a packet, and several of them.
    let sizes = [600_000, 1, 1_048_576, 0, 300_000, 300_000, 1_048_576];
    let requests = sizes.iter().map(|bytes| request(vec![large(*bytes)])).collect();
    assert!(group(&*repository, requests).await.iter().all(Result::is_ok));
    let log = whole_log(&*repository).await;
    assert_eq!(log.iter().map(|event| event.data.len()).collect::<Vec<_>>(), sizes);
    assert!(log.iter().all(|event| event.data.iter().all(|byte| *byte == 0xA5)));
}

pub(crate) async fn groups_of_every_size_keep_each_event_as_it_is(store: &Store) {
    let repository = store.open().await;
    let mut given: Vec<NewEvent> = Vec::new();
    // Around the sizes that statements come in.
    for size in [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 127, 128, 129, 255, 256, 257, 513] {
        let events = (given.len()..given.len() + size).map(|number| NewEvent {
            id: (number % 3 == 0).then(|| EventId::new(format!("id-{number}")).unwrap()),
            event_type: event_type(&format!("type-{number}")),
            time: (number % 2 == 0)
                .then(|| Timestamp::from_unix_micros(1_000_000 + i64::try_from(number).unwrap()).unwrap()),
            data: Bytes::from(format!("data-{number}")),
            ..event(&format!("subject-{number}"))
        });
        let events: Vec<NewEvent> = events.collect();
        let requests = events.iter().map(|event| request(vec![event.clone()])).collect();
        let outcomes = group(&*repository, requests).await;
        for (index, outcome) in outcomes.into_iter().enumerate() {
            assert_eq!(outcome.unwrap(), [new(i64::try_from(given.len() + index + 1).unwrap())], "{size} events");
        }
        given.extend(events);
    }
    let log = whole_log(&*repository).await;
    assert_eq!(log.len(), given.len());
    for (event, given) in log.iter().zip(&given) {
        assert_eq!(
            (&event.id, &event.event_source, &event.event_type, &event.subject, &event.data),
            (&given.id, &given.event_source, &given.event_type, &given.subject, &given.data)
        );
        assert_eq!(Some(event.time), given.time.or(event.recorded_time));
    }
}
