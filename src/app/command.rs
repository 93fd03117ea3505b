//! The commands beside serving.

use std::io::{self, Write};

use tokio_util::sync::CancellationToken;

use crate::adapters::repository::sea_orm::ConnectError;
use crate::app::{client, export, healthcheck, import, store, verify};
use crate::config::{self, Command, StoreSettings};
use crate::domain::transfer::TransferError;
use crate::error_chain::error_chain;
use crate::ports::archive::ArchiveError;
use crate::ports::event_repository::{AppendError, RestoreError};

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A setting is wrong: one line that names it.
    #[error("{0}")]
    Usage(String),
    /// What was read is not what it should be.
    #[error("{0}")]
    Data(String),
    /// The server is not ready.
    #[error("{0}")]
    NotReady(String),
    /// Something that is needed is not there.
    #[error("{doing}")]
    Unavailable {
        /// What was tried.
        doing: &'static str,
        /// What was in the way.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A signal came; what is done stays done.
    #[error("{0}")]
    Interrupted(String),
}

impl CommandError {
    /// Makes `cause` the reason why `doing` failed.
    pub(super) fn because<E>(doing: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |cause| Self::Unavailable { doing, cause: cause.into() }
    }

    /// The exit code. Source: sysexits.h, but for the health check's 1, which Docker asks for, and the shell's 130.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotReady(_) => 1,
            Self::Usage(_) => 64,
            Self::Data(_) => 65,
            Self::Unavailable { .. } => 69,
            Self::Interrupted(_) => 130,
        }
    }
}

impl From<ConnectError> for CommandError {
    fn from(error: ConnectError) -> Self {
        Self::Unavailable { doing: "the database cannot be used", cause: error.into() }
    }
}

impl From<TransferError> for CommandError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Archive(ArchiveError::Unavailable(cause)) => {
                Self::Unavailable { doing: "the archive cannot be used", cause }
            }
            TransferError::Restore {
                cause: RestoreError::Unavailable(_) | RestoreError::OutcomeUnknown(_) | RestoreError::Passed { .. },
                ..
            }
            | TransferError::Append { cause: AppendError::Unavailable(_) | AppendError::OutcomeUnknown(_), .. }
            | TransferError::Read(_) => Self::Unavailable { doing: "the transfer has stopped", cause: error.into() },
            TransferError::Restore {
                cause: RestoreError::Earlier | RestoreError::Duplicate(_) | RestoreError::Rejected(_),
                ..
            }
            | TransferError::Append { cause: AppendError::Rejected(_), .. } => Self::Data(error_chain(&error)),
            TransferError::Archive(ArchiveError::Damaged { .. })
            | TransferError::TooLarge { .. }
            | TransferError::IdConflict { .. }
            | TransferError::NoPosition { .. }
            | TransferError::NoTime { .. }
            | TransferError::OutOfOrder { .. }
            | TransferError::SteppedOver { .. }
            | TransferError::OtherLog { .. } => Self::Data(error.to_string()),
        }
    }
}

/// Carries out `command` until it is done or `interrupt` comes.
///
/// # Errors
/// As [`CommandError`] says.
pub async fn run(command: Command, interrupt: CancellationToken) -> Result<(), CommandError> {
    match command {
        Command::Serve(_) => unreachable!("serving is no command beside serving"),
        Command::Migrate(settings) => migrate(&settings).await,
        Command::Export(settings) => export::run(settings, interrupt).await,
        Command::Import(settings) => import::run(settings, interrupt).await,
        Command::Verify(settings) => verify::run(&settings, interrupt).await,
        Command::Tail(settings) => client::tail(settings, interrupt).await,
        Command::Append(settings) => client::append(settings, interrupt).await,
        Command::Healthcheck(settings) => healthcheck::run(settings).await,
        Command::Print(text) => print(text.as_bytes()),
        Command::Completions(shell) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut config::command_line(), "events-db", &mut text);
            print(&text)
        }
        Command::Man(about) => {
            let mut text = Vec::new();
            let rendered = clap_mangen::Man::new(*about).render(&mut text);
            rendered.map_err(CommandError::because("the manual page cannot be written"))?;
            print(&text)
        }
    }
}

/// Opening the store is all there is to it.
async fn migrate(settings: &StoreSettings) -> Result<(), CommandError> {
    store::open(settings).await?;
    print(b"the schema is up to date\n")
}

/// Writes to standard output; a reader that has gone has seen enough.
pub(super) fn print(text: &[u8]) -> Result<(), CommandError> {
    print_while_read(text).map(|_| ())
}

/// Writes to standard output, and tells whether somebody reads it still.
pub(super) fn print_while_read(text: &[u8]) -> Result<bool, CommandError> {
    match io::stdout().write_all(text) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CommandError::because("standard output cannot be written")(error)),
    }
}
