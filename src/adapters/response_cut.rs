//! Letting go of a response whose reader takes nothing.

use std::future::pending;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Put into the extensions of a response whose body may have to be given up: nobody asks such a body for more while its
/// reader takes nothing, so that it could not end by itself.
#[derive(Debug, Clone)]
pub struct ResponseCut {
    cut: CancellationToken,
    ended: CancellationToken,
}

impl ResponseCut {
    /// Gives the response up some time after `cut` is cancelled, unless `ended` says that its body has ended by itself.
    #[must_use]
    pub fn by(cut: CancellationToken, ended: CancellationToken) -> Self {
        Self { cut, ended }
    }

    /// Done when the response has to be given up, `grace` after it was told to end.
    pub async fn is_due(self, grace: Duration) {
        self.cut.cancelled().await;
        // Both made only now: the stream of a reader that takes what it gets needs neither.
        let ended = Box::pin(timeout(grace, self.ended.cancelled())).await;
        if ended.is_ok() {
            pending::<()>().await;
        }
    }
}
