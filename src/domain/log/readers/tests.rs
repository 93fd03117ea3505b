use super::*;
use crate::domain::attribute::EventSource;
use crate::domain::log::testing::{position, stored};

fn subjects(texts: &[&str]) -> Vec<Subject> {
    texts.iter().map(|text| Subject::from_stored((*text).to_owned())).collect()
}

fn types(texts: &[&str]) -> Vec<EventType> {
    texts.iter().map(|text| EventType::from_stored((*text).to_owned())).collect()
}

fn filters() -> Vec<Filter> {
    let by_subject = [
        SubjectFilter::All,
        SubjectFilter::exact(subjects(&["a"])),
        SubjectFilter::exact(subjects(&["a", "ab", "ü"])),
        SubjectFilter::prefixes(subjects(&["a"])),
        SubjectFilter::prefixes(subjects(&["ab", "ü", "x"])),
    ];
    let by_type = [types(&[]), types(&["t"]), types(&["t", "u"])];
    let of_type = |subjects: &SubjectFilter| by_type.clone().map(|types| Filter::new(subjects.clone(), types));
    let by_source = [vec![], vec![EventSource::from_stored("even".to_owned())]];
    let of_source = |filter: Filter| by_source.clone().map(|sources| filter.clone().of_sources(sources));
    by_subject.iter().flat_map(of_type).flat_map(of_source).collect()
}

fn event(at: i64, subject: &str, event_type: &str) -> Arc<LogEvent> {
    let mut event = stored(at, subject);
    event.event_type = EventType::from_stored(event_type.to_owned());
    event.event_source = EventSource::from_stored(if at % 2 == 0 { "even" } else { "odd" }.to_owned());
    Arc::new(LogEvent::alone(event))
}

fn register(readers: &Arc<Readers>, filter: Filter) -> Registration {
    readers.register(filter, Protocol::Sse, CancellationToken::new())
}

#[test]
fn exactly_those_who_want_an_event_are_told() {
    let readers = Arc::new(Readers::default());
    let registrations: Vec<_> =
        filters().into_iter().map(|filter| (filter.clone(), register(&readers, filter))).collect();
    let mut at = 0;
    for subject in ["a", "ab", "abc", "b", "ü", "üx", "x", ""] {
        for event_type in ["t", "u", "v"] {
            at += 1;
            let event = event(at, subject, event_type);
            readers.announce(std::slice::from_ref(&event));
            for (filter, registration) in &registrations {
                let told = registration.take_announced();
                let wanted = filter.matches(event.stored()).then_some(position(at));
                assert_eq!(told, wanted, "{filter:?} of {subject:?} {event_type}");
            }
        }
    }
    drop(registrations);
    let index = readers.index();
    assert_eq!((index.open, index.all.len(), index.exact.len(), index.prefixes.len()), (0, 0, 0, 0));
    assert!(index.prefix_bytes.is_empty());
}

#[test]
fn lowest_match_is_told_until_it_is_taken() {
    let readers = Arc::new(Readers::default());
    for filter in filters() {
        let registration = register(&readers, filter.clone());
        let batch = [event(1, "z", "v"), event(2, "a", "v"), event(3, "ab", "t"), event(4, "a", "t")];
        let later = [event(5, "a", "t"), event(6, "ab", "t")];
        let lowest = batch.iter().chain(&later).map(|event| event.stored()).find(|event| filter.matches(event));
        readers.announce(&batch);
        readers.announce(&later);
        assert_eq!(registration.take_announced(), lowest.map(|event| event.position), "{filter:?}");
        assert_eq!(registration.take_announced(), None);
        readers.announce_to_all(position(7));
        assert_eq!(registration.take_announced(), Some(position(7)));
    }
}

#[tokio::test]
async fn who_waits_is_woken_and_who_was_told_before_does_not_wait() {
    let readers = Arc::new(Readers::default());
    let registration = register(&readers, Filter::default());
    readers.announce(&[event(1, "a", "t")]);
    registration.announced().await;
    registration.take_announced();
    let (waited, ()) = tokio::join!(registration.announced(), async { readers.announce(&[event(2, "a", "t")]) });
    assert_eq!((waited, registration.take_announced()), ((), Some(position(2))));
}

#[tokio::test(start_paused = true)]
async fn reader_is_ended_once_it_has_taken_nothing_for_the_whole_time() {
    let readers = Arc::new(Readers::default());
    let registration = register(&readers, Filter::default());
    let patience = Duration::from_mins(1);
    let nearly = Duration::from_millis(59_999);
    tokio::time::advance(patience * 2).await;
    assert_eq!(readers.end_slow(patience), [], "it waits for us");
    registration.note_progress(Some(position(9)), false);
    registration.note_given(3);
    tokio::time::advance(nearly).await;
    assert_eq!(readers.end_slow(patience), []);
    registration.note_taken();
    registration.note_given(0);
    tokio::time::advance(nearly).await;
    assert_eq!(readers.end_slow(patience), []);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(readers.end_slow(patience), [(Protocol::Sse, Some(position(9)))]);
    assert!(registration.end().is_cancelled());
    assert_eq!(readers.end_slow(patience), [], "only once");
    assert_eq!(readers.report(None).by_protocol[0], ProtocolReaders { open: 1, delivered: 3, ended_slow: 1 });
}

#[test]
fn each_reader_is_reported_once_and_only_who_has_something_to_pass_lags() {
    let readers = Arc::new(Readers::default());
    let registrations: Vec<_> = filters().into_iter().map(|filter| register(&readers, filter)).collect();
    let count = registrations.len() as u64;
    let report = readers.report(Some(position(50)));
    assert_eq!((report.by_protocol[0].open, report.on_tail, report.slowest_lag_events), (count, count, 0));
    registrations[0].note_progress(Some(position(10)), true);
    registrations[1].note_progress(Some(position(5)), false);
    let report = readers.report(Some(position(50)));
    assert_eq!((report.on_store, report.on_tail, report.slowest_lag_events), (1, count - 1, 40));
    registrations[1].note_given(1);
    assert_eq!(readers.report(Some(position(50))).slowest_lag_events, 45);
}
