//! A whole transaction as one text.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use sea_orm::sqlx::sqlite::SqliteArguments;
use sea_orm::sqlx::{self, AssertSqlSafe, Sqlite};

use crate::adapters::repository::sea_orm::append::connection::Commit;
use crate::adapters::repository::sea_orm::append::rows::Row;
use crate::adapters::repository::sea_orm::append::sqlite::newest_keys::Batch;
use crate::adapters::repository::sea_orm::append::sqlite::parameters::{Parameters, ROW_COLUMNS, ROW_PARAMETERS};
use crate::adapters::repository::sea_orm::subject_index::CATCH_UP;
use crate::domain::timestamp::Timestamp;

/// Parameters of a text beside those of its rows.
const FIXED_PARAMETERS: usize = 9;

/// Events in one text at the most; more take a call for each step of the transaction.
pub(super) const TEXT_ROWS_MAX: usize = 256;

pub(super) type Query = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// What a text does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    /// How many rows it has room for.
    size: usize,
    /// Whether the index by subject catches up.
    catches_up: bool,
    /// Whether rows have keys, which are looked for.
    is_keyed: bool,
}

/// The texts in use.
#[derive(Debug, Default)]
pub(super) struct Texts(HashMap<Shape, Arc<str>>);

impl Texts {
    /// A whole transaction that appends `rows`, whose keys are those of `batch`, and lets the index by subject catch up if
    /// it is told so. With keys, it fails with a duplicate key if one of them may be in the index, and with a NULL where
    /// there must be none if the head is not at `head`. Its answer is the head, the reach of the index by subject, and the
    /// time that the events got.
    pub(super) fn query(
        &mut self,
        commit: &Commit,
        rows: &[Row<'_>],
        batch: &Batch,
        head: i64,
        catches_up: bool,
    ) -> Result<Query, sqlx::Error> {
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let shape = Shape { size: room_for(rows.len()), catches_up, is_keyed: batch.has_keys() };
        let sql = Arc::clone(self.0.entry(shape).or_insert_with(|| text(shape).into()));
        let now = Timestamp::now().unix_micros();
        let mut parameters = Parameters::with_capacity(shape.size * (ROW_PARAMETERS + 1) + FIXED_PARAMETERS);
        if shape.is_keyed {
            parameters.add(head)?;
        }
        parameters.add(count)?;
        parameters.add(now)?;
        parameters.add(now)?;
        if shape.is_keyed {
            batch.starts().try_for_each(|start| parameters.add(start))?;
            parameters.add_nulls(shape.size - batch.starts().count())?;
        }
        parameters.add(count)?;
        rows.iter().try_for_each(|row| parameters.add_row(row, row.event.time.map(Timestamp::unix_micros)))?;
        parameters.add_nulls((shape.size - rows.len()) * ROW_PARAMETERS)?;
        parameters.add(count)?;
        parameters.add(commit.writer.0.as_slice())?;
        parameters.add(commit.number)?;
        parameters.add(now / 1_000_000)?;
        Ok(sqlx::query_with(AssertSqlSafe(sql), parameters.into_arguments()))
    }
}

/// Room for `rows`, which are at least one, and some more: SQLite spends as much on a row that is not there. Few sizes, so
/// that the prepared statements stay few and hot.
fn room_for(rows: usize) -> usize {
    match rows {
        0..=8 => rows.next_power_of_two(),
        9..=64 => rows.next_multiple_of(8),
        _ => rows.next_multiple_of(16),
    }
}

/// A text takes as many rows as are asked for. Its parameters have no numbers: the driver looks each number up among all
/// others.
fn text(shape: Shape) -> String {
    let mut sql = "BEGIN IMMEDIATE; UPDATE event_head SET position = ".to_owned();
    sql.push_str(if shape.is_keyed { "iif(position = ?, position + ?, NULL)" } else { "position + ?" });
    sql.push_str(", recorded_at = max(coalesce(recorded_at, ?), ?) WHERE id = 1; ");
    if shape.is_keyed {
        // An entry that is found is in its own way.
        sql.push_str("INSERT INTO event_keys SELECT key_start, position FROM (VALUES ");
        sql.push_str(&vec!["(?)"; shape.size].join(", "));
        sql.push_str(") CROSS JOIN event_keys ON key_start = column1; ");
    }
    sql.push_str("INSERT INTO events (id, recorded_at, ");
    sql.push_str(ROW_COLUMNS);
    sql.push_str(
        ") SELECT position - ? + column1, recorded_at, column2, column3, column4, coalesce(column5, recorded_at), \
                column6, column7, column8, column9 FROM event_head CROSS JOIN (VALUES ",
    );
    for row in 1..=shape.size {
        let separator = if row == 1 { "" } else { ", " };
        let _written = write!(sql, "{separator}({row}{})", ", ?".repeat(ROW_PARAMETERS));
    }
    sql.push_str(") WHERE event_head.id = 1 AND column1 <= ?; ");
    if shape.catches_up {
        sql.push_str(CATCH_UP);
        sql.push_str("; ");
    }
    sql.push_str(
        "INSERT INTO event_writer (writer, fence, commit_number, position, used_at) \
            SELECT ?, 0, ?, position, ? FROM event_head WHERE id = 1 \
            ON CONFLICT (writer) DO UPDATE SET commit_number = excluded.commit_number, position = excluded.position, \
                used_at = excluded.used_at \
            RETURNING position, (SELECT indexed_through FROM event_head WHERE id = 1), \
                (SELECT recorded_at FROM event_head WHERE id = 1); \
        COMMIT",
    );
    sql
}
