//! The result as pictures.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::engine::System;
use crate::measurement::Measurement;
use crate::report::{EngineResult, milliseconds};
use crate::{LATENCY_PLOT, Outcome, PAYLOAD_BYTES, THROUGHPUT_PLOT};

/// Width of both pictures in pixels.
const WIDTH: u32 = 1000;

/// Height of a bar with the space around it.
const BAR_PIXELS: u32 = 24;

/// Room for the names beside the bars.
const NAMES_PIXELS: u32 = 420;

/// Room for title and axis.
const FRAME_PIXELS: u32 = 90;

/// Height of the latency picture.
const LATENCY_PIXELS: u32 = 560;

/// Room for the names of the curves.
const LEGEND_PIXELS: u32 = 380;

/// The median and the last percentile of the curves, as the number of nines: 99 % are two.
const MEDIAN_NINES: f64 = std::f64::consts::LOG10_2;
const NINES_MAX: f64 = 4.0;

/// Points of a curve.
const CURVE_STEPS: u32 = 200;

/// Colours that people tell apart whatever their eyes. Source: Okabe and Ito, "Color Universal Design".
const OURS: RGBColor = RGBColor(0, 114, 178);
const OTHERS: RGBColor = RGBColor(153, 153, 153);
const LINES: [RGBColor; 7] = [
    OURS,
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws both pictures into `folder`.
pub(crate) fn draw(results: &[EngineResult], folder: &Path) -> Outcome<()> {
    throughput(results, &folder.join(THROUGHPUT_PLOT))?;
    latency(results, &folder.join(LATENCY_PLOT))
}

/// A line of the bar chart.
enum Line<'a> {
    Heading(&'static str),
    Bar(System, &'a Measurement),
}

fn throughput(results: &[EngineResult], path: &Path) -> Outcome<()> {
    let mut lines = Vec::new();
    for result in results {
        lines.push(Line::Heading(result.engine.name()));
        let measured = result.systems.iter().filter_map(|(system, measured)| Some((*system, measured.as_ref().ok()?)));
        lines.extend(measured.map(|(system, measurement)| Line::Bar(system, measurement)));
    }
    let count = i32::try_from(lines.len())?;
    let height = u32::try_from(lines.len())? * BAR_PIXELS + FRAME_PIXELS;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = lines.iter().filter_map(|line| if let Line::Bar(_, bar) = line { Some(bar.most()) } else { None });
    // Room for the number beside the longest bar.
    let most = most.fold(1.0, f64::max) * 1.15;
    let title = format!("Acknowledged appends per second, {PAYLOAD_BYTES} bytes of data");
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(NAMES_PIXELS)
        // From the top downwards.
        .build_cartesian_2d(0.0..most, f64::from(count)..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_labels(8)
        .x_desc("events per second: median, least and most")
        .x_label_formatter(&|value| thousands(*value))
        .label_style(("sans-serif", 13))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (line, top) in lines.iter().zip(0..) {
        let middle = f64::from(top) + 0.5;
        let at = |value: f64| chart.backend_coord(&(value, middle));
        match line {
            Line::Heading(name) => name_bar(&area, name, at(0.0), ("sans-serif", 15, FontStyle::Bold).into_font())?,
            Line::Bar(system, bar) => {
                name_bar(&area, &system.name(), at(0.0), ("sans-serif", 13).into_font())?;
                draw_bar(&area, bar, system.is_ours(), at)?;
            }
        }
    }
    area.present()?;
    Ok(())
}

fn name_bar(area: &Area<'_>, name: &str, at: (i32, i32), font: FontDesc<'_>) -> Outcome<()> {
    let style = TextStyle::from(font).pos(Pos::new(HPos::Right, VPos::Center));
    area.draw(&Text::new(name.to_owned(), (at.0 - 8, at.1), style))?;
    Ok(())
}

/// A bar to the median, a whisker from the least to the most, and the number.
fn draw_bar(area: &Area<'_>, bar: &Measurement, is_ours: bool, at: impl Fn(f64) -> (i32, i32)) -> Outcome<()> {
    let (zero, median) = (at(0.0), at(bar.median()));
    let half = i32::try_from(BAR_PIXELS)? / 2 - 4;
    let colour = if is_ours { OURS } else { OTHERS };
    area.draw(&Rectangle::new([(zero.0, zero.1 - half), (median.0, zero.1 + half)], colour.filled()))?;
    let (least, most) = (at(bar.least()), at(bar.most()));
    area.draw(&PathElement::new(vec![least, most], BLACK))?;
    for end in [least, most] {
        area.draw(&PathElement::new(vec![(end.0, end.1 - 3), (end.0, end.1 + 3)], BLACK))?;
    }
    let style = TextStyle::from(("sans-serif", 13).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(thousands(bar.median()), (most.0 + 8, most.1), style))?;
    Ok(())
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

/// A whole number with its thousands apart.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
