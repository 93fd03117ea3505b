//! Shows how far the benchmark is: a bar in a terminal, else a line per step.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The steps of the whole benchmark.
pub(crate) struct Progress {
    bar: ProgressBar,
    steps: u64,
    started: Instant,
}

impl Progress {
    pub(crate) fn new(steps: u64) -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(steps) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} left)");
        bar.set_style(style.expect("the template is right"));
        // Rarely: drawing takes from what is measured.
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar, steps, started: Instant::now() }
    }

    /// Says what is done now.
    pub(crate) fn begin(&self, step: String) {
        if self.bar.is_hidden() {
            let done = self.bar.position();
            let left = self.left(done).map_or_else(String::new, |left| format!(" ({} s left)", left.as_secs()));
            eprintln!("{}/{} {step}{left}", done + 1, self.steps);
        }
        self.bar.set_message(step);
    }

    /// Counts a step as done.
    pub(crate) fn end(&self) {
        self.bar.inc(1);
    }

    /// Shows a line above the bar.
    pub(crate) fn note(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// All steps are done.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn left(&self, done: u64) -> Option<Duration> {
        let (done, steps) = (u32::try_from(done).ok()?, u32::try_from(self.steps).ok()?);
        (done > 0).then(|| self.started.elapsed() / done * (steps - done))
    }
}
