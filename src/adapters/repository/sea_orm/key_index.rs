//! How `SQLite` finds events by their keys.
//!
//! Keys are digests: neighbours in the log are never neighbours in an index of keys, and an entry with each event would
//! write a page of 4 KiB for nearly every one of them. So the entries follow behind the log. The writer holds the keys
//! of the newest events in memory and goes round all possible keys, a part at a time: what it holds of a part is put into
//! the table `event_keys`, where it lies together. An entry has the start of a key only, which is short and quick to
//! compare; who finds one looks whether the event has the whole key.

use std::fmt::Write as _;

use crate::adapters::repository::sea_orm::append::Key;

/// Bytes of a key that an entry has, as a number: `SQLite` stores it in as many, without the last bit.
const START_BYTES: usize = 6;

/// Bits too many for that.
const SPARE_BITS: u32 = 1;

/// Bits of a key that an entry has: two keys in a log of a thousand million events start alike so rarely that the look
/// at the event costs nothing.
pub(super) const START_BITS: u32 = 47;

/// The start of `key`. Starts are ordered as keys are.
pub(super) fn key_start(key: &Key) -> i64 {
    let bytes = key[..START_BYTES].iter();
    bytes.fold(0, |start, byte| start << 8 | i64::from(*byte)) >> SPARE_BITS
}

/// SQL for the start of the key `of`, by its digits: `SQLite` takes no number out of bytes.
pub(super) fn start_sql(of: &str) -> String {
    let mut sql = "((0".to_owned();
    for digit in 1..=START_BYTES * 2 {
        let shift = (START_BYTES * 2 - digit) * 4;
        let _written = write!(sql, " | (instr('123456789ABCDEF', substr(hex({of}), {digit}, 1)) << {shift})");
    }
    let _written = write!(sql, ") >> {SPARE_BITS})");
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_ordered_as_keys_are() {
        let key = |bytes: [u8; 6]| {
            let mut key = Key::default();
            key[..6].copy_from_slice(&bytes);
            key
        };
        assert_eq!(key_start(&key([0; 6])), 0);
        assert_eq!(key_start(&key([0xFF; 6])), (1 << START_BITS) - 1);
        assert_eq!(key_start(&key([0x80, 0, 0, 0, 0, 2])), (1 << (START_BITS - 1)) + 1);
        assert!(key_start(&key([0x7F, 0xFF, 0, 0, 0, 0])) < key_start(&key([0x80, 0, 0, 0, 0, 0])));
    }
}
