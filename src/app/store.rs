//! Opening the database, for every command that needs it.

use std::time::{Duration, Instant};

use crate::adapters::repository::sea_orm::{ConnectError, SeaOrmRepository, StoreConfig};
use crate::config::{DatabaseUrl, StoreSettings};
use crate::error_chain::error_chain;

/// First and longest wait before the database is tried again at start.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Opens the store to serve it or to write to it, its schema brought up to date.
pub(super) async fn open(settings: &StoreSettings) -> Result<SeaOrmRepository, ConnectError> {
    let config = config(&settings.database, settings);
    patiently(settings, || SeaOrmRepository::connect(&config)).await
}

/// Opens the store at `database` as it is, to read it only.
pub(super) async fn open_to_read(
    database: &DatabaseUrl,
    settings: &StoreSettings,
) -> Result<SeaOrmRepository, ConnectError> {
    let config = config(database, settings);
    patiently(settings, || SeaOrmRepository::connect_to_read(&config)).await
}

fn config(database: &DatabaseUrl, settings: &StoreSettings) -> StoreConfig {
    StoreConfig {
        url: database.expose().to_owned(),
        event_bytes_max: settings.event_bytes_max,
        allows_lazy_durability: settings.allows_lazy_durability,
    }
}

/// Waits for a database that is not there yet.
async fn patiently<C>(settings: &StoreSettings, connect: impl Fn() -> C) -> Result<SeaOrmRepository, ConnectError>
where
    C: Future<Output = Result<SeaOrmRepository, ConnectError>>,
{
    let started = Instant::now();
    let mut wait = RETRY_WAIT.0;
    loop {
        match connect().await {
            Err(error @ ConnectError::Unavailable(_)) if started.elapsed() + wait < settings.startup_timeout => {
                tracing::warn!(error = error_chain(&error), "the database is not there yet, trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_WAIT.1);
            }
            answer => return answer,
        }
    }
}
