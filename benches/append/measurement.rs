//! The runs of one system, and what they say together.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::Load;

/// One run of one system.
pub(crate) struct Run {
    pub(crate) events_per_second: f64,
    /// Of a call, in microseconds.
    latencies: Histogram<u64>,
    /// Processor time that the server took for one event, where the server is a process of ours.
    server_time: Option<Duration>,
    /// The same of the whole machine: server, database and clients.
    machine_time: Duration,
}

impl Run {
    /// A run of `run` in which every call stored `events` events; the times are those of all of it.
    pub(crate) fn new(
        load: Load,
        events: usize,
        run: Duration,
        server_time: Option<Duration>,
        machine_time: Duration,
    ) -> Self {
        let per_call = |calls: u64| number(calls) * number(events as u64);
        let all = per_call(load.calls_with_warm_up).max(1.0);
        Self {
            events_per_second: per_call(load.calls) / run.as_secs_f64(),
            latencies: load.latencies,
            server_time: server_time.map(|time| time.div_f64(all)),
            machine_time: machine_time.div_f64(all),
        }
    }
}

/// All runs of one system, never none.
pub(crate) struct Measurement {
    runs: Vec<Run>,
}

/// A measurement, or why there is none.
pub(crate) type Measured = Result<Measurement, String>;

impl Measurement {
    /// Adds a run; a failure undoes what was measured before.
    pub(crate) fn add(measured: Option<Measured>, run: Result<Run, String>) -> Measured {
        let mut runs = measured.transpose()?.map(|measurement| measurement.runs).unwrap_or_default();
        runs.push(run?);
        Ok(Self { runs })
    }

    /// Events per second, ascending.
    fn rates(&self) -> Vec<f64> {
        let mut rates: Vec<f64> = self.runs.iter().map(|run| run.events_per_second).collect();
        rates.sort_by(f64::total_cmp);
        rates
    }

    pub(crate) fn median(&self) -> f64 {
        let rates = self.rates();
        f64::midpoint(rates[rates.len() / 2], rates[(rates.len() - 1) / 2])
    }

    pub(crate) fn least(&self) -> f64 {
        self.rates()[0]
    }

    pub(crate) fn most(&self) -> f64 {
        self.rates()[self.runs.len() - 1]
    }

    /// Latencies of all runs together, in microseconds.
    pub(crate) fn latencies(&self) -> Histogram<u64> {
        let mut runs = self.runs.iter();
        let mut all = runs.next().expect("a measurement has runs").latencies.clone();
        for run in runs {
            all.add(&run.latencies).expect("all histograms have the same bounds");
        }
        all
    }

    /// The median of the server's processor time per event.
    pub(crate) fn server_time(&self) -> Option<Duration> {
        median(self.runs.iter().filter_map(|run| run.server_time).collect())
    }

    /// The median of the whole machine's processor time per event.
    pub(crate) fn machine_time(&self) -> Duration {
        median(self.runs.iter().map(|run| run.machine_time).collect()).expect("a measurement has runs")
    }
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}

/// A count as a number to divide by; counts here are far below the 53 bits that are exact.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}
