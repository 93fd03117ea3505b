//! The instruments of the log and its readers.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter, ObservableCounter, ObservableGauge};

use crate::domain::log::{Cause, LogReport, Protocol};

pub(super) struct Log {
    _gauges: [ObservableGauge<u64>; 5],
    _delay: ObservableGauge<f64>,
    _counters: [ObservableCounter<u64>; 5],
}

type Report = Arc<dyn Fn() -> LogReport + Send + Sync>;

impl Log {
    pub(super) fn new(meter: &Meter, report: impl Fn() -> LogReport + Send + Sync + 'static) -> Self {
        let report: Report = Arc::new(report);
        let gauge = |name: &'static str, about: &'static str, observe: Observe| {
            let report = Arc::clone(&report);
            let callback = move |to: &dyn AsyncInstrument<u64>| observe(&report(), to);
            meter.u64_observable_gauge(name).with_description(about).with_callback(callback).build()
        };
        let counter = |name: &'static str, about: &'static str, observe: Observe| {
            let report = Arc::clone(&report);
            let callback = move |to: &dyn AsyncInstrument<u64>| observe(&report(), to);
            meter.u64_observable_counter(name).with_description(about).with_callback(callback).build()
        };
        // The units are in the names: given as such, the exporter would say them twice.
        let gauges = [
            gauge("eventsdb_streams", "Open event streams.", open),
            gauge("eventsdb_stream_readers", "Open event streams by where they read.", sources),
            gauge("eventsdb_stream_lag_events", "Events that the slowest reader has yet to pass.", lag),
            gauge("eventsdb_tail_events", "Events of the newest part of the log that are in memory.", tail_events),
            gauge("eventsdb_tail_bytes", "Bytes of these and of what they are encoded to.", tail_bytes),
        ];
        let counters = [
            counter("eventsdb_stream_events", "Events given to readers.", delivered),
            counter("eventsdb_slow_streams_ended", "Streams ended because their reader took nothing.", ended_slow),
            counter("eventsdb_stream_wakes", "Readers woken because of an event that matches.", stream_wakes),
            counter("eventsdb_log_reads", "Pages read, from memory or from the store.", reads),
            counter("eventsdb_tail_wakes", "How often somebody looked for new events, by cause.", tail_wakes),
        ];
        let delay = {
            let report = Arc::clone(&report);
            meter
                .f64_observable_gauge("eventsdb_tail_delay")
                .with_unit("s")
                .with_description("How long the newest event was stored before its readers were told.")
                .with_callback(move |to| to.observe(report().delay.as_secs_f64(), &[]))
                .build()
        };
        Self { _gauges: gauges, _delay: delay, _counters: counters }
    }
}

/// Tells an instrument what a report says.
type Observe = fn(&LogReport, &dyn AsyncInstrument<u64>);

fn open(report: &LogReport, to: &dyn AsyncInstrument<u64>) {
    by_protocol(to, report.readers.by_protocol.map(|readers| readers.open));
}

fn delivered(report: &LogReport, to: &dyn AsyncInstrument<u64>) {
    by_protocol(to, report.readers.by_protocol.map(|readers| readers.delivered));
}

fn ended_slow(report: &LogReport, to: &dyn AsyncInstrument<u64>) {
    by_protocol(to, report.readers.by_protocol.map(|readers| readers.ended_slow));
}

fn sources(report: &LogReport, to: &dyn AsyncInstrument<u64>) {
    by_source(to, report.readers.on_tail, report.readers.on_store);
}

fn reads(report: &LogReport, to: &dyn AsyncInstrument<u64>) {
    by_source(to, report.tail_hits, report.tail_misses);
}

fn lag(report: &LogReport, to: &dyn AsyncInstrument<u64>) {
    to.observe(report.readers.slowest_lag_events, &[]);
}

fn stream_wakes(report: &LogReport, to: &dyn AsyncInstrument<u64>) {
    to.observe(report.readers.wakes, &[]);
}

fn tail_events(report: &LogReport, to: &dyn AsyncInstrument<u64>) {
    to.observe(report.tail_events, &[]);
}

fn tail_bytes(report: &LogReport, to: &dyn AsyncInstrument<u64>) {
    to.observe(report.tail_bytes, &[]);
}

fn tail_wakes(report: &LogReport, to: &dyn AsyncInstrument<u64>) {
    for (cause, count) in Cause::ALL.into_iter().zip(report.wakes) {
        let name = match cause {
            Cause::Append => "append",
            Cause::Hint => "hint",
            Cause::Poll => "poll",
            Cause::Read => "read",
        };
        to.observe(count, &[KeyValue::new("cause", name)]);
    }
}

fn by_protocol(to: &dyn AsyncInstrument<u64>, counts: [u64; 3]) {
    for (protocol, count) in Protocol::ALL.into_iter().zip(counts) {
        let name = match protocol {
            Protocol::Sse => "sse",
            Protocol::Grpc => "grpc",
            Protocol::GrpcWeb => "grpc_web",
        };
        to.observe(count, &[KeyValue::new("protocol", name)]);
    }
}

fn by_source(to: &dyn AsyncInstrument<u64>, tail: u64, store: u64) {
    to.observe(tail, &[KeyValue::new("source", "tail")]);
    to.observe(store, &[KeyValue::new("source", "store")]);
}
