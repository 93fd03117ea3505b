//! Opening.

use sea_orm::ConnectionTrait;

use crate::reading::{append, events, whole_log};
use crate::store::Store;

const LATER_MIGRATION: &str = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('of_a_later_version', 1)";

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

pub(crate) async fn database_of_a_later_version_is_served(store: &Store) {
    append(&*store.open().await, events(&["a"])).await;
    store.foreign().await.execute_unprepared(LATER_MIGRATION).await.unwrap();
    let repository = store.open().await;
    append(&*repository, events(&["b"])).await;
    assert_eq!(whole_log(&*repository).await.len(), 2);
    assert!(store.open_to_read().await.is_ok());
}

pub(crate) async fn file_of_a_later_version_is_not_opened(store: &Store) {
    drop(store.open().await);
    store.foreign().await.execute_unprepared(LATER_MIGRATION).await.unwrap();
    let refused = store.open_to_read().await.err().unwrap().to_string();
    assert!(refused.contains("its schema is of a later version"), "{refused}");
}

pub(crate) async fn user_who_may_not_change_the_schema_serves(store: &Store) {
    append(&*store.open().await, events(&["a"])).await;
    let repository = store.open_as_plain_user().await;
    append(&*repository, events(&["b", "c"])).await;
    assert_eq!(whole_log(&*repository).await.len(), 3);
}
