//! The last event of each subject.

use std::collections::{BTreeMap, HashMap};

use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::query::Path;
use crate::adapters::repository::sea_orm::read::condition::{Condition, Span};
use crate::adapters::repository::sea_orm::read::page::Filling;
use crate::adapters::repository::sea_orm::read::skip_scan::{LastOf, Look, Range, lasts, scan};
use crate::adapters::repository::sea_orm::read::{Reader, walk};
use crate::adapters::repository::sea_orm::row::position;
use crate::domain::attribute::Subject;
use crate::domain::event::StoredEvent;
use crate::domain::filter::{Filter, SubjectFilter};
use crate::domain::position::Position;
use crate::ports::event_repository::{LatestPage, LatestQuery, Order};

/// Subjects looked at in one call, whatever comes of them.
const LOOKS_MAX: usize = 1_000;

/// Subjects looked at in one call for events of a type: of each, all events may have to be.
const TYPED_LOOKS: usize = 100;

/// Events fetched before their size is known.
const FETCH_FIRST: usize = 32;

/// Events fetched before they are put in order.
const FETCH_MAX: usize = 500;

/// How often a page is made anew because the very first event of it is deleted meanwhile. After that it is an entry of
/// the index without an event, which somebody else has deleted.
const ATTEMPTS: u32 = 20;

/// A page of last events.
pub(super) async fn latest(reader: &mut Reader<'_>, query: &LatestQuery) -> Result<LatestPage, Error> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let holes = if attempts < ATTEMPTS { Holes::EndThePage } else { Holes::ArePassed };
        if let Some(page) = attempt(reader, query, holes).await? {
            return Ok(page);
        }
    }
}

/// What becomes of a page where an event is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holes {
    EndThePage,
    ArePassed,
}

/// A page that ends before the first subject whose last event is deleted meanwhile: another one has become its last.
/// `None` when that is the first of all, if holes end it.
async fn attempt(reader: &mut Reader<'_>, query: &LatestQuery, holes: Holes) -> Result<Option<LatestPage>, Error> {
    let Lasts { positions, end } = last_positions(reader, query).await?;
    let mut page = Filling::<StoredEvent>::room(query.limit, query.bytes_max);
    let mut taken = 0;
    'page: while taken < positions.len() && !page.is_full() {
        let chunk = &positions[taken..];
        let count_max = if page.items.is_empty() { FETCH_FIRST } else { FETCH_MAX };
        let chunk = &chunk[..page.chunk(reader.mean_bytes()).min(count_max).min(chunk.len())];
        let mut events = events_at(reader, chunk).await?;
        for (_, position) in chunk {
            match events.remove(position) {
                Some(event) => page.push(event),
                None if holes == Holes::ArePassed => {}
                None if taken > 0 => break 'page,
                None => return Ok(None),
            }
            if page.is_cut {
                break;
            }
            taken += 1;
        }
    }
    let reached = if taken < positions.len() { positions[..taken].last().map(|(last, _)| last.clone()) } else { end };
    Ok(Some(LatestPage { events: page.items, reached }))
}

/// The events at the positions, by position.
async fn events_at(
    reader: &mut Reader<'_>,
    lasts: &[(Subject, Position)],
) -> Result<HashMap<Position, StoredEvent>, Error> {
    let mut positions: Vec<Position> = lasts.iter().map(|(_, position)| *position).collect();
    positions.sort_unstable();
    let mut events = Filling::<StoredEvent>::room(positions.len(), usize::MAX);
    walk::at(reader, &Filter::default(), &positions, Order::Ascending, &mut events).await?;
    Ok(events.items.into_iter().map(|event| (event.position, event)).collect())
}

/// The last events of some subjects.
struct Lasts {
    /// By subject, ascending.
    positions: Vec<(Subject, Position)>,
    /// The last subject that was looked at; `None` when nothing is left behind it.
    end: Option<Subject>,
}

async fn last_positions(reader: &mut Reader<'_>, query: &LatestQuery) -> Result<Lasts, Error> {
    let indexed = reader.indexed(query.through).await?;
    let span = Span { after: None, through: query.through, order: Order::Ascending };
    let (lower, upper) = span.split(indexed);
    let (looks, end) = match lower {
        Some(lower) => indexed_lasts(reader, query, lower.through).await?,
        None => (Vec::new(), None),
    };
    let found = looks.into_iter().filter_map(|look| Some((look.subject, look.last?)));
    let mut positions: BTreeMap<Subject, Position> = found.collect();
    if let Some(upper) = upper {
        // Above all those that the index has.
        let newest = unindexed_lasts(reader, query, upper).await?.into_iter();
        positions.extend(newest.filter(|(subject, _)| end.as_ref().is_none_or(|end| subject <= end)));
    }
    Ok(Lasts { positions: positions.into_iter().collect(), end })
}

/// Looks at subjects in the index; says with which one it ended unless nothing is left.
async fn indexed_lasts(
    reader: &mut Reader<'_>,
    query: &LatestQuery,
    through: Position,
) -> Result<(Vec<Look>, Option<Subject>), Error> {
    let last = LastOf { through, filter: &query.filter };
    let count = if query.filter.is_by_subject_alone() { query.limit.clamp(1, LOOKS_MAX) } else { TYPED_LOOKS };
    if let SubjectFilter::Exact(subjects) = &query.filter.subjects {
        let wanted = subjects.iter().filter(|subject| Some(*subject) > query.after.as_ref());
        let mut wanted: Vec<Subject> = wanted.take(count + 1).cloned().collect();
        let is_end = wanted.len() <= count;
        wanted.truncate(count);
        let end = wanted.last().filter(|_| !is_end).cloned();
        return Ok((lasts(reader, &wanted, last).await?, end));
    }
    let mut looks: Vec<Look> = Vec::new();
    for range in Range::of(&query.filter.subjects, query.after.as_ref()) {
        let scanned = scan(reader, &range, Some(last), count - looks.len()).await?;
        looks.extend(scanned.looks);
        if !scanned.is_end {
            let end = looks.last().map(|look| look.subject.clone());
            return Ok((looks, end));
        }
    }
    Ok((looks, None))
}

/// Those among the events of `span`, which the index has not come to.
async fn unindexed_lasts(
    reader: &mut Reader<'_>,
    query: &LatestQuery,
    span: Span,
) -> Result<Vec<(Subject, Position)>, Error> {
    let mut condition = Condition::default();
    condition.positions(span);
    condition.subjects(&query.filter.subjects);
    condition.apart_from_subject(&query.filter);
    if let Some(after) = &query.after {
        condition.push("subject > ?", [after.as_str().into()]);
    }
    let table = reader.dialect().events_by(Path::Log);
    let sql = format!("SELECT subject, max(id) FROM {table} WHERE {} GROUP BY subject", condition.sql);
    let statement = reader.dialect().statement(&sql, condition.parameters);
    let rows: Vec<(String, i64)> = reader.lease.all(statement).await?;
    rows.into_iter().map(|(subject, last)| Ok((Subject::from_stored(subject), position(last)?))).collect()
}
