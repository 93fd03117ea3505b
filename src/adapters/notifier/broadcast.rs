//! Wake-ups within one process.

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use crate::domain::log_state::LogState;
use crate::ports::notifier::Notifier;

/// Hints kept for a listener that is behind. A later hint says all that an earlier one did, so a few are plenty.
const HINTS_KEPT: usize = 16;

/// Tells the listeners in this process; clones tell the same.
#[derive(Clone)]
pub struct BroadcastNotifier {
    hints: broadcast::Sender<LogState>,
}

impl BroadcastNotifier {
    /// A notifier without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self { hints: broadcast::Sender::new(HINTS_KEPT) }
    }
}

impl Default for BroadcastNotifier {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Notifier for BroadcastNotifier {
    async fn notify(&self, state: LogState) {
        // An error only says that nobody listens.
        let _nobody_listens = self.hints.send(state);
    }

    fn listen(&self) -> BoxStream<'static, LogState> {
        let hints = BroadcastStream::new(self.hints.subscribe());
        // A listener that lagged goes on with the oldest hint kept, which is all it needs.
        hints.filter_map(|hint| async move { hint.ok() }).boxed()
    }
}
