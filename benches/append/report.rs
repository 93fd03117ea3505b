//! The result as text: Markdown that is also legible in a terminal.

use std::fmt::Write as _;

use crate::engine::Engine;
use crate::goals::{Bounds, Goal, P99_AIM_MILLISECONDS, goals};
use crate::load::Span;
use crate::measurement::{Measured, Measurement, number};
use crate::payload::PAYLOAD_BYTES;
use crate::system::System;
use crate::table::table;
use crate::{
    BATCH_CONNECTIONS, BATCH_EVENTS, CONNECTIONS, GRPC_CONNECTIONS, LATENCY_PLOT, RAW_ROWS, SUBJECTS, THROUGHPUT_PLOT,
};

const MEASUREMENT_TITLES: [&str; 8] =
    ["engine", "system", "events/s", "min..max", "p50 ms", "p99 ms", "server µs/event", "machine µs/event"];

/// What was measured with one engine.
pub(crate) struct EngineResult {
    pub(crate) engine: Engine,
    pub(crate) systems: Vec<(System, Measured)>,
    /// Memory of the server that is resident after its runs, in KiB.
    pub(crate) resident_kib: Option<u64>,
    /// How the raw statements are written.
    pub(crate) forms: Option<String>,
}

impl EngineResult {
    pub(crate) fn of(&self, system: System) -> Result<&Measurement, &str> {
        let found = self.systems.iter().find(|(each, _)| *each == system);
        found.map_or(Err("is not part of this"), |(_, measured)| measured.as_ref().map_err(String::as_str))
    }
}

/// What the report is about.
pub(crate) struct Report<'a> {
    pub(crate) results: &'a [EngineResult],
    pub(crate) machine: &'a [(&'static str, String)],
    pub(crate) versions: &'a [(String, String)],
    pub(crate) date: String,
    pub(crate) span: Span,
    pub(crate) rounds: usize,
    pub(crate) command: String,
    pub(crate) has_plots: bool,
    pub(crate) cores: usize,
}

impl Report<'_> {
    /// The whole report.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = "# Appends\n\n".to_owned();
        if self.has_plots {
            let _infallible = write!(text, "![Throughput]({THROUGHPUT_PLOT})\n\n![Latency]({LATENCY_PLOT})\n\n");
        }
        let sections = [
            ("Ratios", self.ratios()),
            ("Latency of this server", self.latency()),
            ("All measurements", self.measurements()),
            ("Memory", self.memory()),
            ("How it was measured", self.method()),
            ("Machine and versions", self.machine()),
        ];
        for (title, body) in sections {
            let _infallible = write!(text, "## {title}\n\n{body}\n");
        }
        text
    }

    fn ratios(&self) -> String {
        let mut rows = Vec::new();
        for result in self.results {
            for goal in goals(result.engine) {
                let start = [goal.number.to_string(), result.engine.name().to_owned()];
                let names = [goal.system.name(), goal.against.name()];
                let bounds = goal.bounds.map_or_else(
                    || [String::new(), String::new()],
                    |bounds| [format!("{:.2}", bounds.must), format!("{:.2}", bounds.aim)],
                );
                let numbers = match (result.of(goal.system), result.of(goal.against)) {
                    (Ok(ours), Ok(theirs)) => {
                        let ratio = ours.median() / theirs.median();
                        let range = (ours.least() / theirs.most(), ours.most() / theirs.least());
                        let said = goal.bounds.map_or("", |bounds| verdict(bounds, ratio));
                        [format!("{ratio:.2} ({:.2}..{:.2})", range.0, range.1), said.to_owned()]
                    }
                    (Err(reason), _) | (_, Err(reason)) => [String::new(), format!("not measured: {reason}")],
                };
                let [ratio, said] = numbers;
                let at_most = self.at_most(result, &goal).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
                rows.push(start.into_iter().chain(names).chain([ratio, at_most]).chain(bounds).chain([said]).collect());
            }
        }
        rows.sort_by(|one: &Vec<String>, other| one[0].cmp(&other[0]));
        table(&["", "engine", "system", "against", "ratio (range)", "at most", "must", "aim", ""], &rows)
    }

    /// The ratio that this machine leaves room for: that of a server which costs nothing beside its HTTP stack and the raw
    /// inserts, one after the other for a lone event, shared among all cores for many.
    fn at_most(&self, result: &EngineResult, goal: &Goal) -> Option<f64> {
        let against = result.of(goal.against).ok()?.median();
        let of = |system| self.results.iter().find_map(|result| result.of(system).ok());
        let rate = match goal.system {
            System::Http => {
                let raw = result.of(System::RawRows).or_else(|_| result.of(System::RawBatch)).ok()?;
                let time = of(System::Null)?.machine_time() + raw.machine_time();
                number(self.cores as u64) / time.as_secs_f64()
            }
            System::HttpOne => {
                1.0 / (of(System::NullOne)?.median().recip() + result.of(System::RawRow).ok()?.median().recip())
            }
            _ => return None,
        };
        Some(rate / against)
    }

    fn latency(&self) -> String {
        let row = |result: &EngineResult| {
            let name = result.engine.name().to_owned();
            match result.of(System::Http) {
                Ok(measurement) => {
                    let latencies = measurement.latencies();
                    let at = |quantile| format!("{:.1}", milliseconds(latencies.value_at_quantile(quantile)));
                    let p99 = milliseconds(latencies.value_at_quantile(0.99));
                    let said = if p99 < P99_AIM_MILLISECONDS { "aim reached" } else { "aim missed" };
                    let max = format!("{:.1}", milliseconds(latencies.max()));
                    vec![name, at(0.5), at(0.9), at(0.99), max, said.to_owned()]
                }
                Err(reason) => vec![name, String::new(), String::new(), String::new(), String::new(), missing(reason)],
            }
        };
        let rows: Vec<_> = self.results.iter().map(row).collect();
        let table = table(&["engine", "p50 ms", "p90 ms", "p99 ms", "max ms", ""], &rows);
        format!("HTTP, {CONNECTIONS} connections. The aim for p99 is below {P99_AIM_MILLISECONDS:.0} ms.\n\n{table}")
    }

    fn measurements(&self) -> String {
        let mut rows = Vec::new();
        for result in self.results {
            for (system, measured) in &result.systems {
                let mut row = vec![result.engine.name().to_owned(), system.name()];
                match measured {
                    Ok(measurement) => {
                        let latencies = measurement.latencies();
                        let at = |quantile| format!("{:.2}", milliseconds(latencies.value_at_quantile(quantile)));
                        let time = measurement.server_time();
                        let time = time.map_or_else(String::new, |time| format!("{:.1}", time.as_secs_f64() * 1e6));
                        let (least, most) = (measurement.least(), measurement.most());
                        row.extend([format!("{:.0}", measurement.median()), format!("{least:.0}..{most:.0}")]);
                        let machine_time = format!("{:.1}", measurement.machine_time().as_secs_f64() * 1e6);
                        row.extend([at(0.5), at(0.99), time, machine_time]);
                    }
                    Err(reason) => {
                        row.push(missing(reason));
                        row.resize(MEASUREMENT_TITLES.len(), String::new());
                    }
                }
                rows.push(row);
            }
        }
        table(&MEASUREMENT_TITLES, &rows)
    }

    fn memory(&self) -> String {
        let rows = self.results.iter().map(|result| {
            let kib = result
                .resident_kib
                .map_or_else(|| missing("there is no server"), |kib| format!("{:.1}", number(kib) / 1024.0));
            vec![result.engine.name().to_owned(), kib]
        });
        table(&["engine", "resident MiB after the runs"], &rows.collect::<Vec<_>>())
    }

    fn method(&self) -> String {
        let Span { pause, warm_up, run } = self.span;
        let seconds = |time: std::time::Duration| time.as_secs_f64();
        let mut text = format!(
            "On {}, with `{}`. Rounds of all systems in turn: {}; each run is {:.1} s of quiet, {:.1} s of warm-up and \
             {:.1} s that count. Medians, and the least and the most; a ratio's range is what the least of one and the \
             most of the other would make of it.\n\n",
            self.date,
            self.command,
            self.rounds,
            seconds(pause),
            seconds(warm_up),
            seconds(run)
        );
        let lines = [
            format!("An event has {PAYLOAD_BYTES} bytes of data and one of {SUBJECTS} subjects."),
            "Every client asks again as soon as it is answered; one thread drives all clients.".to_owned(),
            "SQLite: write-ahead log, `synchronous = FULL`. The other databases run with their defaults.".to_owned(),
            "The server reaches MySQL over TLS, as it does by default; raw connections, and all to the others, do \
             without."
                .to_owned(),
            format!(
                "Raw rows go into the server's own table with explicit ids, each statement a transaction: {RAW_ROWS} \
                 rows, or {BATCH_EVENTS} against batches of {BATCH_EVENTS} over {BATCH_CONNECTIONS} connections. In SQLite \
                 they get their entries in the index by subject some thousand at a time, as the server's do."
            ),
            format!("gRPC: {CONNECTIONS} calls at once over {GRPC_CONNECTIONS} HTTP/2 connections."),
            format!("Redis: `XADD` to one stream over {CONNECTIONS} connections, `appendfsync always`."),
            format!(
                "NATS: {CONNECTIONS} connections, on each one message waiting for its acknowledgement. File storage; \
                 by default NATS syncs its files every two minutes, not before it acknowledges."
            ),
            format!(
                "UmaDB: built from crates.io, with its defaults, which sync every commit; {CONNECTIONS} gRPC connections, as \
                 its own clients have, on each one event waiting for its answer. The subject is a tag."
            ),
            "Server time is the processor time of the server's process, without the database's; machine time is that of \
             everything, the clients too."
                .to_owned(),
            "\"At most\" is the ratio of a server that costs nothing beside its HTTP stack and the raw inserts of many \
             rows: with many connections the cores divided by the machine times of these two, with one connection their \
             latencies one after the other."
                .to_owned(),
        ];
        for line in lines {
            let _infallible = writeln!(text, "* {line}");
        }
        for result in self.results {
            let Some(forms) = &result.forms else { continue };
            let _infallible = writeln!(text, "* Raw {}, the fastest statement ({forms}).", result.engine.name());
        }
        text
    }

    fn machine(&self) -> String {
        let machine = self.machine.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]);
        let versions = self.versions.iter().map(|(name, version)| vec![name.clone(), version.clone()]);
        table(&["", ""], &machine.chain(versions).collect::<Vec<_>>())
    }
}

fn verdict(bounds: Bounds, ratio: f64) -> &'static str {
    if ratio >= bounds.aim {
        "aim reached"
    } else if ratio >= bounds.must {
        "must reached"
    } else {
        "missed"
    }
}

fn missing(reason: &str) -> String {
    format!("not measured: {reason}")
}

/// Microseconds as milliseconds.
pub(crate) fn milliseconds(microseconds: u64) -> f64 {
    number(microseconds) / 1e3
}
