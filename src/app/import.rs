//! Events of a file or of another database into the log.

use std::fs::File;
use std::io;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::adapters::archive::{GoDatabase, LineReader};
use crate::app::command::CommandError;
use crate::app::progress::{Progress, grouped};
use crate::app::store;
use crate::config::{DatabaseUrl, ImportInput, ImportSettings, StoreSettings};
use crate::domain::position::Position;
use crate::domain::transfer::{LogArchive, Transferred, append, restore};
use crate::ports::archive::ArchiveReader;
use crate::ports::event_repository::EventRepository;

pub(super) async fn run(settings: ImportSettings, interrupt: CancellationToken) -> Result<(), CommandError> {
    let (mut archive, last) = source(&settings.input, &settings.store).await?;
    let repository = store::open(&settings.store).await?;
    let mut progress = Progress::new("imported", 0, last);
    let archive = archive.as_mut();
    let imported = if settings.keeps_positions {
        let tell = |done: &Transferred| {
            progress.tell(done.written + done.present, done.reached.map_or(0, Position::get));
        };
        restore(&repository, archive, tell, &interrupt).await
    } else {
        let tell = |done: &Transferred| {
            let events = done.written + done.present;
            progress.tell(events, i64::try_from(events).unwrap_or(i64::MAX));
        };
        append(&repository, archive, settings.store.event_bytes_max, tell, &interrupt).await
    };
    let imported = imported?;
    let mut summary = progress.end(imported.written);
    for (count, what) in [(imported.present, "there already"), (imported.deleted, "deleted from the log since")] {
        if count > 0 {
            summary = format!("{summary}, {} {what}", grouped(count));
        }
    }
    eprintln!("{summary}");
    if imported.is_complete {
        return Ok(());
    }
    Err(CommandError::Interrupted("interrupted; the same command goes on".to_owned()))
}

/// Where the events come from, and up to which position if that is known.
async fn source(
    input: &ImportInput,
    store: &StoreSettings,
) -> Result<(Box<dyn ArchiveReader>, Option<i64>), CommandError> {
    let lines = |lines: io::Result<LineReader>| -> Result<Box<dyn ArchiveReader>, CommandError> {
        Ok(Box::new(lines.map_err(CommandError::because("the lines cannot be read"))?))
    };
    match input {
        ImportInput::StandardInput => Ok((lines(LineReader::new(io::stdin()))?, None)),
        ImportInput::File(path) => {
            let file = File::open(path);
            let file = file.map_err(|error| CommandError::Usage(format!("{}: {error}", path.display())))?;
            Ok((lines(LineReader::new(file))?, None))
        }
        ImportInput::Database(url) => database(url, store).await,
    }
}

async fn database(
    url: &DatabaseUrl,
    store: &StoreSettings,
) -> Result<(Box<dyn ArchiveReader>, Option<i64>), CommandError> {
    if url == &store.database {
        return Err(CommandError::Usage("the database to import from is the one to import into".to_owned()));
    }
    if url.expose().starts_with("mysql:") || url.expose().starts_with("mariadb:") {
        let opened = GoDatabase::open(url.expose()).await;
        let opened = opened.map_err(CommandError::because("the events of another service cannot be read"))?;
        if let Some(database) = opened {
            let last = database.through();
            return Ok((Box::new(database), Some(last)));
        }
    }
    let repository = store::open_to_read(url, store).await?;
    let state = repository.state().await.map_err(CommandError::because("the other log cannot be read"))?;
    let archive = LogArchive::new(Arc::new(repository), state.head);
    Ok((Box::new(archive), state.head.map(Position::get)))
}
