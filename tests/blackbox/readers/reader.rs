//! A reader that is cut and resumes, again and again, and compares what it saw with the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::harness::CEILING;
use crate::load::{Replicas, token};
use crate::readers::connection::{Connection, Connector, PROTOCOLS, Step};
use crate::readers::filter::Filter;
use crate::seeded::Random;

/// The most events, or milliseconds, between two cuts.
const BETWEEN_CUTS: u64 = 150;

/// Cuts of a hundred that may come while the reader still connects, within so many milliseconds.
const CUT_EARLY_PERCENT: u64 = 20;
const CUT_EARLY_WITHIN: u64 = 5;

/// How long a reader may take for what is left when nothing is appended any more.
const LAST_WITHIN: Duration = Duration::from_mins(2);

/// The whole log, once it is known.
pub type Log = watch::Receiver<Option<Arc<Vec<Value>>>>;

/// Running readers of all protocols and filters.
pub struct Readers {
    tasks: Vec<JoinHandle<usize>>,
    cut: Arc<AtomicUsize>,
    log: watch::Sender<Option<Arc<Vec<Value>>>>,
}

impl Readers {
    /// Starts `count` readers, each after a random position up to `begin_max`, which are cut so often and then read on.
    pub fn start(count: usize, cuts: usize, begin_max: u64, replicas: &Replicas, random: &mut Random) -> Self {
        let (cut, log) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(None));
        let start = |number: usize| {
            let protocol = PROTOCOLS[number % PROTOCOLS.len()];
            let filter = Filter::of_load(number / PROTOCOLS.len(), 12, random);
            let reader = Reader {
                filter,
                begin: i64::try_from(random.below(begin_max + 1)).unwrap(),
                connector: Connector::new(protocol, random.percent(50)),
                replicas: replicas.clone(),
                log: log.subscribe(),
                random: Random::new(random.next()),
                seen: Vec::new(),
                place: 0,
                ended: 0,
            };
            tokio::spawn(reader.run(cuts, Arc::clone(&cut)))
        };
        let tasks = (0..count).map(start).collect();
        Self { tasks, cut, log }
    }

    /// Whether every reader was cut as often as it is to be, or one has failed.
    pub fn are_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) == self.tasks.len() || self.tasks.iter().any(JoinHandle::is_finished)
    }

    /// Lets each read to the end of `log`; returns how often a stream was ended by a server or could not be opened.
    pub async fn finish(self, log: Vec<Value>) -> usize {
        self.log.send_replace(Some(Arc::new(log)));
        let mut ended = 0;
        for task in self.tasks {
            ended += task.await.expect("a reader failed");
        }
        ended
    }
}

struct Reader {
    filter: Filter,
    /// What it gets begins after this position.
    begin: i64,
    connector: Connector,
    replicas: Replicas,
    log: Log,
    random: Random,
    /// Positions and tokens of the events.
    seen: Vec<(i64, String)>,
    /// Where it resumes after.
    place: i64,
    ended: usize,
}

impl Reader {
    async fn run(mut self, cuts: usize, cut: Arc<AtomicUsize>) -> usize {
        self.place = self.begin;
        for _ in 0..cuts {
            self.read_and_cut().await;
        }
        cut.fetch_add(1, Ordering::SeqCst);
        let resumes = self.random.percent(50);
        let mut connection = self.connect(resumes).await;
        let mut log = self.log.clone();
        let log = loop {
            tokio::select! {
                log = async { log.wait_for(Option::is_some).await.expect("the test goes on").clone() } => break log.unwrap(),
                steps = connection.next() => self.take_or_resume(steps, &mut connection).await,
            }
        };
        self.compare(&log, connection).await;
        self.ended
    }

    /// Reads for a time by chance: up to a number of events, or wherever the next milliseconds lead.
    async fn read_and_cut(&mut self) {
        if self.random.percent(50) {
            self.connector.forget();
        }
        let resumes = self.random.percent(50);
        let mut connection = if self.random.percent(CUT_EARLY_PERCENT) {
            let early = Duration::from_millis(self.random.below(CUT_EARLY_WITHIN));
            let Ok(connection) = timeout(early, self.connect(resumes)).await else { return };
            connection
        } else {
            self.connect(resumes).await
        };
        let mut events = self.random.below(BETWEEN_CUTS);
        let cut_at = Instant::now() + Duration::from_millis(self.random.below(BETWEEN_CUTS));
        while let Ok(steps) = timeout_at(cut_at, connection.next()).await {
            let Some(steps) = steps else {
                self.ended += 1;
                return;
            };
            for step in steps {
                if events == 0 {
                    return;
                }
                events -= 1;
                self.take(step);
            }
        }
    }

    /// Opens a stream on any replica after the last place; says it as a client that `resumes` does.
    async fn connect(&mut self, resumes: bool) -> Connection {
        let started = Instant::now();
        loop {
            let url = self.random.of(&self.replicas.borrow()).clone();
            let opened = timeout(CEILING, self.connector.open(&url, &self.filter, self.place, resumes)).await;
            match opened.expect("no answer to a stream's request") {
                Ok(connection) => return connection,
                Err(error) => {
                    assert!(started.elapsed() < CEILING, "{} cannot come back: {error}", self.name());
                    self.ended += 1;
                    sleep(Duration::from_millis(self.random.below(BETWEEN_CUTS))).await;
                }
            }
        }
    }

    /// Reads to the end of `log`, and fails when it saw anything else.
    async fn compare(&mut self, log: &[Value], mut connection: Connection) {
        let positions = log.iter().map(|event| (event["id"].as_i64().unwrap(), event));
        let selected = positions.filter(|(position, event)| *position > self.begin && self.filter.selects(event));
        let expected: Vec<_> = selected.map(|(position, event)| (position, token(event))).collect();
        let give_up_at = Instant::now() + LAST_WITHIN;
        let mut compared = 0;
        loop {
            for seen in &self.seen[compared..] {
                assert_eq!(Some(seen), expected.get(compared), "{}", self.name());
                compared += 1;
            }
            let Some(next) = expected.get(compared) else { return };
            let steps = timeout_at(give_up_at, connection.next()).await;
            let steps = steps.unwrap_or_else(|_| panic!("{} never gets {next:?}", self.name()));
            self.take_or_resume(steps, &mut connection).await;
        }
    }

    async fn take_or_resume(&mut self, steps: Option<Vec<Step>>, connection: &mut Connection) {
        if let Some(steps) = steps {
            for step in steps {
                self.take(step);
            }
        } else {
            self.ended += 1;
            *connection = self.connect(true).await;
        }
    }

    fn take(&mut self, step: Step) {
        let Step { position, token } = step;
        let place = self.place;
        self.place = position;
        // A place without an event may be told again, or be the one that the reader came with.
        let is_ascending = position > place || token.is_none() && position == place;
        assert!(is_ascending, "{} is at {place} and gets {token:?} at {position}", self.name());
        self.seen.extend(token.map(|token| (position, token)));
    }

    fn name(&self) -> String {
        let protocol = self.connector.protocol;
        format!("the {protocol:?} reader of {:?} after {}", self.filter, self.begin)
    }
}
