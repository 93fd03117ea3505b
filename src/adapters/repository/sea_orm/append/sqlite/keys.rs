//! Looking keys up and putting them into the index, under the lock of the head.

use std::collections::{BTreeSet, HashSet};

use sea_orm::sqlx::sqlite::{SqliteConnection, SqliteRow};
use sea_orm::sqlx::{self, AssertSqlSafe, FromRow, Row as _};

use crate::adapters::repository::sea_orm::append::rows::{Key, key};
use crate::adapters::repository::sea_orm::append::sqlite::insert_all;
use crate::adapters::repository::sea_orm::append::sqlite::newest_keys::{Entry, Found, NewestKeys, Parts};
use crate::adapters::repository::sea_orm::key_index::key_start;
use crate::adapters::repository::sea_orm::row::{EVENT_COLUMNS, undecodable};
use crate::domain::event::StoredEvent;

/// Keys that one call reads.
const PAGE_KEYS: usize = 16_384;

/// Learns the keys that are not in the index for sure, unless `newest` has them all; the head is at `head`.
pub(super) async fn catch_up(
    connection: &mut SqliteConnection,
    newest: &mut NewestKeys,
    head: i64,
) -> Result<(), sqlx::Error> {
    newest.meet(head);
    if newest.is_current() {
        return Ok(());
    }
    let sql = "SELECT keyed_through FROM event_head WHERE id = 1";
    let keyed: i64 = number(connection, sql).await?;
    let after = newest.through().max(keyed);
    let mut found = Found { after, head, deletions: deletions(connection).await?, entries: Vec::new() };
    // In one row, because each costs the driver more than SQLite.
    let sql = format!(
        "SELECT max(id), group_concat(id), CAST(group_concat(event_key, '') AS BLOB) FROM (SELECT id, event_key FROM events \
         WHERE id > ? AND length(event_key) = {} ORDER BY id LIMIT {PAGE_KEYS})",
        size_of::<Key>()
    );
    let mut reached = after;
    loop {
        let row = sqlx::query(AssertSqlSafe(sql.as_str())).bind(reached).fetch_one(&mut *connection).await?;
        let Some(last) = row.try_get(0)? else { break };
        reached = last;
        page_entries(&row, &mut found.entries)?;
    }
    newest.catch_up(found);
    Ok(())
}

/// How many deletions there were.
pub(super) async fn deletions(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    number(connection, "SELECT number FROM event_deletions WHERE id = 1").await
}

async fn number(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query(sql).fetch_one(connection).await?.try_get(0)
}

fn page_entries(row: &SqliteRow, entries: &mut Vec<Entry>) -> Result<(), sqlx::Error> {
    let (places, keys): (&str, &[u8]) = (row.try_get(1)?, row.try_get(2)?);
    let (keys, rest) = keys.as_chunks();
    let places = places.split(',');
    if !rest.is_empty() || places.clone().count() != keys.len() {
        return Err(undecodable("keys were not packed as they should be"));
    }
    for (place, key) in places.zip(keys) {
        entries.push((key_start(key), place.parse().map_err(undecodable)?));
    }
    Ok(())
}

/// The stored events that have one of `keys`; `newest` must be current.
pub(super) async fn stored(
    connection: &mut SqliteConnection,
    newest: &NewestKeys,
    keys: &[Key],
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    // In their order, neighbours share the pages that they are looked for in.
    let starts: BTreeSet<i64> = keys.iter().map(key_start).collect();
    let mut positions: BTreeSet<i64> = starts.iter().flat_map(|start| newest.positions(*start)).collect();
    for row in look_up(connection, "SELECT position FROM event_keys WHERE key_start", &starts).await? {
        positions.insert(row.try_get(0)?);
    }
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let keys: HashSet<&Key> = keys.iter().collect();
    let select = format!("SELECT {EVENT_COLUMNS} FROM events WHERE id");
    let mut events = Vec::with_capacity(positions.len());
    for row in look_up(connection, &select, &positions).await? {
        let event = StoredEvent::from_row(&row)?;
        // Others may start like one of them.
        if event.key().is_some_and(|of_event| keys.contains(&key(of_event))) {
            events.push(event);
        }
    }
    Ok(events)
}

/// The rows that `select` finds for `numbers`, by one statement whatever their count.
async fn look_up(
    connection: &mut SqliteConnection,
    select: &str,
    numbers: &BTreeSet<i64>,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    let sql = format!("{select} IN (SELECT value FROM json_each(?))");
    let query = sqlx::query(AssertSqlSafe(sql)).bind(format!("[{}]", numbers.join(",")));
    query.fetch_all(connection).await
}

/// Puts `parts` into the index, but for events that are gone.
pub(super) async fn index(connection: &mut SqliteConnection, parts: &Parts) -> Result<(), sqlx::Error> {
    let around = if parts.may_be_stale {
        let stored = ") WHERE EXISTS (SELECT 1 FROM events WHERE id = column2)";
        ("INSERT OR IGNORE INTO event_keys SELECT column1, column2 FROM (VALUES ", stored)
    } else {
        ("INSERT OR IGNORE INTO event_keys VALUES ", "")
    };
    insert_all(connection, around, 2, &parts.entries, |parameters, (start, position)| {
        parameters.add(start)?;
        parameters.add(position)
    })
    .await?;
    if let Some(through) = parts.keyed_through {
        let sql = "UPDATE event_head SET keyed_through = max(keyed_through, ?) WHERE id = 1";
        sqlx::query(sql).bind(through).execute(&mut *connection).await?;
    }
    Ok(())
}
