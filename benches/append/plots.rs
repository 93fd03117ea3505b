//! The result as pictures.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::bars::{BAR_PIXELS, Bar, Frame, Line, OURS, WIDTH, thousands};
use crate::payload::PAYLOAD_BYTES;
use crate::report::{EngineResult, milliseconds};
use crate::system::System;
use crate::{LATENCY_PLOT, Outcome, THROUGHPUT_PLOT, bars};

/// Height of the latency picture.
const LATENCY_PIXELS: u32 = 560;

/// Room for the names of the curves.
const LEGEND_PIXELS: u32 = 380;

/// The median and the last percentile of the curves, as the number of nines: 99 % are two.
const MEDIAN_NINES: f64 = std::f64::consts::LOG10_2;
const NINES_MAX: f64 = 4.0;

/// Points of a curve.
const CURVE_STEPS: u32 = 200;

const LINES: [RGBColor; 7] = [
    OURS,
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// Draws both pictures into `folder`.
pub(crate) fn draw(results: &[EngineResult], folder: &Path) -> Outcome<()> {
    throughput(results, &folder.join(THROUGHPUT_PLOT))?;
    latency(results, &folder.join(LATENCY_PLOT))
}

fn throughput(results: &[EngineResult], path: &Path) -> Outcome<()> {
    let mut lines = Vec::new();
    for result in results {
        lines.push(Line::Heading(result.engine.name().to_owned()));
        let measured = result.systems.iter().filter_map(|(system, measured)| Some((system, measured.as_ref().ok()?)));
        lines.extend(measured.map(|(system, measurement)| {
            Line::Bar(Bar {
                name: system.name(),
                is_ours: system.is_ours(),
                median: measurement.median(),
                least: measurement.least(),
                most: measurement.most(),
            })
        }));
    }
    let title = format!("Acknowledged appends per second, {PAYLOAD_BYTES} bytes of data");
    let unit = "events per second: median, least and most";
    bars::draw(path, &Frame { title: &title, unit, format: thousands }, &lines)
}

fn latency(results: &[EngineResult], path: &Path) -> Outcome<()> {
    let curves = curves(results);
    let values = || curves.iter().flat_map(|(_, points)| points.iter().map(|point| point.1));
    let (least, most) = (values().fold(1.0, f64::min), values().fold(1.0, f64::max));
    let area = SVGBackend::new(path, (WIDTH, LATENCY_PIXELS)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, legend) = area.split_horizontally(WIDTH - LEGEND_PIXELS);
    let mut chart = ChartBuilder::on(&left)
        .caption("Latency of an append", ("sans-serif", 20))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(MEDIAN_NINES..NINES_MAX, (least / 1.5..most * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .x_labels(5)
        .x_desc("percentile, from the median on")
        .y_desc("milliseconds")
        .x_label_formatter(&|nines| format!("{}", (1.0 - 0.1_f64.powf(*nines)) * 100.0))
        .label_style(("sans-serif", 13))
        .light_line_style(TRANSPARENT)
        .draw()?;
    let style = TextStyle::from(("sans-serif", 13).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
    for ((at, (name, points)), colour) in (0..).zip(curves).zip(LINES) {
        chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        let y = 60 + at * i32::try_from(BAR_PIXELS)?;
        legend.draw(&PathElement::new(vec![(0, y), (20, y)], colour.stroke_width(3)))?;
        legend.draw(&Text::new(name, (28, y), style.clone()))?;
    }
    area.present()?;
    Ok(())
}

/// A curve of the latency picture: nines before the percentile ends, and milliseconds.
type Curve = (String, Vec<(f64, f64)>);

/// This server with each engine, and what answers as many connections, the slowest first.
fn curves(results: &[EngineResult]) -> Vec<Curve> {
    let shown = |system| matches!(system, System::Http | System::Null | System::Redis | System::Nats);
    let mut curves = Vec::new();
    for result in results {
        for (system, measured) in &result.systems {
            let (true, Ok(measurement)) = (shown(*system), measured) else { continue };
            let latencies = measurement.latencies();
            let point = |step: u32| {
                let nines = MEDIAN_NINES + (NINES_MAX - MEDIAN_NINES) * f64::from(step) / f64::from(CURVE_STEPS);
                let micros = latencies.value_at_quantile(1.0 - 0.1_f64.powf(nines)).max(1);
                (nines, milliseconds(micros))
            };
            let name = match system {
                System::Http => format!("events-db, HTTP, {}", result.engine.name()),
                _ => system.name(),
            };
            curves.push((name, (0..=CURVE_STEPS).map(point).collect::<Vec<_>>()));
        }
    }
    curves.sort_by(|(_, one), (_, other)| other[0].1.total_cmp(&one[0].1));
    curves
}
