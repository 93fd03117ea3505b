//! Wake-ups between processes, over core NATS.
//!
//! A hint is the text `<head> <deletions>` in decimal, a head of 0 for an empty log. What is lost on the way, while the
//! server is away above all, is made up for by everybody's looks into the store.

use std::str::FromStr;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::task::JoinHandle;

use crate::adapters::notifier::broadcast::BroadcastNotifier;
use crate::domain::log_state::LogState;
use crate::domain::position::Position;
use crate::error_chain::error_chain;
use crate::ports::notifier::Notifier;

/// Bytes of a hint at the most: two numbers of up to 20 digits.
const HINT_BYTES_MAX: usize = 48;

/// The server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// An address of the list is none.
    #[error("an address in NATS_URL is not one")]
    Address(#[source] std::io::Error),
    /// The connection cannot be set up, whether the server is there or not.
    #[error("the connection cannot be set up")]
    Connect(#[source] async_nats::ConnectError),
    /// The subject cannot be listened to.
    #[error("the subject cannot be listened to")]
    Subscribe(#[source] async_nats::SubscribeError),
}

/// Tells the listeners of every process that has the same server and subject.
pub struct NatsNotifier {
    client: Client,
    subject: String,
    here: BroadcastNotifier,
    listening: JoinHandle<()>,
}

impl NatsNotifier {
    /// A notifier over one of `servers`, which need not be there: they are tried for ever.
    ///
    /// # Errors
    /// As [`NatsError`] says.
    pub async fn connect(servers: &[String], subject: String) -> Result<Self, NatsError> {
        let servers = servers.iter().map(|server| server.parse()).collect::<Result<Vec<ServerAddr>, _>>();
        let options = ConnectOptions::new()
            .name("events-db")
            .no_echo()
            .retry_on_initial_connect()
            .max_reconnects(None)
            .event_callback(async |event| log(&event));
        let client = options.connect(servers.map_err(NatsError::Address)?).await.map_err(NatsError::Connect)?;
        let mut messages = client.subscribe(subject.clone()).await.map_err(NatsError::Subscribe)?;
        let here = BroadcastNotifier::new();
        let listeners = here.clone();
        let listening = tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                if let Some(state) = parse(&message.payload) {
                    listeners.notify(state).await;
                } else {
                    tracing::debug!(bytes = message.payload.len(), "a message on NATS is no hint");
                }
            }
        });
        Ok(Self { client, subject, here, listening })
    }

    /// Tells at any time whether the server is connected.
    pub fn connected(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let client = self.client.clone();
        move || matches!(client.connection_state(), State::Connected)
    }
}

impl Drop for NatsNotifier {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

#[async_trait]
impl Notifier for NatsNotifier {
    async fn notify(&self, state: LogState) {
        self.here.notify(state).await;
        // What cannot be sent at once is lost: an old hint is worth nothing when the server is back.
        if self.client.connection_state() == State::Connected {
            let sent = self.client.publish(self.subject.clone(), write(state).into()).now_or_never();
            if let Some(Err(error)) = sent {
                tracing::debug!(error = error_chain(&error), "a hint was not sent");
            }
        }
    }

    fn listen(&self) -> BoxStream<'static, LogState> {
        self.here.listen()
    }
}

fn log(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("lost NATS, looking into the store instead until it is back"),
        other => tracing::debug!(event = %other, "NATS"),
    }
}

fn write(state: LogState) -> String {
    format!("{} {}", state.head.map_or(0, Position::get), state.deletions)
}

fn parse(payload: &[u8]) -> Option<LogState> {
    let text = str::from_utf8(payload).ok().filter(|text| text.len() <= HINT_BYTES_MAX)?;
    let (head, deletions) = text.split_once(' ')?;
    let head = match number::<i64>(head)? {
        0 => None,
        head => Some(Position::new(head).ok()?),
    };
    Some(LogState { head, deletions: number(deletions)? })
}

/// Digits and nothing else.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_read_as_they_are_written() {
        for (head, deletions) in [(0, 0), (1, 7), (i64::MAX, u64::MAX)] {
            let state = LogState { head: Position::new(head).ok(), deletions };
            assert!(write(state).len() <= HINT_BYTES_MAX);
            assert_eq!(parse(write(state).as_bytes()), Some(state));
        }
    }

    #[test]
    fn what_is_no_hint_is_overlooked() {
        for text in
            ["", "1", "1 ", " 1", "-1 0", "+1 0", "1 -1", "1 1 1", "1  1", "x 1", "9223372036854775808 0", "\u{661} 0"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(&[b'9'; 100]), None);
        assert_eq!(parse(&[0xff, b' ', b'1']), None);
    }
}
