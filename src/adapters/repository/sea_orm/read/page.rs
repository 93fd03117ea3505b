//! A page that is being filled.

use crate::adapters::repository::sea_orm::pool::Readable;
use crate::adapters::repository::sea_orm::read::condition::Span;
use crate::adapters::repository::sea_orm::read::pack::Packed;
use crate::adapters::repository::sea_orm::row::EVENT_COLUMNS;
use crate::domain::event::StoredEvent;
use crate::domain::position::Position;

/// A page that has so many of its parts is full enough not to be gone on with.
const FULL_PARTS: (usize, usize) = (15, 16);

/// Rows asked for at least, however large the events before them were.
const CHUNK_MIN: usize = 2;

/// What a row of a page becomes.
pub(super) trait Item: Readable + Packed {
    /// What a statement selects, where the position is called `id`.
    fn columns(id: &'static str) -> &'static str;

    fn position(&self) -> Position;

    fn size_bytes(&self) -> usize;
}

impl Item for StoredEvent {
    fn columns(_id: &'static str) -> &'static str {
        EVENT_COLUMNS
    }

    fn position(&self) -> Position {
        self.position
    }

    fn size_bytes(&self) -> usize {
        Self::size_bytes(self)
    }
}

impl Item for Position {
    fn columns(id: &'static str) -> &'static str {
        id
    }

    fn position(&self) -> Position {
        *self
    }

    fn size_bytes(&self) -> usize {
        0
    }
}

/// A page that is being filled.
#[derive(Debug)]
pub(super) struct Filling<T> {
    pub(super) items: Vec<T>,
    pub(super) bytes: usize,
    limit: usize,
    bytes_max: usize,
    /// Whether there is more, which does not fit.
    pub(super) is_cut: bool,
}

impl<T: Item> Filling<T> {
    pub(super) fn room(limit: usize, bytes_max: usize) -> Self {
        Self { items: Vec::new(), bytes: 0, limit, bytes_max, is_cut: false }
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_cut || self.items.len() >= self.limit
    }

    /// How many more there is room for.
    pub(super) fn limit_left(&self) -> usize {
        self.limit.saturating_sub(self.items.len())
    }

    /// How many rows to ask for: about as many as there is room for, lest the database send many large ones for nothing.
    /// Until the page has some, `mean_bytes` says how large they are.
    pub(super) fn chunk(&self, mean_bytes: usize) -> usize {
        let fitting = self.bytes_max.saturating_sub(self.bytes) / self.mean_bytes().unwrap_or(mean_bytes).max(1);
        // One that does not fit tells that the page is full.
        fitting.saturating_add(1).max(CHUNK_MIN).min(self.limit_left())
    }

    /// Ends the page, which has more behind it, if nearly no room is left.
    pub(super) fn cut_if_nearly_full(&mut self) {
        let (parts, whole) = FULL_PARTS;
        self.is_cut |= !self.items.is_empty() && self.bytes >= self.bytes_max / whole * parts;
    }

    /// How large its items are.
    pub(super) fn mean_bytes(&self) -> Option<usize> {
        self.bytes.checked_div(self.items.len())
    }

    /// Takes `item` unless it does not fit. The first one always does.
    pub(super) fn push(&mut self, item: T) {
        let bytes = self.bytes.saturating_add(item.size_bytes());
        self.is_cut = self.is_full() || (bytes > self.bytes_max && !self.items.is_empty());
        if !self.is_cut {
            self.bytes = bytes;
            self.items.push(item);
        }
    }

    /// How far a look along `span` came.
    pub(super) fn reached(&self, span: Span) -> Position {
        self.items.last().filter(|_| self.is_full()).map_or_else(|| span.end(), Item::position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_about_as_many_rows_as_there_is_room_for() {
        for (limit, bytes_max, mean_bytes, chunk) in [
            (1_000, usize::MAX, 300, 1_000),
            (1_000, 262_144, 300, 874),
            (1_000, 262_144, 1_048_576, 2),
            (1, 262_144, 1_048_576, 1),
            (1_000, 0, 0, 2),
        ] {
            assert_eq!(Filling::<Position>::room(limit, bytes_max).chunk(mean_bytes), chunk);
        }
    }

    #[test]
    fn page_that_is_nearly_full_is_not_gone_on_with() {
        for (bytes, is_cut) in [(0, false), (14, false), (15, true), (16, true)] {
            let mut page = Filling::<Position>::room(1_000, 16);
            page.push(Position::FIRST);
            page.bytes = bytes;
            page.cut_if_nearly_full();
            assert_eq!(page.is_full(), is_cut, "{bytes} bytes");
        }
        let mut page = Filling::<Position>::room(1_000, 0);
        page.cut_if_nearly_full();
        assert!(!page.is_full(), "a page without items leads nowhere");
    }
}
