//! Signs of life for readers to whom nothing else is sent.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// When the reader needs a sign of life.
pub(super) struct Heartbeat {
    interval: Duration,
    pub(super) sent: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration) -> Self {
        let sent = Instant::now();
        Self { interval, sent, timer: Box::pin(tokio::time::sleep_until(sent + interval)) }
    }

    /// Whether nothing was sent for the interval.
    pub(super) fn is_due(&self) -> bool {
        self.sent + self.interval <= Instant::now()
    }

    /// Waits until nothing was sent for the interval. The timer is only moved when it has run out: most of the time
    /// something is sent before.
    pub(super) async fn due(&mut self) {
        loop {
            self.timer.as_mut().await;
            if self.is_due() {
                self.timer.as_mut().reset(Instant::now() + self.interval);
                return;
            }
            self.timer.as_mut().reset(self.sent + self.interval);
        }
    }
}
