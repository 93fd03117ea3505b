//! The log into a file, straight from the database: a server may serve it meanwhile, or none.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::adapters::archive::{LineWriter, Resumed, whole_lines};
use crate::app::command::CommandError;
use crate::app::progress::Progress;
use crate::app::store;
use crate::config::{ExportSettings, FilterSettings};
use crate::domain::attribute::{EventSource, EventType, InvalidAttribute, Subject};
use crate::domain::filter::{Filter, SubjectFilter};
use crate::domain::position::Position;
use crate::domain::transfer::{ExportRequest, TransferError, Transferred, export};
use crate::ports::archive::ArchiveError;
use crate::ports::event_repository::EventRepository;

pub(super) async fn run(settings: ExportSettings, interrupt: CancellationToken) -> Result<(), CommandError> {
    let filter = filter(&settings.filter)?;
    let repository = store::open_to_read(&settings.store.database, &settings.store).await?;
    let mut after = Position::new(settings.after).ok();
    let mut writer = match &settings.output {
        None => LineWriter::to_standard_output(settings.compresses),
        Some(path) => {
            let (file, last) = open(path, settings.resumes, settings.compresses)?;
            after = after.max(last);
            LineWriter::to_file(file, settings.compresses)
        }
    };
    let state = repository.state().await.map_err(CommandError::because("the log cannot be read"))?;
    let Some(through) = state.head else {
        eprintln!("the log is empty");
        return Ok(());
    };
    let mut progress = Progress::new("exported", after.map_or(0, Position::get), Some(through.get()));
    let request = ExportRequest { filter, after, through };
    let tell = |done: &Transferred| progress.tell(done.written, done.reached.map_or(0, Position::get));
    let exported = match export(&repository, request, &mut writer, tell, &interrupt).await {
        // Whoever reads standard output and leaves, as `head` does, has seen enough.
        Err(error) if settings.output.is_none() && is_broken_pipe(&error) => return Ok(()),
        exported => exported?,
    };
    eprintln!("{}, up to position {through}", progress.end(exported.written));
    if exported.is_complete {
        return Ok(());
    }
    let reached = exported.reached.map_or(0, Position::get);
    Err(CommandError::Interrupted(format!("interrupted behind position {reached}; --resume goes on from there")))
}

fn is_broken_pipe(error: &TransferError) -> bool {
    let TransferError::Archive(ArchiveError::Unavailable(cause)) = error else { return false };
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The file, cut behind its last whole line, and that line's position.
fn open(path: &Path, resumes: bool, is_compressed: bool) -> Result<(File, Option<Position>), CommandError> {
    let problem = |error: io::Error| {
        let hint = if error.kind() == io::ErrorKind::AlreadyExists { "; --resume goes on with it" } else { "" };
        CommandError::Usage(format!("{} cannot be written: {error}{hint}", path.display()))
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if !resumes {
        return options.create_new(true).open(path).map(|file| (file, None)).map_err(problem);
    }
    let mut cut = || {
        let mut file = options.create(true).truncate(false).open(path)?;
        let Resumed { bytes, last } = whole_lines(&mut file, is_compressed)?;
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok((file, last))
    };
    cut().map_err(problem)
}

/// The filter of the settings.
fn filter(settings: &FilterSettings) -> Result<Filter, CommandError> {
    let subjects = attributes("--subject", &settings.subjects, Subject::new)?;
    let subjects = match (subjects.is_empty(), settings.is_recursive) {
        (true, _) => SubjectFilter::All,
        (false, true) => SubjectFilter::prefixes(subjects),
        (false, false) => SubjectFilter::exact(subjects),
    };
    let types = attributes("--type", &settings.event_types, EventType::new)?;
    let sources = attributes("--source", &settings.event_sources, EventSource::new)?;
    Ok(Filter::new(subjects, types).of_sources(sources))
}

fn attributes<T>(
    name: &str,
    texts: &[String],
    take: impl Fn(String) -> Result<T, InvalidAttribute>,
) -> Result<Vec<T>, CommandError> {
    let taken = texts.iter().cloned().map(take).collect::<Result<_, _>>();
    taken.map_err(|problem| CommandError::Usage(format!("{name} {problem}")))
}
