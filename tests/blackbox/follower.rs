//! A reader that follows the whole log and resumes wherever it was cut.

use std::time::Instant;

use reqwest::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::CEILING;
use crate::load::{PAUSE, Replicas, token};
use crate::sse::Reader;

/// What a reader saw.
pub struct Seen {
    /// The tokens of the events, in order; the n-th was at position n.
    pub tokens: Vec<String>,
    /// How often it connected.
    pub connections: usize,
}

/// A running reader.
pub struct Follower {
    task: JoinHandle<Seen>,
    until: watch::Sender<usize>,
}

impl Follower {
    /// Starts to read from the first of the `replicas` of the time.
    pub fn start(replicas: Replicas) -> Self {
        let until = watch::Sender::new(usize::MAX);
        let task = tokio::spawn(follow(replicas, until.subscribe()));
        Self { task, until }
    }

    /// Reads up to position `last`.
    pub async fn finish(self, last: usize) -> Seen {
        self.until.send_replace(last);
        self.task.await.expect("the reader failed")
    }
}

async fn follow(replicas: Replicas, mut until: watch::Receiver<usize>) -> Seen {
    let client = Client::new();
    let mut seen = Seen { tokens: Vec::new(), connections: 0 };
    let mut cut = Instant::now();
    loop {
        let stream = format!("{}/events/stream?recursive=true&subject=", replicas.borrow()[0]);
        let request = client.get(stream).header("last-event-id", seen.tokens.len()).send().await;
        let Some(response) = request.ok().filter(|response| response.status() == 200) else {
            assert!(cut.elapsed() < CEILING, "the reader cannot come back");
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        seen.connections += 1;
        let mut reader = Reader::new(response);
        loop {
            let count = seen.tokens.len();
            let message = tokio::select! {
                message = reader.message() => message,
                _ = until.wait_for(|last| *last <= count) => return seen,
            };
            let Some(message) = message else { break };
            if message.field("event").is_none() {
                assert_eq!(usize::try_from(message.id()), Ok(count + 1), "an event is missed, doubled or out of order");
                seen.tokens.push(token(&message.data()));
            }
        }
        cut = Instant::now();
    }
}
