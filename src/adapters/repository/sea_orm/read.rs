//! Reading the log.

mod condition;
mod dense;
mod find;
mod latest;
mod mysql_scan;
mod pack;
mod page;
mod plan;
mod skip_scan;
mod walk;

use std::sync::atomic::Ordering;

use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::connect::Store;
use crate::adapters::repository::sea_orm::fault::read_error;
use crate::adapters::repository::sea_orm::pool::Lease;
use crate::adapters::repository::sea_orm::query::{Dialect, Engine, Path};
use crate::adapters::repository::sea_orm::row::{EVENT_COLUMNS, undecodable};
use crate::domain::attribute::{EventType, Subject};
use crate::domain::event::StoredEvent;
use crate::domain::filter::SubjectFilter;
use crate::domain::log_state::LogState;
use crate::domain::position::Position;
use crate::ports::event_repository::{LatestPage, LatestQuery, Order, Page, ReadError, ReadQuery};

use condition::{Condition, Span};
pub(super) use dense::DenseSubjects;
use page::{Filling, Item};
pub(super) use plan::Plans;
use skip_scan::{Range, scan};

/// Events larger than this are not packed: their rows are few.
const PACKED_MEAN_MAX: usize = 4 * 1024;

/// A call that reads, with its connection.
struct Reader<'s> {
    store: &'s Store,
    lease: Lease,
}

impl<'s> Reader<'s> {
    async fn new(store: &'s Store) -> Result<Self, Error> {
        Ok(Self { store, lease: store.readers.lease().await? })
    }

    /// Ends the call.
    fn done<T>(self, answer: Result<T, Error>) -> Result<T, ReadError> {
        self.lease.done(answer).map_err(read_error)
    }

    fn dialect(&self) -> Dialect {
        self.store.dialect
    }

    /// Up to where the index by subject serves a read that ends at `through`; `None` for nowhere.
    async fn indexed(&mut self, through: Position) -> Result<Option<Position>, Error> {
        self.store.subject_index.serves(self.store.dialect, &mut self.lease, through).await
    }

    /// How large events have been of late.
    fn mean_bytes(&self) -> usize {
        self.store.mean_bytes.load(Ordering::Relaxed)
    }

    /// Remembers how large the events of `page` are.
    fn learn<T: Item>(&self, page: &Filling<T>) {
        if let Some(mean) = page.mean_bytes().filter(|mean| *mean > 0) {
            self.store.mean_bytes.store(mean, Ordering::Relaxed);
        }
    }

    /// Whether the rows that go on with `page` come packed.
    fn packs<T: Item>(&self, page: &Filling<T>) -> bool {
        self.dialect().engine == Engine::Sqlite
            && page.mean_bytes().unwrap_or_else(|| self.mean_bytes()) <= PACKED_MEAN_MAX
    }
}

/// The event at `position`.
pub(super) async fn get(store: &Store, position: Position) -> Result<Option<StoredEvent>, ReadError> {
    let mut reader = Reader::new(store).await.map_err(read_error)?;
    let sql = format!("SELECT {EVENT_COLUMNS} FROM events WHERE id = ?");
    let statement = store.dialect.statement(&sql, vec![position.get().into()]);
    let events = reader.lease.all(statement).await;
    Ok(reader.done(events)?.pop())
}

/// How far the log has come.
pub(super) async fn state(store: &Store) -> Result<LogState, ReadError> {
    let mut reader = Reader::new(store).await.map_err(read_error)?;
    let rows: Result<Vec<(i64, i64, Option<i64>)>, _> = reader.lease.all(store.dialect.state()).await;
    let state = rows.and_then(|rows| {
        let (head, newest, deletions) = rows.first().copied().ok_or(Error::RowNotFound)?;
        let deletions = deletions.ok_or(Error::RowNotFound)?;
        let deletions = u64::try_from(deletions).map_err(undecodable)?;
        Ok(LogState { head: Position::new(head.max(newest)).ok(), deletions })
    });
    reader.done(state)
}

/// A page of events.
pub(super) async fn page(store: &Store, query: ReadQuery) -> Result<Page, ReadError> {
    let mut reader = Reader::new(store).await.map_err(read_error)?;
    let found = find::find(&mut reader, &query).await;
    let (events, reached) = reader.done(found)?;
    Ok(Page { events, reached })
}

/// A page of positions alone, and how far the look went.
pub(super) async fn positions(store: &Store, query: ReadQuery) -> Result<(Vec<Position>, Position), ReadError> {
    let mut reader = Reader::new(store).await.map_err(read_error)?;
    let found = find::find(&mut reader, &query).await;
    reader.done(found)
}

/// The last events of subjects.
pub(super) async fn latest(store: &Store, query: LatestQuery) -> Result<LatestPage, ReadError> {
    let mut reader = Reader::new(store).await.map_err(read_error)?;
    let latest = latest::latest(&mut reader, &query).await;
    reader.done(latest)
}

/// Distinct subjects above `after`; fewer than `limit` only at the end.
pub(super) async fn subjects(store: &Store, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError> {
    let mut reader = Reader::new(store).await.map_err(read_error)?;
    let subjects = distinct(&mut reader, after.as_ref(), limit).await;
    reader.done(subjects)
}

/// Distinct types between two places.
pub(super) async fn types(
    store: &Store,
    after: Option<Position>,
    through: Position,
) -> Result<Vec<EventType>, ReadError> {
    let mut reader = Reader::new(store).await.map_err(read_error)?;
    let mut condition = Condition::default();
    condition.positions(Span { after, through, order: Order::Ascending });
    let sql = format!("SELECT DISTINCT type FROM {} WHERE {}", store.dialect.events_by(Path::Log), condition.sql);
    let rows = reader.lease.all(store.dialect.statement(&sql, condition.parameters)).await;
    let rows: Vec<(String,)> = reader.done(rows)?;
    Ok(rows.into_iter().map(|(event_type,)| EventType::from_stored(event_type)).collect())
}

async fn distinct(reader: &mut Reader<'_>, after: Option<&Subject>, limit: usize) -> Result<Vec<Subject>, Error> {
    let newest = unindexed_subjects(reader, after, limit).await?;
    let mut subjects: Vec<Subject> = Vec::new();
    for range in Range::of(&SubjectFilter::All, after) {
        let scanned = scan(reader, &range, None, limit).await?;
        subjects.extend(scanned.looks.into_iter().map(|look| look.subject));
    }
    if !newest.is_empty() {
        subjects.extend(newest);
        subjects.sort_unstable();
        subjects.dedup();
        subjects.truncate(limit);
    }
    Ok(subjects)
}

/// Those of the events that the index has not come to, which are few.
async fn unindexed_subjects(
    reader: &mut Reader<'_>,
    after: Option<&Subject>,
    limit: usize,
) -> Result<Vec<Subject>, Error> {
    let all = Position::new(i64::MAX).map_err(undecodable)?;
    let indexed = reader.indexed(all).await?;
    if indexed == Some(all) {
        return Ok(Vec::new());
    }
    let mut condition = Condition::default();
    condition.push("id > ?", [indexed.map_or(0, Position::get).into()]);
    if let Some(after) = after {
        condition.push("subject > ?", [after.as_str().into()]);
    }
    condition.parameters.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    let table = reader.dialect().events_by(Path::Log);
    let sql = format!("SELECT DISTINCT subject FROM {table} WHERE {} ORDER BY subject LIMIT ?", condition.sql);
    let rows: Vec<(String,)> = reader.lease.all(reader.dialect().statement(&sql, condition.parameters)).await?;
    Ok(rows.into_iter().map(|(subject,)| Subject::from_stored(subject)).collect())
}
