//! What a connection says and hears, the same for readers and publishers of every system.

use hdrhistogram::Histogram;

use crate::{Outcome, clock};

/// The longest latency that is told apart, in microseconds.
const LATENCY_MICROSECONDS_MAX: u64 = 120_000_000;

/// One connection's side of a protocol. Incomplete messages are handed in again with what follows.
pub(crate) trait Protocol: Send + 'static {
    /// What is said first.
    fn greeting(&self) -> Vec<u8>;

    /// Takes away what lies around the messages and moves them together; says how many bytes they take.
    fn unwrap(&mut self, bytes: &mut [u8]) -> Outcome<usize> {
        Ok(bytes.len())
    }

    /// Takes the whole messages at the start of `bytes` and says how many bytes they take.
    fn take(&mut self, bytes: &[u8], sink: &mut Sink) -> Outcome<usize>;
}

/// A protocol by which events are appended.
pub(crate) trait Append: Protocol {
    /// Whether the next event has to wait for an answer.
    const IS_ANSWERED: bool;

    /// Writes the request for the event `number`, stamped with the time `stamp`.
    fn write(&mut self, number: u64, stamp: u64, out: &mut Vec<u8>);
}

/// Where a protocol puts what it takes.
pub(crate) struct Sink {
    /// When the bytes were read.
    pub(crate) now: u64,
    pub(crate) tally: Tally,
    /// Readers that will see every event from now on.
    pub(crate) ready: usize,
    /// Appends that were answered.
    pub(crate) answers: usize,
    /// What the connection says next.
    pub(crate) reply: Vec<u8>,
}

impl Sink {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self { now: clock::now(), tally: Tally::new()?, ready: 0, answers: 0, reply: Vec::new() })
    }

    /// An event has arrived that was sent at `stamp`.
    pub(crate) fn deliver(&mut self, stamp: u64) {
        self.tally.delivered += 1;
        self.tally.last = self.now;
        self.tally.latencies.saturating_record(self.now.saturating_sub(stamp) / 1_000);
    }
}

/// What readers have got.
pub(crate) struct Tally {
    pub(crate) delivered: u64,
    /// When the last event arrived.
    pub(crate) last: u64,
    /// From sending to reading, in microseconds.
    pub(crate) latencies: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Outcome<Self> {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MICROSECONDS_MAX, 3)?;
        Ok(Self { delivered: 0, last: 0, latencies })
    }

    pub(crate) fn add(&mut self, other: &Self) -> Outcome<()> {
        self.delivered += other.delivered;
        self.last = self.last.max(other.last);
        Ok(self.latencies.add(&other.latencies)?)
    }
}
