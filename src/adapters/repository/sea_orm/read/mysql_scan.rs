//! Distinct subjects and last events in the MySQL family.
//!
//! Its own ways to skip within an index hang on statistics, and within a recursion it walks to the next subject. So the
//! steps from subject to subject are statements of their own, many of them in one text: one prepared statement takes the
//! next subject into a variable, another one looks up its last event.

use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::literal::text_literal;
use crate::adapters::repository::sea_orm::pool::Statement;
use crate::adapters::repository::sea_orm::query::{Dialect, Path};
use crate::adapters::repository::sea_orm::read::Reader;
use crate::adapters::repository::sea_orm::read::skip_scan::{From, LastOf, Look, Range, Scanned};
use crate::domain::attribute::Subject;

/// Subjects taken by the first text of a scan. The steps that find nothing cost about as much as those that do.
const STEPS_FIRST: usize = 16;

/// How much longer each text is than the one before.
const STEPS_GROWTH: usize = 4;

/// Subjects taken by one text at the most: some ten milliseconds.
const STEPS_MAX: usize = 256;

/// Subjects looked up by one statement.
const LOOK_UPS: usize = 100;

/// Up to `count` subjects of `range` and their last events.
pub(super) async fn scan(
    reader: &mut Reader<'_>,
    range: &Range,
    last: Option<LastOf<'_>>,
    count: usize,
) -> Result<Scanned, Error> {
    let mut scanned = Scanned::default();
    let mut steps = STEPS_FIRST;
    while scanned.looks.len() < count && !scanned.is_end {
        let seen = scanned.looks.last().map(|look| &look.subject);
        let Some(range) = range.clone().above(seen) else { break };
        steps = steps.min(STEPS_MAX).min(count - scanned.looks.len());
        let text = text(reader.dialect(), &range, last, steps);
        let rows: Vec<(Option<String>, Option<i64>)> =
            reader.lease.all(Statement { sql: text, parameters: None }).await?;
        let some = rows.into_iter().filter_map(|(subject, last)| Some(Look::from_row((subject?, last))));
        let mut found: Vec<Look> = some.collect();
        // A step that finds nothing leaves the variable as it is.
        found.dedup();
        scanned.is_end = found.len() < steps;
        scanned.looks.extend(found);
        steps *= STEPS_GROWTH;
    }
    Ok(scanned)
}

/// The last events of `subjects`, in their order.
pub(super) async fn lasts(reader: &mut Reader<'_>, subjects: &[Subject], last: LastOf<'_>) -> Result<Vec<Look>, Error> {
    let mut looks = Vec::with_capacity(subjects.len());
    for subjects in subjects.chunks(LOOK_UPS) {
        let look_ups: Vec<String> = subjects
            .iter()
            .enumerate()
            .map(|(index, subject)| {
                let look_up = look_up(reader.dialect(), &text_literal(subject.as_str()), last);
                format!("SELECT {index}, {look_up}")
            })
            .collect();
        let sql = look_ups.join(" UNION ALL ");
        let mut rows: Vec<(i64, Option<i64>)> = reader.lease.all(Statement { sql, parameters: None }).await?;
        rows.sort_unstable();
        let row = |(subject, (_, last)): (&Subject, _)| Look::from_row((subject.as_str().to_owned(), last));
        looks.extend(subjects.iter().zip(rows).map(row));
    }
    Ok(looks)
}

/// `steps` steps from subject to subject, with a row after each.
fn text(dialect: Dialect, range: &Range, last: Option<LastOf<'_>>, steps: usize) -> String {
    let table = dialect.events_by(Path::SubjectEntries);
    let below = range.below.as_ref().map(|below| format!("AND subject < {}", text_literal(below))).unwrap_or_default();
    let next = |above: &str| {
        format!("SELECT subject INTO @subject FROM {table} WHERE subject {above} {below} ORDER BY subject LIMIT 1")
    };
    let first = match &range.from {
        From::At(first) => next(&format!(">= {}", text_literal(first.as_str()))),
        From::Above(before) => next(&format!("> {}", text_literal(before.as_str()))),
    };
    let (look_up, parameters) = match last {
        Some(last) => (look_up(dialect, "?", last), "USING @subject"),
        None => ("NULL".to_owned(), ""),
    };
    let mut text = format!(
        "SET @subject = NULL; PREPARE next_subject FROM {}; PREPARE last_event FROM {}; {first}; \
         EXECUTE last_event {parameters}",
        quoted(&next("> ?")),
        quoted(&format!("SELECT CAST(@subject AS CHAR), {look_up}")),
    );
    for _ in 1..steps {
        text.push_str("; EXECUTE next_subject USING @subject; EXECUTE last_event ");
        text.push_str(parameters);
    }
    text
}

/// The look-up of the last position of `subject`, which is an expression.
fn look_up(dialect: Dialect, subject: &str, LastOf { through, types }: LastOf<'_>) -> String {
    let table = dialect.events_by(Path::Subject);
    let types: Vec<String> = types.iter().map(|event_type| text_literal(event_type.as_str())).collect();
    let of_type = if types.is_empty() { String::new() } else { format!("AND type IN ({})", types.join(", ")) };
    format!("(SELECT id FROM {table} WHERE subject = {subject} AND id <= {through} {of_type} ORDER BY id DESC LIMIT 1)")
}

/// A statement as a text literal.
fn quoted(statement: &str) -> String {
    format!("'{}'", statement.replace('\'', "''"))
}
