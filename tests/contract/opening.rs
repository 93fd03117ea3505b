//! Opening.

use crate::reading::{append, events, whole_log};
use crate::store::Store;

pub(crate) async fn database_opened_by_many_at_once_serves_all(store: &Store) {
    let (first, second, third) = tokio::join!(store.open(), store.open(), store.open());
    for repository in [&first, &second, &third, &first] {
        append(&**repository, events(&["a"])).await;
    }
    assert_eq!(whole_log(&*second).await.len(), 4);
}

pub(crate) async fn data_outlives_reopening(store: &Store) {
    let repository = store.open().await;
    append(&*repository, events(&["a", "b"])).await;
    let written = whole_log(&*repository).await;
    drop(repository);
    let repository = store.open().await;
    assert_eq!(whole_log(&*repository).await, written);
    assert_eq!(written.len(), 2);
}
