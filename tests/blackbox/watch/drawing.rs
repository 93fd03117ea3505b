//! Panels of the dashboard as SVG, much as Grafana shows them.

use std::fmt::Write as _;

use crate::watch::dashboard::Panel;

/// Pixels of a cell of the grid.
const CELL: (f64, f64) = (58.0, 27.0);
const GAP: f64 = 8.0;
const COLOURS: [&str; 8] = ["#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#8ab8ff", "#fade2a"];

/// Values of one series at equal distances; `None` where there is none.
pub struct Series {
    pub name: String,
    pub values: Vec<Option<f64>>,
}

/// A picture that grows panel by panel.
pub struct Drawing {
    body: String,
    bottom: f64,
}

/// A rectangle in pixels.
#[derive(Clone, Copy)]
struct Frame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Drawing {
    pub fn new() -> Self {
        Self { body: String::new(), bottom: 0.0 }
    }

    /// Adds the heading of a row of panels.
    pub fn heading(&mut self, title: &str, top: f64) {
        let baseline = top * CELL.1 + 20.0;
        self.text((GAP, baseline), ("#ccccdc", 15, "start"), title);
    }

    pub fn panel(&mut self, panel: &Panel, series: &[Series]) {
        let [x, y, width, height] = panel.place;
        let frame = Frame {
            left: x * CELL.0 + GAP,
            top: y * CELL.1 + GAP / 2.0,
            width: width * CELL.0 - GAP,
            height: height * CELL.1 - GAP,
        };
        self.bottom = self.bottom.max(frame.top + frame.height);
        if panel.kind == "stat" { self.stat(panel, series, frame) } else { self.graph(panel, series, frame) }
    }

    /// The whole picture.
    pub fn finish(self) -> String {
        let (width, height) = (24.0 * CELL.0 + GAP, self.bottom + GAP);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"Inter, Helvetica, Arial, sans-serif\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#111217\"/>\n{}</svg>\n",
            self.body
        )
    }

    fn stat(&mut self, panel: &Panel, series: &[Series], frame: Frame) {
        let value = series.iter().find_map(|one| one.values.iter().rev().find_map(|value| *value));
        let reached = panel.thresholds.iter().rev().find(|(from, _)| value.is_some_and(|value| value >= *from));
        let colour = match reached.map(|(_, name)| name.as_str()) {
            Some("green") => "#37872d",
            Some("orange") => "#e0752d",
            Some("red") => "#c4162a",
            _ => "#1f60c4",
        };
        self.rectangle(frame, colour);
        let plot = Frame { top: frame.top + frame.height * 0.62, height: frame.height * 0.38, ..frame };
        if let Some(one) = series.first() {
            let most = one.values.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
            self.line(plot, &one.values, most, ("#ffffff66", true));
        }
        self.text((frame.left + 8.0, frame.top + 18.0), ("#ffffff", 12, "start"), &panel.title);
        let shown = value.map_or("no data".to_owned(), |value| {
            let word = panel.words.iter().find(|(of, _)| *of == value.to_string());
            word.map_or_else(|| readable(value, &panel.unit), |(_, word)| word.clone())
        });
        let middle = (frame.left + frame.width / 2.0, frame.top + frame.height * 0.6);
        self.text(middle, ("#ffffff", 24, "middle"), &shown);
    }

    fn graph(&mut self, panel: &Panel, series: &[Series], frame: Frame) {
        self.rectangle(frame, "#181b1f");
        self.text((frame.left + 8.0, frame.top + 18.0), ("#ccccdc", 13, "start"), &panel.title);
        let plot = Frame {
            left: frame.left + 62.0,
            top: frame.top + 32.0,
            width: frame.width - 74.0,
            height: frame.height - 76.0,
        };
        let most = series.iter().flat_map(|one| one.values.iter().flatten()).copied().fold(0.0, f64::max);
        let most = top_of_axis(most, if panel.unit == "bytes" { 1024.0 } else { 1.0 });
        for quarter in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let y = plot.top + plot.height * (1.0 - quarter);
            let right = plot.left + plot.width;
            let _ = writeln!(
                self.body,
                "<path d=\"M{:.0} {y:.1}H{right:.0}\" stroke=\"#2c3235\" stroke-width=\"1\"/>",
                plot.left
            );
            let label = readable(most * quarter, &panel.unit);
            self.text((plot.left - 6.0, y + 4.0), ("#8e8e99", 10, "end"), &label);
        }
        for (index, one) in series.iter().enumerate() {
            self.line(plot, &one.values, most, (COLOURS[index % COLOURS.len()], false));
        }
        self.legend(series, frame);
    }

    /// As many names as have room, in two lines, the largest first.
    fn legend(&mut self, series: &[Series], frame: Frame) {
        let (mut x, mut y) = (frame.left + 10.0, frame.top + frame.height - 24.0);
        let most = |one: &Series| one.values.iter().flatten().copied().fold(0.0, f64::max);
        let mut ordered: Vec<_> = series.iter().enumerate().collect();
        ordered.sort_by(|(_, one), (_, other)| most(other).total_cmp(&most(one)));
        for (index, one) in ordered {
            let width = 22.0 + 5.6 * f64::from(u16::try_from(one.name.len()).unwrap());
            if x + width > frame.left + frame.width {
                (x, y) = (frame.left + 10.0, y + 15.0);
            }
            if y > frame.top + frame.height {
                return;
            }
            let colour = COLOURS[index % COLOURS.len()];
            let _ =
                writeln!(self.body, "<path d=\"M{x:.0} {:.0}h10\" stroke=\"{colour}\" stroke-width=\"3\"/>", y - 4.0);
            self.text((x + 14.0, y), ("#b0b0ba", 10, "start"), &one.name);
            x += width;
        }
    }

    /// A line through the values that are there, broken where one is missing.
    fn line(&mut self, plot: Frame, values: &[Option<f64>], most: f64, (colour, is_filled): (&str, bool)) {
        let step = plot.width / f64::from(u32::try_from(values.len().max(2) - 1).unwrap());
        let mut path = String::new();
        let mut pen_is_up = true;
        for (index, value) in values.iter().enumerate() {
            let x = plot.left + step * f64::from(u32::try_from(index).unwrap());
            let Some(value) = value else {
                pen_is_up = true;
                continue;
            };
            let y = plot.top + plot.height * (1.0 - (value / most).clamp(0.0, 1.0));
            let _ = write!(path, "{}{x:.0} {y:.1}", if pen_is_up { 'M' } else { 'L' });
            pen_is_up = false;
        }
        if path.is_empty() {
            return;
        }
        let fill = if is_filled {
            let floor = plot.top + plot.height;
            let _ = write!(path, "V{floor:.0}H{:.0}Z", plot.left);
            format!("fill=\"{colour}\"")
        } else {
            format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.4\"")
        };
        let _ = writeln!(self.body, "<path d=\"{path}\" {fill}/>");
    }

    fn rectangle(&mut self, frame: Frame, fill: &str) {
        let Frame { left, top, width, height } = frame;
        let _ = writeln!(
            self.body,
            "<rect x=\"{left:.0}\" y=\"{top:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" rx=\"3\" fill=\"{fill}\"/>"
        );
    }

    fn text(&mut self, (x, y): (f64, f64), (fill, size, anchor): (&str, u8, &str), text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.0}\" y=\"{y:.0}\" fill=\"{fill}\" font-size=\"{size}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }
}

/// The least round number at or above `most`, in units of `base` and its powers.
fn top_of_axis(most: f64, base: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let unit = if base > 1.0 { base.powf(most.log(base).floor().max(0.0)) } else { 1.0 };
    let magnitude = 10_f64.powf((most / unit).log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].map(|step| step * magnitude * unit);
    steps.into_iter().find(|step| *step >= most).unwrap_or(most)
}

/// A value as people read it, in the unit of a panel.
fn readable(value: f64, unit: &str) -> String {
    let short = |value: f64, base: f64, names: [&str; 4]| {
        let (mut value, mut name) = (value, 0);
        while value.abs() >= base && name + 1 < names.len() {
            (value, name) = (value / base, name + 1);
        }
        let digits = if value.fract() == 0.0 || value >= 100.0 { 0 } else { 1 + usize::from(value < 1.0) };
        format!("{value:.digits$}{}", names[name])
    };
    match unit {
        "percentunit" => format!(
            "{:.*} %",
            usize::from(value > 0.0 && value < 0.1) * usize::from((value * 100.0).fract() > 0.001) * 2,
            value * 100.0
        ),
        "bytes" => short(value, 1024.0, [" B", " KiB", " MiB", " GiB"]),
        "s" if value == 0.0 => "0 s".to_owned(),
        "s" if value < 0.001 => format!("{:.0} µs", value * 1e6),
        "s" if value < 1.0 => {
            format!("{:.*} ms", usize::from(value < 0.1 && (value * 1e3).fract() > 0.01), value * 1e3)
        }
        "s" => format!("{value:.1} s"),
        "ops" | "eps" => short(value, 1e3, ["/s", " k/s", " M/s", " G/s"]),
        "none" => format!("{value:.0}"),
        _ => short(value, 1e3, ["", " k", " M", " G"]),
    }
}
