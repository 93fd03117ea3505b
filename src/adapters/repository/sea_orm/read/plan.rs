//! Where the events of several subjects lie.
//!
//! The index has them subject by subject; a reader wants them along the log. To sort all entries of a prefix for each page
//! would make a whole read cost the square of what it returns. So one statement sorts the first 65,536 positions, and the
//! pages that follow fetch their events by these. The log only grows above a plan, so what it covers stays true; what is
//! deleted is simply not there when it is fetched.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::query::Path;
use crate::adapters::repository::sea_orm::read::condition::{Condition, Span, Subjects};
use crate::adapters::repository::sea_orm::read::skip_scan::{Range, scan};
use crate::adapters::repository::sea_orm::read::{Reader, walk};
use crate::domain::filter::SubjectFilter;
use crate::domain::position::Position;
use crate::ports::event_repository::Order;

/// Positions in a plan: 512 KiB.
const POSITIONS_MAX: usize = 65_536;

/// Plans kept, 8 MiB in all.
const PLANS_MAX: usize = 16;

/// How long a plan is believed. By our own rules for ever, but a foreign writer may commit a position below others.
const AGE_MAX: Duration = Duration::from_mins(1);

/// Subjects that are looked up one by one: as many sorted runs, which need not be walked to their ends.
const RUNS_MAX: usize = 64;

/// Positions of a subject at the least, however many subjects share a plan.
const RUN_POSITIONS_MIN: usize = 1_024;

/// Entries that are sorted for a plan: what an engine counts and sorts within about a second.
const ENTRIES_MAX: i64 = 1_500_000;

/// How long what could not be sorted in time is not tried again.
const THICK_AGE_MAX: Duration = Duration::from_mins(10);

/// The positions of all events of some subjects within a span.
#[derive(Debug)]
pub(super) struct Plan {
    subjects: SubjectFilter,
    after: Option<Position>,
    through: Position,
    /// Ascending.
    positions: Vec<Position>,
    made: Instant,
}

/// The plans that were used last.
#[derive(Debug, Default)]
pub(in crate::adapters::repository::sea_orm) struct Plans {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The last one used is last.
    plans: Vec<Arc<Plan>>,
    /// What has too many entries to be sorted, and what is being sorted, so that a call that is given up over it tells the
    /// next ones; and since when.
    thick: Vec<(SubjectFilter, Instant)>,
}

impl Plan {
    fn is_for(&self, subjects: &SubjectFilter, span: Span) -> bool {
        let begins_here = match span.order {
            Order::Ascending => self.after <= span.after && span.after < Some(self.through),
            Order::Descending => self.after < Some(span.through) && span.through <= self.through,
        };
        begins_here && self.subjects == *subjects && self.made.elapsed() < AGE_MAX
    }

    /// The part of `span` that it covers, and up to `count` positions there in the order of the span.
    pub(super) fn part(&self, span: Span, count: usize) -> (Span, Vec<Position>) {
        let mut part = Span { after: self.after.max(span.after), through: self.through.min(span.through), ..span };
        let low = self.positions.partition_point(|position| Some(*position) <= part.after);
        let high = self.positions.partition_point(|position| *position <= part.through);
        let within = &self.positions[low..high];
        let positions: Vec<Position> = match span.order {
            Order::Ascending => within.iter().copied().take(count).collect(),
            Order::Descending => within.iter().rev().copied().take(count).collect(),
        };
        if let Some(last) = positions.last().filter(|_| positions.len() < within.len()) {
            part = part.up_to(*last);
        }
        (part, positions)
    }

    /// How many positions it has.
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }
}

impl Plans {
    /// A plan for `subjects` that covers the beginning of `span`.
    pub(super) fn get(&self, subjects: &SubjectFilter, span: Span) -> Option<Arc<Plan>> {
        let mut kept = self.kept();
        let index = kept.plans.iter().rposition(|plan| plan.is_for(subjects, span))?;
        let plan = kept.plans.remove(index);
        kept.plans.push(Arc::clone(&plan));
        Some(plan)
    }

    /// Keeps `plan` in place of the one that was not used for longest.
    pub(super) fn keep(&self, plan: Arc<Plan>) {
        let mut kept = self.kept();
        if kept.plans.len() >= PLANS_MAX {
            kept.plans.remove(0);
        }
        kept.plans.push(plan);
    }

    fn is_thick(&self, subjects: &SubjectFilter) -> bool {
        let mut kept = self.kept();
        kept.thick.retain(|(_, since)| since.elapsed() < THICK_AGE_MAX);
        kept.thick.iter().any(|(thick, _)| thick == subjects)
    }

    fn add_thick(&self, subjects: &SubjectFilter) {
        let mut kept = self.kept();
        if kept.thick.len() >= PLANS_MAX {
            kept.thick.remove(0);
        }
        kept.thick.push((subjects.clone(), Instant::now()));
    }

    fn remove_thick(&self, subjects: &SubjectFilter) {
        self.kept().thick.retain(|(thick, _)| thick != subjects);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the plan for `subjects` that covers as much of `span`, from its beginning, as there is room for; and says what
/// that is. `None` when there is too much to sort.
pub(super) async fn make(
    reader: &mut Reader<'_>,
    subjects: &SubjectFilter,
    span: Span,
) -> Result<Option<(Plan, Span)>, Error> {
    let made = sort(reader, subjects, span).await;
    match made {
        Ok(None) => {}
        Ok(Some(_)) | Err(_) => reader.store.plans.remove_thick(subjects),
    }
    made
}

async fn sort(
    reader: &mut Reader<'_>,
    subjects: &SubjectFilter,
    mut span: Span,
) -> Result<Option<(Plan, Span)>, Error> {
    let made = Instant::now();
    let Some(runs) = runs(reader, subjects).await? else { return Ok(None) };
    let share = (POSITIONS_MAX / runs.len().max(1)).max(RUN_POSITIONS_MIN);
    let mut positions = Vec::new();
    for run in runs {
        let count_max = if matches!(run, Subjects::One(_)) { share } else { POSITIONS_MAX };
        let count = walk::entries(reader, &run, span, count_max, &mut positions).await?;
        // Where one ended early, the others count only up to there.
        if let Some(last) = positions.last().filter(|_| count >= count_max) {
            span = span.up_to(*last);
        }
    }
    positions.retain(|position| Some(*position) > span.after && *position <= span.through);
    positions.sort_unstable();
    if positions.len() > POSITIONS_MAX {
        match span.order {
            Order::Ascending => {
                positions.truncate(POSITIONS_MAX);
                span.through = positions.last().copied().unwrap_or(span.through);
            }
            Order::Descending => {
                positions.drain(..positions.len() - POSITIONS_MAX);
                span.after = positions.first().map_or(span.after, |first| first.previous());
            }
        }
    }
    // Beyond the last one that is there, more may come.
    let through = positions.last().copied().unwrap_or(Position::FIRST);
    Ok(Some((Plan { subjects: subjects.clone(), after: span.after, through, positions, made }, span)))
}

/// What to put together: each subject where they are few, otherwise each range of them. `None` when these have too many
/// entries.
async fn runs(reader: &mut Reader<'_>, subjects: &SubjectFilter) -> Result<Option<Vec<Subjects>>, Error> {
    let prefixes = match subjects {
        SubjectFilter::All => return Ok(None),
        SubjectFilter::Exact(subjects) => return Ok(Some(subjects.iter().cloned().map(Subjects::One).collect())),
        SubjectFilter::Prefix(prefixes) => prefixes,
    };
    if reader.store.plans.is_thick(subjects) {
        return Ok(None);
    }
    let mut few = Vec::new();
    for range in Range::of(subjects, None) {
        let scanned = scan(reader, &range, None, RUNS_MAX + 1 - few.len()).await?;
        few.extend(scanned.looks.into_iter().map(|look| Subjects::One(look.subject)));
        if few.len() > RUNS_MAX {
            break;
        }
    }
    if few.len() <= RUNS_MAX {
        return Ok(Some(few));
    }
    reader.store.plans.add_thick(subjects);
    let dialect = reader.dialect();
    let (table, of_subject) = (dialect.events_by(Path::SubjectEntries), dialect.columns(Path::SubjectEntries).subject);
    let mut entries = 0;
    for prefix in prefixes {
        let Condition { sql, mut parameters } = Condition::starting(of_subject, prefix);
        let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {sql} LIMIT ?) AS entries");
        parameters.push((ENTRIES_MAX - entries).into());
        let counts: Vec<(i64,)> = reader.lease.all(dialect.statement(&sql, parameters)).await?;
        entries += counts.first().map_or(0, |(count,)| *count);
        if entries >= ENTRIES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(prefixes.iter().cloned().map(Subjects::Starting).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attribute::Subject;

    fn position(value: i64) -> Position {
        Position::new(value).expect("a test's position")
    }

    fn span(after: i64, through: i64, order: Order) -> Span {
        Span { after: Position::new(after).ok(), through: position(through), order }
    }

    fn filter(prefix: &str) -> SubjectFilter {
        SubjectFilter::prefixes(vec![Subject::from_stored(prefix.to_owned())])
    }

    fn plan(prefix: &str, after: i64, positions: &[i64]) -> Plan {
        let positions: Vec<Position> = positions.iter().copied().map(position).collect();
        let through = *positions.last().expect("a test's plan has positions");
        let after = Position::new(after).ok();
        Plan { subjects: filter(prefix), after, through, positions, made: Instant::now() }
    }

    #[test]
    fn plan_serves_what_begins_within_it() {
        let plan = plan("a", 10, &[12, 15, 20]);
        for (after, through, ascending, descending) in [
            (10, 30, true, false),
            (9, 20, false, true),
            (19, 99, true, false),
            (20, 99, false, false),
            (5, 11, false, true),
            (5, 10, false, false),
        ] {
            for (order, expected) in [(Order::Ascending, ascending), (Order::Descending, descending)] {
                let span = span(after, through, order);
                assert_eq!(plan.is_for(&filter("a"), span), expected, "{span:?}");
                assert!(!plan.is_for(&filter("b"), span));
            }
        }
    }

    #[test]
    fn part_ends_with_the_last_position_or_with_the_plan() {
        let plan = plan("a", 10, &[12, 15, 20]);
        for (order, after, through, count, positions, end) in [
            (Order::Ascending, 10, 30, 9, vec![12, 15, 20], 20),
            (Order::Ascending, 12, 30, 1, vec![15], 15),
            (Order::Ascending, 12, 17, 1, vec![15], 17),
            (Order::Descending, 0, 20, 9, vec![20, 15, 12], 11),
            (Order::Descending, 0, 19, 1, vec![15], 15),
            (Order::Descending, 13, 19, 1, vec![15], 14),
        ] {
            let (part, found) = plan.part(span(after, through, order), count);
            assert_eq!(found, positions.iter().copied().map(position).collect::<Vec<_>>());
            assert_eq!(part.end(), position(end), "{order:?} {after} {through} {count}");
        }
    }

    #[test]
    fn plan_that_was_not_used_for_longest_goes_first() {
        let plans = Plans::default();
        let names: Vec<String> = (0..PLANS_MAX).map(|number| format!("plan-{number}")).collect();
        for name in &names {
            plans.keep(Arc::new(plan(name, 0, &[5])));
        }
        let whole = span(0, 5, Order::Ascending);
        assert!(plans.get(&filter(&names[0]), whole).is_some());
        plans.keep(Arc::new(plan("new", 0, &[5])));
        assert!(plans.get(&filter(&names[0]), whole).is_some());
        assert!(plans.get(&filter(&names[1]), whole).is_none());
    }
}
