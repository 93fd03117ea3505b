//! Values as literals of SQL, for texts that the server does not prepare.

use std::fmt;

/// Bytes as a literal of hexadecimal digits, which need no escape.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(self.0.len() * 2 + 3);
        push_hex(&mut text, self.0);
        formatter.write_str(&text)
    }
}

/// Text as a literal of the `MySQL` family.
pub(super) fn text_literal(text: &str) -> String {
    format!("_utf8mb4 {}", Hex(text.as_bytes()))
}

/// Adds `bytes` to `sql` as [`Hex`] writes them.
pub(super) fn push_hex(sql: &mut String, bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    sql.push_str("x'");
    for bytes in bytes.chunks(64) {
        let mut digits = [0; 128];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xF)]]);
        }
        sql.push_str(std::str::from_utf8(&digits[..bytes.len() * 2]).expect("hexadecimal digits are ASCII"));
    }
    sql.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_hexadecimal_digits() {
        assert_eq!(Hex(b"").to_string(), "x''");
        assert_eq!(Hex(b"\x00\x7f\xff' ").to_string(), "x'007fff2720'");
        for length in [63, 64, 65, 128, 129] {
            assert_eq!(Hex(&vec![0xA5; length]).to_string(), format!("x'{}'", "a5".repeat(length)));
        }
    }
}
