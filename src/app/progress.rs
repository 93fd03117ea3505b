//! How far long work has come: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// How often the bar is drawn, per second.
const DRAWS: u8 = 10;

/// Work that goes from one position of a log to another.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// What is done with the events, such as `exported`.
    verb: &'static str,
    first: i64,
    last: Option<i64>,
    started: Instant,
    told: Instant,
}

impl Progress {
    /// Work on the positions from `first` to `last`, if that is known.
    pub(super) fn new(verb: &'static str, first: i64, last: Option<i64>) -> Self {
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| bar(first, last));
        Self { bar, verb, first, last, started: now, told: now }
    }

    /// `events` are done, and the work has come to `position`.
    pub(super) fn tell(&mut self, events: u64, position: i64) {
        let rate = rate(events, self.started.elapsed());
        if let Some(bar) = &self.bar {
            bar.set_position(u64::try_from(position - self.first).unwrap_or(0));
            bar.set_message(format!("{} {} events, {}/s", self.verb, grouped(events), grouped(rate)));
        } else if self.told.elapsed() >= LINE_INTERVAL {
            self.told = Instant::now();
            eprintln!("{} {} events, {}/s{}", self.verb, grouped(events), grouped(rate), self.left(position));
        }
    }

    /// The work is done, as far as it went.
    pub(super) fn end(&self, events: u64) -> String {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let elapsed = self.started.elapsed();
        let rate = grouped(rate(events, elapsed));
        format!("{} {} events in {:.1} s, {rate}/s", self.verb, grouped(events), elapsed.as_secs_f64())
    }

    /// What is left, by what it took so far.
    fn left(&self, position: i64) -> String {
        let Some(last) = self.last.filter(|_| position > self.first) else { return String::new() };
        #[allow(clippy::cast_precision_loss, reason = "nobody reads an estimate to the last digit")]
        let share = (position - self.first) as f64 / (last - self.first).max(1) as f64;
        let left = self.started.elapsed().as_secs_f64() * (1.0 / share - 1.0);
        format!(", {:.0} %, {left:.0} s left", share * 100.0)
    }
}

fn bar(first: i64, last: Option<i64>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(DRAWS);
    let length = last.and_then(|last| u64::try_from(last - first).ok());
    let bar = ProgressBar::with_draw_target(length, target);
    let template = if length.is_some() { "{bar:30} {percent:>3} % {msg}, {eta} left" } else { "{spinner} {msg}" };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is a literal"))
}

fn rate(events: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from(u128::from(events) * 1_000 / millis).unwrap_or(u64::MAX)
}

/// A number that people can read.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn rate_is_per_second() {
        assert_eq!(rate(1_000, Duration::from_millis(500)), 2_000);
        assert_eq!(rate(5, Duration::ZERO), 5_000);
    }
}
