//! Events as lines.

use std::fs::File;
use std::io::{self, Stdout, Write};

use async_trait::async_trait;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::adapters::cloudevents::write_archived;
use crate::domain::event::StoredEvent;
use crate::ports::archive::{ArchiveError, ArchiveWriter};
use crate::ports::event_repository::Fault;

/// Bytes of lines that are compressed together, apart from all others: what follows a cut is found by going from one such
/// part to the next, and what is lost with it is less than one.
const PART_BYTES: usize = 4 * 1024 * 1024;

/// Writes lines to a file or to standard output, in threads that may wait for a disk.
pub struct LineWriter {
    /// Not there while a thread has it, and after one has failed.
    lines: Option<Lines>,
}

struct Lines {
    out: Out,
    compresses: bool,
    part: Vec<u8>,
}

enum Out {
    File(File),
    Standard(Stdout),
}

impl LineWriter {
    /// Lines behind what `file` has.
    #[must_use]
    pub fn to_file(file: File, compresses: bool) -> Self {
        Self::new(Out::File(file), compresses)
    }

    /// Lines to standard output.
    #[must_use]
    pub fn to_standard_output(compresses: bool) -> Self {
        Self::new(Out::Standard(io::stdout()), compresses)
    }

    fn new(out: Out, compresses: bool) -> Self {
        Self { lines: Some(Lines { out, compresses, part: Vec::new() }) }
    }

    /// Lets `work` have the lines in a thread of its own.
    async fn with_lines(
        &mut self,
        work: impl FnOnce(&mut Lines) -> io::Result<()> + Send + 'static,
    ) -> Result<(), ArchiveError> {
        let mut lines = self.lines.take().ok_or_else(|| unavailable("an earlier write has failed"))?;
        let worked = tokio::task::spawn_blocking(move || work(&mut lines).map(|()| lines)).await;
        self.lines = Some(worked.map_err(unavailable)?.map_err(unavailable)?);
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ArchiveWriter for LineWriter {
    async fn write(&mut self, events: Vec<StoredEvent>) -> Result<(), ArchiveError> {
        self.with_lines(move |lines| lines.add(&events)).await
    }

    async fn finish(&mut self) -> Result<(), ArchiveError> {
        self.with_lines(Lines::finish).await
    }
}

impl Lines {
    fn add(&mut self, events: &[StoredEvent]) -> io::Result<()> {
        for event in events {
            write_archived(&mut self.part, event);
            if self.part.len() >= PART_BYTES {
                self.write_part()?;
            }
        }
        // Nobody waits for a part that is not compressed.
        if self.compresses { Ok(()) } else { self.write_part() }
    }

    fn write_part(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let out: &mut dyn Write = match &mut self.out {
            Out::File(file) => file,
            Out::Standard(stdout) => stdout,
        };
        if self.compresses {
            let mut encoder = GzEncoder::new(Vec::with_capacity(self.part.len() / 4), Compression::fast());
            encoder.write_all(&self.part)?;
            out.write_all(&encoder.finish()?)?;
        } else {
            out.write_all(&self.part)?;
        }
        self.part.clear();
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.write_part()?;
        match &mut self.out {
            Out::File(file) => file.sync_all(),
            Out::Standard(stdout) => stdout.flush(),
        }
    }
}

fn unavailable(fault: impl Into<Fault>) -> ArchiveError {
    ArchiveError::Unavailable(fault.into())
}
