//! Wake-ups: somebody appended.

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::domain::log_state::LogState;

/// Carries the news that the log has grown.
///
/// A notification is a hint: it may be lost, doubled, late or wrong, and nothing but latency suffers, because every
/// reader looks into the store.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Tells every listener that the log has come to `state`. Never waits for a listener and cannot fail: what cannot
    /// be sent is lost.
    async fn notify(&self, state: LogState);

    /// Hints from now on. A listener that falls behind sees a later hint instead of the ones it missed. The stream
    /// ends when the notifier is gone.
    fn listen(&self) -> BoxStream<'static, LogState>;
}
