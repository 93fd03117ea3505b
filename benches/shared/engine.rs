//! The databases that this server stores in.

use clap::ValueEnum;

/// A database that this server stores in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Sqlite,
    Mariadb,
    Mysql,
    #[value(alias = "postgresql")]
    Postgres,
}

impl Engine {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Mariadb => "MariaDB",
            Self::Mysql => "MySQL",
            Self::Postgres => "PostgreSQL",
        }
    }

    /// The variable that tells where its server is; SQLite has none.
    pub(crate) const fn variable(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Mariadb => Some("EVENTS_DB_TEST_MARIADB_URL"),
            Self::Mysql => Some("EVENTS_DB_TEST_MYSQL_URL"),
            Self::Postgres => Some("EVENTS_DB_TEST_POSTGRES_URL"),
        }
    }
}
