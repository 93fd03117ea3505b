//! Appends at a given rate, or as fast as they are answered.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use crate::connection::{Connection, READ_BYTES_MAX};
use crate::protocol::{Append, Sink};
use crate::{Outcome, clock};

/// How long the last answers may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Room for the longest answer beside what is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// A rate that cannot be reached is given up after so many times the planned time.
const PATIENCE: u64 = 3;

/// When the next event is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// At times that are set beforehand, answered or not; so many events.
    Open { per_second: u64, events: u64 },
    /// As soon as a connection is free, for so long.
    Closed(Duration),
}

impl Pace {
    /// Nanoseconds from the start after which the event `number` is sent.
    fn due(self, number: u64) -> u64 {
        match self {
            Self::Open { per_second, .. } => number * 1_000_000_000 / per_second,
            Self::Closed(_) => 0,
        }
    }

    /// Nanoseconds from the start after which nothing is sent.
    fn end(self) -> u64 {
        match self {
            Self::Open { events, .. } => self.due(events) * PATIENCE,
            Self::Closed(time) => clock::nanoseconds(time),
        }
    }

    fn events(self) -> u64 {
        match self {
            Self::Open { events, .. } => events,
            Self::Closed(_) => u64::MAX,
        }
    }
}

/// What was appended.
pub(crate) struct Published {
    /// Events that were answered, or just sent where there is no answer.
    pub(crate) events: u64,
    /// When the first was sent.
    pub(crate) first: u64,
    /// When the last was answered.
    last: u64,
    /// From sending to the answer, in microseconds.
    pub(crate) latencies: Histogram<u64>,
}

impl Published {
    /// Events that were answered each second.
    pub(crate) fn per_second(&self) -> f64 {
        crate::results::per_second(self.events, self.last.saturating_sub(self.first))
    }
}

/// Appends over `publishers`, a connection each, at the pace given.
pub(crate) fn publish<P: Append>(address: SocketAddr, publishers: Vec<P>, pace: Pace) -> Outcome<Published> {
    let mut publishing = Publishing::new(address, publishers, pace)?;
    let mut events = Events::with_capacity(256);
    while !publishing.is_over() {
        publishing.send()?;
        publishing.receive(&mut events)?;
    }
    let Publishing { answered, start, last, sink, .. } = publishing;
    Ok(Published { events: answered, first: start, last, latencies: sink.tally.latencies })
}

struct Publishing<P> {
    pace: Pace,
    poll: Poll,
    connections: Vec<Connection<P>>,
    /// When the event under way on each connection was sent.
    sent_at: Vec<u64>,
    free: VecDeque<usize>,
    sink: Sink,
    buffer: Vec<u8>,
    start: u64,
    sent: u64,
    answered: u64,
    last: u64,
    /// Whether an event was due when no connection was free.
    is_late: bool,
}

impl<P: Append> Publishing<P> {
    fn new(address: SocketAddr, publishers: Vec<P>, pace: Pace) -> Outcome<Self> {
        let poll = Poll::new()?;
        let open = |(number, protocol)| Connection::open(address, protocol, poll.registry(), Token(number));
        let connections: Vec<_> = publishers.into_iter().enumerate().map(open).collect::<Outcome<_>>()?;
        let (count, now) = (connections.len(), clock::now());
        Ok(Self {
            pace,
            poll,
            connections,
            sent_at: vec![0; count],
            free: (0..count).collect(),
            sink: Sink::new()?,
            buffer: vec![0; READ_BYTES_MAX + ANSWER_BYTES_MAX],
            start: now,
            sent: 0,
            answered: 0,
            last: now,
            is_late: false,
        })
    }

    fn is_over(&self) -> bool {
        let now = clock::now() - self.start;
        let is_all_sent = self.sent >= self.pace.events() || now >= self.pace.end();
        let is_all_answered = self.answered == self.sent;
        is_all_sent && (is_all_answered || now >= self.pace.end() + clock::nanoseconds(ANSWER_WITHIN))
    }

    /// Sends what is due as long as there is a connection for it.
    fn send(&mut self) -> Outcome<()> {
        while self.sent < self.pace.events() {
            let (now, due) = (clock::now(), self.start + self.pace.due(self.sent));
            if now < due || now >= self.start + self.pace.end() {
                break;
            }
            let Some(number) = self.free.pop_front() else {
                self.is_late = true;
                break;
            };
            // What had to wait for a connection is as old as it should have been sent.
            let is_open = matches!(self.pace, Pace::Open { .. });
            let stamp = if self.is_late && is_open { due } else { now };
            self.sent_at[number] = stamp;
            let event = self.sent;
            self.connections[number].send(|protocol, out| protocol.write(event, stamp, out))?;
            self.sent += 1;
            if !P::IS_ANSWERED {
                self.answered += 1;
                self.last = now;
                self.release(number);
            }
        }
        self.is_late &= self.free.is_empty();
        Ok(())
    }

    /// Takes the answers, sleeping until the next event is due at the longest.
    fn receive(&mut self, events: &mut Events) -> Outcome<()> {
        let due = self.start + self.pace.due(self.sent);
        let wait = Duration::from_nanos(due.saturating_sub(clock::now())).min(Duration::from_millis(20));
        // With nobody free there is nothing to send.
        let wait =
            if self.free.is_empty() || self.sent >= self.pace.events() { Duration::from_millis(20) } else { wait };
        self.poll.poll(events, Some(wait))?;
        for event in events.iter() {
            let number = event.token().0;
            let connection = &mut self.connections[number];
            if !connection.is_flushed() {
                connection.flush()?;
                if !P::IS_ANSWERED && connection.is_flushed() && !self.free.contains(&number) {
                    self.free.push_back(number);
                }
            }
            if !event.is_readable() {
                continue;
            }
            self.connections[number].receive(&mut self.buffer, &mut self.sink)?;
            for _ in 0..std::mem::take(&mut self.sink.answers) {
                self.answered += 1;
                self.last = self.sink.now;
                let micros = self.sink.now.saturating_sub(self.sent_at[number]) / 1_000;
                self.sink.tally.latencies.saturating_record(micros);
                self.release(number);
            }
        }
        Ok(())
    }

    /// The connection may send again, as soon as its socket has taken everything.
    fn release(&mut self, number: usize) {
        if self.connections[number].is_flushed() {
            self.free.push_back(number);
        }
    }
}
