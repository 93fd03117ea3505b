//! What the process is, where it stands and how far its limits are.

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

/// Where the process stands.
pub struct State {
    /// Whether clients are to be sent here.
    pub is_ready: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether the store answered last.
    pub is_database_up: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether NATS is connected; `None` when it is not used.
    pub is_nats_connected: Option<Box<dyn Fn() -> bool + Send + Sync>>,
    /// Open connections.
    pub connections: Box<dyn Fn() -> u64 + Send + Sync>,
    /// When the certificate runs out, in seconds since 1970; `None` without TLS.
    pub certificate_expires_at: Option<Box<dyn Fn() -> Option<i64> + Send + Sync>>,
    /// What the process takes at the most.
    pub limits: Limits,
}

/// What the process takes at the most.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Open event streams.
    pub streams: usize,
    /// Events that wait for their commit.
    pub queue_events: usize,
    /// Their bytes.
    pub queue_bytes: usize,
}

pub(super) fn watch(meter: &Meter, state: State) {
    let State { is_ready, is_database_up, is_nats_connected, connections, certificate_expires_at, limits } = state;
    let gauge = |name: &'static str, about: &'static str, value: Box<dyn Fn() -> u64 + Send + Sync>| {
        let callback = move |to: &dyn opentelemetry::metrics::AsyncInstrument<u64>| to.observe(value(), &[]);
        meter.u64_observable_gauge(name).with_description(about).with_callback(callback).build();
    };
    meter
        .u64_observable_gauge("eventsdb_build_info")
        .with_description("Always 1; the label tells the version.")
        .with_callback(|to| to.observe(1, &[KeyValue::new("version", env!("CARGO_PKG_VERSION"))]))
        .build();
    gauge("eventsdb_ready", "Whether clients are to be sent here, as /readyz says.", flag(is_ready));
    gauge("eventsdb_database_up", "Whether the database answered when it was asked last.", flag(is_database_up));
    if let Some(is_connected) = is_nats_connected {
        gauge("eventsdb_nats_connected", "Whether NATS is connected.", flag(is_connected));
    }
    gauge("eventsdb_connections", "Open connections.", connections);
    for (name, about, limit) in [
        ("eventsdb_connections_limit", "Connections that may be open.", limits.connections),
        ("eventsdb_streams_limit", "Event streams that may be open.", limits.streams),
        ("eventsdb_append_queue_limit_events", "Events that may wait for their commit.", limits.queue_events),
        ("eventsdb_append_queue_limit_bytes", "Bytes of events that may wait for their commit.", limits.queue_bytes),
    ] {
        gauge(name, about, Box::new(move || limit as u64));
    }
    if let Some(expires_at) = certificate_expires_at {
        meter
            .i64_observable_gauge("eventsdb_certificate_expiry_timestamp")
            .with_unit("s")
            .with_description("When the certificate in use runs out, since 1970.")
            .with_callback(move |to| {
                if let Some(seconds) = expires_at() {
                    to.observe(seconds, &[]);
                }
            })
            .build();
    }
}

fn flag(is_set: Box<dyn Fn() -> bool + Send + Sync>) -> Box<dyn Fn() -> u64 + Send + Sync> {
    Box::new(move || u64::from(is_set()))
}
