//! What was measured, by load, system and quantity.

use crate::engine::Engine;
use crate::sizes::{Crowd, Sizes};

/// What systems are put to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Too many events to tell each reader of each alone.
    Flood,
    /// Many deliveries.
    Busy,
    /// As many readers at a rate that leaves time.
    Calm,
    /// More readers, fewer events.
    Large,
    /// Several publishers.
    Lossless,
    /// Readers with a subject each, which are appended to.
    Subjects,
    /// Appends as fast as they go while readers wait for something else.
    Bystanders,
    /// Readers that wait, on a subject each.
    IdleApart,
    /// Readers that wait, on one subject.
    IdleTogether,
    Replay(Engine),
    /// The start and the end of a long subject.
    Ends(Engine),
    Prefix,
    SubjectList,
}

/// What is put to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Http,
    Sse,
    Grpc,
    Nats,
    Redis,
    /// This server without any reader.
    NoReaders,
    /// The driver's rows.
    Raw,
    First,
    Last,
    /// The same events in a log of their own.
    Alone,
    /// A statement for each subject.
    LookUps,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantity {
    Deliveries,
    Delivered,
    MedianLatency,
    P99Latency,
    ServerTime,
    ClientTime,
    MachineTime,
    Appends,
    AppendLatency,
    Events,
    Memory,
    Processor,
    Time,
}

/// One number of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) load: Load,
    pub(crate) system: System,
    pub(crate) quantity: Quantity,
    pub(crate) value: f64,
}

/// The numbers of all runs, never none.
pub(crate) struct Series {
    pub(crate) load: Load,
    pub(crate) system: System,
    pub(crate) quantity: Quantity,
    /// Ascending.
    values: Vec<f64>,
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) series: Vec<Series>,
    /// What could not be measured, and why.
    pub(crate) failures: Vec<String>,
    pub(crate) versions: Vec<(String, String)>,
    /// The machine in a few lines.
    pub(crate) machine: Vec<(&'static str, String)>,
}

impl Results {
    pub(crate) fn add(&mut self, figure: Figure) {
        let Figure { load, system, quantity, value } = figure;
        if let Some(series) = self.series.iter_mut().find(|series| series.is(load, system, quantity)) {
            series.values.push(value);
            series.values.sort_by(f64::total_cmp);
        } else {
            self.series.push(Series { load, system, quantity, values: vec![value] });
        }
    }

    pub(crate) fn of(&self, load: Load, system: System, quantity: Quantity) -> Option<&Series> {
        self.series.iter().find(|series| series.is(load, system, quantity))
    }

    /// Notes a version, once.
    pub(crate) fn version(&mut self, name: &str, version: String) {
        if self.versions.iter().all(|(noted, _)| noted != name) {
            self.versions.push((name.to_owned(), version));
        }
    }
}

impl Series {
    fn is(&self, load: Load, system: System, quantity: Quantity) -> bool {
        (self.load, self.system, self.quantity) == (load, system, quantity)
    }

    pub(crate) fn median(&self) -> f64 {
        f64::midpoint(self.values[self.values.len() / 2], self.values[(self.values.len() - 1) / 2])
    }

    pub(crate) fn least(&self) -> f64 {
        self.values[0]
    }

    pub(crate) fn most(&self) -> f64 {
        self.values[self.values.len() - 1]
    }
}

impl Load {
    /// Whether events go to readers while they are appended.
    pub(crate) const fn is_live(self) -> bool {
        matches!(self, Self::Flood | Self::Busy | Self::Calm | Self::Large | Self::Lossless | Self::Subjects)
    }

    pub(crate) fn name(self, sizes: &Sizes) -> String {
        let crowd = |crowd: Crowd| format!("{} readers of one subject, {} events/s", crowd.readers, crowd.per_second);
        match self {
            Self::Flood => crowd(sizes.flood),
            Self::Busy => crowd(sizes.busy),
            Self::Calm => crowd(sizes.calm),
            Self::Large => crowd(sizes.large),
            Self::Lossless => format!("{}, {} publishers", crowd(sizes.lossless), crate::fan_out::PUBLISHERS),
            Self::Subjects => {
                let Crowd { readers, per_second } = sizes.subjects;
                format!("{readers} subjects with a reader each, {per_second} events/s")
            }
            Self::Bystanders => format!("appends beside {} readers of other subjects", sizes.subjects.readers),
            Self::IdleApart => format!("{} waiting readers, a subject each", sizes.idle_readers),
            Self::IdleTogether => format!("{} waiting readers of one subject", sizes.idle_readers),
            Self::Replay(engine) => format!("{} stored events of a subject, {}", sizes.replay_events, engine.name()),
            Self::Ends(engine) => format!("{} events of that subject, {}", sizes.end_events, engine.name()),
            Self::Prefix => format!("{} events of a prefix among {}", sizes.prefix_events, sizes.log_events),
            Self::SubjectList => format!("{} subjects of {} events", crate::long_log::SUBJECTS, sizes.log_events),
        }
    }
}

impl System {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "events-db, HTTP",
            Self::Sse => "events-db, SSE",
            Self::Grpc => "events-db, gRPC",
            Self::Nats => "core NATS",
            Self::Redis => "Redis Streams, XREAD BLOCK",
            Self::NoReaders => "events-db without readers",
            Self::Raw => "raw rows of the driver",
            Self::First => "events-db, SSE, from the start",
            Self::Last => "events-db, SSE, up to the end",
            Self::Alone => "events-db, SSE, alone in the log",
            Self::LookUps => "raw, a look-up for each",
        }
    }

    /// Whether it is this server that is measured.
    pub(crate) const fn is_ours(self) -> bool {
        !matches!(self, Self::Nats | Self::Redis | Self::Raw | Self::LookUps)
    }
}

impl Quantity {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Deliveries => "deliveries/s",
            Self::Delivered => "delivered of expected",
            Self::MedianLatency => "latency p50, ms",
            Self::P99Latency => "latency p99, ms",
            Self::ServerTime => "server µs each",
            Self::ClientTime => "client µs each",
            Self::MachineTime => "machine µs each",
            Self::Appends => "appends/s",
            Self::AppendLatency => "append p99, ms",
            Self::Events => "events/s",
            Self::Memory => "KiB per reader",
            Self::Processor => "% of a core",
            Self::Time => "ms",
        }
    }

    /// `value` with as many digits as tell something.
    pub(crate) fn write(self, value: f64) -> String {
        match self {
            Self::Deliveries | Self::Appends | Self::Events => format!("{value:.0}"),
            // A lost one of millions must not look like none.
            Self::Delivered if value < 1.0 => format!("{value:.9}"),
            Self::Delivered => format!("{value}"),
            Self::Memory | Self::ServerTime | Self::ClientTime | Self::MachineTime => format!("{value:.1}"),
            Self::MedianLatency | Self::P99Latency | Self::AppendLatency | Self::Processor | Self::Time => {
                format!("{value:.2}")
            }
        }
    }
}

/// How many of `events` there are in a second when all took `nanoseconds`.
pub(crate) fn per_second(events: u64, nanoseconds: u64) -> f64 {
    number(events) * 1e9 / number(nanoseconds.max(1))
}

/// A count as a number to divide by; counts here are far below the 53 bits that are exact.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}
