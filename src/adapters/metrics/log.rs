//! The instruments of the log and its readers.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};

use crate::domain::log::{Cause, LogReport, Protocol};
use crate::domain::position::Position;

pub(super) fn watch(meter: &Meter, report: impl Fn() -> LogReport + Send + Sync + 'static) {
    let report: Arc<dyn Fn() -> LogReport + Send + Sync> = Arc::new(report);
    let callback = |observe: Observe| {
        let report = Arc::clone(&report);
        move |to: &dyn AsyncInstrument<u64>| observe(&report(), to)
    };
    // The units are in the names: given as such, the exporter would say them twice.
    let gauges: [(&str, &str, Observe); 7] = [
        ("eventsdb_head_position", "The last position that is known to be committed.", head),
        ("eventsdb_announced_position", "Up to where readers were told of what came.", announced),
        ("eventsdb_streams", "Open event streams.", open),
        ("eventsdb_stream_readers", "Open event streams by where they read.", sources),
        ("eventsdb_stream_lag_events", "Events that the slowest reader has yet to pass.", lag),
        ("eventsdb_tail_events", "Events of the newest part of the log that are in memory.", tail_events),
        ("eventsdb_tail_bytes", "Bytes of these and of what they are encoded to.", tail_bytes),
    ];
    for (name, about, observe) in gauges {
        meter.u64_observable_gauge(name).with_description(about).with_callback(callback(observe)).build();
    }
    let counters: [(&str, &str, Observe); 5] = [
        ("eventsdb_stream_events", "Events given to readers.", delivered),
        ("eventsdb_slow_streams_ended", "Streams ended because their reader took nothing.", ended_slow),
        ("eventsdb_stream_wakes", "Readers woken because of an event that matches.", stream_wakes),
        ("eventsdb_log_reads", "Pages read, from memory or from the store.", reads),
        ("eventsdb_tail_wakes", "How often somebody looked for new events, by cause.", tail_wakes),
    ];
    for (name, about, observe) in counters {
        meter.u64_observable_counter(name).with_description(about).with_callback(callback(observe)).build();
    }
    meter
        .f64_observable_gauge("eventsdb_tail_delay")
        .with_unit("s")
        .with_description("How long the newest event was stored before its readers were told.")
        .with_callback(move |to| to.observe(report().delay.as_secs_f64(), &[]))
        .build();
}

/// Tells an instrument what a report says.
type Observe = fn(&LogReport, &dyn AsyncInstrument<u64>);

fn head(report: &LogReport, to: &dyn AsyncInstrument<u64>) {
    position(to, report.head);
}

fn announced(report: &LogReport, to: &dyn AsyncInstrument<u64>) {
    position(to, report.announced);
}

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

/// 0 is before the first event.
fn position(to: &dyn AsyncInstrument<u64>, position: Option<Position>) {
    to.observe(position.map_or(0, |position| position.get().unsigned_abs()), &[]);
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
