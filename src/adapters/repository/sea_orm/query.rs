//! The SQL, side by side where it differs per engine.

use time::OffsetDateTime;

use crate::adapters::repository::sea_orm::pool::{Parameter, Statement};
use crate::domain::timestamp::Timestamp;

/// The name of the index on (subject, id): it serves every read by subject and the list of subjects. In SQLite the table
/// `event_subjects` takes its place.
pub(super) const SUBJECT_INDEX: &str = "events_by_subject";

/// Which product answers; one wire protocol can have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite,
    MySql,
    MariaDb,
    Postgres,
}

/// How to talk to the engine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    pub(super) engine: Engine,
}

/// Which way through the table a query takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// By position.
    Log,
    /// By subject, then position.
    Subject,
    /// The same, where nothing but subjects and positions is asked for.
    SubjectEntries,
}

/// The columns by which events are found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    pub(super) subject: &'static str,
    pub(super) position: &'static str,
}

impl Dialect {
    /// A statement from SQL that writes each parameter as `?`, which no literal of ours contains.
    pub(super) fn statement(self, sql: &str, parameters: Vec<Parameter>) -> Statement {
        let sql = match self.engine {
            Engine::Postgres => numbered(sql),
            Engine::Sqlite | Engine::MySql | Engine::MariaDb => sql.to_owned(),
        };
        Statement { sql, parameters: Some(parameters) }
    }

    /// The table, pinned to the way: left alone, MariaDB walks a subject from its first row to find a late page.
    pub(super) fn events_by(self, path: Path) -> String {
        match (self.engine, path) {
            (Engine::Postgres, _) => "events".to_owned(),
            (Engine::Sqlite, Path::Log) => "events NOT INDEXED".to_owned(),
            (Engine::Sqlite, Path::Subject) => "event_subjects CROSS JOIN events ON events.id = position".to_owned(),
            (Engine::Sqlite, Path::SubjectEntries) => "event_subjects".to_owned(),
            (Engine::MySql | Engine::MariaDb, Path::Log) => "events FORCE INDEX (PRIMARY)".to_owned(),
            (Engine::MySql | Engine::MariaDb, Path::Subject | Path::SubjectEntries) => {
                format!("events FORCE INDEX ({SUBJECT_INDEX})")
            }
        }
    }

    /// What subject and position are called on the way.
    pub(super) fn columns(self, path: Path) -> Columns {
        match (self.engine, path) {
            (Engine::Sqlite, Path::Subject | Path::SubjectEntries) => {
                Columns { subject: "of_subject", position: "position" }
            }
            _ => Columns { subject: "subject", position: "id" },
        }
    }

    /// The newest positions, of the head row and of the table, which a foreign writer may have taken further, and the
    /// number of deletions, as of one moment.
    pub(super) fn state(self) -> Statement {
        self.statement(
            "SELECT position, (SELECT COALESCE(MAX(id), 0) FROM events), \
             (SELECT number FROM event_deletions WHERE id = 1) FROM event_head WHERE id = 1",
            Vec::new(),
        )
    }
}

/// The time as a literal of SQL has it.
pub(super) fn calendar(time: Timestamp) -> String {
    let time = utc(time);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second, micro) = time.to_hms_micro();
    format!("{year:04}-{:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micro:06}", u8::from(month))
}

pub(super) fn utc(time: Timestamp) -> OffsetDateTime {
    let nanos = i128::from(time.unix_micros()) * 1_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).expect("a timestamp is within years 1 to 9999")
}

/// The least text above every text that starts with `prefix`, by bytes; `None` when there is none.
///
/// Code points sort as their UTF-8 bytes do.
pub(super) fn above_prefix(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        // A range steps over the surrogates, which are no characters.
        if let Some(next) = (last..=char::MAX).nth(1) {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

fn numbered(sql: &str) -> String {
    let mut numbered = String::with_capacity(sql.len() + 16);
    for (number, part) in sql.split('?').enumerate() {
        if number > 0 {
            numbered.push('$');
            numbered.push_str(&number.to_string());
        }
        numbered.push_str(part);
    }
    numbered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_with_a_prefix_is_below_the_bound() {
        for (prefix, bound) in [
            ("user-", Some("user.")),
            ("%", Some("&")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}\u{10ffff}", None),
        ] {
            assert_eq!(above_prefix(prefix).as_deref(), bound, "{prefix:?}");
        }
    }

    #[test]
    fn parameters_are_numbered_in_order() {
        assert_eq!(numbered("a = ? AND b > ? LIMIT ?"), "a = $1 AND b > $2 LIMIT $3");
    }
}
