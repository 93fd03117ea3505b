//! Bytes that outlive the request they came with.

use bytes::Bytes;

/// What has so many bytes makes up most of the buffer that it came in.
const LARGE_BYTES: usize = 16 * 1024;

/// `part` of a connection's buffer as bytes of its own: an event stays in memory for long and must not hold the rest of the
/// buffer there.
#[must_use]
pub fn own_bytes(part: Bytes) -> Bytes {
    if part.len() < LARGE_BYTES { Bytes::copy_from_slice(&part) } else { part }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_part_lets_go_of_its_buffer() {
        let buffer = Bytes::from(vec![7; LARGE_BYTES + 10]);
        for (end, is_own) in [(10, true), (LARGE_BYTES - 1, true), (LARGE_BYTES, false)] {
            let part = buffer.slice(..end);
            let kept = own_bytes(part.clone());
            assert_eq!((kept == part, kept.as_ptr() != part.as_ptr()), (true, is_own), "{end} bytes");
        }
    }
}
