//! How far the log has come.

use crate::domain::position::Position;

/// What the store says of the log as a whole. Both parts only grow, so of two answers the larger one is the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogState {
    /// The highest committed position; `None` when nothing was ever appended.
    pub head: Option<Position>,
    /// How many transactions have deleted events: what was read before another one may be gone.
    pub deletions: u64,
}
