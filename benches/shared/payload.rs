//! What the events of the benchmarks carry.

/// Bytes of data in an event.
pub(crate) const PAYLOAD_BYTES: usize = 256;

/// The data of every event: bytes without a pattern, the same in every run.
pub(crate) fn payload() -> Vec<u8> {
    // Source: Marsaglia, "Xorshift RNGs".
    let mut state = 2_463_534_242_u32;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..PAYLOAD_BYTES).map(byte).collect()
}
