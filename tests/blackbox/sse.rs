//! Server-Sent Events: history, live, resume, limits.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use reqwest::{Client, Response};
use serde_json::Value;

use crate::harness::{CEILING, Server, event_body};

/// One message or comment of an event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(BTreeMap<String, String>);

impl Frame {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn id(&self) -> i64 {
        self.field("id").unwrap().parse().unwrap()
    }

    pub fn data(&self) -> Value {
        serde_json::from_str(self.field("data").unwrap()).unwrap()
    }
}

/// Reads an event stream frame by frame.
pub struct Reader {
    response: Response,
    buffer: Vec<u8>,
    /// So many bytes of it hold no end of a frame.
    searched: usize,
}

impl Reader {
    pub fn new(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        Self { response, buffer: Vec::new(), searched: 0 }
    }

    pub async fn open(server: &Server, query: &str) -> Self {
        let url = server.at(&format!("/events/stream?{query}"));
        Self::new(Client::new().get(url).send().await.unwrap())
    }

    /// The next frame; `None` when the server ended the stream.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = self.buffer[self.searched..].windows(2).position(|window| window == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..self.searched + end + 2).collect();
                self.searched = 0;
                let block = String::from_utf8(block).unwrap();
                let fields = block.trim_end().lines().map(|line| line.split_once(':').unwrap());
                return Some(Frame(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()));
            }
            self.searched = self.buffer.len().saturating_sub(1);
            let chunk = tokio::time::timeout(CEILING, self.response.chunk()).await.expect("the stream is silent");
            match chunk {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The next frame that carries data.
    pub async fn message(&mut self) -> Option<Frame> {
        loop {
            match self.frame().await {
                Some(frame) if frame.field("data").is_none() => {}
                other => return other,
            }
        }
    }

    /// The ids of the next events, passing over `caught-up`.
    pub async fn ids(&mut self, count: usize) -> Vec<i64> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let message = self.message().await.expect("the stream goes on");
            if message.field("event").is_none() {
                assert_eq!(message.data()["id"], message.id());
                ids.push(message.id());
            }
        }
        ids
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_then_caught_up_then_live() {
    let server = Server::start(&[], &[]).await;
    server.append("s", b"one").await;
    server.append("t", b"other").await;
    server.append("s", b"two").await;
    let mut reader = Reader::open(&server, "subject=s").await;
    assert_eq!(reader.response.headers()["content-type"], "text/event-stream");
    assert_eq!(reader.response.headers()["x-accel-buffering"], "no");
    assert_eq!(reader.ids(2).await, [1, 3]);
    let caught_up = reader.message().await.unwrap();
    assert_eq!((caught_up.field("event"), caught_up.id()), (Some("caught-up"), 3));
    server.append("t", b"other").await;
    server.append("s", b"three").await;
    let live = reader.message().await.unwrap();
    assert_eq!((live.field("event"), live.id(), live.data()["data"].as_str()), (None, 5, Some("dGhyZWU=")));
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_hold_in_history_and_live() {
    let server = Server::start(&[], &[]).await;
    server.append("user-1", b"x").await;
    let mut prefix = Reader::open(&server, "subject=user-&recursive=true").await;
    let mut several = Reader::open(&server, "subject=user-1&subject=user-3").await;
    let mut typed = Reader::open(&server, "recursive=true&type=rare").await;
    for subject in ["user-2", "other", "user-3"] {
        server.append(subject, b"x").await;
    }
    let mut rare = event_body("other", b"x");
    rare["type"] = "rare".into();
    Client::new().post(server.at("/events")).json(&rare).send().await.unwrap();
    assert_eq!(prefix.ids(3).await, [1, 2, 4]);
    assert_eq!(several.ids(2).await, [1, 4]);
    assert_eq!(typed.ids(1).await, [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn last_event_id_resumes_and_wins_over_from_id() {
    let server = Server::start(&[], &[]).await;
    for _ in 0..5 {
        server.append("s", b"x").await;
    }
    assert_eq!(Reader::open(&server, "subject=s&from_id=2").await.ids(3).await, [3, 4, 5]);
    let request = Client::new().get(server.at("/events/stream?subject=s&from_id=1")).header("last-event-id", "4");
    let mut resumed = Reader::new(request.send().await.unwrap());
    assert_eq!(resumed.ids(1).await, [5]);
    // A place beyond the head is waited for.
    let mut ahead = Reader::open(&server, "subject=s&from_id=6").await;
    assert_eq!(ahead.message().await.unwrap().field("event"), Some("caught-up"));
    server.append("s", b"x").await;
    server.append("s", b"x").await;
    assert_eq!(ahead.ids(1).await, [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_missed_doubled_or_reordered_while_writers_race() {
    const WRITERS: usize = 4;
    const EVENTS: usize = 100;
    let server = Server::start(&["--stream-batch-size", "3"], &[]).await;
    let writers = async {
        let writer = async || {
            for _ in 0..EVENTS {
                server.append("s", b"x").await;
            }
        };
        tokio::join!(writer(), writer(), writer(), writer());
    };
    let wanted: Vec<i64> = (1..=i64::try_from(WRITERS * EVENTS).unwrap()).collect();
    let readers = futures_util::stream::iter(0..20).map(async |number| {
        // Each reader is cut somewhere and resumes after the last event it saw.
        let mut first = Reader::open(&server, "subject=s").await;
        let mut seen = first.ids(1 + number * 15).await;
        drop(first);
        let mut second = Reader::open(&server, &format!("subject=s&from_id={}", seen.last().unwrap())).await;
        seen.extend(second.ids(WRITERS * EVENTS - seen.len()).await);
        seen
    });
    let (sequences, ()) = tokio::join!(readers.buffer_unordered(20).collect::<Vec<_>>(), writers);
    for sequence in sequences {
        assert_eq!(sequence, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_limited_and_free_again_when_the_client_leaves() {
    let server = Server::start(&["--max-total-clients", "2"], &[]).await;
    let first = Reader::open(&server, "subject=s").await;
    let _second = Reader::open(&server, "subject=s").await;
    let refused = Client::new().get(server.at("/events/stream?subject=s")).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    drop(first);
    server
        .eventually("the slot is free", async || {
            let answer = Client::new().get(server.at("/events/stream?subject=s")).send().await.unwrap();
            if answer.status() == 200 { Ok(()) } else { Err(answer.status().to_string()) }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_broken_by_a_comment() {
    let server = Server::start(&["--heartbeat-interval", "1"], &[]).await;
    let mut reader = Reader::open(&server, "subject=s").await;
    assert_eq!(reader.message().await.unwrap().field("event"), Some("caught-up"));
    for _ in 0..2 {
        assert_eq!(reader.frame().await.unwrap().field(""), Some("heartbeat"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_taking_loses_nothing_and_holds_nobody_up() {
    let server = Server::start(&[], &[]).await;
    let mut slow = Reader::open(&server, "subject=s").await;
    let mut quick = Reader::open(&server, "subject=s").await;
    // Far more than sockets and buffers on the way hold.
    let data = vec![b'x'; 512 * 1024];
    for number in 1..=40 {
        server.append("s", &data).await;
        assert_eq!(quick.ids(1).await, [number]);
    }
    assert_eq!(slow.ids(40).await, (1..=40).collect::<Vec<_>>());
}
