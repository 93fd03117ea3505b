//! The load generator: every client asks again as soon as it is answered.
//!
//! All clients share one thread, so that the generator takes as little as it can from what it measures.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::{JoinSet, LocalSet};

use crate::Outcome;

/// How long the last answers may take; whoever needs longer does not work.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The longest latency that is told apart, in microseconds: the longest wait for an answer.
const LATENCY_MICROSECONDS_MAX: u64 = 60_000_000;

/// The parts of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Nothing happens: what the run before left to be written is written.
    pub(crate) pause: Duration,
    /// Load that is not counted.
    pub(crate) warm_up: Duration,
    /// Load that is counted.
    pub(crate) run: Duration,
}

/// One connection's worth of load.
pub(crate) trait Client: 'static {
    /// Asks once and takes the answer.
    async fn call(&mut self) -> Outcome<()>;
}

/// What a run came to.
pub(crate) struct Load {
    /// Answered calls of the counted part.
    pub(crate) calls: u64,
    /// Answered calls of both parts.
    pub(crate) calls_with_warm_up: u64,
    /// Latencies of the counted part, in microseconds.
    pub(crate) latencies: Histogram<u64>,
}

impl Load {
    fn new() -> Outcome<Self> {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MICROSECONDS_MAX, 3)?;
        Ok(Self { calls: 0, calls_with_warm_up: 0, latencies })
    }
}

/// Lets all `clients` call until the run is over; the first failure ends it.
pub(crate) async fn drive<C: Client>(clients: Vec<C>, span: Span) -> Outcome<Load> {
    let counted_from = Instant::now() + span.warm_up;
    let until = counted_from + span.run;
    let load = Rc::new(RefCell::new(Load::new()?));
    let local = LocalSet::new();
    let mut workers = JoinSet::new();
    for client in clients {
        workers.spawn_local_on(work(client, counted_from, until, Rc::clone(&load)), &local);
    }
    let all = local.run_until(async {
        while let Some(worker) = workers.join_next().await {
            worker??;
        }
        Outcome::Ok(())
    });
    let limit = span.warm_up + span.run + ANSWER_WITHIN;
    tokio::time::timeout(limit, all).await.map_err(|_| format!("no answer within {} s", ANSWER_WITHIN.as_secs()))??;
    drop(workers);
    drop(local);
    let load = Rc::into_inner(load).ok_or("a client is still running")?;
    Ok(load.into_inner())
}

async fn work<C: Client>(mut client: C, counted_from: Instant, until: Instant, load: Rc<RefCell<Load>>) -> Outcome<()> {
    let mut started = Instant::now();
    loop {
        client.call().await?;
        let ended = Instant::now();
        if ended >= until {
            return Ok(());
        }
        let mut load = load.borrow_mut();
        load.calls_with_warm_up += 1;
        if ended >= counted_from {
            load.calls += 1;
            let micros = u64::try_from((ended - started).as_micros()).unwrap_or(u64::MAX);
            load.latencies.saturating_record(micros);
        }
        started = ended;
    }
}
