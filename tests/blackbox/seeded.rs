//! Chance that can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// The seed to take instead of a new one, in decimal.
const VARIABLE: &str = "EVENTS_DB_TEST_SEED";

/// `SplitMix64`: small, and even enough to pick by.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound` - 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of `choices`, which must have one.
    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let place = self.below(choices.len() as u64);
        &choices[usize::try_from(place).unwrap()]
    }

    /// True `percent` times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A new seed, or the one that `EVENTS_DB_TEST_SEED` says; the output of a test that fails shows it.
pub fn seed() -> u64 {
    let chosen = std::env::var(VARIABLE).ok().map(|text| text.parse().expect("the seed is a number"));
    let seed = chosen.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::from(since.subsec_nanos()) + since.as_secs() % 1_000 * 1_000_000_000
    });
    println!("repeat with {VARIABLE}={seed}");
    seed
}
