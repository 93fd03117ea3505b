//! What reads cost on MariaDB, by its own count of rows.

use events_db::domain::filter::Filter;
use events_db::ports::event_repository::{LatestQuery, Order, ReadQuery};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::reading::{append, event, exact, position, positions, prefixes, query};
use crate::store::Store;

/// Rows that a read of ten may look at: far below the log, somewhat above ten.
const ROWS_MAX: i64 = 50;

pub(crate) async fn late_page_reads_few_rows(store: &Store) {
    let repository = store.open().await;
    for _ in 0..20 {
        append(&*repository, vec![event("long"); 1_000]).await;
    }
    append(&*repository, vec![event("short")]).await;
    let counter = Counter::new(store.foreign().await).await;
    let late = ReadQuery { limit: 10, ..query(Some(15_000), 20_001) };
    let early = ReadQuery { limit: 10, order: Order::Descending, ..query(None, 5_000) };
    for filter in [exact(&["long"]), exact(&["nobody", "short"]), prefixes(&["long"]), Filter::default()] {
        for query in [&late, &early] {
            let query = ReadQuery { filter: filter.clone(), ..query.clone() };
            let before = counter.rows_read().await;
            let page = repository.read(query.clone()).await.unwrap();
            let rows = counter.rows_read().await - before;
            assert!(rows <= ROWS_MAX, "{query:?}: {rows} rows for {:?}", positions(&page.events));
        }
        let through = position(15_000);
        let query = LatestQuery { filter, after: None, through, limit: 10, bytes_max: usize::MAX };
        let before = counter.rows_read().await;
        let latest = repository.latest(query.clone()).await.unwrap();
        let rows = counter.rows_read().await - before;
        assert!(rows <= ROWS_MAX, "{query:?}: {rows} rows for {:?}", positions(&latest.events));
    }
    let before = counter.rows_read().await;
    assert_eq!(repository.subjects(None, 10).await.unwrap().len(), 2);
    let rows = counter.rows_read().await - before;
    assert!(rows <= ROWS_MAX, "{rows} rows for two subjects");
}

/// Counts the rows of `events` that anybody read.
struct Counter {
    db: DatabaseConnection,
}

impl Counter {
    async fn new(db: DatabaseConnection) -> Self {
        db.execute_unprepared("SET GLOBAL userstat = 1").await.unwrap();
        let counter = Self { db };
        let before = counter.rows_read().await;
        counter.db.execute_unprepared("SELECT COUNT(data) FROM events").await.unwrap();
        let rows = counter.rows_read().await - before;
        assert!(rows >= 20_001, "the server counts {rows} of 20001 rows");
        counter
    }

    async fn rows_read(&self) -> i64 {
        let sql = "SELECT CAST(COALESCE(SUM(ROWS_READ), 0) AS SIGNED) FROM information_schema.TABLE_STATISTICS \
                   WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'events'";
        let statement = Statement::from_string(DbBackend::MySql, sql);
        self.db.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
    }
}
