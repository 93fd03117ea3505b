//! Looking keys up and putting them into the index, under the lock of the head.

use std::collections::HashSet;

use bytes::Bytes;
use rusqlite::{Connection, Row};

use crate::adapters::repository::sea_orm::append::rows::{Key, key};
use crate::adapters::repository::sea_orm::append::sqlite::fault::Fault;
use crate::adapters::repository::sea_orm::append::sqlite::index_filter::IndexFilter;
use crate::adapters::repository::sea_orm::append::sqlite::newest_keys::{Found, NewestKeys, Parts};
use crate::adapters::repository::sea_orm::append::sqlite::one;
use crate::adapters::repository::sea_orm::context;
use crate::adapters::repository::sea_orm::key_index::key_start;
use crate::adapters::repository::sea_orm::row::{EVENT_COLUMNS, position, timestamp, undecodable};
use crate::domain::attribute::{EventId, EventSource, EventType, Subject};
use crate::domain::event::StoredEvent;

const LOOK_UP: &str = "SELECT position FROM event_keys WHERE key_start = ?";

/// Learns the keys that are not in the index for sure, unless `newest` has them all; it has met the head, which is at `head`.
pub(super) fn catch_up(connection: &Connection, newest: &mut NewestKeys, head: i64) -> Result<(), Fault> {
    if newest.is_current() {
        return Ok(());
    }
    let keyed: i64 = one(connection, "SELECT keyed_through FROM event_head WHERE id = 1", (), |row| row.get(0))?;
    let after = newest.through().max(keyed);
    let mut found = Found { after, head, deletions: deletions(connection)?, entries: Vec::new() };
    let mut statement =
        connection.prepare("SELECT id, event_key FROM events WHERE id > ? AND event_key IS NOT NULL ORDER BY id")?;
    let mut rows = statement.query([after])?;
    while let Some(row) = rows.next()? {
        // What has another length is no key of ours, and none that an event could have.
        if let Ok(key) = Key::try_from(row.get_ref(1)?.as_bytes().unwrap_or_default()) {
            found.entries.push((key_start(&key), row.get(0)?));
        }
    }
    newest.catch_up(found);
    Ok(())
}

/// How many deletions there were.
pub(super) fn deletions(connection: &Connection) -> rusqlite::Result<i64> {
    one(connection, "SELECT number FROM event_deletions WHERE id = 1", (), |row| row.get(0))
}

/// Whether an event may be stored that has one of `keys`, for it has one that starts alike; `newest` must be current.
pub(super) fn may_be_stored<'k>(
    connection: &Connection,
    newest: &NewestKeys,
    indexed: &IndexFilter,
    keys: impl Iterator<Item = &'k Key>,
) -> rusqlite::Result<bool> {
    let starts = starts(keys);
    if starts.iter().any(|start| newest.has(*start)) {
        return Ok(true);
    }
    let mut look_up = connection.prepare_cached(LOOK_UP)?;
    for start in starts.into_iter().filter(|start| indexed.may_have(*start)) {
        if look_up.exists([start])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The stored events that have one of `keys`; `newest` must be current.
pub(super) fn stored(
    connection: &Connection,
    newest: &NewestKeys,
    indexed: &IndexFilter,
    keys: &[Key],
) -> Result<Vec<StoredEvent>, Fault> {
    let starts = starts(keys.iter());
    let mut positions: Vec<i64> = starts.iter().flat_map(|start| newest.positions(*start)).collect();
    let mut look_up = connection.prepare_cached(LOOK_UP)?;
    for start in starts.into_iter().filter(|start| indexed.may_have(*start)) {
        let mut found = look_up.query([start])?;
        while let Some(row) = found.next()? {
            positions.push(row.get(0)?);
        }
    }
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    positions.sort_unstable();
    positions.dedup();
    let keys: HashSet<&Key> = keys.iter().collect();
    let mut select = connection.prepare_cached(&format!("SELECT {EVENT_COLUMNS} FROM events WHERE id = ?"))?;
    let mut events = Vec::with_capacity(positions.len());
    for position in positions {
        let mut found = select.query([position])?;
        let Some(row) = found.next()? else { continue };
        let event = event(row)?;
        // Others may start like one of them.
        if event.key().is_some_and(|of_event| keys.contains(&key(of_event))) {
            events.push(event);
        }
    }
    Ok(events)
}

/// The starts of `keys`. In their order, neighbours share the pages that they are looked for in.
fn starts<'k>(keys: impl Iterator<Item = &'k Key>) -> Vec<i64> {
    let mut starts: Vec<i64> = keys.map(key_start).collect();
    starts.sort_unstable();
    starts
}

/// Reads a row of [`EVENT_COLUMNS`].
fn event(row: &Row<'_>) -> Result<StoredEvent, Fault> {
    let recorded_time = row.get::<_, Option<i64>>(5)?.map(timestamp).transpose()?;
    Ok(StoredEvent {
        position: position(row.get(0)?)?,
        id: row.get::<_, Option<String>>(7)?.map(EventId::from_stored),
        event_source: EventSource::from_stored(row.get(1)?),
        event_type: EventType::from_stored(row.get(2)?),
        subject: Subject::from_stored(row.get(3)?),
        time: timestamp(row.get(4)?)?,
        recorded_time,
        data: Bytes::copy_from_slice(row.get_ref(6)?.as_bytes().map_err(undecodable)?),
        context: row.get::<_, Option<Vec<u8>>>(8)?.as_deref().map(context::decode).transpose()?,
    })
}

/// Puts `parts` into the index, but for events that are gone.
pub(super) fn index(connection: &Connection, parts: &Parts) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(if parts.may_be_stale {
        "INSERT OR IGNORE INTO event_keys (key_start, position) \
         SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM events WHERE id = ?2)"
    } else {
        "INSERT OR IGNORE INTO event_keys (key_start, position) VALUES (?, ?)"
    })?;
    for (start, position) in &parts.entries {
        insert.execute([start, position])?;
    }
    if let Some(through) = parts.keyed_through {
        let sql = "UPDATE event_head SET keyed_through = max(keyed_through, ?) WHERE id = 1";
        connection.prepare_cached(sql)?.execute([through])?;
    }
    Ok(())
}
