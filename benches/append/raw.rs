//! The database by itself: rows into the server's own schema through connections of the driver.

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use events_db::adapters::repository::sea_orm::{SeaOrmRepository, StoreConfig};
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{
    AssertSqlSafe, ConnectOptions, MySqlConnection, PgConnection, SqliteConnection, query, query_scalar, raw_sql,
};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::engine::Engine;
use crate::load::Client;
use crate::payload::payload;
use crate::{Outcome, subject};

/// How long each way to write the statement is tried, to take the fastest.
const TRIAL: Duration = Duration::from_millis(500);

/// The columns that the server fills for an event without an identity of its own.
const INSERT: &str = "INSERT INTO events (id, source, type, subject, time, recorded_at, data)";

/// Adds the missing entries to SQLite's index by subject.
const ADD_TO_INDEX: &str = "INSERT INTO event_subjects (of_subject, position) \
     SELECT subject, id FROM events WHERE id > ? ORDER BY subject, id";

/// So many rows without entries get them.
const INDEX_ROWS: i64 = 8_192;

/// How many columns those are.
const COLUMNS: usize = 7;

/// A database with the server's schema and nothing of the server's besides.
pub(crate) struct RawDatabase {
    engine: Engine,
    url: String,
    next_id: Rc<Cell<i64>>,
    indexed: Rc<Cell<i64>>,
    /// What the engine says it is.
    pub(crate) version: String,
}

/// How rows get into a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Prepared, a parameter for every value.
    Values,
    /// Prepared, an array for every column.
    Arrays,
    /// Text with the values in it.
    Text,
}

impl Form {
    const fn all(engine: Engine) -> &'static [Self] {
        match engine {
            Engine::Sqlite => &[Self::Values],
            Engine::Mariadb | Engine::Mysql => &[Self::Values, Self::Text],
            Engine::Postgres => &[Self::Values, Self::Arrays],
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Values => "prepared values",
            Self::Arrays => "prepared arrays",
            Self::Text => "text",
        }
    }
}

impl RawDatabase {
    /// Lets the server's own code make the schema in the empty database at `url`.
    pub(crate) async fn create(engine: Engine, url: String) -> Outcome<Self> {
        let config = StoreConfig { url: url.clone(), event_bytes_max: 1 << 20, allows_lazy_durability: false };
        drop(SeaOrmRepository::connect(&config).await?);
        let mut database =
            Self { engine, url, next_id: Rc::new(Cell::new(1)), indexed: Rc::default(), version: String::new() };
        database.version = match database.connect().await? {
            Connection::Sqlite(mut one) => query_scalar("SELECT sqlite_version()").fetch_one(&mut one).await?,
            Connection::MySql(mut one) => query_scalar("SELECT VERSION()").fetch_one(&mut one).await?,
            Connection::Postgres(mut one) => query_scalar("SHOW server_version").fetch_one(&mut one).await?,
        };
        Ok(database)
    }

    /// A connection that inserts `rows` rows per commit.
    pub(crate) async fn client(&self, form: Form, rows: usize) -> Outcome<RawClient> {
        Ok(RawClient {
            connection: self.connect().await?,
            batch: Batch::new(self.engine, form, rows),
            next_id: Rc::clone(&self.next_id),
            indexed: Rc::clone(&self.indexed),
        })
    }

    /// The fastest form for that many rows, found by trying.
    pub(crate) async fn fastest_form(&self, rows: usize) -> Outcome<Form> {
        let mut best = (Form::Values, 0);
        for form in Form::all(self.engine) {
            let mut client = self.client(*form, rows).await?;
            // Prepares the statement.
            client.call().await?;
            let (started, mut calls) = (Instant::now(), 0_u32);
            while started.elapsed() < TRIAL {
                client.call().await?;
                calls += 1;
            }
            if calls > best.1 {
                best = (*form, calls);
            }
        }
        Ok(best.0)
    }

    async fn connect(&self) -> Outcome<Connection> {
        // The server does not write its statements to a log either.
        Ok(match self.engine {
            Engine::Sqlite => {
                let options = SqliteConnectOptions::from_str(&self.url)?
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .disable_statement_logging();
                Connection::Sqlite(options.connect().await?)
            }
            Engine::Mariadb | Engine::Mysql => {
                // With TLS, which MySQL offers by itself, the driver stalls on statements of more than one TLS record:
                // each is a write of its own, and the last one waits for a delayed acknowledgement.
                let options = MySqlConnectOptions::from_str(&self.url)?
                    .ssl_mode(MySqlSslMode::Disabled)
                    .disable_statement_logging();
                Connection::MySql(options.connect().await?)
            }
            Engine::Postgres => {
                let options = PgConnectOptions::from_str(&self.url)?.disable_statement_logging();
                Connection::Postgres(options.connect().await?)
            }
        })
    }
}

/// A connection that inserts and commits.
pub(crate) struct RawClient {
    connection: Connection,
    batch: Batch,
    next_id: Rc<Cell<i64>>,
    /// Up to which id SQLite's index by subject has entries.
    indexed: Rc<Cell<i64>>,
}

#[allow(clippy::large_enum_variant)] // As many as there are connections.
enum Connection {
    Sqlite(SqliteConnection),
    MySql(MySqlConnection),
    Postgres(PgConnection),
}

impl Client for RawClient {
    /// One statement outside of a transaction: the cheapest commit there is. SQLite's index by subject gets its entries
    /// where the server's writer adds them.
    async fn call(&mut self) -> Outcome<()> {
        let first = self.next_id.get();
        self.next_id.set(first + i64::try_from(self.batch.rows)?);
        let batch = &self.batch;
        let affected = match &mut self.connection {
            Connection::Sqlite(connection) => {
                let affected = batch.sqlite(connection, first).await?;
                if first - self.indexed.get() >= INDEX_ROWS {
                    query(ADD_TO_INDEX).bind(self.indexed.get()).execute(connection).await?;
                    self.indexed.set(self.next_id.get() - 1);
                }
                affected
            }
            Connection::MySql(connection) if batch.form == Form::Text => batch.mysql_text(connection, first).await?,
            Connection::MySql(connection) => batch.mysql(connection, first).await?,
            Connection::Postgres(connection) if batch.form == Form::Arrays => {
                batch.postgres_arrays(connection, first).await?
            }
            Connection::Postgres(connection) => batch.postgres(connection, first).await?,
        };
        if affected == batch.rows as u64 { Ok(()) } else { Err(format!("{affected} rows were inserted").into()) }
    }
}

/// What does not change from one statement to the next.
struct Batch {
    form: Form,
    rows: usize,
    sql: Arc<str>,
    /// One for each id's remainder.
    subjects: Vec<String>,
    data: Vec<u8>,
    data_hex: String,
}

impl Batch {
    fn new(engine: Engine, form: Form, rows: usize) -> Self {
        let data = payload();
        let data_hex = data.iter().fold(String::new(), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        });
        let sql = match (form, engine) {
            (Form::Arrays, _) => format!(
                "{INSERT} SELECT * FROM UNNEST($1::BIGINT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TIMESTAMPTZ[], \
                 $6::TIMESTAMPTZ[], $7::BYTEA[])"
            ),
            (Form::Values, Engine::Postgres) => {
                let row = |row: usize| {
                    let values: Vec<String> = (1..=COLUMNS).map(|at| format!("${}", row * COLUMNS + at)).collect();
                    format!("({})", values.join(", "))
                };
                format!("{INSERT} VALUES {}", (0..rows).map(row).collect::<Vec<_>>().join(", "))
            }
            (Form::Values | Form::Text, _) => {
                format!("{INSERT} VALUES {}", vec!["(?, ?, ?, ?, ?, ?, ?)"; rows].join(", "))
            }
        };
        Self { form, rows, sql: sql.into(), subjects: (0..crate::SUBJECTS).map(subject).collect(), data, data_hex }
    }

    /// The ids of a statement's rows, each with its subject.
    fn ids(&self, first: i64) -> impl Iterator<Item = (i64, &str)> {
        let subject = |id: i64| &*self.subjects[usize::try_from(id).unwrap_or(0) % self.subjects.len()];
        (first..).take(self.rows).map(move |id| (id, subject(id)))
    }

    async fn sqlite(&self, connection: &mut SqliteConnection, first: i64) -> Outcome<u64> {
        let now = i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000)?;
        let mut query = query(AssertSqlSafe(Arc::clone(&self.sql)));
        for (id, subject) in self.ids(first) {
            query = query.bind(id).bind("bench").bind("made").bind(subject).bind(now).bind(now).bind(&*self.data);
        }
        Ok(query.execute(connection).await?.rows_affected())
    }

    async fn mysql(&self, connection: &mut MySqlConnection, first: i64) -> Outcome<u64> {
        let now = OffsetDateTime::now_utc();
        let now = time::PrimitiveDateTime::new(now.date(), now.time());
        let mut query = query(AssertSqlSafe(Arc::clone(&self.sql)));
        for (id, subject) in self.ids(first) {
            query = query.bind(id).bind("bench").bind("made").bind(subject).bind(now).bind(now).bind(&*self.data);
        }
        Ok(query.execute(connection).await?.rows_affected())
    }

    async fn mysql_text(&self, connection: &mut MySqlConnection, first: i64) -> Outcome<u64> {
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]");
        let now = OffsetDateTime::now_utc().format(format)?;
        let mut sql = String::with_capacity(INSERT.len() + self.rows * (self.data_hex.len() + 128));
        sql.push_str(INSERT);
        let mut separator = " VALUES";
        for (id, subject) in self.ids(first) {
            let data = &self.data_hex;
            write!(sql, "{separator} ({id}, 'bench', 'made', '{subject}', '{now}', '{now}', x'{data}')")?;
            separator = ",";
        }
        Ok(raw_sql(AssertSqlSafe(sql)).execute(connection).await?.rows_affected())
    }

    async fn postgres(&self, connection: &mut PgConnection, first: i64) -> Outcome<u64> {
        let now = OffsetDateTime::now_utc();
        let mut query = query(AssertSqlSafe(Arc::clone(&self.sql)));
        for (id, subject) in self.ids(first) {
            query = query.bind(id).bind("bench").bind("made").bind(subject).bind(now).bind(now).bind(&*self.data);
        }
        Ok(query.execute(connection).await?.rows_affected())
    }

    async fn postgres_arrays(&self, connection: &mut PgConnection, first: i64) -> Outcome<u64> {
        let (ids, subjects): (Vec<i64>, Vec<&str>) = self.ids(first).unzip();
        let times = vec![OffsetDateTime::now_utc(); self.rows];
        let query = query(AssertSqlSafe(Arc::clone(&self.sql)))
            .bind(ids)
            .bind(vec!["bench"; self.rows])
            .bind(vec!["made"; self.rows])
            .bind(subjects)
            .bind(times.clone())
            .bind(times)
            .bind(vec![&*self.data; self.rows]);
        Ok(query.execute(connection).await?.rows_affected())
    }
}
