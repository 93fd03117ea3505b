//! Distinct subjects, and the last event of each: one look-up in the index takes the next subject, another one its last
//! position, however many events lie between.

use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::pool::Parameter;
use crate::adapters::repository::sea_orm::query::{Dialect, Engine, Path, above_prefix};
use crate::adapters::repository::sea_orm::read::condition::Condition;
use crate::adapters::repository::sea_orm::read::{Reader, mysql_scan};
use crate::adapters::repository::sea_orm::row::undecodable;
use crate::domain::attribute::Subject;
use crate::domain::filter::{Filter, SubjectFilter};
use crate::domain::position::Position;

/// Which event of a subject is its last one.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastOf<'a> {
    pub(super) through: Position,
    /// Which events count, beside by subject.
    pub(super) filter: &'a Filter,
}

/// A subject that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) subject: Subject,
    /// The place of its last event, if it has one and it was asked for.
    pub(super) last: Option<Position>,
}

impl Look {
    pub(super) fn from_row((subject, last): (String, Option<i64>)) -> Self {
        let last = last.and_then(|last| Position::new(last).ok());
        Self { subject: Subject::from_stored(subject), last }
    }
}

/// Subjects next to each other in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: From,
    /// Only subjects below this; to the last one when `None`.
    pub(super) below: Option<String>,
}

/// Where a range of subjects begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// With this subject, if it is there.
    At(Subject),
    /// Behind this subject.
    Above(Subject),
}

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) looks: Vec<Look>,
    /// Whether nothing is left in the range.
    pub(super) is_end: bool,
}

impl Range {
    /// The ranges of what `filter` selects above `after`, ascending, unless it names each subject.
    pub(super) fn of(filter: &SubjectFilter, after: Option<&Subject>) -> Vec<Self> {
        let first = Subject::from_stored(String::new());
        let starting = |prefix: &Subject| Self { from: From::At(prefix.clone()), below: above_prefix(prefix.as_str()) };
        let ranges = match filter {
            SubjectFilter::All => vec![Self { from: From::At(first), below: None }],
            SubjectFilter::Prefix(prefixes) => prefixes.iter().map(starting).collect(),
            SubjectFilter::Exact(_) => Vec::new(),
        };
        ranges.into_iter().filter_map(|range| range.above(after)).collect()
    }

    /// The part above `after`.
    pub(super) fn above(self, after: Option<&Subject>) -> Option<Self> {
        let Some(after) = after else { return Some(self) };
        if self.below.as_deref().is_some_and(|below| after.as_str() >= below) {
            return None;
        }
        let (From::At(first) | From::Above(first)) = &self.from;
        if after < first {
            return Some(self);
        }
        Some(Self { from: From::Above(after.clone()), ..self })
    }

    /// The condition on `column`; without where it begins if `start` is another column, which comes before it.
    fn condition(&self, column: &str, start: Option<&str>) -> Condition {
        let mut condition = Condition::default();
        match (&self.from, start) {
            (_, Some(start)) => condition.push(&format!("{column} > {start}"), []),
            (From::At(first), None) => condition.push(&format!("{column} >= ?"), [first.as_str().into()]),
            (From::Above(before), None) => condition.push(&format!("{column} > ?"), [before.as_str().into()]),
        }
        if let Some(below) = &self.below {
            condition.push(&format!("{column} < ?"), [below.as_str().into()]);
        }
        condition
    }
}

/// Up to `count` subjects of `range` and their last events.
pub(super) async fn scan(
    reader: &mut Reader<'_>,
    range: &Range,
    last: Option<LastOf<'_>>,
    count: usize,
) -> Result<Scanned, Error> {
    let dialect = reader.dialect();
    match dialect.engine {
        Engine::MySql | Engine::MariaDb => mysql_scan::scan(reader, range, last, count).await,
        Engine::Sqlite | Engine::Postgres => {
            let (sql, values) = recursion(dialect, range, last, count);
            let looks = looks(reader, &sql, values).await?;
            Ok(Scanned { is_end: looks.len() < count, looks })
        }
    }
}

/// The last events of `subjects`, in their order.
pub(super) async fn lasts(reader: &mut Reader<'_>, subjects: &[Subject], last: LastOf<'_>) -> Result<Vec<Look>, Error> {
    let table = match reader.dialect().engine {
        Engine::MySql | Engine::MariaDb => return mysql_scan::lasts(reader, subjects, last).await,
        Engine::Sqlite => "json_each(?) AS wanted",
        Engine::Postgres => "json_array_elements_text(CAST(? AS TEXT)::json) AS wanted (value)",
    };
    let wanted: Vec<&str> = subjects.iter().map(Subject::as_str).collect();
    let wanted = serde_json::to_string(&wanted).map_err(undecodable)?;
    let (last, mut values) = look_up(reader.dialect(), "wanted.value", Some(last));
    values.push(wanted.into());
    looks(reader, &format!("SELECT value, {last} FROM {table}"), values).await
}

async fn looks(reader: &mut Reader<'_>, sql: &str, parameters: Vec<Parameter>) -> Result<Vec<Look>, Error> {
    let rows: Vec<(String, Option<i64>)> = reader.lease.all(reader.dialect().statement(sql, parameters)).await?;
    Ok(rows.into_iter().map(Look::from_row).collect())
}

/// A statement that goes from subject to subject.
fn recursion(dialect: Dialect, range: &Range, last: Option<LastOf<'_>>, count: usize) -> (String, Vec<Parameter>) {
    let table = dialect.events_by(Path::SubjectEntries);
    let subject = dialect.columns(Path::SubjectEntries).subject;
    let first = range.condition(subject, None);
    let next = range.condition(&format!("e.{subject}"), Some("found.subject"));
    let (last, look_up_values) = look_up(dialect, "found.subject", last);
    let sql = format!(
        "WITH RECURSIVE found (subject) AS ( \
           SELECT * FROM (SELECT {subject} FROM {table} WHERE {} ORDER BY {subject} LIMIT 1) AS lowest \
           UNION ALL \
           SELECT (SELECT e.{subject} FROM {table} AS e WHERE {} ORDER BY e.{subject} LIMIT 1) \
           FROM found WHERE found.subject IS NOT NULL) \
         SELECT subject, {last} FROM found WHERE subject IS NOT NULL LIMIT ?",
        first.sql, next.sql
    );
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let values = first.parameters.into_iter().chain(next.parameters).chain(look_up_values).chain([count.into()]);
    (sql, values.collect())
}

/// The look-up of the last position of the subject that is called `subject`.
fn look_up(dialect: Dialect, subject: &str, last: Option<LastOf<'_>>) -> (String, Vec<Parameter>) {
    let Some(LastOf { through, filter }) = last else { return ("CAST(NULL AS BIGINT)".to_owned(), Vec::new()) };
    let mut condition = Condition::default();
    condition.apart_from_subject(filter);
    let picked = if condition.sql.is_empty() { String::new() } else { format!("AND {}", condition.sql) };
    let path = if filter.is_by_subject_alone() { Path::SubjectEntries } else { Path::Subject };
    let table = dialect.events_by(path);
    let sql = match dialect.engine {
        // A range of pairs, for the reason that reads have it.
        Engine::Postgres => format!(
            "(SELECT e.id FROM {table} AS e WHERE (e.subject, e.id) > ({subject}, 0) \
             AND (e.subject, e.id) <= ({subject}, ?) {picked} ORDER BY e.subject DESC, e.id DESC LIMIT 1)"
        ),
        Engine::Sqlite | Engine::MySql | Engine::MariaDb => {
            let columns = dialect.columns(path);
            let (of_subject, position) = (columns.subject, columns.position);
            format!(
                "(SELECT {position} FROM {table} WHERE {of_subject} = {subject} AND {position} <= ? {picked} \
                 ORDER BY {position} DESC LIMIT 1)"
            )
        }
    };
    (sql, [through.get().into()].into_iter().chain(condition.parameters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> Subject {
        Subject::from_stored(text.to_owned())
    }

    #[test]
    fn ranges_begin_behind_what_was_seen() {
        let filter = SubjectFilter::prefixes(vec![subject("b"), subject("d")]);
        let b = |from| Range { from, below: Some("c".to_owned()) };
        let d = |from| Range { from, below: Some("e".to_owned()) };
        for (after, ranges) in [
            (None, vec![b(From::At(subject("b"))), d(From::At(subject("d")))]),
            (Some("a"), vec![b(From::At(subject("b"))), d(From::At(subject("d")))]),
            (Some("b"), vec![b(From::Above(subject("b"))), d(From::At(subject("d")))]),
            (Some("bz"), vec![b(From::Above(subject("bz"))), d(From::At(subject("d")))]),
            (Some("c"), vec![d(From::At(subject("d")))]),
            (Some("dd"), vec![d(From::Above(subject("dd")))]),
            (Some("e"), vec![]),
        ] {
            assert_eq!(Range::of(&filter, after.map(subject).as_ref()), ranges, "{after:?}");
        }
        let all = Range { from: From::At(subject("")), below: None };
        assert_eq!(Range::of(&SubjectFilter::All, None), [all]);
    }
}
