//! What an interrupted export has left in its file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::GzDecoder;

use crate::adapters::cloudevents::from_archived;
use crate::domain::position::Position;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a gzip file begins with. Source: RFC 1952, section 2.3.1.
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What an event begins with in an archive.
const EVENT: &[u8] = b"{\"specversion\":\"";

/// The whole lines of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Bytes of the file that hold nothing but whole lines; what follows is torn.
    pub bytes: u64,
    /// The position of the event on the last of them; `None` when there is none.
    pub last: Option<Position>,
}

/// Finds the whole lines of `file`. Costs a read of the file when it is compressed, one of its last line when it is not.
///
/// # Errors
/// Those of the system; `InvalidData` when the file is not one of an export, or damaged before its end.
pub fn whole_lines(file: &mut File, is_compressed: bool) -> io::Result<Resumed> {
    check_beginning(file, is_compressed)?;
    let (bytes, line) = if is_compressed { of_parts(file)? } else { of_text(file)? };
    let last = match line {
        None => None,
        Some(line) => {
            let archived = from_archived(&line).map_err(|error| invalid(&error.detail))?;
            Some(archived.position.ok_or_else(|| invalid("the last line has no position"))?)
        }
    };
    Ok(Resumed { bytes, last })
}

/// Sees to it that nobody's other file is cut.
fn check_beginning(file: &mut File, is_compressed: bool) -> io::Result<()> {
    let mut beginning = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(EVENT.len() as u64).read_to_end(&mut beginning)?;
    let (expected, problem): (&[u8], _) = if is_compressed {
        (&GZIP, "it is not compressed with gzip")
    } else {
        (EVENT, "it does not begin with an event")
    };
    if beginning.starts_with(&expected[..expected.len().min(beginning.len())]) { Ok(()) } else { Err(invalid(problem)) }
}

/// Goes backwards from the end.
fn of_text(file: &mut File) -> io::Result<(u64, Option<Vec<u8>>)> {
    let mut from = file.seek(SeekFrom::End(0))?;
    let (mut end, mut tail) = (None, Vec::new());
    while from > 0 {
        let size = from.min(CHUNK_BYTES as u64);
        from -= size;
        file.seek(SeekFrom::Start(from))?;
        let mut chunk = Vec::new();
        file.take(size).read_to_end(&mut chunk)?;
        if end.is_none() {
            let Some(at) = memchr::memrchr(b'\n', &chunk) else { continue };
            chunk.truncate(at + 1);
            end = Some(from + at as u64 + 1);
        }
        chunk.append(&mut tail);
        tail = chunk;
        if let Some(at) = memchr::memrchr(b'\n', &tail[..tail.len() - 1]) {
            return Ok((end.unwrap_or(0), Some(tail.split_off(at + 1))));
        }
    }
    Ok((end.unwrap_or(0), end.map(|_| tail)))
}

/// Goes from part to part, up to one that is torn.
fn of_parts(file: &mut File) -> io::Result<(u64, Option<Vec<u8>>)> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, file);
    let (mut bytes, mut last) = (0, None);
    loop {
        if reader.fill_buf()?.is_empty() {
            return Ok((bytes, last));
        }
        let mut part = GzDecoder::new(&mut reader);
        let line = match last_line(&mut part) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok((bytes, last)),
            line => line?,
        };
        bytes = reader.stream_position()?;
        last = line.or(last);
    }
}

/// The last line of a whole part.
fn last_line(part: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    part.read_to_end(&mut text)?;
    if text.pop() != Some(b'\n') {
        return Err(invalid("a part does not end with a line"));
    }
    let at = memchr::memrchr(b'\n', &text).map_or(0, |at| at + 1);
    Ok(Some(text.split_off(at)))
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn line(position: u64, padding: usize) -> String {
        let padding = "x".repeat(padding);
        format!(r#"{{"specversion":"1.0","id":"{padding}","source":"s","type":"t","position":"{position}"}}{}"#, "\n")
    }

    fn resumed(content: &[u8], is_compressed: bool) -> io::Result<Resumed> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        whole_lines(&mut file, is_compressed)
    }

    fn found(bytes: usize, last: i64) -> Resumed {
        Resumed { bytes: bytes as u64, last: Position::new(last).ok() }
    }

    #[test]
    fn text_is_whole_up_to_its_last_line_break() {
        let (first, second) = (line(1, 0), line(2, 200));
        let both = format!("{first}{second}");
        for (content, expected) in [
            (String::new(), found(0, 0)),
            (first[..9].to_owned(), found(0, 0)),
            (first.clone(), found(first.len(), 1)),
            (format!("{first}{}", &second[..second.len() - 1]), found(first.len(), 1)),
            (both.clone(), found(both.len(), 2)),
        ] {
            assert_eq!(resumed(content.as_bytes(), false).unwrap(), expected, "{content}");
        }
    }

    #[test]
    fn line_longer_than_a_look_is_found_whole() {
        for padding in [CHUNK_BYTES - 200, CHUNK_BYTES, CHUNK_BYTES * 3] {
            // Only its position counts: as an attribute it is too long.
            let long = format!(
                "{{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"t\",\"position\":\"7\",\"data\":\"{}\"}}\n",
                "x".repeat(padding)
            );
            for content in [long.clone(), format!("{}{long}", line(1, 0)), format!("{long}torn{}", "y".repeat(padding))]
            {
                assert_eq!(resumed(content.as_bytes(), false).unwrap().last, Position::new(7).ok());
            }
        }
    }

    #[test]
    fn compressed_file_is_whole_up_to_its_last_whole_part() {
        let part = |text: &str| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap()
        };
        let (first, second) = (part(&format!("{}{}", line(1, 0), line(2, 0))), part(&line(3, 100)));
        let both = [first.clone(), second.clone()].concat();
        assert_eq!(resumed(&both, true).unwrap(), found(both.len(), 3));
        for torn in 1..second.len() {
            let content = &both[..first.len() + torn];
            assert_eq!(resumed(content, true).unwrap(), found(first.len(), 2), "{torn}");
        }
        assert_eq!(resumed(&[], true).unwrap(), found(0, 0));
        // Damaged, and not torn: what is behind may be the only copy.
        let mut damaged = both.clone();
        damaged[first.len() - 6] ^= 1;
        assert_eq!(resumed(&damaged, true).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let foreign = [part("not lines"), second].concat();
        assert_eq!(resumed(&foreign, true).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn file_that_is_no_export_is_refused() {
        let foreign = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"t\"}\n";
        for (content, is_compressed) in
            [("hello\n", false), ("x", false), ("{\"a\":1}", false), (foreign, false), (foreign, true), ("x", true)]
        {
            let problem = resumed(content.as_bytes(), is_compressed).unwrap_err();
            assert_eq!(problem.kind(), io::ErrorKind::InvalidData, "{content}");
        }
    }
}
