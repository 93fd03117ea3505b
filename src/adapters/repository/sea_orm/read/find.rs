//! Which way leads to the events of a page.

use std::sync::Arc;

use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::query::Engine;
use crate::adapters::repository::sea_orm::read::Reader;
use crate::adapters::repository::sea_orm::read::condition::Span;
use crate::adapters::repository::sea_orm::read::dense;
use crate::adapters::repository::sea_orm::read::page::{Filling, Item};
use crate::adapters::repository::sea_orm::read::plan::{self, Plan};
use crate::adapters::repository::sea_orm::read::walk::{along_log, along_subject, at};
use crate::domain::attribute::Subject;
use crate::domain::filter::{Filter, SubjectFilter};
use crate::domain::position::Position;
use crate::ports::event_repository::{Order, ReadQuery};

/// Positions looked at in one call where an index does not lead to the matches.
const WINDOW_POSITIONS: i64 = 8_192;

/// Positions looked at in one call on the way along one subject for events of a type: an index leads to the subject's
/// events, each of which must be looked at.
const TYPED_POSITIONS: i64 = 262_144;

/// Planned positions looked at in one call for events of a type.
const PLANNED_LOOKS: usize = 8_192;

/// Below one match in so many positions, the index by subject is the shorter way to those of a prefix.
const DENSE_ONE_IN: usize = 16;

/// Positions for each of several subjects up to which the log is the shorter way.
const NEAR_POSITIONS: i64 = 64;

/// The items that `query` selects, and how far the look went.
pub(super) async fn find<T: Item>(reader: &mut Reader<'_>, query: &ReadQuery) -> Result<(Vec<T>, Position), Error> {
    let mut page = Filling::room(query.limit, query.bytes_max);
    let Some(span) = Span::of(query) else { return Ok((page.items, query.through)) };
    let filter = &query.filter;
    let seen = match &filter.subjects {
        SubjectFilter::All => {
            let span = if filter.is_by_subject_alone() { span } else { span.first(WINDOW_POSITIONS) };
            along_log(reader, filter, span, &mut page).await?;
            span
        }
        SubjectFilter::Exact(subjects) => match subjects.as_slice() {
            [subject] => of_one(reader, subject, filter, span, &mut page).await?,
            _ => of_many(reader, filter, span, &mut page).await?,
        },
        SubjectFilter::Prefix(_) => of_many(reader, filter, span, &mut page).await?,
    };
    reader.learn(&page);
    let reached = page.reached(seen);
    Ok((page.items, reached))
}

/// Adds the events of `subject`, and says which span that covers if the page is not full.
async fn of_one<T: Item>(
    reader: &mut Reader<'_>,
    subject: &Subject,
    filter: &Filter,
    span: Span,
    page: &mut Filling<T>,
) -> Result<Span, Error> {
    if !filter.is_by_subject_alone() {
        let span = span.first(TYPED_POSITIONS);
        by_subject(reader, subject, filter, span, page).await?;
        return Ok(span);
    }
    let mut rest = span;
    if reader.store.dense.has(subject) {
        let window = span.first(i64::try_from(page.limit_left().saturating_mul(dense::ONE_IN)).unwrap_or(i64::MAX));
        along_log(reader, filter, window, page).await?;
        let count = page.items.len();
        reader.store.dense.learn(subject, count, window.up_to(page.reached(window)).positions());
        match span.rest(window.end()) {
            Some(behind) if !page.is_full() && !reader.store.dense.has(subject) => rest = behind,
            Some(_) | None => return Ok(window),
        }
    }
    by_subject(reader, subject, filter, rest, page).await?;
    if let (Engine::MySql | Engine::MariaDb, [first, .., last]) = (reader.dialect().engine, page.items.as_slice()) {
        let positions = first.position().get().abs_diff(last.position().get()) + 1;
        reader.store.dense.learn(subject, page.items.len(), positions);
    }
    Ok(span)
}

/// Adds what the index has of `subject`, and what lies along the log where it has not come to.
async fn by_subject<T: Item>(
    reader: &mut Reader<'_>,
    subject: &Subject,
    filter: &Filter,
    span: Span,
    page: &mut Filling<T>,
) -> Result<(), Error> {
    for part in parts(reader, span).await? {
        match part {
            _ if page.is_full() => break,
            Part::Indexed(part) => along_subject(reader, subject, filter, part, page).await?,
            Part::Walked(part) => along_log(reader, filter, part, page).await?,
        }
    }
    Ok(())
}

/// Adds the events of several subjects, and says which span that covers if the page is not full.
async fn of_many<T: Item>(
    reader: &mut Reader<'_>,
    filter: &Filter,
    span: Span,
    page: &mut Filling<T>,
) -> Result<Span, Error> {
    if let Some(plan) = reader.store.plans.get(&filter.subjects, span) {
        return by_plan(reader, filter, &plan, span, page).await;
    }
    let near = span.first(match &filter.subjects {
        SubjectFilter::Exact(subjects) => {
            i64::try_from(subjects.len()).map_or(i64::MAX, |count| count * NEAR_POSITIONS)
        }
        SubjectFilter::Prefix(_) | SubjectFilter::All => WINDOW_POSITIONS,
    });
    let mut rest = span;
    if near == span || !matches!(filter.subjects, SubjectFilter::Exact(_)) {
        along_log(reader, filter, near, page).await?;
        let is_dense = page.items.len() * DENSE_ONE_IN >= usize::try_from(WINDOW_POSITIONS).unwrap_or(usize::MAX);
        match span.rest(near.end()) {
            Some(behind) if !page.is_full() && !is_dense => rest = behind,
            Some(_) | None => return Ok(near),
        }
    }
    for part in parts(reader, rest).await? {
        let seen = match part {
            _ if page.is_full() => break,
            Part::Walked(part) => {
                along_log(reader, filter, part, page).await?;
                continue;
            }
            Part::Indexed(part) => part,
        };
        let covered = planned(reader, filter, seen, page).await?;
        if covered != seen {
            return Ok(span.up_to(covered.end()));
        }
    }
    Ok(span)
}

/// Makes a plan for `span` and goes by it as far as it leads; says how far that is.
async fn planned<T: Item>(
    reader: &mut Reader<'_>,
    filter: &Filter,
    span: Span,
    page: &mut Filling<T>,
) -> Result<Span, Error> {
    let Some((plan, covered)) = plan::make(reader, &filter.subjects, span).await? else {
        let window = span.first(WINDOW_POSITIONS);
        along_log(reader, filter, window, page).await?;
        return Ok(window);
    };
    if plan.len() == 0 {
        return Ok(covered);
    }
    let plan = Arc::new(plan);
    let is_left = plan.len() > page.limit_left();
    let seen = by_plan(reader, filter, &plan, covered, page).await?;
    if is_left || page.is_full() {
        reader.store.plans.keep(Arc::clone(&plan));
    }
    // A plan ends with its last position, but up to the end of what it was made for there are no others.
    Ok(if seen.end() == plan.part(covered, usize::MAX).0.end() { covered } else { seen })
}

/// Adds the events of `plan` from the beginning of `span` on, and says how far that is.
async fn by_plan<T: Item>(
    reader: &mut Reader<'_>,
    filter: &Filter,
    plan: &Plan,
    span: Span,
    page: &mut Filling<T>,
) -> Result<Span, Error> {
    let looks = if filter.is_by_subject_alone() { page.limit_left() } else { PLANNED_LOOKS };
    let (part, positions) = plan.part(span, looks);
    at(reader, filter, &positions, span.order, page).await?;
    Ok(part)
}

/// A part of a span, and the way through it.
enum Part {
    /// The index has its events.
    Indexed(Span),
    /// The index has not come so far.
    Walked(Span),
}

/// The parts of `span`, in its order.
async fn parts(reader: &mut Reader<'_>, span: Span) -> Result<Vec<Part>, Error> {
    let indexed = reader.indexed(span.through).await?;
    let (lower, upper) = span.split(indexed);
    let mut parts: Vec<Part> = lower.map(Part::Indexed).into_iter().chain(upper.map(Part::Walked)).collect();
    if span.order == Order::Descending {
        parts.reverse();
    }
    Ok(parts)
}
