//! What the writer asks of an engine.

use async_trait::async_trait;
use sea_orm::sqlx;
use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;

use crate::adapters::repository::sea_orm::append::mysql::MySqlWriter;
use crate::adapters::repository::sea_orm::append::postgres::PostgresWriter;
use crate::adapters::repository::sea_orm::append::rows::{Key, PlacedRow, Row};
use crate::adapters::repository::sea_orm::append::sqlite::SqliteWriter;
use crate::adapters::repository::sea_orm::query::Dialect;
use crate::domain::attribute::Subject;
use crate::domain::event::StoredEvent;
use crate::domain::position::Position;
use crate::domain::timestamp::Timestamp;

/// How to reach the database for writing.
pub(in crate::adapters::repository::sea_orm) enum Connector {
    MySql(Dialect, Box<MySqlConnectOptions>),
    Postgres(Box<PgConnectOptions>),
    Sqlite(Box<SqliteConnectOptions>),
}

/// Names a running process among all that write to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriterId(pub(super) [u8; 16]);

impl WriterId {
    pub(super) fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system has random numbers");
        Self(bytes)
    }
}

/// What a commit leaves in the writer's row, in its own transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    pub(super) writer: WriterId,
    /// The fence that the connection set; a later one keeps what comes over this connection from committing.
    pub(super) fence: i64,
    pub(super) number: i64,
}

/// The last commit of a writer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Committed {
    pub(super) number: i64,
    /// The last position it took.
    pub(super) position: Position,
}

/// What a writer's row says once all older connections of the writer are fenced off.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fenced {
    pub(super) fence: i64,
    pub(super) committed: Option<Committed>,
}

/// The head, locked until the transaction ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// What the head row says.
    pub(super) position: i64,
    /// The highest position in use: a foreign writer's rows may be above the head row.
    pub(super) newest: i64,
    /// When the last commit was recorded.
    pub(super) recorded: Option<Timestamp>,
}

/// What a commit did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// The last position it took.
    pub(super) last: Position,
    /// The time it gave to its events.
    pub(super) recorded: Timestamp,
}

/// A transaction that did not commit as far as one knows.
pub(super) struct Failure {
    pub(super) error: sqlx::Error,
    /// Whether it may have committed all the same.
    pub(super) may_be_committed: bool,
}

/// A connection of the one writer of a process. Positions are given under the lock of the head row, which is held until
/// commit, so commits form a chain.
///
/// Where a call fails or is dropped half-way, nothing is committed unless it says that it commits.
#[async_trait]
pub(super) trait WriterConnection: Send {
    /// Keeps everything that older connections of `writer` have sent from being committed later, waits for what is
    /// being committed now, and says what the last commit was.
    async fn fence(&mut self, writer: WriterId, unix_seconds: i64) -> Result<Fenced, sqlx::Error>;

    /// Appends `rows`, at least one, and commits.
    ///
    /// # Errors
    /// A duplicate key when one of them is stored or a foreign writer has taken a position.
    async fn append_new(&mut self, commit: &Commit, rows: &[Row<'_>]) -> Result<Written, Failure>;

    /// Begins a transaction and locks the head in it.
    async fn lock_head(&mut self) -> Result<Head, sqlx::Error>;

    /// The stored events that have one of `keys`.
    async fn stored(&mut self, keys: &[Key]) -> Result<Vec<StoredEvent>, sqlx::Error>;

    /// The last position of each subject, in their order.
    async fn last_positions(&mut self, subjects: &[&Subject]) -> Result<Vec<Option<Position>>, sqlx::Error>;

    /// Inserts `rows` from `first` on, and moves `head`. Returns the time it gave to them.
    async fn insert(
        &mut self,
        commit: &Commit,
        head: &Head,
        first: Position,
        rows: &[Row<'_>],
    ) -> Result<Timestamp, sqlx::Error>;

    /// Inserts `rows`, at least one, at their places above the head, and moves `head` to the last of them, `recorded` being
    /// when the log was last written to.
    async fn insert_placed(
        &mut self,
        head: &Head,
        rows: &[PlacedRow<'_>],
        recorded: Option<Timestamp>,
    ) -> Result<(), sqlx::Error>;

    /// Commits what [`WriterConnection::lock_head`] began.
    async fn commit(&mut self) -> Result<(), Failure>;

    /// As [`WriterConnection::append_new`], but looks at the head before it inserts, and commits apart.
    async fn append_in_steps(&mut self, commit: &Commit, rows: &[Row<'_>]) -> Result<Written, Failure> {
        let inserted = async {
            let head = self.lock_head().await?;
            let first = head.first_free(rows.len()).ok_or_else(log_is_full)?;
            let recorded = self.insert(commit, &head, first, rows).await?;
            written(last_position(first, rows.len()), recorded)
        };
        let written = inserted.await.map_err(|error| Failure { error, may_be_committed: false })?;
        self.commit().await?;
        Ok(written)
    }

    /// Ends a transaction, if there is one, without a trace.
    async fn rollback(&mut self) -> Result<(), sqlx::Error>;
}

impl Head {
    /// The first free position, if `count` are left.
    pub(super) fn first_free(&self, count: usize) -> Option<Position> {
        let first = self.position.max(self.newest).checked_add(1)?;
        first.checked_add(i64::try_from(count).ok()?)?;
        Position::new(first).ok()
    }
}

/// The writer's row as a fence finds it.
pub(super) fn fenced(fence: i64, number: i64, position: i64) -> Fenced {
    let position = Position::new(position).ok();
    Fenced { fence, committed: position.map(|position| Committed { number, position }) }
}

/// What a commit did whose last position is `last`.
pub(super) fn written(last: i64, recorded: Timestamp) -> Result<Written, sqlx::Error> {
    let last = Position::new(last).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Written { last, recorded })
}

/// There are no positions left.
pub(super) fn log_is_full() -> sqlx::Error {
    sqlx::Error::Protocol("the log is full".to_owned())
}

/// A later recorded time than `last`, or the same.
pub(super) fn recorded_after(last: Option<Timestamp>) -> Timestamp {
    last.map_or_else(Timestamp::now, |last| last.max(Timestamp::now()))
}

/// The last of `count` positions from `first` on.
pub(super) fn last_position(first: Position, count: usize) -> i64 {
    first.get() + i64::try_from(count).unwrap_or(i64::MAX) - 1
}

impl Connector {
    /// Whether the database runs within this process.
    pub(super) fn is_embedded(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            Self::MySql(..) | Self::Postgres(_) => false,
        }
    }

    pub(super) async fn connect(&self) -> Result<Box<dyn WriterConnection>, sqlx::Error> {
        Ok(match self {
            Self::MySql(dialect, options) => Box::new(MySqlWriter::connect(*dialect, options).await?),
            Self::Postgres(options) => Box::new(PostgresWriter::connect(options).await?),
            Self::Sqlite(options) => Box::new(SqliteWriter::connect(options)?),
        })
    }
}
