//! How much of everything.

/// Readers of one subject, and the rate at which it grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crowd {
    pub(crate) readers: u64,
    pub(crate) per_second: u64,
}

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// How long a run under load takes.
    pub(crate) seconds: u64,
    /// Too many events to tell each reader of each alone.
    pub(crate) flood: Crowd,
    /// Many deliveries.
    pub(crate) busy: Crowd,
    /// As many readers at a rate that leaves time.
    pub(crate) calm: Crowd,
    /// More readers, fewer events.
    pub(crate) large: Crowd,
    /// Several publishers.
    pub(crate) lossless: Crowd,
    /// Readers with a subject each.
    pub(crate) subjects: Crowd,
    /// Readers that wait.
    pub(crate) idle_readers: u64,
    pub(crate) idle_seconds: u64,
    /// Events of the long subject.
    pub(crate) replay_events: u64,
    /// Events at its start and at its end that are compared.
    pub(crate) end_events: u64,
    /// Events of the long log, and how many of them a prefix matches.
    pub(crate) log_events: u64,
    pub(crate) prefix_events: u64,
    /// How long nothing happens between two runs, in milliseconds.
    pub(crate) pause_milliseconds: u64,
}

impl Sizes {
    pub(crate) const FULL: Self = Self {
        seconds: 10,
        flood: Crowd { readers: 1_000, per_second: 1_000 },
        busy: Crowd { readers: 1_000, per_second: 400 },
        calm: Crowd { readers: 1_000, per_second: 100 },
        large: Crowd { readers: 5_000, per_second: 20 },
        lossless: Crowd { readers: 100, per_second: 1_000 },
        subjects: Crowd { readers: 10_000, per_second: 2_000 },
        idle_readers: 10_000,
        idle_seconds: 20,
        replay_events: 1_000_000,
        end_events: 10_000,
        log_events: 10_000_000,
        prefix_events: 100_000,
        pause_milliseconds: 1_000,
    };

    pub(crate) const QUICK: Self = Self {
        seconds: 2,
        flood: Crowd { readers: 200, per_second: 1_000 },
        busy: Crowd { readers: 200, per_second: 400 },
        calm: Crowd { readers: 200, per_second: 100 },
        large: Crowd { readers: 500, per_second: 20 },
        lossless: Crowd { readers: 20, per_second: 400 },
        subjects: Crowd { readers: 500, per_second: 500 },
        idle_readers: 500,
        idle_seconds: 2,
        replay_events: 50_000,
        end_events: 5_000,
        log_events: 200_000,
        prefix_events: 2_000,
        pause_milliseconds: 100,
    };
}
