//! Events on their way from those who append to those who read.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::fleet::Fleet;
use crate::protocol::{Append, Protocol};
use crate::publish::{Pace, publish};
use crate::results::{Figure, Load, Quantity, System, number, per_second};
use crate::sizes::{Crowd, Sizes};
use crate::{Outcome, machine};

/// How long what is behind may take to be delivered, in times of the planned time.
const PATIENCE: u64 = 4;

/// What subscribing leaves to be done is done by then.
const SETTLED_AFTER: Duration = Duration::from_millis(300);

/// What is to be delivered.
pub(crate) struct Plan {
    pace: Pace,
    /// Readers of each event.
    readers: u64,
    /// How long the last deliveries may take.
    within: Duration,
    /// The server's process, where it is a child of ours.
    process: Option<u32>,
}

impl Plan {
    /// Every reader gets every event.
    pub(crate) fn new(sizes: &Sizes, crowd: Crowd, process: Option<u32>) -> Self {
        let pace = Pace::Open { per_second: crowd.per_second, events: crowd.per_second * sizes.seconds };
        let within = Duration::from_secs(sizes.seconds * PATIENCE + 10);
        Self { pace, readers: crowd.readers, within, process }
    }

    /// Every reader has a subject of its own.
    pub(crate) fn apart(sizes: &Sizes, crowd: Crowd, process: Option<u32>) -> Self {
        Self { readers: 1, ..Self::new(sizes, crowd, process) }
    }
}

/// What readers got, and those who appended.
pub(crate) struct Delivery {
    per_second: f64,
    /// Of 1 that was appended.
    delivered: f64,
    median_milliseconds: f64,
    p99_milliseconds: f64,
    /// Processor time of the server for each delivery.
    server_microseconds: Option<f64>,
    /// The same of this process.
    client_microseconds: f64,
    /// The same of the whole machine, whoever worked on it.
    machine_microseconds: f64,
    appends_per_second: f64,
    append_p99_milliseconds: f64,
}

impl Delivery {
    /// The numbers for the report.
    pub(crate) fn figures(&self, load: Load, system: System) -> Vec<Figure> {
        let all = [
            (Quantity::Deliveries, Some(self.per_second)),
            (Quantity::Delivered, Some(self.delivered)),
            (Quantity::MedianLatency, Some(self.median_milliseconds)),
            (Quantity::P99Latency, Some(self.p99_milliseconds)),
            (Quantity::ServerTime, self.server_microseconds),
            (Quantity::ClientTime, Some(self.client_microseconds)),
            (Quantity::MachineTime, Some(self.machine_microseconds)),
            (Quantity::Appends, Some(self.appends_per_second)),
            (Quantity::AppendLatency, (self.append_p99_milliseconds > 0.0).then_some(self.append_p99_milliseconds)),
        ];
        let figure = |(quantity, value): (_, Option<f64>)| Some(Figure { load, system, quantity, value: value? });
        all.into_iter().filter_map(figure).collect()
    }
}

/// Subscribes `readers`, appends as planned, and waits for the last delivery.
pub(crate) fn deliver<R, A>(address: SocketAddr, readers: Vec<R>, appenders: Vec<A>, plan: &Plan) -> Outcome<Delivery>
where
    R: Protocol,
    A: Append,
{
    let server_time = || plan.process.map(machine::processor_time).transpose();
    let client_time = || machine::processor_time(std::process::id());
    let fleet = Fleet::subscribe(address, readers)?;
    thread::sleep(SETTLED_AFTER);
    let before = (server_time()?, client_time()?, machine::busy_time()?);
    let published = publish(address, appenders, plan.pace)?;
    let expected = published.events * plan.readers;
    // Whether all came is told by the count.
    let _is_complete = fleet.wait_delivered(expected, plan.within);
    let server = server_time()?.zip(before.0).map(|(after, before)| after.saturating_sub(before));
    let client = client_time()?.saturating_sub(before.1);
    let machine = machine::busy_time()?.saturating_sub(before.2);
    let tally = fleet.finish()?;
    let milliseconds = |latencies: &Histogram<u64>, quantile| number(latencies.value_at_quantile(quantile)) / 1e3;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / number(tally.delivered.max(1));
    Ok(Delivery {
        per_second: per_second(tally.delivered, tally.last.saturating_sub(published.first)),
        delivered: number(tally.delivered) / number(expected.max(1)),
        median_milliseconds: milliseconds(&tally.latencies, 0.5),
        p99_milliseconds: milliseconds(&tally.latencies, 0.99),
        server_microseconds: server.map(each),
        client_microseconds: each(client),
        machine_microseconds: each(machine),
        append_p99_milliseconds: milliseconds(&published.latencies, 0.99),
        appends_per_second: published.per_second(),
    })
}
