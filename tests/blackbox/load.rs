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

/// The types of events.
pub const TYPES: [&str; 3] = ["made", "moved", "removed"];

/// Appends of a hundred whose events carry an id.
const NAMED_PERCENT: u64 = 50;

/// Appends with an id of a hundred that are sent once more although they were acknowledged, and as many that are sent
/// twice at once.
const TWICE_PERCENT: u64 = 5;

/// Appends of a hundred that are arrays, of up to so many events.
const BATCH_PERCENT: u64 = 20;
const BATCH_EVENTS_MAX: u64 = 5;

/// Appends of a hundred that say which event of their subject is the last.
const CONDITIONAL_PERCENT: u64 = 20;

/// What an append was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Its events are at these positions.
    Stored {
        positions: Vec<i64>,
        is_duplicate: bool,
    },
    /// The server says so, or was not reached.
    NotStored,
    /// The server does not know, or did not answer.
    Open,
    PreconditionFailed,
}

/// The URLs of the servers that share one log, which may change.
pub type Replicas = watch::Receiver<Vec<String>>;

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
        (200, _) => stored(&answer),
        (412, Some("precondition-failed")) => Answer::PreconditionFailed,
        (429, _) | (503, Some("unavailable")) => Answer::NotStored,
        (503, Some("outcome-unknown")) => Answer::Open,
        _ => panic!("{status} {answer}"),
    }
}

fn stored(answer: &Value) -> Answer {
    let Some(ids) = answer["ids"].as_array() else {
        let positions = vec![answer["id"].as_i64().unwrap()];
        return Answer::Stored { positions, is_duplicate: answer["duplicate"] == true };
    };
    let is_duplicate = answer.get("duplicates").is_some();
    assert!(!is_duplicate || answer["duplicates"] == answer["ids"], "a part of a batch was stored before: {answer}");
    Answer::Stored { positions: ids.iter().map(|id| id.as_i64().unwrap()).collect(), is_duplicate }
}

/// Sends events that have ids until they are acknowledged; returns their positions, and whether the answer calls them
/// duplicates. `request` is asked for anew each time, as the server may have moved; `may_be_stored` says whether they
/// were sent before.
pub async fn insist(request: impl Fn() -> RequestBuilder, body: &Value, mut may_be_stored: bool) -> (Vec<i64>, bool) {
    let started = Instant::now();
    loop {
        match append(request(), body).await {
            Answer::Stored { positions, is_duplicate } => {
                assert!(may_be_stored || !is_duplicate, "{body} was never stored, and is a duplicate at {positions:?}");
                return (positions, is_duplicate);
            }
            Answer::NotStored => {}
            Answer::Open => may_be_stored = true,
            Answer::PreconditionFailed => panic!("the precondition of {body} held when it was sent first"),
        }
        assert!(started.elapsed() < CEILING, "{body} is never acknowledged");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Where the events of one append are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// There, by the server's word.
    At(Vec<i64>),
    /// Not stored, by the server's word.
    Nowhere,
    /// Nobody said.
    Open,
}

/// One append, by what its events are called.
#[derive(Debug)]
pub struct Sent {
    pub tokens: Vec<String>,
    pub fate: Fate,
}

/// What every client was told, in the order in which it sent.
pub struct Record(pub Vec<Vec<Sent>>);

/// Running clients.
pub struct Load {
    clients: Vec<JoinHandle<Vec<Sent>>>,
    stopping: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    /// Starts clients, numbered so that no two are the same, each append to any of the `replicas` of the time.
    pub fn start(replicas: &Replicas, clients: Range<u64>, seed: u64) -> Self {
        Self::start_paced(replicas, clients, seed, 0)
    }

    /// The same, each resting up to so many milliseconds before each append.
    pub fn start_paced(replicas: &Replicas, clients: Range<u64>, seed: u64, rest_max: u64) -> Self {
        let (stopping, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |number| {
            let (http, random) = (Client::new(), Random::new(seed + number));
            let mut writer =
                Writer { number, replicas: replicas.clone(), http, random, turn: seed.into(), last: Some(0) };
            let (stopping, acknowledged) = (Arc::clone(&stopping), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                let mut appends = Vec::new();
                while !stopping.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(writer.random.below(rest_max + 1))).await;
                    let sent = writer.send(appends.len()).await;
                    acknowledged.fetch_add(u64::from(matches!(sent.fate, Fate::At(_))), Ordering::SeqCst);
                    appends.push(sent);
                }
                appends
            })
        };
        let clients = clients.map(start).collect();
        Self { clients, stopping, acknowledged }
    }

    /// Waits until so many more appends are acknowledged.
    pub async fn acknowledges(&mut self, more: u64) {
        let wanted = self.acknowledged.load(Ordering::SeqCst) + more;
        let acknowledged = Arc::clone(&self.acknowledged);
        self.goes_on_until("appends are acknowledged", CEILING, || acknowledged.load(Ordering::SeqCst) >= wanted).await;
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

/// One client. Nobody else writes to its subject.
struct Writer {
    number: u64,
    replicas: Replicas,
    http: Client,
    random: Random,
    /// Picks the server of the next request.
    turn: AtomicU64,
    /// The position of its last event, 0 for none; `None` while it does not know.
    last: Option<i64>,
}

impl Writer {
    async fn send(&mut self, number: usize) -> Sent {
        let is_named = self.random.percent(NAMED_PERCENT);
        let is_batch = self.random.percent(BATCH_PERCENT);
        let count = if is_batch { 1 + self.random.below(BATCH_EVENTS_MAX) } else { 1 };
        let tokens: Vec<_> = (0..count).map(|place| format!("{}-{number}-{place}", self.number)).collect();
        let mut events = tokens.iter().map(|token| {
            let mut event = event_body(&format!("client/{}", self.number), token.as_bytes());
            event["type"] = (*self.random.of(&TYPES)).into();
            if is_named {
                event["id"] = token.as_str().into();
            }
            event
        });
        let body = if is_batch { events.collect() } else { events.next().unwrap() };
        let condition = self.last.filter(|_| self.random.percent(CONDITIONAL_PERCENT));
        let fate =
            if is_named { self.send_named(&body, condition).await } else { self.send_once(&body, condition).await };
        match &fate {
            Fate::At(positions) => self.last = positions.last().copied(),
            Fate::Nowhere => {}
            Fate::Open => self.last = None,
        }
        Sent { tokens, fate }
    }

    fn post(&self, condition: Option<i64>) -> RequestBuilder {
        let mut pick = Random::new(self.turn.fetch_add(1, Ordering::Relaxed));
        let url = format!("{}/events", pick.of(&self.replicas.borrow()));
        match condition {
            None => self.http.post(url),
            Some(0) => self.http.post(url).header("if-none-match", "*"),
            Some(last) => self.http.post(url).header("if-match", format!("\"{last}\"")),
        }
    }

    /// Without an id it cannot be sent again: what is not known stays unknown.
    async fn send_once(&self, body: &Value, condition: Option<i64>) -> Fate {
        let fate = match append(self.post(condition), body).await {
            Answer::Stored { positions, is_duplicate: false } => return Fate::At(positions),
            Answer::NotStored => Fate::Nowhere,
            Answer::Open => Fate::Open,
            other => panic!("{body} has no id, and is the next after {condition:?}: {other:?}"),
        };
        tokio::time::sleep(PAUSE).await;
        fate
    }

    async fn send_named(&mut self, body: &Value, condition: Option<i64>) -> Fate {
        let (at_once, once_more) = (self.random.percent(TWICE_PERCENT), self.random.percent(TWICE_PERCENT));
        let post = || self.post(condition);
        if at_once {
            let (one, other) = tokio::join!(insist(post, body, true), insist(post, body, true));
            assert_eq!(one.0, other.0, "{body}");
            return Fate::At(one.0);
        }
        let (positions, _) = insist(post, body, false).await;
        if once_more {
            assert_eq!(insist(post, body, true).await, (positions.clone(), true), "{body}");
        }
        Fate::At(positions)
    }
}

/// The tokens in the log at `url`, which must have no hole: the n-th is at position n.
pub async fn read_log(url: &str) -> Vec<String> {
    read_events(url).await.iter().map(token).collect()
}

/// The events in the log at `url`, which must have no hole: the n-th is at position n.
pub async fn read_events(url: &str) -> Vec<Value> {
    let client = Client::new();
    let mut events = Vec::new();
    loop {
        let page = format!("{url}/events/historic?recursive=true&subject=&limit=1000&from_id={}", events.len());
        let mut page = history(&client, &page).await;
        for event in page["events"].as_array_mut().unwrap().drain(..) {
            assert_eq!(event["id"], events.len() + 1, "a hole, or an event out of order");
            events.push(event);
        }
        if page["has_more"] == false {
            return events;
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
    /// Compares what was said with what is true; returns how many appends were acknowledged, and how many are open.
    pub fn compare(&self, log: &[String]) -> (usize, usize) {
        let mut stored = HashMap::new();
        for (token, position) in log.iter().zip(1_i64..) {
            if let Some(earlier) = stored.insert(token.as_str(), position) {
                panic!("{token} is stored twice, at {earlier} and {position}");
            }
        }
        let (mut acknowledged, mut open) = (0, 0);
        for appends in &self.0 {
            let mut last = 0;
            for sent in appends {
                let found: Vec<_> = sent.tokens.iter().filter_map(|token| stored.remove(token.as_str())).collect();
                match &sent.fate {
                    Fate::At(positions) => assert_eq!(&found, positions, "{sent:?}"),
                    Fate::Nowhere => assert!(found.is_empty(), "{sent:?} is stored, the answer said that it is not"),
                    Fate::Open => {
                        assert!(found.is_empty() || found.len() == sent.tokens.len(), "{sent:?} is torn: {found:?}");
                        open += 1;
                    }
                }
                acknowledged += usize::from(matches!(sent.fate, Fate::At(_)));
                for position in found {
                    assert!(position > last, "{sent:?} is at {position}, what its client sent before it at {last}");
                    last = position;
                }
            }
        }
        assert!(stored.is_empty(), "nobody sent {stored:?}");
        (acknowledged, open)
    }
}
