//! Readers by the thousand: a few threads that do little more than read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::Outcome;
use crate::connection::{Connection, READ_BYTES_MAX};
use crate::protocol::{Protocol, Sink, Tally};

/// Threads that share the readers.
const THREADS: usize = 2;

/// Connections that are made before their subscriptions are waited for: less than a listen queue takes.
const CONNECTED_AT_ONCE: usize = 100;

/// How long all subscriptions may take to be ready.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// How long a thread sleeps at the most.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// Room for the longest message beside what is read.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Readers that have subscribed; dropping this closes their connections.
pub(crate) struct Fleet {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Outcome<Tally>>>,
}

#[derive(Default)]
struct Shared {
    ready: AtomicUsize,
    delivered: AtomicU64,
    is_stopped: AtomicBool,
    has_failed: AtomicBool,
}

impl Fleet {
    /// Subscribes `readers`; all of them are ready when this returns.
    pub(crate) fn subscribe<P: Protocol>(address: SocketAddr, readers: Vec<P>) -> Outcome<Self> {
        let count = readers.len();
        let fleet = Self::start(address, readers);
        if fleet.wait(|shared| shared.ready.load(Ordering::Relaxed) >= count, READY_WITHIN) {
            return Ok(fleet);
        }
        let ready = fleet.shared.ready.load(Ordering::Relaxed);
        fleet.finish()?;
        Err(format!("only {ready} of {count} readers became ready").into())
    }

    /// Begins to subscribe `readers`.
    pub(crate) fn start<P: Protocol>(address: SocketAddr, mut readers: Vec<P>) -> Self {
        let count = readers.len();
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for left in (1..=THREADS.min(count)).rev() {
            let part = readers.split_off(readers.len() - readers.len() / left);
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || {
                let outcome = Worker::new(address, Arc::clone(&shared)).and_then(|worker| worker.run(part));
                shared.has_failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                outcome
            }));
        }
        Self { shared, threads }
    }

    /// Waits until `count` events have been delivered, `within` at the most.
    pub(crate) fn wait_delivered(&self, count: u64, within: Duration) -> bool {
        self.wait(|shared| shared.delivered.load(Ordering::Relaxed) >= count, within)
    }

    /// Stops reading and says what came.
    pub(crate) fn finish(mut self) -> Outcome<Tally> {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        let mut all = Tally::new()?;
        for thread in self.threads.drain(..) {
            all.add(&thread.join().map_err(|_| "a reading thread panicked")??)?;
        }
        Ok(all)
    }

    fn wait(&self, is_over: impl Fn(&Shared) -> bool, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while !is_over(&self.shared) {
            if self.shared.has_failed.load(Ordering::Relaxed) || Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _outcome = thread.join();
        }
    }
}

/// One thread's share of the readers.
struct Worker<P> {
    address: SocketAddr,
    shared: Arc<Shared>,
    poll: Poll,
    connections: Vec<Connection<P>>,
    sink: Sink,
    buffer: Vec<u8>,
}

impl<P: Protocol> Worker<P> {
    fn new(address: SocketAddr, shared: Arc<Shared>) -> Outcome<Self> {
        let buffer = vec![0; READ_BYTES_MAX + MESSAGE_BYTES_MAX];
        Ok(Self { address, shared, poll: Poll::new()?, connections: Vec::new(), sink: Sink::new()?, buffer })
    }

    fn run(mut self, readers: Vec<P>) -> Outcome<Tally> {
        let mut events = Events::with_capacity(1_024);
        for (number, reader) in readers.into_iter().enumerate() {
            let connection = Connection::open(self.address, reader, self.poll.registry(), Token(number))?;
            self.connections.push(connection);
            if self.connections.len().is_multiple_of(CONNECTED_AT_ONCE) {
                self.wait_ready(&mut events)?;
            }
        }
        self.wait_ready(&mut events)?;
        while !self.shared.is_stopped.load(Ordering::Relaxed) {
            self.turn(&mut events)?;
        }
        Ok(self.sink.tally)
    }

    /// Reads until all who are connected are ready.
    fn wait_ready(&mut self, events: &mut Events) -> Outcome<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while self.sink.ready < self.connections.len() {
            if self.shared.is_stopped.load(Ordering::Relaxed) {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("no subscription within {} s", READY_WITHIN.as_secs()).into());
            }
            self.turn(events)?;
        }
        Ok(())
    }

    /// Sleeps until something comes, and takes it.
    fn turn(&mut self, events: &mut Events) -> Outcome<()> {
        let (ready, delivered) = (self.sink.ready, self.sink.tally.delivered);
        self.poll.poll(events, Some(SLEEP_MAX))?;
        for event in events.iter() {
            let connection = &mut self.connections[event.token().0];
            if !connection.is_flushed() {
                connection.flush()?;
            }
            if event.is_readable() {
                connection.receive(&mut self.buffer, &mut self.sink)?;
            }
        }
        self.shared.ready.fetch_add(self.sink.ready - ready, Ordering::Relaxed);
        self.shared.delivered.fetch_add(self.sink.tally.delivered - delivered, Ordering::Relaxed);
        Ok(())
    }
}
