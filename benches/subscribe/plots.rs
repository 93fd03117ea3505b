//! The result as pictures.

use std::path::Path;

use crate::bars::{self, Bar, Frame, Line, thousands};
use crate::results::{Load, Quantity, Results};
use crate::sizes::Sizes;
use crate::{DELIVERIES_PLOT, LATENCY_PLOT, Outcome};

/// Draws both pictures into `folder`.
pub(crate) fn draw(results: &Results, sizes: Sizes, folder: &Path) -> Outcome<()> {
    let deliveries = Frame {
        title: "Deliveries per second",
        unit: "events per second, all readers: median, least and most",
        format: thousands,
    };
    let latency = Frame {
        title: "Delivery latency, 99th percentile",
        unit: "milliseconds: median, least and most",
        format: |value| format!("{value:.1}"),
    };
    let lines = |quantity| lines(results, &sizes, quantity);
    bars::draw(&folder.join(DELIVERIES_PLOT), &deliveries, &lines(Quantity::Deliveries))?;
    bars::draw(&folder.join(LATENCY_PLOT), &latency, &lines(Quantity::P99Latency))
}

/// Every system at every load.
fn lines(results: &Results, sizes: &Sizes, quantity: Quantity) -> Vec<Line> {
    let mut lines = Vec::new();
    for load in [Load::Flood, Load::Busy, Load::Calm, Load::Large, Load::Subjects] {
        let of_load = results.series.iter().filter(|series| series.load == load && series.quantity == quantity);
        let bars: Vec<Line> = of_load
            .map(|series| {
                Line::Bar(Bar {
                    name: series.system.name().to_owned(),
                    is_ours: series.system.is_ours(),
                    median: series.median(),
                    least: series.least(),
                    most: series.most(),
                })
            })
            .collect();
        if !bars.is_empty() {
            lines.push(Line::Heading(load.name(sizes)));
            lines.extend(bars);
        }
    }
    lines
}
