//! A fresh database per case.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use events_db::adapters::repository::memory::MemoryRepository;
use events_db::adapters::repository::sea_orm::{ConnectError, SeaOrmRepository, StoreConfig};
use events_db::ports::event_repository::EventRepository;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};
use tempfile::TempDir;
use url::Url;

/// Bytes of data in one event at the most.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// The user `plain` on MySQL and MariaDB. It stays, as the server does not.
const MYSQL_PLAIN_USER: [&str; 2] = [
    "CREATE USER IF NOT EXISTS 'plain'@'%' IDENTIFIED BY 'plain'",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON DATABASE.* TO 'plain'@'%'",
];

/// The same on PostgreSQL, where two cases may make it at once.
const POSTGRES_PLAIN_USER: [&str; 2] = [
    "DO $$ BEGIN CREATE ROLE plain LOGIN PASSWORD 'plain'; \
     EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO plain",
];

/// Where the log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Memory,
    Sqlite,
    MariaDb,
    MySql,
    Postgres,
    /// Large statements take another way there.
    PostgresOverTls,
}

/// A database of one case.
pub(crate) struct Store {
    kind: Kind,
}

enum Kind {
    Memory(Arc<MemoryRepository>),
    File { url: String, _directory: TempDir },
    Server { url: String, admin: DatabaseConnection, drop: String },
}

/// Runs `case` on a fresh database of `engine`. A failed case leaves its database behind, to look into.
pub(crate) async fn run(engine: Engine, case: impl AsyncFnOnce(&Store)) {
    let store = Store::create(engine).await;
    case(&store).await;
    store.remove().await;
}

impl Store {
    async fn create(engine: Engine) -> Self {
        let kind = match engine {
            Engine::Memory => Kind::Memory(Arc::new(MemoryRepository::default())),
            Engine::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}", directory.path().join("events.db").display());
                Kind::File { url, _directory: directory }
            }
            Engine::MariaDb => on_server("EVENTS_DB_TEST_MARIADB_URL", "", "", "").await,
            Engine::MySql => on_server("EVENTS_DB_TEST_MYSQL_URL", "", "", "").await,
            Engine::Postgres => on_postgres("sslmode=disable").await,
            Engine::PostgresOverTls => on_postgres("sslmode=require").await,
        };
        Self { kind }
    }

    /// Opens the database as a process of its own would.
    pub(crate) async fn open(&self) -> Arc<dyn EventRepository> {
        match &self.kind {
            Kind::Memory(repository) => Arc::<MemoryRepository>::clone(repository),
            Kind::File { url, .. } | Kind::Server { url, .. } => open(url).await,
        }
    }

    /// Opens the database as it is, to look into it.
    pub(crate) async fn open_to_read(&self) -> Result<SeaOrmRepository, ConnectError> {
        SeaOrmRepository::connect_to_read(&config(self.url())).await
    }

    /// Opens the database by way of `port` of this machine.
    pub(crate) async fn open_through(&self, port: u16) -> Arc<dyn EventRepository> {
        let mut url = Url::parse(self.url()).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(port)).unwrap();
        open(url.as_str()).await
    }

    /// Opens the database, whose tables exist, as a user who may read and write them and nothing else.
    pub(crate) async fn open_as_plain_user(&self) -> Arc<dyn EventRepository> {
        let mut url = Url::parse(self.url()).unwrap();
        let is_postgres = url.scheme() == "postgres";
        let statements: &[&str] = if is_postgres { &POSTGRES_PLAIN_USER } else { &MYSQL_PLAIN_USER };
        let admin = self.foreign().await;
        for statement in statements {
            let statement = statement.replace("DATABASE", url.path().trim_start_matches('/'));
            admin.execute_unprepared(&statement).await.unwrap();
        }
        url.set_username("plain").unwrap();
        url.set_password(Some("plain")).unwrap();
        let denied =
            connect(url.as_str()).await.execute_unprepared("CREATE TABLE IF NOT EXISTS another (id INT)").await;
        assert!(denied.is_err(), "the user may make tables");
        open(url.as_str()).await
    }

    /// Where the server of the database listens.
    pub(crate) fn address(&self) -> (String, u16) {
        let url = Url::parse(self.url()).unwrap();
        (url.host_str().unwrap().to_owned(), url.port().unwrap())
    }

    pub(crate) fn url(&self) -> &str {
        match &self.kind {
            Kind::Memory(_) => panic!("memory has no URL"),
            Kind::File { url, .. } | Kind::Server { url, .. } => url,
        }
    }

    /// A connection that knows nothing of our rules.
    pub(crate) async fn foreign(&self) -> DatabaseConnection {
        connect(self.url()).await
    }

    /// SQL by which the database refuses events of this type.
    pub(crate) fn rule_against(&self, event_type: &str) -> String {
        match &self.kind {
            Kind::Memory(_) => panic!("memory takes no rules"),
            Kind::File { .. } => format!(
                "CREATE TRIGGER rule BEFORE INSERT ON events WHEN NEW.type = '{event_type}' \
                 BEGIN SELECT RAISE(ABORT, 'refused'); END"
            ),
            Kind::Server { .. } => {
                format!("ALTER TABLE events ADD CONSTRAINT rule CHECK (type <> '{event_type}')")
            }
        }
    }

    /// SQL by which the connection that inserts an event of this type is read-only from then on; `table` keeps it.
    pub(crate) fn rule_for_the_connection_of(&self, event_type: &str, table: &str) -> Vec<String> {
        if self.url().starts_with("postgres") {
            return vec![
                format!(
                    "CREATE FUNCTION rule() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                     IF NEW.type = '{event_type}' THEN INSERT INTO {table} VALUES (pg_backend_pid()); \
                     ELSIF EXISTS (SELECT 1 FROM {table} WHERE connection = pg_backend_pid()) THEN \
                     RAISE EXCEPTION 'read-only' USING ERRCODE = '25006'; END IF; RETURN NEW; END $$"
                ),
                "CREATE TRIGGER rule BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION rule()".to_owned(),
            ];
        }
        vec![format!(
            "CREATE TRIGGER rule BEFORE INSERT ON events FOR EACH ROW BEGIN \
             IF NEW.type = '{event_type}' THEN INSERT INTO {table} VALUES (CONNECTION_ID()); \
             ELSEIF EXISTS (SELECT 1 FROM {table} WHERE connection = CONNECTION_ID()) THEN \
             SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290, MESSAGE_TEXT = 'read-only'; END IF; END"
        )]
    }

    async fn remove(self) {
        if let Kind::Server { admin, drop, .. } = self.kind {
            admin.execute_unprepared(&drop).await.unwrap();
        }
    }
}

async fn open(url: &str) -> Arc<dyn EventRepository> {
    Arc::new(SeaOrmRepository::connect(&config(url)).await.unwrap())
}

fn config(url: &str) -> StoreConfig {
    StoreConfig { url: url.to_owned(), event_bytes_max: EVENT_BYTES_MAX, allows_lazy_durability: false }
}

async fn on_postgres(parameters: &str) -> Kind {
    // The usual template cannot be copied while somebody is connected to it.
    on_server("EVENTS_DB_TEST_POSTGRES_URL", parameters, "TEMPLATE template0", "WITH (FORCE)").await
}

async fn on_server(variable: &str, parameters: &str, create_with: &str, drop_with: &str) -> Kind {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Ok(admin_url) = std::env::var(variable) else {
        panic!("{variable} is not set: `cargo xtask test` starts the servers and sets it");
    };
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("contract_{}_{nanos}_{count}", std::process::id());
    let mut url = Url::parse(&admin_url).unwrap();
    url.set_path(&name);
    url.set_query(Some(parameters).filter(|parameters| !parameters.is_empty()));
    let admin = connect(&admin_url).await;
    admin.execute_unprepared(&format!("CREATE DATABASE {name} {create_with}")).await.unwrap();
    Kind::Server { url: url.into(), admin, drop: format!("DROP DATABASE {name} {drop_with}") }
}

async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
}
