//! How many connections are open, for those who watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts connections from their acceptance to their end; clones count together.
#[derive(Debug, Clone, Default)]
pub struct OpenConnections(Arc<AtomicU64>);

impl OpenConnections {
    /// How many are open.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one until what is returned is dropped.
    pub(super) fn begin(&self) -> OpenConnection {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(&self.0))
    }
}

/// One connection that is counted.
pub(super) struct OpenConnection(Arc<AtomicU64>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
