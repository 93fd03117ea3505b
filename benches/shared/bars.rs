//! Bars beside each other, as a picture.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Outcome;

/// Width of a picture in pixels.
pub(crate) const WIDTH: u32 = 1000;

/// Height of a bar with the space around it.
pub(crate) const BAR_PIXELS: u32 = 24;

/// Room for the names beside the bars.
const NAMES_PIXELS: u32 = 420;

/// Room for title and axis.
const FRAME_PIXELS: u32 = 90;

/// Colours that people tell apart whatever their eyes. Source: Okabe and Ito, "Color Universal Design".
pub(crate) const OURS: RGBColor = RGBColor(0, 114, 178);
const OTHERS: RGBColor = RGBColor(153, 153, 153);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What the picture says around the bars.
pub(crate) struct Frame<'a> {
    pub(crate) title: &'a str,
    pub(crate) unit: &'a str,
    /// Writes a number of the axis or beside a bar.
    pub(crate) format: fn(f64) -> String,
}

/// A line of the picture.
pub(crate) enum Line {
    Heading(String),
    Bar(Bar),
}

/// A measured number and how far its runs lie apart.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) is_ours: bool,
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Draws `lines` from the top downwards into the file `path`.
pub(crate) fn draw(path: &Path, frame: &Frame<'_>, lines: &[Line]) -> Outcome<()> {
    let count = i32::try_from(lines.len())?;
    let height = u32::try_from(lines.len())? * BAR_PIXELS + FRAME_PIXELS;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = lines.iter().filter_map(|line| if let Line::Bar(bar) = line { Some(bar.most) } else { None });
    // Room for the number beside the longest bar.
    let most = most.fold(1.0, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(&area)
        .caption(frame.title, ("sans-serif", 20))
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
        .x_desc(frame.unit)
        .x_label_formatter(&|value| (frame.format)(*value))
        .label_style(("sans-serif", 13))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (line, top) in lines.iter().zip(0..) {
        let middle = f64::from(top) + 0.5;
        let at = |value: f64| chart.backend_coord(&(value, middle));
        match line {
            Line::Heading(name) => name_bar(&area, name, at(0.0), ("sans-serif", 15, FontStyle::Bold).into_font())?,
            Line::Bar(bar) => {
                name_bar(&area, &bar.name, at(0.0), ("sans-serif", 13).into_font())?;
                draw_bar(&area, bar, frame.format, at)?;
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
fn draw_bar(area: &Area<'_>, bar: &Bar, format: fn(f64) -> String, at: impl Fn(f64) -> (i32, i32)) -> Outcome<()> {
    let (zero, median) = (at(0.0), at(bar.median));
    let half = i32::try_from(BAR_PIXELS)? / 2 - 4;
    let colour = if bar.is_ours { OURS } else { OTHERS };
    area.draw(&Rectangle::new([(zero.0, zero.1 - half), (median.0, zero.1 + half)], colour.filled()))?;
    let (least, most) = (at(bar.least), at(bar.most));
    area.draw(&PathElement::new(vec![least, most], BLACK))?;
    for end in [least, most] {
        area.draw(&PathElement::new(vec![(end.0, end.1 - 3), (end.0, end.1 + 3)], BLACK))?;
    }
    let style = TextStyle::from(("sans-serif", 13).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(format(bar.median), (most.0 + 8, most.1), style))?;
    Ok(())
}

/// A whole number with its thousands apart.
pub(crate) fn thousands(value: f64) -> String {
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
