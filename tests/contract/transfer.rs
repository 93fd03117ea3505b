//! Export and import: a log, or an archive of it, into another log.

use std::fs::File;
use std::sync::Arc;

use events_db::adapters::archive::{LineReader, LineWriter, whole_lines};
use events_db::adapters::repository::memory::MemoryRepository;
use events_db::domain::attribute::{EventId, EventSource, EventType};
use events_db::domain::context::DataForm;
use events_db::domain::event::{NewEvent, StoredEvent};
use events_db::domain::filter::Filter;
use events_db::domain::position::Position;
use events_db::domain::transfer::{
    ExportRequest, LogArchive, TransferError, Transferred, append as append_archive, export, restore,
};
use events_db::ports::archive::ArchiveReader;
use events_db::ports::event_repository::EventRepository;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::contexts::every_context;
use crate::reading::{append, event, exact, position, positions, subject, whole_log};
use crate::store::Store;

const EVENT_BYTES_MAX: usize = 1_000_000;

/// A log of everything that is awkward, with a hole in it.
async fn awkward_log() -> Arc<MemoryRepository> {
    let log = Arc::new(MemoryRepository::default());
    // Data that is what every form of it may be.
    let events = every_context().into_iter().map(|event| {
        let has_data = event.context.as_ref().is_none_or(|context| context.data_form != DataForm::Absent);
        NewEvent { data: if has_data { "{\"a\":1}".into() } else { "".into() }, ..event }
    });
    append(&*log, events.collect()).await;
    let id = |text: &str| Some(EventId::new(text.to_owned()).unwrap());
    let head = log.state().await.unwrap().head.unwrap().get();
    let own = NewEvent { id: id(&(head + 1).to_string()), ..event("has its position for an id") };
    let lines = NewEvent {
        data: "{\n  \"a\": 1\r\n}".into(),
        context: every_context().into_iter().find_map(|event| event.context.filter(|context| context.declares_json())),
        ..event("json on several lines")
    };
    let old = NewEvent {
        event_source: EventSource::from_stored(String::new()),
        event_type: EventType::from_stored("a type\nof a Go service".to_owned()),
        ..event("older than our rules")
    };
    append(&*log, vec![own, lines, old, event("plain"), event("deleted"), event("last")]).await;
    let (first, last) = (position(1), position(i64::MAX - 1));
    log.delete(exact(&["deleted"]), first, last).await.unwrap();
    log
}

async fn exported(log: &dyn EventRepository, after: i64, compresses: bool) -> (TempDir, File) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events");
    let mut writer = LineWriter::to_file(File::create_new(&path).unwrap(), compresses);
    let through = log.state().await.unwrap().head.unwrap();
    let request = ExportRequest { filter: Filter::default(), after: Position::new(after).ok(), through };
    let stop = CancellationToken::new();
    let exported = export(log, request, &mut writer, |_| {}, &stop).await.unwrap();
    assert!(exported.is_complete && exported.reached == Some(through), "{exported:?}");
    (directory, File::options().read(true).write(true).open(path).unwrap())
}

async fn put_back(log: &dyn EventRepository, archive: &mut dyn ArchiveReader) -> Result<Transferred, TransferError> {
    restore(log, archive, |_| {}, &CancellationToken::new()).await
}

fn lines(file: File) -> LineReader {
    LineReader::new(file).unwrap()
}

/// Whether both say the same of every event, to the byte; JSON does not keep what type a text was.
fn assert_same(found: &[StoredEvent], expected: &[StoredEvent]) {
    assert_eq!(positions(found), positions(expected));
    for (found, expected) in found.iter().zip(expected) {
        let came_without_time = expected.given_time().is_none();
        let sent = expected.clone().into_new();
        let sent = NewEvent { time: sent.time.filter(|_| !came_without_time), ..sent };
        assert!(found.has_content_of(&sent), "{found:?} is not {expected:?}");
        assert_eq!((&found.id, found.recorded_time), (&expected.id, expected.recorded_time));
        assert_eq!((found.time, found.given_time()), (expected.time, expected.given_time()));
    }
}

pub(crate) async fn log_comes_back_from_its_lines(store: &Store) {
    let log = awkward_log().await;
    let expected = whole_log(&*log).await;
    let repository = store.open().await;
    for (compresses, run) in [(false, 1), (true, 2)] {
        let (_directory, mut file) = exported(&*log, 0, compresses).await;
        let whole = whole_lines(&mut file, compresses).unwrap();
        assert_eq!(whole.last, expected.last().map(|event| event.position));
        assert_eq!(whole.bytes, file.metadata().unwrap().len());
        std::io::Seek::rewind(&mut file).unwrap();
        let imported = put_back(&*repository, &mut lines(file)).await.unwrap();
        let count = expected.len() as u64;
        assert!(imported.is_complete);
        assert_eq!((imported.written, imported.present), if run == 1 { (count, 0) } else { (0, count) });
        assert_same(&whole_log(&*repository).await, &expected);
    }
}

pub(crate) async fn log_comes_from_another_log_as_it_is(store: &Store) {
    let log = awkward_log().await;
    let head = log.state().await.unwrap().head;
    let repository = store.open().await;
    for run in [1, 2] {
        let archive: Arc<dyn EventRepository> = Arc::<MemoryRepository>::clone(&log);
        let imported = put_back(&*repository, &mut LogArchive::new(archive, head)).await.unwrap();
        assert_eq!(imported.written > 0, run == 1);
        assert_eq!(whole_log(&*repository).await, whole_log(&*log).await);
    }
    let empty: Arc<dyn EventRepository> = Arc::new(MemoryRepository::default());
    let nothing = put_back(&*repository, &mut LogArchive::new(empty, None)).await.unwrap();
    assert_eq!(nothing, Transferred { is_complete: true, ..Transferred::default() });
}

pub(crate) async fn later_archive_goes_on_where_the_first_ended(store: &Store) {
    let log = awkward_log().await;
    let repository = store.open().await;
    let (_first, file) = exported(&*log, 0, false).await;
    put_back(&*repository, &mut lines(file)).await.unwrap();
    let before = log.state().await.unwrap().head.unwrap();
    append(&*log, vec![event("later"), event("later")]).await;
    // It overlaps the first by an event, one of which the target has deleted since.
    repository.delete(exact(&["last"]), position(1), before).await.unwrap();
    let (_second, file) = exported(&*log, before.get() - 1, true).await;
    let imported = put_back(&*repository, &mut lines(file)).await.unwrap();
    assert_eq!((imported.written, imported.present, imported.deleted), (2, 0, 1));
    let subjects: Vec<_> = whole_log(&*repository).await.into_iter().map(|event| event.subject).collect();
    assert_eq!(subjects[subjects.len() - 2..], [subject("later"), subject("later")]);
    assert!(!subjects.contains(&subject("last")), "what was deleted stays deleted");
}

pub(crate) async fn archive_of_another_log_is_refused(store: &Store) {
    let log = awkward_log().await;
    let repository = store.open().await;
    append(&*repository, vec![event("foreign")]).await;
    let (_directory, file) = exported(&*log, 0, false).await;
    let refused = put_back(&*repository, &mut lines(file)).await.unwrap_err();
    assert!(matches!(refused, TransferError::OtherLog { position, .. } if position.get() == 1), "{refused}");
    assert_eq!(whole_log(&*repository).await.len(), 1);
}

pub(crate) async fn event_that_the_log_has_stepped_over_is_told(store: &Store) {
    let repository = store.open().await;
    let log = MemoryRepository::default();
    append(&log, vec![event("first"), event("late"), event("last")]).await;
    let whole = whole_log(&log).await;
    // A service whose second event became visible after its third.
    repository.restore(vec![whole[0].clone(), whole[2].clone()]).await.unwrap();
    let (_directory, file) = exported(&log, 0, false).await;
    let refused = put_back(&*repository, &mut lines(file)).await.unwrap_err();
    assert!(matches!(refused, TransferError::SteppedOver { position, .. } if position.get() == 2), "{refused}");
}

pub(crate) async fn archive_is_appended_once(store: &Store) {
    let log = awkward_log().await;
    let repository = store.open().await;
    append(&*repository, vec![event("before"), event("before")]).await;
    // What came from a log of older rules has no place behind ours but by its position.
    log.delete(exact(&["older than our rules"]), position(1), position(1_000)).await.unwrap();
    let expected = whole_log(&*log).await;
    let stop = CancellationToken::new();
    for run in [1, 2] {
        let (_directory, file) = exported(&*log, 0, run == 2).await;
        let mut archive = lines(file);
        let imported = append_archive(&*repository, &mut archive, EVENT_BYTES_MAX, |_| {}, &stop).await.unwrap();
        let count = expected.len() as u64;
        assert_eq!((imported.written, imported.present), if run == 1 { (count, 0) } else { (0, count) });
    }
    let found = whole_log(&*repository).await;
    assert_eq!(found.len(), expected.len() + 2);
    for (found, expected) in found[2..].iter().zip(&expected) {
        assert_eq!((&found.subject, &found.data), (&expected.subject, &expected.data));
        let id = expected.id.as_ref().map_or_else(|| expected.position.to_string(), |id| id.as_str().to_owned());
        assert_eq!(found.id.as_ref().unwrap().as_str(), id);
    }
}

pub(crate) async fn appended_archive_is_bounded_and_conflicts_are_told(store: &Store) {
    let repository = store.open().await;
    let id = Some(EventId::new("1".to_owned()).unwrap());
    let named = |data: &'static str| NewEvent { id: id.clone(), data: data.into(), ..event("s") };
    append(&*repository, vec![named("one")]).await;
    let log = MemoryRepository::default();
    append(&log, vec![named("another")]).await;
    let stop = CancellationToken::new();
    for (bytes_max, is_conflict) in [(7, true), (6, false)] {
        let (_directory, file) = exported(&log, 0, false).await;
        let refused = append_archive(&*repository, &mut lines(file), bytes_max, |_| {}, &stop).await.unwrap_err();
        match refused {
            TransferError::IdConflict { position, .. } if is_conflict => assert_eq!(position.get(), 1),
            TransferError::TooLarge { bytes: 7, bytes_max: 6, .. } if !is_conflict => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(whole_log(&*repository).await.len(), 1);
}
