//! Clients that append while things break and remember what they were told, to be compared with the log.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::{CEILING, event_body};
use crate::seeded::Random;

/// How long a client waits for an answer: longer than the server takes to give up on its database.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// How long a client waits before it tries again.
pub const PAUSE: Duration = Duration::from_millis(10);

/// Events of a hundred that carry an id.
const NAMED_PERCENT: u64 = 50;

/// Events with an id of a hundred that are sent once more although they were acknowledged, and as many that are sent
/// twice at once.
const TWICE_PERCENT: u64 = 5;

/// What an append was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Stored {
        position: i64,
        is_duplicate: bool,
    },
    /// The server says so, or was not reached.
    NotStored,
    /// The server does not know, or did not answer.
    Open,
    PreconditionFailed,
}

/// Sends one append.
pub async fn append(request: RequestBuilder, body: &Value) -> Answer {
    let answer = match request.json(body).timeout(ANSWER_WITHIN).send().await {
        Ok(answer) => answer,
        Err(error) if error.is_connect() => return Answer::NotStored,
        Err(_) => return Answer::Open,
    };
    let status = answer.status().as_u16();
    let Ok(answer) = answer.json::<Value>().await else { return Answer::Open };
    match (status, answer["type"].as_str().and_then(|problem| problem.rsplit(':').next())) {
        (200, _) => {
            Answer::Stored { position: answer["id"].as_i64().unwrap(), is_duplicate: answer["duplicate"] == true }
        }
        (412, Some("precondition-failed")) => Answer::PreconditionFailed,
        (429, _) | (503, Some("unavailable")) => Answer::NotStored,
        (503, Some("outcome-unknown")) => Answer::Open,
        _ => panic!("{status} {answer}"),
    }
}

/// Sends an event that has an id until it is acknowledged; `request` is asked for anew each time, as the server may
/// have moved. `may_be_stored` says whether it was sent before.
pub async fn insist(request: impl Fn() -> RequestBuilder, body: &Value, mut may_be_stored: bool) -> (i64, bool) {
    let started = Instant::now();
    loop {
        match append(request(), body).await {
            Answer::Stored { position, is_duplicate } => {
                assert!(may_be_stored || !is_duplicate, "{body} was never stored, and is a duplicate at {position}");
                return (position, is_duplicate);
            }
            Answer::NotStored => {}
            Answer::Open => may_be_stored = true,
            Answer::PreconditionFailed => panic!("the precondition of {body} held when it was sent first"),
        }
        assert!(started.elapsed() < CEILING, "{body} is never acknowledged");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Where the events of one client are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// There, by the server's word.
    At(i64),
    /// Not stored, by the server's word.
    Nowhere,
    /// Nobody said.
    Open,
}

/// What every client was told, in the order in which it sent.
pub struct Record(pub Vec<Vec<(String, Fate)>>);

/// Running clients.
pub struct Load {
    clients: Vec<JoinHandle<Vec<(String, Fate)>>>,
    stopping: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    /// Starts clients, numbered so that no two are the same, that append to whatever server `url` names at the time.
    pub fn start(url: &watch::Receiver<String>, clients: Range<u64>, seed: u64) -> Self {
        let (stopping, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |number| {
            let mut writer =
                Writer { number, url: url.clone(), http: Client::new(), random: Random::new(seed + number) };
            let (stopping, acknowledged) = (Arc::clone(&stopping), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                let mut sent = Vec::new();
                while !stopping.load(Ordering::SeqCst) {
                    let token = format!("{number}-{}", sent.len());
                    let fate = writer.send(&token).await;
                    acknowledged.fetch_add(u64::from(matches!(fate, Fate::At(_))), Ordering::SeqCst);
                    sent.push((token, fate));
                }
                sent
            })
        };
        let clients = clients.map(start).collect();
        Self { clients, stopping, acknowledged }
    }

    /// Waits until so many more events are acknowledged.
    pub async fn acknowledges(&mut self, more: u64) {
        let wanted = self.acknowledged.load(Ordering::SeqCst) + more;
        let acknowledged = Arc::clone(&self.acknowledged);
        self.goes_on_until("events are acknowledged", CEILING, || acknowledged.load(Ordering::SeqCst) >= wanted).await;
    }

    /// Waits until `reached`; fails at once when a client has failed.
    pub async fn goes_on_until(&mut self, what: &str, ceiling: Duration, reached: impl Fn() -> bool) {
        let started = Instant::now();
        while !reached() {
            if let Some(number) = self.clients.iter().position(JoinHandle::is_finished) {
                self.clients.swap_remove(number).await.expect("a client failed");
            }
            assert!(started.elapsed() < ceiling, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets every client finish what it is at.
    pub async fn stop(self) -> Record {
        self.stopping.store(true, Ordering::SeqCst);
        let mut record = Vec::new();
        for client in self.clients {
            record.push(client.await.expect("a client failed"));
        }
        Record(record)
    }
}

/// One client.
struct Writer {
    number: u64,
    url: watch::Receiver<String>,
    http: Client,
    random: Random,
}

impl Writer {
    fn post(&self) -> RequestBuilder {
        let url = format!("{}/events", *self.url.borrow());
        self.http.post(url)
    }

    async fn send(&mut self, token: &str) -> Fate {
        let mut body = event_body(&format!("client/{}", self.number), token.as_bytes());
        if !self.random.percent(NAMED_PERCENT) {
            // Without an id it cannot be sent again: what is not known stays unknown.
            return match append(self.post(), &body).await {
                Answer::Stored { position, is_duplicate: false } => Fate::At(position),
                Answer::NotStored => self.pause(Fate::Nowhere).await,
                Answer::Open => self.pause(Fate::Open).await,
                other => panic!("{body} has no id: {other:?}"),
            };
        }
        body["id"] = token.into();
        let (at_once, once_more) = (self.random.percent(TWICE_PERCENT), self.random.percent(TWICE_PERCENT));
        let post = || self.post();
        if at_once {
            let (one, other) = tokio::join!(insist(post, &body, true), insist(post, &body, true));
            assert_eq!(one.0, other.0, "{body}");
            return Fate::At(one.0);
        }
        let (position, _) = insist(post, &body, false).await;
        if once_more {
            assert_eq!(insist(post, &body, true).await, (position, true), "{body}");
        }
        Fate::At(position)
    }

    async fn pause(&self, fate: Fate) -> Fate {
        tokio::time::sleep(PAUSE).await;
        fate
    }
}

/// The tokens in the log at `url`, which must have no hole: the n-th is at position n.
pub async fn read_log(url: &str) -> Vec<String> {
    let client = Client::new();
    let mut tokens = Vec::new();
    loop {
        let page = format!("{url}/events/historic?recursive=true&subject=&limit=1000&from_id={}", tokens.len());
        let page = history(&client, &page).await;
        for event in page["events"].as_array().unwrap() {
            assert_eq!(event["id"], tokens.len() + 1, "a hole, or an event out of order");
            tokens.push(token(event));
        }
        if page["has_more"] == false {
            return tokens;
        }
    }
}

/// A page of history. Connections that broke together with the database may fail a few reads after it is back.
async fn history(client: &Client, url: &str) -> Value {
    let started = Instant::now();
    loop {
        let answer = client.get(url).send().await.unwrap();
        let status = answer.status();
        let body = answer.json().await.unwrap();
        if status == 200 {
            return body;
        }
        assert!(status == 503 && started.elapsed() < CEILING, "{status} {body}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// What the client of `event` called it.
pub fn token(event: &Value) -> String {
    String::from_utf8(STANDARD.decode(event["data"].as_str().unwrap()).unwrap()).unwrap()
}

impl Record {
    /// Compares what was said with what is true; returns how many events were acknowledged, and how many are open.
    pub fn compare(&self, log: &[String]) -> (usize, usize) {
        let mut stored = HashMap::new();
        for (token, position) in log.iter().zip(1_i64..) {
            if let Some(earlier) = stored.insert(token.as_str(), position) {
                panic!("{token} is stored twice, at {earlier} and {position}");
            }
        }
        let (mut acknowledged, mut open) = (0, 0);
        for sent in &self.0 {
            let mut last = 0;
            for (token, fate) in sent {
                let found = stored.remove(token.as_str());
                match fate {
                    Fate::At(position) => {
                        assert_eq!(found, Some(*position), "{token} was acknowledged at {position}");
                        acknowledged += 1;
                    }
                    Fate::Nowhere => assert_eq!(found, None, "{token} is stored, the answer said that it is not"),
                    Fate::Open => open += 1,
                }
                if let Some(position) = found {
                    assert!(position > last, "{token} is at {position}, what its client sent before it at {last}");
                    last = position;
                }
            }
        }
        assert!(stored.is_empty(), "nobody sent {stored:?}");
        (acknowledged, open)
    }
}
