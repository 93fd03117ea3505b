//! Reading the log.

use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement, StreamTrait, Value};

use crate::adapters::repository::sea_orm::connect::Store;
use crate::adapters::repository::sea_orm::fault::read_error;
use crate::adapters::repository::sea_orm::query::{Columns, Dialect, EVENT_COLUMNS, Path, above_prefix, position_at};
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

/// Distinct subjects above `after`; fewer than `limit` only at the end.
pub(super) async fn subjects(store: &Store, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError> {
    let newest = unindexed_subjects(store, after.as_ref(), limit).await.map_err(read_error)?;
    let mut subjects: Vec<Subject> = Vec::new();
    // A statement may give fewer than are wanted, but none only at the end.
    while subjects.len() < limit {
        let wanted = i64::try_from(limit - subjects.len()).unwrap_or(i64::MAX);
        let last = subjects.last().or(after.as_ref()).map(Subject::as_str);
        let found = texts(store, store.dialect.subjects(last, wanted)).await.map_err(read_error)?;
        if found.is_empty() {
            break;
        }
        subjects.extend(found);
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
    texts(store, store.dialect.statement(&sql, condition.values)).await
}

async fn texts(store: &Store, statement: Statement) -> Result<Vec<Subject>, DbErr> {
    let rows = store.readers.query_all_raw(statement).await?;
    rows.iter().map(|row| Ok(Subject::from_stored(row.try_get_by_index(0)?))).collect()
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

impl<T> Found<T> {
    fn empty(through: Position) -> Self {
        Self { items: Vec::new(), through }
    }
}

async fn find<T: Item>(store: &Store, query: ReadQuery) -> Result<Found<T>, DbErr> {
    let is_typed = !query.filter.types.is_empty();
    match query.filter.subjects {
        SubjectFilter::All => {
            let through = if is_typed { window_end(&query, WINDOW_POSITIONS) } else { query.through };
            by_position(store, &query, Found::empty(through)).await
        }
        SubjectFilter::Exact(_) => {
            let through = if is_typed { window_end(&query, TYPED_POSITIONS) } else { query.through };
            by_subject(store, &query, through).await
        }
        SubjectFilter::Prefix(_) => {
            let window = window_end(&query, WINDOW_POSITIONS);
            let near: Found<T> = by_position(store, &query, Found::empty(window)).await?;
            let is_dense = near.items.len() * DENSE_ONE_IN >= usize::try_from(WINDOW_POSITIONS).unwrap_or(usize::MAX);
            if near.through < window || window == query.through || is_dense || near.items.len() >= query.limit {
                return Ok(near);
            }
            by_subject(store, &query, query.through).await
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

    fn positions(&mut self, columns: Columns, after: Option<Position>, through: Position) {
        let sql = format!("{0} > ? AND {0} <= ?", columns.position);
        self.push(&sql, [after.map_or(0, Position::get).into(), through.get().into()]);
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
    fn of(filter: &SubjectFilter) -> Vec<Self> {
        match filter {
            SubjectFilter::All => Vec::new(),
            SubjectFilter::Exact(subjects) => subjects.iter().cloned().map(Self::One).collect(),
            SubjectFilter::Prefix(prefixes) => prefixes.iter().cloned().map(Self::Starting).collect(),
        }
    }

    fn condition(&self, columns: Columns) -> Condition {
        let column = columns.subject;
        let mut condition = Condition::default();
        match self {
            Self::One(subject) => condition.push(&format!("{column} = ?"), [subject.as_str().into()]),
            Self::Starting(prefix) => {
                condition.push(&format!("{column} >= ?"), [prefix.as_str().into()]);
                if let Some(bound) = above_prefix(prefix.as_str()) {
                    condition.push(&format!("{column} < ?"), [bound.into()]);
                }
            }
        }
        condition
    }
}

/// Goes on from `found` along the log.
async fn by_position<T: Item>(store: &Store, query: &ReadQuery, found: Found<T>) -> Result<Found<T>, DbErr> {
    let columns = store.dialect.columns(Path::Log);
    let mut condition = Condition::default();
    condition.positions(columns, query.after, found.through);
    let subjects: Vec<Condition> =
        Subjects::of(&query.filter.subjects).iter().map(|subjects| subjects.condition(columns)).collect();
    if !subjects.is_empty() {
        let sql: Vec<String> = subjects.iter().map(|subjects| format!("({})", subjects.sql)).collect();
        condition.push(&format!("({})", sql.join(" OR ")), subjects.into_iter().flat_map(|subjects| subjects.values));
    }
    condition.types(query);
    let table = store.dialect.events_by(Path::Log);
    let sql = format!("SELECT {} FROM {table} WHERE {} ORDER BY id LIMIT ?", T::COLUMNS, condition.sql);
    fetch(store, &sql, condition.values, query, found).await
}

/// Follows the index as far as it goes, then the log, up to `through`.
async fn by_subject<T: Item>(store: &Store, query: &ReadQuery, through: Position) -> Result<Found<T>, DbErr> {
    let indexed = store.subject_index.serves(store.dialect, &store.readers, through).await?;
    let Some(indexed) = indexed.filter(|indexed| Some(*indexed) > query.after) else {
        return by_position(store, query, Found::empty(through)).await;
    };
    let found = by_index(store, query, indexed).await?;
    if found.through < indexed || indexed == through || found.items.len() >= query.limit {
        return Ok(found);
    }
    let rest = ReadQuery { after: Some(indexed), ..query.clone() };
    by_position(store, &rest, Found { through, ..found }).await
}

/// Follows the index to each of the subjects, up to `through`, and merges what is found.
async fn by_index<T: Item>(store: &Store, query: &ReadQuery, through: Position) -> Result<Found<T>, DbErr> {
    let is_typed = !query.filter.types.is_empty();
    let mut merged = Found::empty(through);
    for subjects in Subjects::of(&query.filter.subjects) {
        let path = match &subjects {
            Subjects::Starting(_) if !is_typed => Path::SubjectEntries,
            Subjects::Starting(_) | Subjects::One(_) => Path::Subject,
        };
        let found_by = store.dialect.columns(path);
        let mut condition = subjects.condition(found_by);
        condition.positions(found_by, query.after, merged.through);
        condition.types(query);
        let table = store.dialect.events_by(path);
        let (columns, position, where_) = (T::COLUMNS, found_by.position, condition.sql);
        let sql = match subjects {
            Subjects::One(_) => format!("SELECT {columns} FROM {table} WHERE {where_} ORDER BY {position} LIMIT ?"),
            // Sorting positions is cheap, sorting whole events is not.
            Subjects::Starting(_) => format!(
                "SELECT {columns} FROM events JOIN \
                 (SELECT {position} AS match_id FROM {table} WHERE {where_} ORDER BY {position} LIMIT ?) AS matches \
                 ON matches.match_id = events.id ORDER BY id"
            ),
        };
        let found = fetch::<T>(store, &sql, condition.values, query, Found::empty(merged.through)).await?;
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

/// Runs `sql`, whose last parameter is the limit, adds to `found` and stops where the page is full.
async fn fetch<T: Item>(
    store: &Store,
    sql: &str,
    mut values: Vec<Value>,
    query: &ReadQuery,
    mut found: Found<T>,
) -> Result<Found<T>, DbErr> {
    let limit = query.limit.saturating_sub(found.items.len());
    values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    let mut rows = store.readers.stream_raw(store.dialect.statement(sql, values)).await?;
    let mut bytes: usize = found.items.iter().map(Item::size_bytes).sum();
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
