//! Who watches appends on their way to the store.

use std::any::Any;

use crate::domain::append::AppendRequest;

/// What an observer remembers of an append that waits; only the observer knows what it is.
pub type Wait = Box<dyn Any + Send>;

/// Watches appends on their way to the store and changes nothing about them. Called by those who append and by the one
/// who writes, so it must not block.
pub trait AppendObserver: Send + Sync {
    /// `request` is about to be put into the queue, by the task of its caller. What is returned goes with it, and is
    /// dropped if it is refused.
    fn queued(&self, request: &AppendRequest) -> Wait;

    /// These appends are the next group: they waited until now, and the next call to the store carries them out.
    fn taken(&self, waits: Vec<Wait>);
}
