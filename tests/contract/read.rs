//! The edges of a page.

use events_db::ports::event_repository::{Order, ReadQuery};

use crate::reading::{append, events, exact, position, positions, prefixes, query};
use crate::store::Store;

pub(crate) async fn after_and_through_bound_the_page(store: &Store) {
    let repository = store.open().await;
    append(&*repository, events(&["a", "b", "a", "b", "a"])).await;
    for (filter, after, through, found) in [
        (None, None, 5, vec![1, 2, 3, 4, 5]),
        (None, None, 1, vec![1]),
        (None, Some(1), 4, vec![2, 3, 4]),
        (None, Some(4), 5, vec![5]),
        (None, Some(4), i64::MAX, vec![5]),
        (None, Some(5), i64::MAX, vec![]),
        (Some(exact(&["a"])), Some(1), 4, vec![3]),
        (Some(exact(&["a"])), Some(1), 5, vec![3, 5]),
        (Some(exact(&["a", "b"])), Some(2), 4, vec![3, 4]),
        (Some(prefixes(&["b"])), Some(2), 5, vec![4]),
        (Some(exact(&["nobody"])), None, 5, vec![]),
    ] {
        let mut query = query(after, through);
        query.filter = filter.unwrap_or_default();
        let page = repository.read(query.clone()).await.unwrap();
        assert_eq!(positions(&page.events), found, "{query:?}");
        // A log this short is looked at as a whole.
        assert_eq!(page.reached.get(), through, "{query:?}");
        query.order = Order::Descending;
        query.through = position(through.min(5));
        if query.after < Some(query.through) {
            let page = repository.read(query.clone()).await.unwrap();
            assert_eq!(positions(&page.events), reversed(found), "{query:?}");
            assert_eq!(page.reached.get(), after.unwrap_or(0) + 1, "{query:?}");
            assert_eq!(query.rest(page.reached), None);
        }
    }
}

fn reversed(mut positions: Vec<i64>) -> Vec<i64> {
    positions.reverse();
    positions
}

pub(crate) async fn limit_ends_the_page_at_its_last_event(store: &Store) {
    let repository = store.open().await;
    append(&*repository, events(&["a", "b", "a", "b", "a", "c"])).await;
    for (filter, limit, found) in [
        (query(None, 6).filter, 1, vec![1]),
        (query(None, 6).filter, 5, vec![1, 2, 3, 4, 5]),
        (exact(&["a"]), 2, vec![1, 3]),
        (exact(&["a", "b"]), 3, vec![1, 2, 3]),
        (exact(&["c", "a"]), 2, vec![1, 3]),
        (prefixes(&["a", "c"]), 3, vec![1, 3, 5]),
    ] {
        let mut query = query(None, 6);
        (query.filter, query.limit) = (filter, limit);
        let page = repository.read(query.clone()).await.unwrap();
        assert_eq!(positions(&page.events), found, "{query:?}");
        assert_eq!(Some(&page.reached.get()), found.last(), "{query:?}");
    }
    for (filter, limit, found) in [
        (query(None, 6).filter, 1, vec![6]),
        (query(None, 6).filter, 5, vec![6, 5, 4, 3, 2]),
        (exact(&["a"]), 2, vec![5, 3]),
        (exact(&["a", "b"]), 3, vec![5, 4, 3]),
        (exact(&["c", "a"]), 2, vec![6, 5]),
        (prefixes(&["a", "c"]), 3, vec![6, 5, 3]),
    ] {
        let query = ReadQuery { filter, limit, order: Order::Descending, ..query(None, 6) };
        let page = repository.read(query.clone()).await.unwrap();
        assert_eq!(positions(&page.events), found, "{query:?}");
        assert_eq!(Some(&page.reached.get()), found.last(), "{query:?}");
    }
}

pub(crate) async fn bytes_max_ends_the_page_before_it_overflows(store: &Store) {
    let repository = store.open().await;
    let mut batch = events(&["a", "b", "a", "b"]);
    batch[2].data = vec![7; 5_000].into();
    append(&*repository, batch).await;
    let small = repository.get(position(1)).await.unwrap().unwrap().size_bytes();
    let large = repository.get(position(3)).await.unwrap().unwrap().size_bytes();
    for (after, filter, bytes_max, found, through) in [
        (None, exact(&["a"]), small + large, vec![1, 3], 4),
        (None, exact(&["a"]), small + large - 1, vec![1], 1),
        (None, prefixes(&["a", "b"]), 2 * small - 1, vec![1], 1),
        (None, query(None, 4).filter, 2 * small + large, vec![1, 2, 3], 3),
        (None, query(None, 4).filter, 2 * small + large - 1, vec![1, 2], 2),
        (Some(2), query(None, 4).filter, large - 1, vec![3], 3),
        (Some(2), exact(&["a", "b"]), 1, vec![3], 3),
        (Some(2), exact(&["a"]), 1, vec![3], 4),
        (Some(2), query(None, 4).filter, 0, vec![3], 3),
    ] {
        let mut query = query(after, 4);
        (query.filter, query.bytes_max) = (filter, bytes_max);
        let page = repository.read(query.clone()).await.unwrap();
        assert_eq!((positions(&page.events), page.reached.get()), (found, through), "{query:?}");
    }
    for (through, filter, bytes_max, found, reached) in [
        (4, exact(&["a"]), small + large, vec![3, 1], 1),
        (4, exact(&["a"]), small + large - 1, vec![3], 3),
        (4, prefixes(&["a", "b"]), 2 * small - 1, vec![4], 4),
        (4, query(None, 4).filter, 2 * small + large, vec![4, 3, 2], 2),
        (4, query(None, 4).filter, small + large - 1, vec![4], 4),
        (3, query(None, 4).filter, large - 1, vec![3], 3),
        (3, exact(&["a", "b"]), 1, vec![3], 3),
        (2, exact(&["a"]), 0, vec![1], 1),
    ] {
        let query = ReadQuery { filter, bytes_max, order: Order::Descending, ..query(None, through) };
        let page = repository.read(query.clone()).await.unwrap();
        assert_eq!((positions(&page.events), page.reached.get()), (found, reached), "{query:?}");
    }
}

pub(crate) async fn empty_log_has_no_head_and_no_events(store: &Store) {
    let repository = store.open().await;
    assert_eq!(repository.state().await.unwrap().head, None);
    assert_eq!(repository.get(position(1)).await.unwrap(), None);
    assert_eq!(repository.subjects(None, 10).await.unwrap(), []);
    let page = repository.read(query(None, 1)).await.unwrap();
    assert!(page.events.is_empty() && page.reached == position(1));
}

pub(crate) async fn get_finds_only_what_is_there(store: &Store) {
    let repository = store.open().await;
    append(&*repository, events(&["a", "b"])).await;
    let found = repository.get(position(2)).await.unwrap().unwrap();
    assert_eq!((found.position, found.subject.as_str()), (position(2), "b"));
    assert_eq!(repository.get(position(3)).await.unwrap(), None);
    assert_eq!(repository.get(position(i64::MAX)).await.unwrap(), None);
}
