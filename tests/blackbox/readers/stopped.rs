//! Readers that stop reading while events keep coming: they resume without loss, and hold nobody up.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::time::{sleep, timeout};

use crate::harness::{CEILING, Server};
use crate::readers::connection::{Connection, Connector, Protocol};
use crate::readers::filter::Filter;

const SUBJECT: &str = "s";

/// Far more than sockets and buffers on the way hold.
const LARGE_EVENTS: i64 = 48;
const LARGE_EVENT_BYTES: usize = 256 * 1024;
const EVENT_BYTES: usize = 32;

/// Who stops: more of them than of those who read on.
const STOPPING: [(Protocol, usize); 3] = [(Protocol::Sse, 8), (Protocol::Grpc, 6), (Protocol::GrpcWeb, 6)];
const READING_ON: [(Protocol, usize); 3] = [(Protocol::Sse, 2), (Protocol::Grpc, 2), (Protocol::GrpcWeb, 1)];

/// Time between two appends, so that a minute of them costs little.
const BETWEEN_APPENDS: Duration = Duration::from_millis(50);

/// The data of the event at a position.
fn data(position: i64) -> String {
    let bytes = if (2..2 + LARGE_EVENTS).contains(&position) { LARGE_EVENT_BYTES } else { EVENT_BYTES };
    format!("{position:032}").repeat(bytes / 32)
}

/// Reads every event.
struct Reader {
    connector: Connector,
    connection: Connection,
    url: String,
    place: i64,
    ended: usize,
}

impl Reader {
    async fn open(url: &str, readers: &[(Protocol, usize)]) -> Vec<Self> {
        let mut opened = Vec::new();
        for (protocol, count) in readers {
            for number in 0..*count {
                let mut connector = Connector::new(*protocol, number % 2 == 1);
                let connection = connector.open(url, &Filter::exact(SUBJECT), 0, false).await.unwrap();
                opened.push(Self { connector, connection, url: url.to_owned(), place: 0, ended: 0 });
            }
        }
        opened
    }

    /// Reads up to a position, and resumes where the server has ended the stream.
    async fn read_up_to(&mut self, last: i64) {
        while self.place < last {
            let name = self.connector.protocol;
            let Some(steps) = timeout(CEILING, self.connection.next()).await.expect("the stream is silent") else {
                self.ended += 1;
                assert!(self.ended < 10, "the {name:?} reader is always cut");
                let opened = self.connector.open(&self.url, &Filter::exact(SUBJECT), self.place, true).await;
                self.connection = opened.unwrap();
                continue;
            };
            for step in steps {
                let Some(token) = step.token else {
                    assert_eq!(step.position, self.place, "the {name:?} reader would pass over events");
                    continue;
                };
                assert_eq!(step.position, self.place + 1, "the {name:?} reader misses an event");
                assert!(token == data(step.position), "{name:?}: {}", &token[..32.min(token.len())]);
                self.place = step.position;
            }
        }
    }
}

/// Lets readers stop until `is_over`, while the others get each event before the next one is appended; returns how many
/// streams the server has ended.
async fn readers_stop(server: &Server, mut is_over: impl AsyncFnMut() -> bool) -> usize {
    let mut stopping = Reader::open(&server.url(), &STOPPING).await;
    let mut reading_on = Reader::open(&server.url(), &READING_ON).await;
    assert_eq!(server.append(SUBJECT, data(1).as_bytes()).await, 1);
    for reader in &mut stopping {
        reader.read_up_to(1).await;
    }
    let mut last = 1;
    while last <= LARGE_EVENTS || !is_over().await {
        last += 1;
        assert_eq!(server.append(SUBJECT, data(last).as_bytes()).await, last);
        for reader in &mut reading_on {
            reader.read_up_to(last).await;
        }
        sleep(BETWEEN_APPENDS).await;
    }
    assert!(reading_on.iter().all(|reader| reader.ended == 0), "who reads on is not cut");
    let resumed = Instant::now();
    let read_on = stopping.into_iter().map(|mut reader| {
        tokio::spawn(async move {
            reader.read_up_to(last).await;
            reader.ended
        })
    });
    let ended = try_join_all(read_on).await.expect("a reader failed").iter().sum();
    println!("{last} events, {ended} streams were ended, read after all within {:?}", resumed.elapsed());
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_stop_for_a_minute_lose_nothing_and_hold_nobody_up() {
    let server = Server::start(&[], &[]).await;
    let started = Instant::now();
    readers_stop(&server, async || started.elapsed() > Duration::from_mins(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_are_cut_for_stopping_lose_nothing() {
    let server = Server::start(&["--slow-client-timeout", "10"], &[]).await;
    let stopping = STOPPING.iter().map(|(_, count)| count).sum::<usize>();
    let started = Instant::now();
    let ended = readers_stop(&server, async || {
        let ended = server.metric("eventsdb_slow_streams_ended_total").await;
        assert!(started.elapsed() < 3 * CEILING, "only {ended} are cut");
        ended == stopping
    });
    assert_eq!(ended.await, stopping);
    server
        .eventually("no slot is taken", async || match server.metric("app_active_event_streams").await {
            0 => Ok(()),
            open => Err(format!("{open} are")),
        })
        .await;
}
