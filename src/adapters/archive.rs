//! What events are exported to and imported from: lines of CloudEvents in JSON, compressed or not, and a Go service's
//! database.

mod go_database;
mod line_reader;
mod line_writer;
mod resume;

pub use go_database::{GoDatabase, GoDatabaseError};
pub use line_reader::LineReader;
pub use line_writer::LineWriter;
pub use resume::{Resumed, whole_lines};
