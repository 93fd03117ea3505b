//! Lines as events.

use std::io::{self, BufRead, BufReader, Read};
use std::thread;

use async_trait::async_trait;
use flate2::bufread::MultiGzDecoder;
use tokio::sync::mpsc;

use crate::adapters::archive::resume::GZIP;
use crate::adapters::cloudevents::{Archived, from_archived};
use crate::ports::archive::{ArchiveError, ArchiveReader, ArchivedEvent, Place};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Events that are handed over at once, and bytes of their lines.
const CHUNK_EVENTS: usize = 1_000;
const CHUNK_BYTES: usize = 1024 * 1024;

/// Chunks that are read ahead: as many events as a transaction of an import takes, so that the next one is read while it
/// is under way.
const CHUNKS_AHEAD: usize = 35;

/// Bytes of a line at the most: the largest event there can be, 16 MiB of data and extensions, each byte of which may be
/// escaped by six, and what is around them.
const LINE_BYTES_MAX: u64 = 97 * 1024 * 1024;

type Chunk = Result<Vec<ArchivedEvent>, ArchiveError>;

/// Reads lines in a thread of its own, which is ahead of what is done with them.
pub struct LineReader {
    chunks: mpsc::Receiver<Chunk>,
}

impl LineReader {
    /// The lines of `input`, decompressed if they are compressed.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        thread::Builder::new().name("lines".to_owned()).spawn(move || {
            if let Err(error) = read(input, &sender) {
                let _nobody_waits = sender.blocking_send(Err(error));
            }
        })?;
        Ok(Self { chunks })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ArchiveReader for LineReader {
    async fn next(&mut self) -> Result<Option<Vec<ArchivedEvent>>, ArchiveError> {
        self.chunks.recv().await.transpose()
    }
}

/// Reads all lines, or until nobody wants them any more.
fn read(input: impl Read + 'static, chunks: &mpsc::Sender<Chunk>) -> Result<(), ArchiveError> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let is_compressed = input.fill_buf().map_err(unavailable)?.starts_with(&GZIP);
    let mut lines: Box<dyn BufRead> = if is_compressed {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(input)))
    } else {
        Box::new(input)
    };
    let (mut events, mut bytes) = (Vec::new(), 0);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = lines.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line).map_err(unavailable)?;
        if read as u64 > LINE_BYTES_MAX {
            let problem = format!("is longer than {LINE_BYTES_MAX} bytes");
            return Err(ArchiveError::Damaged { place: Place::Line(number), problem });
        }
        if !line.trim_ascii().is_empty() {
            bytes += line.len();
            events.push(event(number, &line)?);
        }
        let is_full = events.len() >= CHUNK_EVENTS || bytes >= CHUNK_BYTES;
        if !events.is_empty() && (is_full || read == 0) {
            bytes = 0;
            if chunks.blocking_send(Ok(std::mem::take(&mut events))).is_err() {
                return Ok(());
            }
        }
        if read == 0 {
            return Ok(());
        }
    }
    Ok(())
}

fn event(number: u64, line: &[u8]) -> Result<ArchivedEvent, ArchiveError> {
    let place = Place::Line(number);
    let archived = from_archived(line).map_err(|error| ArchiveError::Damaged { place, problem: error.detail })?;
    let Archived { event, position, recorded_time } = archived;
    Ok(ArchivedEvent { place, position, recorded_time, event })
}

fn unavailable(error: io::Error) -> ArchiveError {
    ArchiveError::Unavailable(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: String) -> Result<Vec<u64>, String> {
        let mut reader = LineReader::new(io::Cursor::new(text.into_bytes())).unwrap();
        let mut numbers = Vec::new();
        while let Some(events) = reader.next().await.map_err(|error| error.to_string())? {
            assert!(!events.is_empty());
            numbers.extend(events.iter().map(|event| match event.place {
                Place::Line(number) => number,
                Place::Position(position) => panic!("{position} is no line"),
            }));
        }
        Ok(numbers)
    }

    fn event_line(data: &str) -> String {
        format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","data":"{data}"}}"#)
    }

    #[tokio::test]
    async fn blank_lines_count_and_say_nothing() {
        let event = event_line("");
        assert_eq!(lines(format!("\n{event}\r\n  \n{event}")).await.unwrap(), [2, 4]);
        assert_eq!(lines(String::new()).await.unwrap(), [0_u64; 0]);
        let many = vec![event; CHUNK_EVENTS + 1].join("\n");
        assert_eq!(lines(many).await.unwrap().len(), CHUNK_EVENTS + 1);
    }

    #[tokio::test]
    async fn wrong_line_is_told_by_its_number() {
        let event = event_line("");
        let problem = lines(format!("{event}\n{{\"specversion\":\"1.0\",\"id\":\"1\"}}\n")).await.unwrap_err();
        assert_eq!(problem, "line 2: source is missing");
        let problem = lines(format!("{event}\n{event}\n{{")).await.unwrap_err();
        assert!(problem.starts_with("line 3: the body must be JSON"), "{problem}");
    }

    #[tokio::test]
    async fn line_is_bounded() {
        let around = event_line("").len();
        let most = usize::try_from(LINE_BYTES_MAX).unwrap() - around;
        assert_eq!(lines(event_line(&"x".repeat(most))).await.unwrap(), [1]);
        let problem = lines(event_line(&"x".repeat(most + 1))).await.unwrap_err();
        assert_eq!(problem, "line 1: is longer than 101711872 bytes");
    }
}
