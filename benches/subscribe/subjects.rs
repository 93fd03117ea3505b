//! The subjects of one run, which no other run has.

use std::sync::atomic::{AtomicU64, Ordering};

static RUNS: AtomicU64 = AtomicU64::new(0);

/// A number of subjects with a common start.
#[derive(Debug, Clone)]
pub(crate) struct Subjects {
    run: String,
    count: u64,
}

impl Subjects {
    pub(crate) fn new(count: u64) -> Self {
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        Self { run: format!("b{}-{run}", std::process::id()), count }
    }

    /// The one at `number`, going round; all have the same length.
    pub(crate) fn at(&self, number: u64) -> String {
        format!("{}-{:06}", self.run, number % self.count)
    }
}
