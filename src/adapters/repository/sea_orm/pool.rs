//! Connections to read and to delete with, a few of each.
//!
//! Not the driver's pool: that one asks the server after each call whether the connection still lives, and waits for the
//! answer without a limit. Here a connection goes back as soon as its call is over, and one whose call was given up half-way
//! is closed, so that a server that does not answer takes no place for longer than the call.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::BoxStream;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sea_orm::sqlx::{
    self, Arguments, AssertSqlSafe, ConnectOptions, Connection, Database, Encode, Executor, FromRow, IntoArguments,
    Type,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a call waits for a free connection, and then for a new one; below the time a whole call may take.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a connection may idle before it is asked for life on its next use.
const TRUSTED_IDLE: Duration = Duration::from_secs(10);

/// How long it may take to answer that.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// When an idle connection is closed.
const IDLE_MAX: Duration = Duration::from_mins(10);

/// How to reach the database.
pub(super) enum Target {
    Sqlite(Box<SqliteConnectOptions>),
    MySql(Box<MySqlConnectOptions>),
    /// With what is set for each connection.
    Postgres(Box<PgConnectOptions>, &'static str),
}

/// Up to so many connections to one database.
pub(super) struct Pool {
    target: Target,
    places: Arc<Semaphore>,
    /// The last one used is the next one used.
    idle: Mutex<Vec<Idle>>,
    /// Goes up when no connection that is open is to be used again.
    generation: AtomicU64,
}

struct Idle {
    driver: Driver,
    since: Instant,
}

enum Driver {
    Sqlite(SqliteConnection),
    MySql(MySqlConnection),
    Postgres(PgConnection),
}

/// A connection for one call. It goes back once the call is over, see [`Lease::done`]; otherwise it is closed.
pub(super) struct Lease {
    pool: Arc<Pool>,
    driver: Option<Driver>,
    /// That of the pool before it was taken.
    generation: u64,
    is_done: bool,
    /// Given back last.
    _place: OwnedSemaphorePermit,
}

/// A statement, with each parameter written in the engine's way.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) sql: String,
    /// `None`: not to be prepared, because no two are alike.
    pub(super) parameters: Option<Vec<Parameter>>,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parameter {
    Number(i64),
    Text(String),
}

impl From<i64> for Parameter {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<String> for Parameter {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Parameter {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What can be read from a row of any engine.
pub(super) trait Readable:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, MySqlRow> + for<'r> FromRow<'r, PgRow> + Send
{
}

impl<T> Readable for T where
    T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, MySqlRow> + for<'r> FromRow<'r, PgRow> + Send
{
}

impl Pool {
    pub(super) fn new(target: Target, connections_max: usize) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(connections_max));
        Arc::new(Self { target, places, idle: Mutex::default(), generation: AtomicU64::default() })
    }

    /// Has every later call take a new connection.
    pub(super) fn renew(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.idle().clear();
    }

    /// A connection that has just been used, or has answered, or is new.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, sqlx::Error> {
        let leasing = async {
            let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_closed| sqlx::Error::PoolClosed)?;
            let generation = self.generation.load(Ordering::Acquire);
            let driver = match self.living().await {
                Some(driver) => driver,
                None => self.target.connect().await?,
            };
            Ok(Lease { pool: Arc::clone(self), driver: Some(driver), generation, is_done: false, _place: place })
        };
        tokio::time::timeout(ACQUIRE_TIMEOUT, leasing).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn living(&self) -> Option<Driver> {
        while let Some(Idle { mut driver, since }) = self.next_idle() {
            if since.elapsed() < TRUSTED_IDLE || driver.is_alive().await {
                return Some(driver);
            }
        }
        None
    }

    fn next_idle(&self) -> Option<Idle> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, driver: Driver, generation: u64) {
        let mut idle = self.idle();
        if generation != self.generation.load(Ordering::Acquire) {
            return;
        }
        idle.retain(|idle| idle.since.elapsed() < IDLE_MAX);
        idle.push(Idle { driver, since: Instant::now() });
    }
}

impl Target {
    async fn connect(&self) -> Result<Driver, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(options) => Driver::Sqlite(options.connect().await?),
            Self::MySql(options) => Driver::MySql(options.connect().await?),
            Self::Postgres(options, settings) => {
                let mut connection = options.connect().await?;
                connection.execute(sqlx::raw_sql(*settings)).await?;
                Driver::Postgres(connection)
            }
        })
    }
}

impl Driver {
    async fn is_alive(&mut self) -> bool {
        let ping = match self {
            Self::Sqlite(connection) => connection.ping().boxed(),
            Self::MySql(connection) => connection.ping().boxed(),
            Self::Postgres(connection) => connection.ping().boxed(),
        };
        tokio::time::timeout(PING_TIMEOUT, ping).await.is_ok_and(|answer| answer.is_ok())
    }
}

impl Lease {
    /// Says that the call is over, so that the connection may serve another one.
    pub(super) fn done<T>(mut self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.is_done = !matches!(answer, Err(sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)));
        answer
    }

    /// Runs a text for its effect; returns how many rows it changed.
    pub(super) fn execute<'a>(&'a mut self, sql: &str) -> BoxFuture<'a, Result<u64, sqlx::Error>> {
        let text = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let driver = self.driver();
        Box::pin(async move {
            Ok(match driver {
                Driver::Sqlite(connection) => text.execute(connection).await?.rows_affected(),
                Driver::MySql(connection) => text.execute(connection).await?.rows_affected(),
                Driver::Postgres(connection) => text.execute(connection).await?.rows_affected(),
            })
        })
    }

    /// All rows.
    pub(super) async fn all<T: Readable>(&mut self, statement: Statement) -> Result<Vec<T>, sqlx::Error> {
        let mut rows = Vec::new();
        let take = |row| {
            rows.push(row);
            ControlFlow::Continue(())
        };
        self.each(statement, take).await?;
        Ok(rows)
    }

    /// Hands out row after row until `take` has enough.
    pub(super) async fn each<T: Readable>(
        &mut self,
        statement: Statement,
        take: impl FnMut(T) -> ControlFlow<()> + Send,
    ) -> Result<(), sqlx::Error> {
        match self.driver() {
            Driver::Sqlite(connection) => each(rows(connection, statement)?, take).await,
            Driver::MySql(connection) => each(rows(connection, statement)?, take).await,
            Driver::Postgres(connection) => each(rows(connection, statement)?, take).await,
        }
    }

    fn driver(&mut self) -> &mut Driver {
        self.driver.as_mut().expect("a lease has its connection until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.driver.take() {
            Some(driver) if self.is_done => self.pool.give_back(driver, self.generation),
            // Those that wait may be no better.
            Some(_) | None => self.pool.idle().clear(),
        }
    }
}

type Rows<'a, DB> = BoxStream<'a, Result<<DB as Database>::Row, sqlx::Error>>;

fn rows<'a, C: Executor<'a>>(
    connection: C,
    Statement { sql, parameters }: Statement,
) -> Result<Rows<'a, C::Database>, sqlx::Error>
where
    <C::Database as Database>::Arguments: IntoArguments<C::Database>,
    i64: for<'q> Encode<'q, C::Database> + Type<C::Database>,
    String: for<'q> Encode<'q, C::Database> + Type<C::Database>,
{
    let sql = AssertSqlSafe(sql);
    let Some(parameters) = parameters else { return Ok(connection.fetch(sqlx::raw_sql(sql))) };
    let mut arguments = <C::Database as Database>::Arguments::default();
    for parameter in parameters {
        let added = match parameter {
            Parameter::Number(number) => arguments.add(number),
            Parameter::Text(text) => arguments.add(text),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(connection.fetch(sqlx::query_with(sql, arguments)))
}

async fn each<R, T: for<'r> FromRow<'r, R>>(
    mut rows: BoxStream<'_, Result<R, sqlx::Error>>,
    mut take: impl FnMut(T) -> ControlFlow<()>,
) -> Result<(), sqlx::Error>
where
    R: sqlx::Row,
{
    while let Some(row) = rows.try_next().await? {
        if take(T::from_row(&row)?).is_break() {
            break;
        }
    }
    Ok(())
}
