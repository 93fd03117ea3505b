//! Distinct subjects and last events in the MySQL family.
//!
//! Its own ways to skip within an index hang on statistics, and within a recursion it walks to the next subject. So the
//! steps from subject to subject are statements of their own, many of them in one text: a prepared statement takes the next
//! subject into a variable. Joined to a list of subjects, their last events are looked for in the same way, so each is a
//! statement's part of its own.

use std::fmt::Write;

use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::literal::text_literal;
use crate::adapters::repository::sea_orm::pool::Statement;
use crate::adapters::repository::sea_orm::query::{Dialect, Path};
use crate::adapters::repository::sea_orm::read::Reader;
use crate::adapters::repository::sea_orm::read::condition::apart_from_subject_literal;
use crate::adapters::repository::sea_orm::read::skip_scan::{From, LastOf, Look, Range, Scanned};
use crate::adapters::repository::sea_orm::row::undecodable;
use crate::domain::attribute::Subject;

/// Subjects taken by the first text of a scan. The steps that find nothing cost about as much as those that do.
const STEPS_FIRST: usize = 16;

/// How much longer each text is than the one before.
const STEPS_GROWTH: usize = 4;

/// Subjects taken by one text at the most: some ten milliseconds.
const STEPS_MAX: usize = 256;

/// Bytes of a text, unless it has one part only. The driver leaves Nagle's algorithm on and writes each TLS record
/// (16 KiB) by itself, so that a second one would wait for the acknowledgement of the first, which a receiver may delay by
/// 40 ms.
const TEXT_BYTES: usize = 14 * 1024;

/// Subjects looked up by one statement.
const LOOK_UPS: usize = 100;

/// Up to `count` subjects of `range` and their last events.
pub(super) async fn scan(
    reader: &mut Reader<'_>,
    range: &Range,
    last: Option<LastOf<'_>>,
    count: usize,
) -> Result<Scanned, Error> {
    let mut subjects: Vec<Subject> = Vec::new();
    let mut is_end = false;
    let mut steps = STEPS_FIRST;
    while subjects.len() < count && !is_end {
        let Some(range) = range.clone().above(subjects.last()) else { break };
        steps = steps.min(STEPS_MAX).min(count - subjects.len());
        let text = text(reader.dialect(), &range, steps);
        let found: Vec<(String,)> = reader.lease.all(Statement { sql: text, parameters: None }).await?;
        let found = found.first().ok_or(Error::RowNotFound)?.0.split(',').skip(1);
        let before = subjects.len();
        for subject in found {
            subjects.push(Subject::from_stored(text_of_hex(subject).ok_or_else(|| undecodable("no subject"))?));
        }
        is_end = subjects.len() - before < steps;
        steps *= STEPS_GROWTH;
    }
    let looks = match last {
        Some(last) => lasts(reader, &subjects, last).await?,
        None => subjects.into_iter().map(|subject| Look { subject, last: None }).collect(),
    };
    Ok(Scanned { looks, is_end })
}

/// The last events of `subjects`, in their order.
pub(super) async fn lasts(reader: &mut Reader<'_>, subjects: &[Subject], last: LastOf<'_>) -> Result<Vec<Look>, Error> {
    let mut looks: Vec<Look> = Vec::with_capacity(subjects.len());
    while looks.len() < subjects.len() {
        let mut sql = String::new();
        let asked = &subjects[looks.len()..];
        for (index, subject) in asked.iter().enumerate().take(LOOK_UPS) {
            let look_up = look_up(reader.dialect(), &text_literal(subject.as_str()), last);
            if index > 0 && sql.len() + look_up.len() > TEXT_BYTES {
                break;
            }
            let separator = if index > 0 { " UNION ALL " } else { "" };
            let _written = write!(sql, "{separator}SELECT {index}, {look_up}");
        }
        let mut rows: Vec<(i64, Option<i64>)> = reader.lease.all(Statement { sql, parameters: None }).await?;
        if rows.is_empty() {
            return Err(Error::RowNotFound);
        }
        rows.sort_unstable();
        let row = |(subject, (_, last)): (&Subject, _)| Look::from_row((subject.as_str().to_owned(), last));
        looks.extend(asked.iter().zip(rows).map(row));
    }
    Ok(looks)
}

/// `steps` steps from subject to subject, and a row with all that were found, in hexadecimal digits, each behind a comma.
/// A step that finds nothing leaves the variables as they are.
fn text(dialect: Dialect, range: &Range, steps: usize) -> String {
    let table = dialect.events_by(Path::SubjectEntries);
    let below = range.below.as_ref().map(|below| format!("AND subject < {}", text_literal(below))).unwrap_or_default();
    let next = |above: &str| {
        format!(
            "SELECT subject, CONCAT(@subjects, ',', HEX(subject)) INTO @subject, @subjects FROM {table} \
             WHERE subject {above} {below} ORDER BY subject LIMIT 1"
        )
    };
    let first = match &range.from {
        From::At(first) => next(&format!(">= {}", text_literal(first.as_str()))),
        From::Above(before) => next(&format!("> {}", text_literal(before.as_str()))),
    };
    let prepared = next("> ?").replace('\'', "''");
    let others = "; EXECUTE next_subject USING @subject".repeat(steps.saturating_sub(1));
    format!(
        "SET @subject = NULL, @subjects = ''; PREPARE next_subject FROM '{prepared}'; {first}{others}; \
         SELECT CAST(@subjects AS CHAR)"
    )
}

/// The text of hexadecimal digits.
fn text_of_hex(digits: &str) -> Option<String> {
    let pairs = digits.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}

/// The look-up of the last position of `subject`, which is an expression.
fn look_up(dialect: Dialect, subject: &str, LastOf { through, filter }: LastOf<'_>) -> String {
    let table = dialect.events_by(Path::Subject);
    let picked = apart_from_subject_literal(filter);
    format!("(SELECT id FROM {table} WHERE subject = {subject} AND id <= {through} {picked} ORDER BY id DESC LIMIT 1)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_read_as_text() {
        assert_eq!(text_of_hex("").as_deref(), Some(""));
        assert_eq!(text_of_hex("61C3BC2C").as_deref(), Some("aü,"));
        assert_eq!(text_of_hex("6x"), None);
        assert_eq!(text_of_hex("C3"), None);
    }
}
