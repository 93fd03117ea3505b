//! The result as text: Markdown that is also legible in a terminal.

use std::fmt::Write as _;

use time::OffsetDateTime;

use crate::arguments::Arguments;
use crate::fan_out::{APPENDERS, PUBLISHERS};
use crate::goals::{Bounds, Goal, goals};
use crate::payload::PAYLOAD_BYTES;
use crate::results::{Load, Quantity, Results, Series, System};
use crate::sizes::Sizes;
use crate::table::table;
use crate::{DELIVERIES_PLOT, LATENCY_PLOT, Outcome};

/// Titles, quantities, and whether it is the range over the rounds.
const DELIVERY_COLUMNS: [(&str, Quantity, bool); 11] = [
    ("deliveries/s", Quantity::Deliveries, false),
    ("min..max", Quantity::Deliveries, true),
    ("p50 ms", Quantity::MedianLatency, false),
    ("p99 ms", Quantity::P99Latency, false),
    ("min..max", Quantity::P99Latency, true),
    ("delivered", Quantity::Delivered, false),
    ("appends/s", Quantity::Appends, false),
    ("append p99 ms", Quantity::AppendLatency, false),
    ("server µs", Quantity::ServerTime, false),
    ("client µs", Quantity::ClientTime, false),
    ("machine µs", Quantity::MachineTime, false),
];

/// What the report is about.
pub(crate) struct Report<'a> {
    arguments: &'a Arguments,
    results: &'a Results,
    sizes: Sizes,
    date: String,
}

impl<'a> Report<'a> {
    pub(crate) fn new(arguments: &'a Arguments, results: &'a Results) -> Outcome<Self> {
        let date = OffsetDateTime::now_utc().date().to_string();
        if results.series.is_empty() {
            return Err(format!("nothing was measured: {}", results.failures.join("; ")).into());
        }
        Ok(Self { arguments, results, sizes: arguments.sizes(), date })
    }

    /// Whether there is something to draw: only fan-out is.
    pub(crate) fn has_plots(&self) -> bool {
        self.results
            .series
            .iter()
            .any(|series| matches!(series.load, Load::Flood | Load::Busy | Load::Calm | Load::Large))
    }

    /// The whole report.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = "# Subscriptions\n\n".to_owned();
        if self.has_plots() {
            let _infallible = write!(text, "![Deliveries]({DELIVERIES_PLOT})\n\n![Latency]({LATENCY_PLOT})\n\n");
        }
        let mut sections =
            vec![("Goals", self.goals()), ("Deliveries", self.deliveries()), ("Reads and waiting", self.others())];
        if !self.results.failures.is_empty() {
            sections.push((
                "Not measured",
                self.results.failures.iter().fold(String::new(), |text, failure| format!("{text}* {failure}\n")),
            ));
        }
        sections.extend([("How it was measured", self.method()), ("Machine and versions", self.machine())]);
        for (title, body) in sections {
            let _infallible = write!(text, "## {title}\n\n{body}\n");
        }
        text
    }

    fn goals(&self) -> String {
        let goals = goals(&self.arguments.engines);
        let rows = goals.iter().filter_map(|goal| self.goal(goal));
        let rows = rows.zip(1..).map(|(row, number): (_, u32)| [vec![number.to_string()], row].concat());
        let titles = ["", "load", "what", "system", "", "against", "", "ratio (range)", "must", "aim", ""];
        table(&titles, &rows.collect::<Vec<_>>())
    }

    /// Nothing where no part of it was measured.
    fn goal(&self, goal: &Goal) -> Option<Vec<String>> {
        let of = |system| self.results.of(goal.load, system, goal.quantity);
        let (ours, theirs) = (of(goal.system), goal.against.map(of));
        if ours.is_none() && theirs.flatten().is_none() {
            return None;
        }
        let write = |value: f64| goal.quantity.write(value);
        let number = |median: Option<f64>| median.map_or_else(String::new, write);
        let mut ratio = String::new();
        let value = match (ours, theirs) {
            (Some(ours), None) => Some(ours.median()),
            (Some(ours), Some(Some(theirs))) => {
                let range = (ours.least() / theirs.most(), ours.most() / theirs.least());
                let value = ours.median() / theirs.median();
                ratio = format!("{value:.2} ({:.2}..{:.2})", range.0, range.1);
                Some(value)
            }
            _ => None,
        };
        let verdict = |value| goal.bounds.map_or("", |bounds| bounds.verdict(value));
        let said = value.map_or("not measured", verdict).to_owned();
        let [must, aim] = bounds(goal);
        Some(vec![
            goal.load.name(&self.sizes),
            goal.quantity.name().to_owned(),
            goal.system.name().to_owned(),
            number(ours.map(Series::median)),
            goal.against.map_or_else(String::new, |against| against.name().to_owned()),
            number(theirs.flatten().map(Series::median)),
            ratio,
            must,
            aim,
            said,
        ])
    }

    /// A row for each system and load that delivers while events are appended.
    fn deliveries(&self) -> String {
        let mut rows: Vec<(Load, System)> = Vec::new();
        for series in self.results.series.iter().filter(|series| series.load.is_live()) {
            if !rows.contains(&(series.load, series.system)) {
                rows.push((series.load, series.system));
            }
        }
        let cell = |load, system, quantity: Quantity, is_range| {
            let series = self.results.of(load, system, quantity);
            series.map_or_else(String::new, |series| {
                if is_range {
                    format!("{}..{}", quantity.write(series.least()), quantity.write(series.most()))
                } else {
                    quantity.write(series.median())
                }
            })
        };
        let rows = rows.into_iter().map(|(load, system)| {
            let cells = DELIVERY_COLUMNS.map(|(_, quantity, is_range)| cell(load, system, quantity, is_range));
            [vec![load.name(&self.sizes), system.name().to_owned()], cells.to_vec()].concat()
        });
        let titles = ["load", "system"].into_iter().chain(DELIVERY_COLUMNS.map(|(title, ..)| title));
        table(&titles.collect::<Vec<_>>(), &rows.collect::<Vec<_>>())
    }

    fn others(&self) -> String {
        let series = self.results.series.iter().filter(|series| !series.load.is_live());
        let rows = series.map(|series| {
            let write = |value| series.quantity.write(value);
            vec![
                series.load.name(&self.sizes),
                series.system.name().to_owned(),
                series.quantity.name().to_owned(),
                write(series.median()),
                format!("{}..{}", write(series.least()), write(series.most())),
            ]
        });
        table(&["load", "system", "what", "median", "min..max"], &rows.collect::<Vec<_>>())
    }

    fn method(&self) -> String {
        let mut text = format!(
            "On {}, with `{}`. Rounds: {}, of all systems in turn. Medians, and the least and the most; a ratio's range \
             is what the least of one and the most of the other would make of it. A run under load is {} s.\n\n",
            self.date,
            self.arguments.command(),
            self.arguments.rounds(),
            self.sizes.seconds,
        );
        let lines = [
            format!("An event has {PAYLOAD_BYTES} bytes of data. SSE carries it as base64 in JSON, the others as it is."),
            "Readers: a connection each, all of them in two threads of one process, the same code for every system but \
             for the protocol. Positions must rise at each reader of this server, so that as many events as were \
             appended are exactly those."
                .to_owned(),
            format!(
                "Events are sent at times set beforehand: here and to Redis over {APPENDERS} connections, {PUBLISHERS} \
                 where there are {PUBLISHERS} publishers, to NATS over one, without acknowledgements. An event that had \
                 to wait for a free connection counts as sent when it should have been."
            ),
            "Latency is from sending to reading. Deliveries per second are counted from the first sending to the last \
             delivery."
                .to_owned(),
            "Delivered is told as a part of what was appended times the readers. Server, client and machine time are \
             processor time for each delivery: of the server's process, of this one, and of all, whoever worked."
                .to_owned(),
            "This server stores every event durably in SQLite before it delivers it; Redis runs with `appendfsync \
             always`; core NATS stores nothing."
                .to_owned(),
            "Memory is what the server's resident memory grows by; the processor time of waiting readers includes their \
             heartbeats."
                .to_owned(),
            "Raw rows: one statement of the driver, all rows of the subject in order, id and data taken from each."
                .to_owned(),
        ];
        for line in lines {
            let _infallible = writeln!(text, "* {line}");
        }
        text
    }

    fn machine(&self) -> String {
        let machine = self.results.machine.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]);
        let versions = self.results.versions.iter().map(|(name, version)| vec![name.clone(), version.clone()]);
        table(&["", ""], &machine.chain(versions).collect::<Vec<_>>())
    }
}

/// How the bounds of a goal are written.
fn bounds(goal: &Goal) -> [String; 2] {
    let Some(Bounds { must, aim, is_at_most }) = goal.bounds else { return [String::new(), String::new()] };
    let sign = if is_at_most { "≤" } else { "≥" };
    let write = |bound: Option<f64>| {
        let number = |bound| match goal.quantity {
            Quantity::Events if goal.against.is_none() => format!("{sign} {bound:.0}"),
            _ => format!("{sign} {bound}"),
        };
        bound.map_or_else(String::new, number)
    };
    [write(must), write(aim)]
}
