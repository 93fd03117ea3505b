//! Opening a database: pools, settings, schema.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr};

use crate::adapters::repository::sea_orm::append::{Connector, RetryCounts, Writer, WriterThread};
use crate::adapters::repository::sea_orm::durability;
use crate::adapters::repository::sea_orm::fault::{Effect, is_timeout};
use crate::adapters::repository::sea_orm::migration;
use crate::adapters::repository::sea_orm::pool::{Pool, Target};
use crate::adapters::repository::sea_orm::query::{Dialect, Engine};
use crate::adapters::repository::sea_orm::read::{DenseSubjects, Plans};
use crate::adapters::repository::sea_orm::subject_index::SubjectIndex;
use crate::domain::timestamp::Timestamp;
use crate::ports::event_repository::Fault;

/// Connections that delete. Appends have one of their own, outside of any pool.
const DELETERS: usize = 2;

/// Connections that read.
pub(super) const READERS: usize = 16;

/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long opening a file may take. A new one is flushed, which waits for whatever else the disk has to write.
const SQLITE_OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Rows on their way from SQLite's thread: more, and neither side waits for the other so often.
const SQLITE_ROWS: usize = 256;

/// What keeps PostgreSQL to the order of the indexes, whatever its statistics say. What must be sorted is, but for so high a
/// price that it would be worth compiling.
const POSTGRES_READER: &str = "\
    SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; \
    SELECT set_config('jit', 'off', false) FROM pg_settings WHERE name = 'jit'";

/// How large events are taken to be before any was read.
const MEAN_BYTES: usize = 256;

/// How long SQLite waits for another process's write.
pub(super) const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// Pages of 4 KiB in SQLite's write-ahead log when a commit moves them to the file, if nobody has done it beside the
/// commits.
pub(super) const SQLITE_CHECKPOINT_PAGES: &str = "32000";

/// How long to wait before a busy file is opened again.
const SQLITE_OPEN_WAIT: Duration = Duration::from_millis(20);

/// When the row of a writer that is idle or gone is removed: long after anybody could still ask for its last commit.
const WRITER_FORGOTTEN_AFTER_SECONDS: i64 = 30 * 24 * 60 * 60;

/// The first SQLite without the WAL-reset bug. Source: SQLite, "Release History".
const SQLITE_VERSION_MIN: (u32, u32, u32) = (3, 51, 3);

/// What a database is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything.
    Serve,
    /// Nothing is written.
    Read,
}

/// Which database to open.
#[derive(Clone)]
pub struct StoreConfig {
    /// `sqlite://…`, `mysql://…` or `postgres://…`; may carry a password and is never shown.
    pub url: String,
    /// Bytes of data in one event; the database must take a statement that large.
    pub event_bytes_max: usize,
    /// Whether a database is taken that may lose what it acknowledged.
    pub allows_lazy_durability: bool,
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StoreConfig").field("event_bytes_max", &self.event_bytes_max).finish_non_exhaustive()
    }
}

/// Why a database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It cannot be reached now.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Fault),
    /// It can never be used like this.
    #[error("the database cannot be used: {reason}")]
    Unusable {
        /// What is wrong, for the operator.
        reason: String,
        /// What the database said, if it did.
        #[source]
        cause: Option<Fault>,
    },
}

impl ConnectError {
    pub(super) fn unusable(reason: impl Into<String>) -> Self {
        Self::Unusable { reason: reason.into(), cause: None }
    }
}

impl From<DbErr> for ConnectError {
    fn from(error: DbErr) -> Self {
        match Effect::of(&error) {
            Effect::Conflict | Effect::Lost => Self::Unavailable(error.into()),
            Effect::DuplicateKey | Effect::Rejected | Effect::Refused => {
                Self::Unusable { reason: "it refuses what is asked of it".to_owned(), cause: Some(error.into()) }
            }
        }
    }
}

/// An open database.
pub(super) struct Store {
    pub(super) dialect: Dialect,
    pub(super) writer: WriterThread,
    pub(super) deleters: Arc<Pool>,
    pub(super) readers: Arc<Pool>,
    pub(super) subject_index: SubjectIndex,
    pub(super) plans: Plans,
    pub(super) dense: DenseSubjects,
    /// How large the events of the last page were.
    pub(super) mean_bytes: AtomicUsize,
}

impl Store {
    pub(super) async fn open(
        config: &StoreConfig,
        access: Access,
        retries: Arc<RetryCounts>,
    ) -> Result<Self, ConnectError> {
        let backend = backend(&config.url)?;
        let first = connect(config, backend, access).await?;
        let (checker, engine) = match access {
            Access::Read => {
                let engine = migration::check(&first).await?;
                (first, engine)
            }
            Access::Serve => {
                let engine = migration::migrate(first).await?;
                let checker = connect(config, backend, access).await?;
                check(&checker, engine, config).await?;
                forget_old_writers(&checker).await?;
                (checker, engine)
            }
        };
        let dialect = Dialect { engine };
        let writer = Writer::new(connector(dialect, &checker), retries);
        let writer = WriterThread::start(writer).await.map_err(|error| ConnectError::Unavailable(error.into()))?;
        let deleters_max = if engine == Engine::Sqlite { 1 } else { DELETERS };
        let deleters = Pool::new(target(engine, &checker, Role::Deleter), deleters_max);
        let readers = Pool::new(target(engine, &checker, Role::Reader), READERS);
        readers
            .lease()
            .await
            .and_then(|lease| lease.done(Ok(())))
            .map_err(|error| ConnectError::Unavailable(error.into()))?;
        checker.close().await?;
        Ok(Self {
            dialect,
            writer,
            deleters,
            readers,
            subject_index: SubjectIndex::default(),
            plans: Plans::default(),
            dense: DenseSubjects::default(),
            mean_bytes: AtomicUsize::new(MEAN_BYTES),
        })
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Writer,
    Deleter,
    Reader,
}

/// Removes the rows of processes that have not written for long. One that lives all the same makes its row anew.
async fn forget_old_writers(db: &DatabaseConnection) -> Result<(), ConnectError> {
    let now = Timestamp::now().unix_micros() / 1_000_000;
    let sql = format!("DELETE FROM event_writer WHERE used_at < {}", now - WRITER_FORGOTTEN_AFTER_SECONDS);
    db.execute_unprepared(&sql).await?;
    Ok(())
}

/// The way to a connection that writes, with the settings of `like`.
fn connector(dialect: Dialect, like: &DatabaseConnection) -> Connector {
    match target(dialect.engine, like, Role::Writer) {
        Target::Sqlite(options) => Connector::Sqlite(options),
        Target::MySql(options) => Connector::MySql(dialect, options),
        Target::Postgres(options, _) => Connector::Postgres(options),
    }
}

/// The way to a connection with the settings of `like` and those of its role.
fn target(engine: Engine, like: &DatabaseConnection, role: Role) -> Target {
    match engine {
        Engine::Sqlite => {
            let options = like.get_sqlite_connection_pool().connect_options().as_ref().clone();
            Target::Sqlite(Box::new(match role {
                Role::Writer | Role::Deleter => options,
                Role::Reader => options.pragma("query_only", "on").row_buffer_size(SQLITE_ROWS),
            }))
        }
        Engine::MySql | Engine::MariaDb => {
            Target::MySql(Box::new(like.get_mysql_connection_pool().connect_options().as_ref().clone()))
        }
        Engine::Postgres => {
            let options = like.get_postgres_connection_pool().connect_options().as_ref().clone();
            let settings = match role {
                Role::Writer | Role::Deleter => "",
                Role::Reader => POSTGRES_READER,
            };
            Target::Postgres(Box::new(options), settings)
        }
    }
}

fn backend(url: &str) -> Result<DbBackend, ConnectError> {
    match url.split(':').next() {
        Some("sqlite") => Ok(DbBackend::Sqlite),
        Some("mysql" | "mariadb") => Ok(DbBackend::MySql),
        Some("postgres" | "postgresql") => Ok(DbBackend::Postgres),
        Some(_) | None => Err(ConnectError::unusable("its URL must start with sqlite://, mysql:// or postgres://")),
    }
}

/// A pool of exactly one connection.
async fn connect(config: &StoreConfig, backend: DbBackend, access: Access) -> Result<DatabaseConnection, ConnectError> {
    // sea-orm knows MariaDB as MySQL.
    let url = config.url.replacen("mariadb:", "mysql:", 1);
    let mut options = ConnectOptions::new(url);
    let timeout = if backend == DbBackend::Sqlite { SQLITE_OPEN_TIMEOUT } else { CONNECT_TIMEOUT };
    options.max_connections(1).sqlx_logging(false).connect_timeout(timeout).acquire_timeout(timeout);
    options.map_sqlx_sqlite_opts(move |sqlite| {
        sqlite
            .create_if_missing(access == Access::Serve)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(SQLITE_BUSY_TIMEOUT)
            .pragma("wal_autocheckpoint", SQLITE_CHECKPOINT_PAGES)
    });
    let deadline = tokio::time::Instant::now() + SQLITE_BUSY_TIMEOUT;
    let connected = loop {
        let connected = tokio::spawn(Database::connect(options.clone())).await;
        let connected = connected.map_err(|panic| ConnectError::Unavailable(panic.into()))?;
        match connected {
            // SQLite does not wait by itself while another process makes the file's write-ahead log.
            Err(error)
                if backend == DbBackend::Sqlite
                    && Effect::of(&error) == Effect::Conflict
                    && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(SQLITE_OPEN_WAIT).await;
            }
            connected => break connected,
        }
    };
    connected.map_err(|error| {
        let may_pass = backend != DbBackend::Sqlite || Effect::of(&error) == Effect::Conflict || is_timeout(&error);
        if may_pass {
            return error.into();
        }
        // A file is there or it is not; waiting does not bring it.
        let reason = "its file cannot be opened, see DATABASE_URL".to_owned();
        ConnectError::Unusable { reason, cause: Some(error.into()) }
    })
}

/// Whether the engine keeps what it acknowledges and takes what we send.
async fn check(db: &DatabaseConnection, engine: Engine, config: &StoreConfig) -> Result<(), ConnectError> {
    match engine {
        Engine::Sqlite => {
            check_version(db).await?;
            check_encoding(db).await?;
        }
        Engine::MySql | Engine::MariaDb => check_packet(db, config.event_bytes_max).await?,
        Engine::Postgres => {}
    }
    durability::check(db, engine, config.allows_lazy_durability).await
}

async fn check_version(db: &DatabaseConnection) -> Result<(), ConnectError> {
    let version: String = one(db, "SELECT sqlite_version()").await?;
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if (next(), next(), next()) < SQLITE_VERSION_MIN {
        return Err(ConnectError::unusable(format!("SQLite {version} can corrupt its log, 3.51.3 is needed")));
    }
    Ok(())
}

/// Pages are read as bytes whose lengths SQLite counts.
async fn check_encoding(db: &DatabaseConnection) -> Result<(), ConnectError> {
    let encoding: String = one(db, "PRAGMA encoding").await?;
    if encoding != "UTF-8" {
        return Err(ConnectError::unusable(format!("its text is in {encoding}, not in UTF-8")));
    }
    Ok(())
}

async fn check_packet(db: &DatabaseConnection, event_bytes_max: usize) -> Result<(), ConnectError> {
    /// Room for attributes and protocol beside the data.
    const OVERHEAD_BYTES: u64 = 64 * 1024;
    let packet: u64 = one(db, "SELECT CAST(@@max_allowed_packet AS UNSIGNED)").await?;
    // Data is written as hexadecimal digits.
    let needed = event_bytes_max as u64 * 2 + OVERHEAD_BYTES;
    if packet < needed {
        return Err(ConnectError::unusable(format!(
            "its max_allowed_packet is {packet} bytes, --max-event-bytes {event_bytes_max} needs {needed}"
        )));
    }
    Ok(())
}

/// The first column of the first row.
pub(super) async fn one<T: sea_orm::TryGetable>(db: &impl ConnectionTrait, sql: &str) -> Result<T, ConnectError> {
    let statement = sea_orm::Statement::from_string(db.get_database_backend(), sql);
    let row = db.query_one_raw(statement).await?;
    let row = row.ok_or_else(|| ConnectError::unusable("it does not answer a question about itself"))?;
    Ok(row.try_get_by_index(0)?)
}
