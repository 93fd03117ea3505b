//! The ways to events: along the log, along a subject in the index, and to given positions.

use std::ops::ControlFlow;

use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::pool::{Parameter, Statement};
use crate::adapters::repository::sea_orm::query::{Engine, Path};
use crate::adapters::repository::sea_orm::read::Reader;
use crate::adapters::repository::sea_orm::read::condition::{
    Condition, Span, Subjects, apart_from_subject_literal, direction,
};
use crate::adapters::repository::sea_orm::read::pack::{Cursor, in_one_row};
use crate::adapters::repository::sea_orm::read::page::{Filling, Item};
use crate::adapters::repository::sea_orm::row::undecodable;
use crate::domain::attribute::Subject;
use crate::domain::filter::Filter;
use crate::domain::position::Position;
use crate::ports::event_repository::Order;

/// Positions in one statement that names them.
const NAMED_MAX: usize = 500;

/// The part of a statement behind what it selects, and how often it may be seen again.
struct Selection {
    /// What the position is called.
    id: &'static str,
    from: String,
    /// `None`: the statement names its positions itself.
    parameters: Option<Vec<Parameter>>,
}

/// What came of a statement.
enum Fetched {
    /// So many rows were there.
    Rows(usize),
    /// A row with large data stopped it.
    Large,
}

/// Adds what lies along the log.
pub(super) async fn along_log<T: Item>(
    reader: &mut Reader<'_>,
    filter: &Filter,
    span: Span,
    page: &mut Filling<T>,
) -> Result<(), Error> {
    let table = reader.dialect().events_by(Path::Log);
    let selection = |span: Span| {
        let mut condition = Condition::default();
        condition.positions(span);
        condition.subjects(&filter.subjects);
        condition.apart_from_subject(filter);
        let from = format!("FROM {table} WHERE {} ORDER BY id {} LIMIT ?", condition.sql, direction(span.order));
        Selection { id: "id", from, parameters: Some(condition.parameters) }
    };
    in_chunks(reader, span, page, selection).await
}

/// Adds what the index has of `subject`.
pub(super) async fn along_subject<T: Item>(
    reader: &mut Reader<'_>,
    subject: &Subject,
    filter: &Filter,
    span: Span,
    page: &mut Filling<T>,
) -> Result<(), Error> {
    let dialect = reader.dialect();
    let table = dialect.events_by(Path::Subject);
    let subjects = Subjects::One(subject.clone());
    let selection = |span: Span| {
        let (mut condition, order) = subjects.entries(dialect, Path::Subject, span);
        condition.apart_from_subject(filter);
        let from = format!("FROM {table} WHERE {} ORDER BY {order} LIMIT ?", condition.sql);
        Selection { id: "id", from, parameters: Some(condition.parameters) }
    };
    in_chunks(reader, span, page, selection).await
}

/// Adds what the index has of `subjects`, positions alone, up to `limit` of them. Returns how many there were.
pub(super) async fn entries(
    reader: &mut Reader<'_>,
    subjects: &Subjects,
    span: Span,
    limit: usize,
    positions: &mut Vec<Position>,
) -> Result<usize, Error> {
    let dialect = reader.dialect();
    let (path, id) = (Path::SubjectEntries, dialect.columns(Path::SubjectEntries).position);
    let (condition, order) = subjects.entries(dialect, path, span);
    let (table, where_) = (dialect.events_by(path), condition.sql);
    let from = match (subjects, dialect.engine) {
        (Subjects::Starting(_), Engine::Postgres | Engine::MySql | Engine::MariaDb) => format!(
            "FROM (SELECT id FROM {table} WHERE {where_} {} LIMIT {}) AS entries ORDER BY {order} LIMIT ?",
            // In the order of the index, so that no other one is walked.
            if dialect.engine == Engine::Postgres { "ORDER BY subject, id" } else { "" },
            // A limit keeps the two apart. Sorting at once, MariaDB would read the row of each entry.
            i64::MAX,
        ),
        (Subjects::Starting(_), Engine::Sqlite) | (Subjects::One(_), _) => {
            format!("FROM {table} WHERE {where_} ORDER BY {order} LIMIT ?")
        }
    };
    let mut parameters = condition.parameters;
    parameters.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    let mut found = Filling::room(limit, usize::MAX);
    fetch(reader, Selection { id, from, parameters: Some(parameters) }, true, &mut found).await?;
    let count = found.items.len();
    positions.append(&mut found.items);
    Ok(count)
}

/// Adds the events at `positions`, which are in `order`. Those that are gone are left out. Returns how many positions were
/// looked at: all of them unless the page is full before.
pub(super) async fn at<T: Item>(
    reader: &mut Reader<'_>,
    filter: &Filter,
    positions: &[Position],
    order: Order,
    page: &mut Filling<T>,
) -> Result<usize, Error> {
    let mut taken = 0;
    let mut is_packed = reader.packs(page);
    while taken < positions.len() && !page.is_full() {
        let rest = &positions[taken..];
        let chunk = &rest[..page.chunk(reader.mean_bytes()).min(NAMED_MAX).min(rest.len())];
        let selection = named(reader, filter, chunk, order);
        let fetched = fetch(reader, selection, is_packed, page).await?;
        taken = match fetched {
            Fetched::Rows(_) if !page.is_cut => taken + chunk.len(),
            Fetched::Rows(_) | Fetched::Large => {
                is_packed &= !matches!(fetched, Fetched::Large);
                let last = page.items.last().map(Item::position);
                taken + chunk.iter().position(|position| Some(*position) == last).map_or(0, |index| index + 1)
            }
        };
    }
    Ok(taken)
}

fn named(reader: &Reader<'_>, filter: &Filter, positions: &[Position], order: Order) -> Selection {
    let list: Vec<String> = positions.iter().map(ToString::to_string).collect();
    let list = list.join(",");
    let (dialect, direction) = (reader.dialect(), direction(order));
    let table = dialect.events_by(Path::Log);
    let mut condition = Condition::default();
    condition.apart_from_subject(filter);
    let picked = if condition.sql.is_empty() { String::new() } else { format!("AND {}", condition.sql) };
    let (from, list) = match dialect.engine {
        Engine::Sqlite => {
            let wanted = "(SELECT value AS wanted FROM json_each(?))";
            (format!("FROM {wanted} CROSS JOIN {table} ON id = wanted WHERE 1 {picked}"), format!("[{list}]"))
        }
        Engine::Postgres => {
            let wanted = "ANY(CAST(? AS TEXT)::BIGINT[])";
            (format!("FROM {table} WHERE id = {wanted} {picked} ORDER BY id {direction}"), format!("{{{list}}}"))
        }
        Engine::MySql | Engine::MariaDb => {
            let picked = apart_from_subject_literal(filter);
            let from = format!("FROM {table} WHERE id IN ({list}) {picked} ORDER BY id {direction}");
            return Selection { id: "id", from, parameters: None };
        }
    };
    let parameters = [list.into()].into_iter().chain(condition.parameters).collect();
    Selection { id: "id", from, parameters: Some(parameters) }
}

/// Runs statement after statement along `span` until the page is full or nothing is left. `selection` makes the statement
/// for what is left; its last parameter, the limit, is added here.
async fn in_chunks<T: Item>(
    reader: &mut Reader<'_>,
    mut span: Span,
    page: &mut Filling<T>,
    selection: impl Fn(Span) -> Selection,
) -> Result<(), Error> {
    let mut is_packed = reader.packs(page);
    loop {
        let chunk = page.chunk(reader.mean_bytes());
        let mut selection = selection(span);
        let limit = i64::try_from(chunk).unwrap_or(i64::MAX);
        selection.parameters.get_or_insert_default().push(limit.into());
        match fetch(reader, selection, is_packed, page).await? {
            Fetched::Rows(count) if count < chunk => return Ok(()),
            Fetched::Rows(_) => page.cut_if_nearly_full(),
            Fetched::Large => is_packed = false,
        }
        if page.is_full() {
            return Ok(());
        }
        match page.items.last().map(|last| span.rest(last.position())) {
            Some(Some(rest)) => span = rest,
            Some(None) => return Ok(()),
            None => {}
        }
    }
}

/// Runs a statement and adds its rows to `page` until it is full.
async fn fetch<T: Item>(
    reader: &mut Reader<'_>,
    Selection { id, from, parameters }: Selection,
    is_packed: bool,
    page: &mut Filling<T>,
) -> Result<Fetched, Error> {
    let dialect = reader.dialect();
    if is_packed && dialect.engine == Engine::Sqlite {
        let statement = dialect.statement(&in_one_row::<T>(id, &from), parameters.unwrap_or_default());
        let rows: Vec<(i64, Option<Vec<u8>>)> = reader.lease.all(statement).await?;
        let (count, packed) = rows.into_iter().next().ok_or(Error::RowNotFound)?;
        return unpack(count, &packed.unwrap_or_default(), page);
    }
    let mut count = 0;
    let take = |item| {
        count += 1;
        page.push(item);
        if page.is_cut { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let sql = format!("SELECT {} {from}", T::columns(id));
    let statement = match parameters {
        Some(parameters) => dialect.statement(&sql, parameters),
        None => Statement { sql, parameters: None },
    };
    reader.lease.each(statement, take).await?;
    Ok(Fetched::Rows(count))
}

/// Adds `count` rows.
fn unpack<T: Item>(count: i64, packed: &[u8], page: &mut Filling<T>) -> Result<Fetched, Error> {
    let mut packed = Cursor::new(packed);
    let mut unpacked = 0;
    while !packed.is_empty() && !page.is_cut {
        if packed.is_at_large() {
            return Ok(Fetched::Large);
        }
        page.push(T::unpack(&mut packed)?);
        unpacked += 1;
    }
    if !page.is_cut && i64::try_from(unpacked) != Ok(count) {
        return Err(undecodable(format!("{unpacked} of {count} rows were packed")));
    }
    Ok(Fetched::Rows(unpacked))
}
