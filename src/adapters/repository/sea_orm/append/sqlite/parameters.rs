//! Events as parameters of statements.

use sea_orm::sqlx::sqlite::SqliteArguments;
use sea_orm::sqlx::{self, Arguments, Encode, Sqlite, Type};

use crate::adapters::repository::sea_orm::append::rows::{Key, Row};

/// The columns of [`Parameters::add_row`].
pub(super) const ROW_COLUMNS: &str = "source, type, subject, time, data, event_key, event_id, context";

/// How many they are.
pub(super) const ROW_PARAMETERS: usize = 8;

/// Parameters in the order of their places.
#[derive(Default)]
pub(super) struct Parameters(SqliteArguments);

impl Parameters {
    /// Room for so many.
    pub(super) fn with_capacity(count: usize) -> Self {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(count, 0);
        Self(arguments)
    }

    pub(super) fn add<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> Result<(), sqlx::Error> {
        self.0.add(value).map_err(sqlx::Error::Encode)
    }

    /// So many without a value.
    pub(super) fn add_nulls(&mut self, count: usize) -> Result<(), sqlx::Error> {
        (0..count).try_for_each(|_| self.add(None::<i64>))
    }

    /// What `row` has for [`ROW_COLUMNS`], its time being `time`.
    pub(super) fn add_row(&mut self, row: &Row<'_>, time: Option<i64>) -> Result<(), sqlx::Error> {
        let event = row.event;
        self.add(event.event_source.as_str())?;
        self.add(event.event_type.as_str())?;
        self.add(event.subject.as_str())?;
        self.add(time)?;
        self.add(event.data.as_ref())?;
        self.add(row.key.as_ref().map(Key::as_slice))?;
        self.add(row.id())?;
        self.add(row.context.as_deref())
    }

    pub(super) fn into_arguments(self) -> SqliteArguments {
        self.0
    }
}
