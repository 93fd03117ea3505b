//! Whether the log in a database is whole, as far as it can be told by looking at all of it.

use sea_orm::sqlx::Error;

use crate::adapters::repository::sea_orm::SeaOrmRepository;
use crate::adapters::repository::sea_orm::append::key_of;
use crate::adapters::repository::sea_orm::connect::Store;
use crate::adapters::repository::sea_orm::key_index::start_sql;
use crate::adapters::repository::sea_orm::pool::{Readable, Statement};
use crate::domain::event::StoredEvent;
use crate::domain::filter::Filter;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::{EventRepository, Order, Page, ReadError, ReadQuery};

/// Events that are looked at in one call, and their bytes.
const PAGE_EVENTS: usize = 4_000;
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Findings that are told; the others are counted.
const FINDINGS_MAX: usize = 20;

/// What was looked at and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Events of the log.
    pub events: u64,
    /// Positions up to the head without an event: deleted, all of them.
    pub holes: u64,
    /// The first things that are wrong.
    pub findings: Vec<String>,
    /// How many things are wrong.
    pub findings_count: u64,
    /// How far the look went.
    pub reached: Option<Position>,
}

/// The key of a row, or none.
type KeyRow = (i64, Option<Vec<u8>>);

impl Verified {
    fn find(&mut self, finding: String) {
        self.findings_count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

impl SeaOrmRepository {
    /// Looks at every event: that it can be read, that recorded times do not fall, that its key is that of its source and id;
    /// then at the head, and in SQLite at the file and the indexes by subject and by key. `on_page` hears how far it has
    /// come and may end it.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`]. What cannot be read at all is a finding.
    pub async fn verify(&self, mut on_page: impl FnMut(&Verified) -> bool) -> Result<Verified, ReadError> {
        let mut verified = Verified::default();
        let Some(through) = self.check_head(&mut verified).await? else { return Ok(verified) };
        let mut recorded: Option<Timestamp> = None;
        let mut next = Some(ReadQuery {
            filter: Filter::default(),
            after: None,
            through,
            order: Order::Ascending,
            limit: PAGE_EVENTS,
            bytes_max: PAGE_BYTES,
        });
        while let Some(query) = next {
            let page = match self.read(query.clone()).await {
                Err(ReadError::Corrupt(fault)) => {
                    let after = query.after.map_or(0, Position::get);
                    verified.find(format!("an event behind position {after} cannot be read: {fault}"));
                    break;
                }
                answer => answer?,
            };
            self.check_page(&query, &page, &mut recorded, &mut verified).await?;
            if !on_page(&verified) {
                return Ok(verified);
            }
            next = query.rest(page.reached);
        }
        let positions = u64::try_from(through.get()).unwrap_or(0);
        verified.holes = positions.saturating_sub(verified.events);
        if self.is_embedded() {
            self.check_file(&mut verified).await?;
        }
        Ok(verified)
    }

    /// The head, when there is one: nothing may lie above it.
    async fn check_head(&self, verified: &mut Verified) -> Result<Option<Position>, ReadError> {
        let sql =
            "SELECT COUNT(*), COALESCE(MAX(position), 0), (SELECT COALESCE(MAX(id), 0) FROM events) FROM event_head";
        let rows: Vec<(i64, i64, i64)> = all(&self.store, sql).await?;
        let Some((count, head, newest)) = rows.first().copied() else { return Ok(None) };
        if count != 1 {
            verified.find(format!("there are {count} head rows, not one"));
        }
        if newest > head {
            verified.find(format!("the head is at position {head}, the newest event at {newest}"));
        }
        Ok(Position::new(head.max(newest)).ok())
    }

    async fn check_page(
        &self,
        query: &ReadQuery,
        page: &Page,
        recorded: &mut Option<Timestamp>,
        verified: &mut Verified,
    ) -> Result<(), ReadError> {
        let (after, reached) = (query.after.map_or(0, Position::get), page.reached.get());
        let sql = format!("SELECT id, event_key FROM events WHERE id > {after} AND id <= {reached} ORDER BY id");
        let keys: Vec<KeyRow> = all(&self.store, &sql).await?;
        if keys.len() != page.events.len() {
            verified
                .find(format!("between positions {after} and {reached} events come and go while they are looked at"));
        }
        for (event, (_, key)) in page.events.iter().zip(&keys) {
            let position = event.position;
            if key.as_deref() != expected_key(event).as_ref().map(<[u8; 16]>::as_slice) {
                verified.find(format!("the key of the event at position {position} is not that of its source and id"));
            }
            if event.recorded_time.is_some() && event.recorded_time < *recorded {
                verified.find(format!("the event at position {position} was recorded before the one below it"));
            }
            *recorded = event.recorded_time.or(*recorded);
        }
        if self.is_embedded() {
            for Following { name, column, through, entries } in following() {
                let sql = format!(
                    "SELECT COUNT({column}) FROM events WHERE id > {after} AND id <= {reached} \
                     AND id <= (SELECT {through} FROM event_head WHERE id = 1) \
                     AND NOT EXISTS (SELECT 1 FROM {entries} AND position = events.id)"
                );
                if let Some((count @ 1..,)) = all::<(i64,)>(&self.store, &sql).await?.first() {
                    verified.find(format!("{count} events up to position {reached} are not in the index by {name}"));
                }
            }
        }
        verified.events += page.events.len() as u64;
        verified.reached = Some(page.reached);
        Ok(())
    }

    async fn check_file(&self, verified: &mut Verified) -> Result<(), ReadError> {
        // The index may have entries above where all have one, but none without an event.
        let sql = "SELECT (SELECT COUNT(*) FROM event_subjects \
                   WHERE position <= (SELECT indexed_through FROM event_head WHERE id = 1) \
                   OR NOT EXISTS (SELECT 1 FROM events WHERE id = position AND subject = of_subject)), \
                   (SELECT COUNT(*) FROM events WHERE id <= (SELECT indexed_through FROM event_head WHERE id = 1))";
        let counts = all::<(i64, i64)>(&self.store, sql).await?;
        if let Some((entries, events)) = counts.first().filter(|(entries, events)| entries != events) {
            verified.find(format!("the index by subject has {entries} entries for {events} events"));
        }
        let twins = "SELECT one.id, other.id FROM event_keys AS first CROSS JOIN event_keys AS second \
                     ON second.key_start = first.key_start AND second.position > first.position \
                     CROSS JOIN events AS one ON one.id = first.position \
                     CROSS JOIN events AS other ON other.id = second.position WHERE one.event_key = other.event_key";
        for (one, other) in all::<(i64, i64)>(&self.store, twins).await? {
            verified.find(format!("the events at positions {one} and {other} have the same source and id"));
        }
        for (line,) in all::<(String,)>(&self.store, "PRAGMA integrity_check").await? {
            if line != "ok" {
                verified.find(format!("SQLite finds: {line}"));
            }
        }
        Ok(())
    }
}

/// An index of `SQLite` that follows behind the log.
struct Following {
    name: &'static str,
    /// What it is by; events without it have no entry.
    column: &'static str,
    /// Where the head row says how far it has come.
    through: &'static str,
    /// Its table, and the condition for the entries of an event.
    entries: String,
}

fn following() -> [Following; 2] {
    let of_subject = "event_subjects WHERE of_subject = events.subject".to_owned();
    let of_key = format!("event_keys WHERE key_start = {}", start_sql("events.event_key"));
    [
        Following { name: "subject", column: "subject", through: "indexed_through", entries: of_subject },
        Following { name: "key", column: "event_key", through: "keyed_through", entries: of_key },
    ]
}

fn expected_key(event: &StoredEvent) -> Option<[u8; 16]> {
    event.key().map(key_of)
}

/// All rows of `sql`, however long it takes.
async fn all<T: Readable>(store: &Store, sql: &str) -> Result<Vec<T>, ReadError> {
    let read = async {
        let mut lease = store.readers.lease().await?;
        let rows = lease.all(Statement { sql: sql.to_owned(), parameters: Some(Vec::new()) }).await;
        lease.done(rows)
    };
    read.await.map_err(|error: Error| ReadError::Unavailable(error.into()))
}
