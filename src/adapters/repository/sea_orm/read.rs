//! Reading the log.

mod condition;
mod latest;
mod mysql_scan;
mod skip_scan;

use futures_util::TryStreamExt;
use sea_orm::sqlx::{self, AssertSqlSafe};
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement, StreamTrait, Value};

use crate::adapters::repository::sea_orm::connect::Store;
use crate::adapters::repository::sea_orm::fault::{query_error, read_error};
use crate::adapters::repository::sea_orm::query::{Dialect, EVENT_COLUMNS, Engine, Path, position_at};
use crate::adapters::repository::sea_orm::read::condition::{Condition, Span, Subjects, direction};
use crate::adapters::repository::sea_orm::read::skip_scan::{Range, scan};
use crate::domain::attribute::Subject;
use crate::domain::event::StoredEvent;
use crate::domain::filter::{Filter, SubjectFilter};
use crate::domain::log_state::LogState;
use crate::domain::position::Position;
use crate::ports::event_repository::{LatestPage, LatestQuery, Order, Page, ReadError, ReadQuery};

/// Positions looked at in one call where an index does not lead to the matches.
const WINDOW_POSITIONS: i64 = 8_192;

/// Positions looked at in one call on the way along one subject for events of a type: an index leads to the subject's
/// events, each of which must be looked at.
const TYPED_POSITIONS: i64 = 262_144;

/// Below one match in so many positions, the index by subject is the shorter way to those of a prefix.
const DENSE_ONE_IN: usize = 16;

/// The event at `position`.
pub(super) async fn get(store: &Store, position: Position) -> Result<Option<StoredEvent>, ReadError> {
    let sql = format!("SELECT {EVENT_COLUMNS} FROM events WHERE id = ?");
    let statement = store.dialect.statement(&sql, vec![position.get().into()]);
    let row = store.readers.query_one_raw(statement).await.map_err(read_error)?;
    row.map(|row| store.dialect.event(&row)).transpose().map_err(read_error)
}

/// How far the log has come.
pub(super) async fn state(store: &Store) -> Result<LogState, ReadError> {
    read_state(store).await.map_err(read_error)
}

async fn read_state(store: &Store) -> Result<LogState, DbErr> {
    let row = store.readers.query_one_raw(store.dialect.state()).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("the head row is missing".to_owned()))?;
    let newest = row.try_get_by_index::<i64>(0)?.max(row.try_get_by_index(1)?);
    let deletions: Option<i64> = row.try_get_by_index(2)?;
    let deletions = deletions.and_then(|number| u64::try_from(number).ok());
    let deletions = deletions.ok_or_else(|| DbErr::RecordNotFound("the number of deletions is missing".to_owned()))?;
    Ok(LogState { head: Position::new(newest).ok(), deletions })
}

/// Distinct subjects above `after`; fewer than `limit` only at the end.
pub(super) async fn subjects(store: &Store, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError> {
    distinct(store, after.as_ref(), limit).await.map_err(read_error)
}

async fn distinct(store: &Store, after: Option<&Subject>, limit: usize) -> Result<Vec<Subject>, DbErr> {
    let newest = unindexed_subjects(store, after, limit).await?;
    let mut subjects: Vec<Subject> = Vec::new();
    for range in Range::of(&SubjectFilter::All, after) {
        let scanned = scan(store, &range, None, limit).await?;
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
async fn unindexed_subjects(store: &Store, after: Option<&Subject>, limit: usize) -> Result<Vec<Subject>, DbErr> {
    let all = Position::new(i64::MAX).map_err(|error| DbErr::Type(error.to_string()))?;
    let indexed = store.subject_index.serves(store.dialect, &store.readers, all).await?;
    if indexed == Some(all) {
        return Ok(Vec::new());
    }
    let mut condition = Condition::default();
    condition.push("id > ?", [indexed.map_or(0, Position::get).into()]);
    if let Some(after) = after {
        condition.push("subject > ?", [after.as_str().into()]);
    }
    condition.values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    let table = store.dialect.events_by(Path::Log);
    let sql = format!("SELECT DISTINCT subject FROM {table} WHERE {} ORDER BY subject LIMIT ?", condition.sql);
    let rows = store.readers.query_all_raw(store.dialect.statement(&sql, condition.values)).await?;
    rows.iter().map(|row| Ok(Subject::from_stored(row.try_get_by_index(0)?))).collect()
}

/// A page of events.
pub(super) async fn page(store: &Store, query: ReadQuery) -> Result<Page, ReadError> {
    let (events, reached) = find::<StoredEvent>(store, &query).await.map_err(read_error)?;
    Ok(Page { events, reached })
}

/// The last events of subjects.
pub(super) async fn latest(store: &Store, query: LatestQuery) -> Result<LatestPage, ReadError> {
    latest::latest(store, &query).await.map_err(read_error)
}

/// A page of positions alone, and how far the look went.
pub(super) async fn positions(store: &Store, query: ReadQuery) -> Result<(Vec<Position>, Position), ReadError> {
    find::<Position>(store, &query).await.map_err(read_error)
}

/// What a row of a page becomes.
trait Item: Sized {
    const COLUMNS: &'static str;
    fn read(dialect: Dialect, row: &QueryResult) -> Result<Self, DbErr>;
    fn position(&self) -> Position;
    fn size_bytes(&self) -> usize;
}

impl Item for StoredEvent {
    const COLUMNS: &'static str = EVENT_COLUMNS;

    fn read(dialect: Dialect, row: &QueryResult) -> Result<Self, DbErr> {
        dialect.event(row)
    }

    fn position(&self) -> Position {
        self.position
    }

    fn size_bytes(&self) -> usize {
        Self::size_bytes(self)
    }
}

impl Item for Position {
    const COLUMNS: &'static str = "id";

    fn read(_dialect: Dialect, row: &QueryResult) -> Result<Self, DbErr> {
        position_at(row, 0)
    }

    fn position(&self) -> Position {
        *self
    }

    fn size_bytes(&self) -> usize {
        0
    }
}

/// A page that is being filled.
struct Found<T> {
    items: Vec<T>,
    bytes: usize,
    limit: usize,
    bytes_max: usize,
    /// Whether there is more, which does not fit.
    is_cut: bool,
}

impl<T: Item> Found<T> {
    fn room(limit: usize, bytes_max: usize) -> Self {
        Self { items: Vec::new(), bytes: 0, limit, bytes_max, is_cut: false }
    }

    fn is_full(&self) -> bool {
        self.is_cut || self.items.len() >= self.limit
    }

    /// How many more there is room for.
    fn limit_left(&self) -> usize {
        self.limit.saturating_sub(self.items.len())
    }

    fn bytes_left(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes)
    }

    fn mean_bytes(&self) -> usize {
        (self.bytes / self.items.len().max(1)).max(1)
    }

    /// Takes `item` unless it does not fit. The first one always does.
    fn push(&mut self, item: T) {
        let bytes = self.bytes.saturating_add(item.size_bytes());
        self.is_cut = self.is_full() || (bytes > self.bytes_max && !self.items.is_empty());
        if !self.is_cut {
            self.bytes = bytes;
            self.items.push(item);
        }
    }

    /// How far a look along `span` came.
    fn reached(&self, span: Span) -> Position {
        self.items.last().filter(|_| self.is_full()).map_or_else(|| span.end(), Item::position)
    }
}

async fn find<T: Item>(store: &Store, query: &ReadQuery) -> Result<(Vec<T>, Position), DbErr> {
    let mut found = Found::room(query.limit, query.bytes_max);
    let Some(span) = Span::of(query) else { return Ok((found.items, query.through)) };
    let filter = &query.filter;
    let is_typed = !filter.types.is_empty();
    let span = match filter.subjects {
        SubjectFilter::All => {
            let span = if is_typed { span.first(WINDOW_POSITIONS) } else { span };
            along_log(store, filter, span, &mut found).await?;
            span
        }
        SubjectFilter::Exact(_) => {
            let span = if is_typed { span.first(TYPED_POSITIONS) } else { span };
            by_subject(store, filter, span, &mut found).await?;
            span
        }
        SubjectFilter::Prefix(_) => {
            let window = span.first(WINDOW_POSITIONS);
            along_log(store, filter, window, &mut found).await?;
            let is_dense = found.items.len() * DENSE_ONE_IN >= usize::try_from(WINDOW_POSITIONS).unwrap_or(usize::MAX);
            match span.rest(window.end()) {
                Some(rest) if !is_dense && !found.is_full() => {
                    by_subject(store, filter, rest, &mut found).await?;
                    span
                }
                Some(_) | None => window,
            }
        }
    };
    let reached = found.reached(span);
    Ok((found.items, reached))
}

/// Adds what lies along the log.
async fn along_log<T: Item>(store: &Store, filter: &Filter, span: Span, found: &mut Found<T>) -> Result<(), DbErr> {
    let mut condition = Condition::default();
    condition.positions(span);
    condition.subjects(&filter.subjects);
    condition.types(&filter.types);
    let (columns, table, direction) = (T::COLUMNS, store.dialect.events_by(Path::Log), direction(span.order));
    let sql = format!("SELECT {columns} FROM {table} WHERE {} ORDER BY id {direction} LIMIT ?", condition.sql);
    fetch(store, &sql, condition.values, found).await
}

/// Adds what the index leads to as far as it goes, and what lies along the log above that.
async fn by_subject<T: Item>(store: &Store, filter: &Filter, span: Span, found: &mut Found<T>) -> Result<(), DbErr> {
    let indexed = store.subject_index.serves(store.dialect, &store.readers, span.through).await?;
    let (lower, upper) = span.split(indexed);
    if let (Order::Descending, Some(upper)) = (span.order, upper) {
        along_log(store, filter, upper, found).await?;
    }
    if let Some(lower) = lower.filter(|_| !found.is_full()) {
        by_index(store, filter, lower, found).await?;
    }
    match upper {
        Some(upper) if span.order == Order::Ascending && !found.is_full() => {
            along_log(store, filter, upper, found).await
        }
        Some(_) | None => Ok(()),
    }
}

/// Follows the index to each of the subjects and merges what is found.
async fn by_index<T: Item>(store: &Store, filter: &Filter, mut span: Span, found: &mut Found<T>) -> Result<(), DbErr> {
    let mut merged: Vec<T> = Vec::new();
    let mut is_cut = false;
    for subjects in Subjects::of(&filter.subjects) {
        let path = match &subjects {
            Subjects::Starting(_) if filter.types.is_empty() => Path::SubjectEntries,
            Subjects::Starting(_) | Subjects::One(_) => Path::Subject,
        };
        let (mut condition, order) = subjects.entries(store.dialect, path, span);
        condition.types(&filter.types);
        let (columns, table, where_) = (T::COLUMNS, store.dialect.events_by(path), condition.sql);
        let sql = match subjects {
            Subjects::One(_) => format!("SELECT {columns} FROM {table} WHERE {where_} ORDER BY {order} LIMIT ?"),
            // Sorting positions is cheap, sorting whole events is not.
            Subjects::Starting(_) => {
                let (position, direction) = (store.dialect.columns(path).position, direction(span.order));
                format!(
                    "SELECT {columns} FROM events JOIN \
                     (SELECT {position} AS match_id FROM {table} WHERE {where_} ORDER BY {order} LIMIT ?) AS matches \
                     ON matches.match_id = events.id ORDER BY id {direction}"
                )
            }
        };
        let mut part = Found::<T>::room(found.limit_left(), found.bytes_max);
        fetch(store, &sql, condition.values, &mut part).await?;
        // Where one part ended early, the others count only up to there.
        span = span.up_to(part.reached(span));
        is_cut |= part.is_full();
        merged.extend(part.items);
    }
    merged.sort_by_key(Item::position);
    if span.order == Order::Descending {
        merged.reverse();
    }
    let within = |item: &T| Some(item.position()) > span.after && item.position() <= span.through;
    merged.into_iter().filter(within).for_each(|item| found.push(item));
    found.is_cut |= is_cut;
    Ok(())
}

/// Runs `sql`, whose last parameter is the limit, adds to `found` and stops where it is full.
async fn fetch<T: Item>(store: &Store, sql: &str, mut values: Vec<Value>, found: &mut Found<T>) -> Result<(), DbErr> {
    values.push(i64::try_from(found.limit_left()).unwrap_or(i64::MAX).into());
    fill(store, store.dialect.statement(sql, values), found).await
}

async fn fill<T: Item>(store: &Store, statement: Statement, found: &mut Found<T>) -> Result<(), DbErr> {
    let mut rows = store.readers.stream_raw(statement).await?;
    while let Some(row) = rows.try_next().await? {
        found.push(T::read(store.dialect, &row)?);
        if found.is_cut {
            break;
        }
    }
    Ok(())
}

/// Adds the events at `positions`, which are in `order`, and stops where it is full. Those that are gone are left out.
async fn fetch_at<T: Item>(
    store: &Store,
    positions: &[Position],
    order: Order,
    found: &mut Found<T>,
) -> Result<(), DbErr> {
    let list: Vec<String> = positions.iter().map(ToString::to_string).collect();
    let (list, columns) = (list.join(","), T::COLUMNS);
    let direction = direction(order);
    let statement = match store.dialect.engine {
        Engine::Sqlite => {
            let wanted = "(SELECT value AS wanted FROM json_each(?))";
            let sql = format!("SELECT {columns} FROM {wanted} CROSS JOIN events ON id = wanted");
            store.dialect.statement(&sql, vec![format!("[{list}]").into()])
        }
        Engine::Postgres => {
            let wanted = "ANY(CAST(? AS TEXT)::BIGINT[])";
            let sql = format!("SELECT {columns} FROM events WHERE id = {wanted} ORDER BY id {direction}");
            store.dialect.statement(&sql, vec![format!("{{{list}}}").into()])
        }
        Engine::MySql | Engine::MariaDb => {
            let table = store.dialect.events_by(Path::Log);
            // Numbers of ours need no parameters, and a text no place among the prepared statements.
            let sql = format!("SELECT {columns} FROM {table} WHERE id IN ({list}) ORDER BY id {direction}");
            let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(store.readers.get_mysql_connection_pool());
            while let Some(row) = rows.try_next().await.map_err(query_error)? {
                found.push(T::read(store.dialect, &QueryResult::from(row))?);
                if found.is_cut {
                    break;
                }
            }
            return Ok(());
        }
    };
    fill(store, statement, found).await
}
