//! Reading several subjects at once, page after page: what a repository remembers from one page to the next must not
//! show.

use events_db::domain::filter::Filter;
use events_db::ports::event_repository::{EventRepository, Order, ReadQuery};

use crate::reading::{
    append, event, event_type, exact, position, positions, prefixes, query, read_all, read_both_ways, whole_log,
};
use crate::store::Store;

/// Reads what `filter` selects in large and in small pages from both ends.
async fn agrees(repository: &dyn EventRepository, filter: &Filter) {
    let log = whole_log(repository).await;
    let head = repository.state().await.unwrap().head.unwrap().get();
    for (after, through) in [(None, head), (Some(head / 3), head - head / 5)] {
        let within = |at: i64| at > after.unwrap_or(0) && at <= through;
        let wanted = log.iter().filter(|event| within(event.position.get()) && filter.matches(event));
        let wanted: Vec<i64> = wanted.map(|event| event.position.get()).collect();
        for limit in [1_000, 90] {
            let query = ReadQuery { filter: filter.clone(), limit, ..query(after, through) };
            assert_eq!(positions(&read_both_ways(repository, query.clone()).await), wanted, "{query:?}");
        }
    }
}

/// 20,000 events, of which the subjects `thin-…` have one in twenty, each of them four.
async fn fill(repository: &dyn EventRepository) {
    for batch in 0..20 {
        let events = (0..1_000).map(|number| {
            let number = batch * 1_000 + number;
            let mut event = if number % 20 == 7 {
                event(&format!("thin-{:03}", number / 20 % 250))
            } else {
                event(&format!("thick-{}", number % 3))
            };
            event.event_type = event_type(["made", "paid"][number / 100 % 2]);
            event
        });
        append(repository, events.collect()).await;
    }
}

pub(crate) async fn many_subjects_are_read_from_both_ends(store: &Store) {
    let repository = store.open().await;
    fill(&*repository).await;
    let paid = |filter| Filter { types: vec![event_type("paid")], ..filter };
    for filter in [
        prefixes(&["thin-"]),
        prefixes(&["thin-01", "thin-2", "zero"]),
        paid(prefixes(&["thin-"])),
        exact(&["thin-003", "thin-249", "thick-1"]),
        paid(exact(&["thin-003", "thin-249", "thick-1"])),
    ] {
        agrees(&*repository, &filter).await;
    }
}

pub(crate) async fn what_is_deleted_and_appended_between_pages_shows(store: &Store) {
    let repository = store.open().await;
    fill(&*repository).await;
    let filters = [prefixes(&["thin-"]), exact(&["thin-003", "thin-249", "thick-1"])];
    for filter in &filters {
        for order in [Order::Ascending, Order::Descending] {
            let first = ReadQuery { filter: filter.clone(), limit: 50, order, ..query(None, 20_000) };
            assert_eq!(repository.read(first).await.unwrap().events.len(), 50);
        }
    }
    for subject in ["thin-100", "thin-249"] {
        assert_eq!(repository.delete(exact(&[subject]), position(1), position(20_000)).await.unwrap(), 4);
    }
    append(&*repository, ["thin-003", "thick-0", "thin-500"].map(event).into()).await;
    for filter in &filters {
        agrees(&*repository, filter).await;
    }
}

pub(crate) async fn subject_that_is_dense_in_places_is_read_completely(store: &Store) {
    let repository = store.open().await;
    for batch in 0..12 {
        let events = (0..1_000).map(|number| {
            let is_dense = batch % 3 == 0 || number % 300 == 0;
            event(if is_dense { "most" } else { "others" })
        });
        append(&*repository, events.collect()).await;
    }
    agrees(&*repository, &exact(&["most"])).await;
    agrees(&*repository, &exact(&["others"])).await;
}

pub(crate) async fn more_events_than_anybody_remembers_are_read(store: &Store) {
    let repository = store.open().await;
    for _ in 0..70 {
        let events = (0..1_000).map(|number| event(["a", "b", "c"][number % 3]));
        append(&*repository, events.collect()).await;
    }
    let filter = exact(&["a", "b", "c"]);
    for order in [Order::Ascending, Order::Descending] {
        let query = ReadQuery { filter: filter.clone(), order, limit: 10_000, ..query(None, 70_000) };
        let found = read_all(&*repository, query).await;
        assert_eq!(found.len(), 70_000, "{order:?}");
    }
}
