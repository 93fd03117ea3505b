//! The log in SQLite, MySQL, MariaDB or PostgreSQL, through sea-orm.

mod append;
mod connect;
mod context;
mod delete;
mod durability;
mod fault;
mod key_index;
mod literal;
mod migration;
mod pool;
mod query;
mod read;
mod row;
mod subject_index;
mod verify;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::append::AppendRequest;
use crate::domain::attribute::{EventType, Subject};
use crate::domain::event::StoredEvent;
use crate::domain::filter::Filter;
use crate::domain::log_state::LogState;
use crate::domain::position::Position;
use crate::ports::event_repository::{
    AppendError, DeleteError, EventRepository, Fault, GroupAppended, LatestPage, LatestQuery, Order, Page, ReadError,
    ReadQuery, RestoreError,
};

pub use append::RetryCounts;
use append::Unanswered;
use connect::{Access, Store};
pub use connect::{ConnectError, StoreConfig};
pub use verify::Verified;

/// How long the database may take for one call: clients hear of an outage within 5 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a read is repeated over connections that turn out to be closed, which takes no time each.
const STALE_TIME_MAX: Duration = Duration::from_secs(1);

/// The log in a relational database.
///
/// Reads and deletions run in tasks of their own: a caller that leaves cannot drop a query half-way and leave its
/// connection out of step.
pub struct SeaOrmRepository {
    store: Arc<Store>,
    retries: Arc<RetryCounts>,
}

impl SeaOrmRepository {
    /// Opens the database, checks its settings and brings its schema up to date.
    ///
    /// # Errors
    /// [`ConnectError::Unavailable`] when trying again makes sense, [`ConnectError::Unusable`] when it does not.
    pub async fn connect(config: &StoreConfig) -> Result<Self, ConnectError> {
        let retries = Arc::new(RetryCounts::default());
        let store = Arc::new(Store::open(config, Access::Serve, Arc::clone(&retries)).await?);
        Ok(Self { store, retries })
    }

    /// Opens the database as it is, to read it: nothing is checked but its schema, and nothing is written.
    ///
    /// # Errors
    /// As [`SeaOrmRepository::connect`]; [`ConnectError::Unusable`] also when the database or its schema is not there, or the
    /// schema is older than this program.
    pub async fn connect_to_read(config: &StoreConfig) -> Result<Self, ConnectError> {
        let retries = Arc::new(RetryCounts::default());
        let store = Arc::new(Store::open(config, Access::Read, Arc::clone(&retries)).await?);
        Ok(Self { store, retries })
    }

    /// Whether the database runs within this process.
    fn is_embedded(&self) -> bool {
        self.store.dialect.engine == query::Engine::Sqlite
    }

    /// How often appends were repeated since the start.
    #[must_use]
    pub fn retries(&self) -> Arc<RetryCounts> {
        Arc::clone(&self.retries)
    }

    /// Runs `work` in a task, no longer than [`CALL_TIMEOUT`].
    async fn detached<T, E, W>(&self, work: impl FnOnce(Arc<Store>) -> W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<NoAnswer> + Send + 'static,
        W: Future<Output = Result<T, E>> + Send + 'static,
    {
        // The limit goes with the work: a caller that leaves must not take it along.
        let limited = tokio::spawn(tokio::time::timeout(CALL_TIMEOUT, work(Arc::clone(&self.store))));
        match limited.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(elapsed)) => Err(NoAnswer(elapsed.into()).into()),
            Err(panic) => Err(NoAnswer(panic.into()).into()),
        }
    }

    /// Reads by `work`, again when the connection turns out to be one of a database that has gone and come back: each of
    /// the pool's is found out by its first use.
    async fn read_again<T, W>(&self, work: impl Fn(Arc<Store>) -> W) -> Result<T, ReadError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        let started = tokio::time::Instant::now();
        for _ in 0..connect::READERS {
            match self.detached(&work).await {
                Err(error) if fault::is_stale_connection(&error) && started.elapsed() < STALE_TIME_MAX => {}
                answer => return answer,
            }
        }
        self.detached(&work).await
    }
}

/// The database did not answer in time.
struct NoAnswer(Fault);

impl From<NoAnswer> for ReadError {
    fn from(NoAnswer(fault): NoAnswer) -> Self {
        Self::Unavailable(fault)
    }
}

/// Whoever has the writer's turn for so long holds everybody up.
const BUSY: &str = "the writer is busy";

impl From<Unanswered> for AppendError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NotBegun => Self::Unavailable(BUSY.into()),
            Unanswered::Unknown(fault) => Self::OutcomeUnknown(fault),
        }
    }
}

impl From<Unanswered> for RestoreError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NotBegun => Self::Unavailable(BUSY.into()),
            Unanswered::Unknown(fault) => Self::OutcomeUnknown(fault),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventRepository for SeaOrmRepository {
    async fn append(&self, requests: Arc<[AppendRequest]>) -> Result<GroupAppended, AppendError> {
        let writer = &self.store.writer;
        let appended =
            writer.run(append::PATIENCE, |writer| Box::pin(async move { writer.append(&requests).await })).await;
        let appended = appended.unwrap_or_else(|unanswered| Err(unanswered.into()));
        if !self.is_embedded() && matches!(appended, Err(AppendError::Unavailable(_) | AppendError::OutcomeUnknown(_)))
        {
            // The next one may be written to another server, after a switch-over, and reads must follow: a server that lags
            // behind would deny what is acknowledged.
            self.store.readers.renew();
        }
        appended
    }

    async fn restore(&self, events: Vec<StoredEvent>) -> Result<(), RestoreError> {
        self.store.writer.run(append::RESTORE_PATIENCE, |writer| Box::pin(writer.restore(events))).await?
    }

    async fn get(&self, position: Position) -> Result<Option<StoredEvent>, ReadError> {
        self.read_again(move |store| async move { read::get(&store, position).await }).await
    }

    async fn read(&self, query: ReadQuery) -> Result<Page, ReadError> {
        self.read_again(|store| {
            let query = query.clone();
            async move { read::page(&store, query).await }
        })
        .await
    }

    async fn latest(&self, query: LatestQuery) -> Result<LatestPage, ReadError> {
        self.read_again(|store| {
            let query = query.clone();
            async move { read::latest(&store, query).await }
        })
        .await
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        self.read_again(|store| async move { read::state(&store).await }).await
    }

    async fn subjects(&self, after: Option<Subject>, limit: usize) -> Result<Vec<Subject>, ReadError> {
        self.read_again(|store| {
            let after = after.clone();
            async move { read::subjects(&store, after, limit).await }
        })
        .await
    }

    async fn types(&self, after: Option<Position>, through: Position) -> Result<Vec<EventType>, ReadError> {
        self.read_again(|store| async move { read::types(&store, after, through).await }).await
    }

    async fn delete(&self, filter: Filter, from: Position, through: Position) -> Result<u64, DeleteError> {
        let mut deleted = 0;
        let mut after = from.previous();
        while after < Some(through) {
            let query = ReadQuery {
                filter: filter.clone(),
                after,
                through,
                order: Order::Ascending,
                limit: delete::CHUNK,
                bytes_max: usize::MAX,
            };
            let chunk = self.detached(|store| async move { delete::chunk(&store, query).await }).await;
            let (count, reached) = chunk.map_err(|error: ReadError| DeleteError::Unavailable(error.into()))?;
            deleted += count;
            after = Some(reached);
        }
        Ok(deleted)
    }
}
