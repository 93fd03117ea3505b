//! Reading the log.

use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, DbErr, QueryResult, StreamTrait, Value};

use crate::adapters::repository::sea_orm::connect::Store;
use crate::adapters::repository::sea_orm::fault::read_error;
use crate::adapters::repository::sea_orm::query::{Dialect, EVENT_COLUMNS, Path, above_prefix, position_at};
use crate::domain::attribute::Subject;
use crate::domain::event::StoredEvent;
use crate::domain::filter::SubjectFilter;
use crate::domain::position::Position;
use crate::ports::event_repository::{Page, ReadError, ReadQuery};

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

/// The highest committed position.
pub(super) async fn head(store: &Store) -> Result<Option<Position>, ReadError> {
    let row = store.readers.query_one_raw(store.dialect.head()).await.map_err(read_error)?;
    let missing = || DbErr::RecordNotFound("the head row is missing".to_owned());
    let row = row.ok_or_else(missing).map_err(read_error)?;
    let newest = |row: &QueryResult| Ok(row.try_get_by_index::<i64>(0)?.max(row.try_get_by_index::<i64>(1)?));
    Ok(Position::new(newest(&row).map_err(read_error)?).ok())
}

/// Distinct subjects above `after`; a statement may give fewer than are wanted, but none only at the end.
pub(super) async fn subjects(store: &Store, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError> {
    let mut subjects: Vec<Subject> = Vec::new();
    while subjects.len() < limit {
        let wanted = i64::try_from(limit - subjects.len()).unwrap_or(i64::MAX);
        let last = subjects.last().or(after.as_ref()).map(Subject::as_str);
        let statement = store.dialect.subjects(last, wanted);
        let rows = store.readers.query_all_raw(statement).await.map_err(read_error)?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            subjects.push(Subject::from_stored(row.try_get_by_index(0).map_err(read_error)?));
        }
    }
    Ok(subjects)
}

/// A page of events.
pub(super) async fn page(store: &Store, query: ReadQuery) -> Result<Page, ReadError> {
    let found = find::<StoredEvent>(store, query).await.map_err(read_error)?;
    Ok(Page { events: found.items, through: found.through })
}

/// A page of positions alone, and the place to go on after.
pub(super) async fn positions(store: &Store, query: ReadQuery) -> Result<(Vec<Position>, Position), ReadError> {
    let found = find::<Position>(store, query).await.map_err(read_error)?;
    Ok((found.items, found.through))
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

struct Found<T> {
    items: Vec<T>,
    through: Position,
}

async fn find<T: Item>(store: &Store, query: ReadQuery) -> Result<Found<T>, DbErr> {
    let subjects = query.filter.subjects.clone();
    match subjects {
        SubjectFilter::All if query.filter.types.is_empty() => by_position(store, &query, query.through).await,
        SubjectFilter::All => {
            let window = window_end(&query, WINDOW_POSITIONS);
            by_position(store, &query, window).await
        }
        SubjectFilter::Exact(subjects) => {
            let is_typed = !query.filter.types.is_empty();
            let through = if is_typed { window_end(&query, TYPED_POSITIONS) } else { query.through };
            by_subject(store, &query, subjects.into_iter().map(Subjects::One).collect(), through).await
        }
        SubjectFilter::Prefix(prefixes) => {
            let window = window_end(&query, WINDOW_POSITIONS);
            let near: Found<T> = by_position(store, &query, window).await?;
            let is_dense = near.items.len() * DENSE_ONE_IN >= usize::try_from(WINDOW_POSITIONS).unwrap_or(usize::MAX);
            if near.through < window || window == query.through || is_dense || near.items.len() >= query.limit {
                return Ok(near);
            }
            let subjects = prefixes.into_iter().map(Subjects::Starting).collect();
            by_subject(store, &query, subjects, query.through).await
        }
    }
}

fn window_end(query: &ReadQuery, positions: i64) -> Position {
    let end = query.after.map_or(0, Position::get).saturating_add(positions);
    Position::new(end).map_or(query.through, |end| end.min(query.through))
}

/// A condition with its parameters.
#[derive(Default)]
struct Condition {
    sql: String,
    values: Vec<Value>,
}

impl Condition {
    fn push(&mut self, sql: &str, values: impl IntoIterator<Item = Value>) {
        if !self.sql.is_empty() {
            self.sql.push_str(" AND ");
        }
        self.sql.push_str(sql);
        self.values.extend(values);
    }

    fn positions(&mut self, after: Option<Position>, through: Position) {
        self.push("id > ? AND id <= ?", [after.map_or(0, Position::get).into(), through.get().into()]);
    }

    fn types(&mut self, query: &ReadQuery) {
        let types = &query.filter.types;
        if !types.is_empty() {
            let marks = vec!["?"; types.len()].join(", ");
            self.push(&format!("type IN ({marks})"), types.iter().map(|event_type| event_type.as_str().into()));
        }
    }
}

/// Subjects that lie next to each other in the index.
enum Subjects {
    One(Subject),
    Starting(Subject),
}

impl Subjects {
    fn condition(&self) -> Condition {
        let mut condition = Condition::default();
        match self {
            Self::One(subject) => condition.push("subject = ?", [subject.as_str().into()]),
            Self::Starting(prefix) => {
                condition.push("subject >= ?", [prefix.as_str().into()]);
                if let Some(bound) = above_prefix(prefix.as_str()) {
                    condition.push("subject < ?", [bound.into()]);
                }
            }
        }
        condition
    }
}

/// Walks the log from the query's place to `through`.
async fn by_position<T: Item>(store: &Store, query: &ReadQuery, through: Position) -> Result<Found<T>, DbErr> {
    let mut condition = Condition::default();
    condition.positions(query.after, through);
    if let SubjectFilter::Prefix(prefixes) = &query.filter.subjects {
        let ranges: Vec<Condition> =
            prefixes.iter().cloned().map(|prefix| Subjects::Starting(prefix).condition()).collect();
        let sql: Vec<String> = ranges.iter().map(|range| format!("({})", range.sql)).collect();
        condition.push(&format!("({})", sql.join(" OR ")), ranges.into_iter().flat_map(|range| range.values));
    }
    condition.types(query);
    let table = store.dialect.events_by(Path::Log);
    let sql = format!("SELECT {} FROM {table} WHERE {} ORDER BY id LIMIT ?", T::COLUMNS, condition.sql);
    fetch(store, &sql, condition.values, query, through).await
}

/// Follows the index to each of `subjects`, up to `through`, and merges what is found.
async fn by_subject<T: Item>(
    store: &Store,
    query: &ReadQuery,
    subjects: Vec<Subjects>,
    through: Position,
) -> Result<Found<T>, DbErr> {
    let mut merged = Found { items: Vec::new(), through };
    for subjects in subjects {
        let mut condition = subjects.condition();
        condition.positions(query.after, merged.through);
        condition.types(query);
        let table = store.dialect.events_by(Path::Subject);
        let (columns, where_) = (T::COLUMNS, condition.sql);
        let sql = match subjects {
            Subjects::One(_) => format!("SELECT {columns} FROM {table} WHERE {where_} ORDER BY id LIMIT ?"),
            // Sorting positions is cheap, sorting whole events is not.
            Subjects::Starting(_) => format!(
                "SELECT {columns} FROM events JOIN \
                 (SELECT id AS match_id FROM {table} WHERE {where_} ORDER BY id LIMIT ?) AS matches \
                 ON matches.match_id = events.id ORDER BY id"
            ),
        };
        let found = fetch::<T>(store, &sql, condition.values, query, merged.through).await?;
        // Where one part ended early, the others count only up to there.
        merged.through = found.through;
        merged.items.extend(found.items);
    }
    merged.items.retain(|item| item.position() <= merged.through);
    merged.items.sort_by_key(Item::position);
    let mut bytes = 0_usize;
    let fitting = merged.items.iter().take(query.limit).take_while(|item| {
        bytes = bytes.saturating_add(item.size_bytes());
        bytes <= query.bytes_max
    });
    let count = fitting.count().max(1);
    if count < merged.items.len() {
        merged.items.truncate(count);
        merged.through = merged.items.last().map_or(merged.through, Item::position);
    }
    Ok(merged)
}

/// Runs `sql`, whose last parameter is the limit, and stops where the page is full.
async fn fetch<T: Item>(
    store: &Store,
    sql: &str,
    mut values: Vec<Value>,
    query: &ReadQuery,
    through: Position,
) -> Result<Found<T>, DbErr> {
    values.push(i64::try_from(query.limit).unwrap_or(i64::MAX).into());
    let mut rows = store.readers.stream_raw(store.dialect.statement(sql, values)).await?;
    let mut found = Found { items: Vec::new(), through };
    let mut bytes = 0_usize;
    let mut is_cut = false;
    while let Some(row) = rows.try_next().await? {
        let item = T::read(store.dialect, &row)?;
        bytes = bytes.saturating_add(item.size_bytes());
        if bytes > query.bytes_max && !found.items.is_empty() {
            is_cut = true;
            break;
        }
        found.items.push(item);
    }
    if let Some(last) = found.items.last().filter(|_| is_cut || found.items.len() >= query.limit) {
        found.through = last.position();
    }
    Ok(found)
}
