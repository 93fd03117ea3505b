//! The published configuration of Prometheus, its rules and their own tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::tool;

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// What follows `key` on each line that begins with it.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix(key))
        .map(str::trim)
        .collect()
}

fn promtool(arguments: &[&str]) {
    let checked = Command::new(tool("EVENTS_DB_TEST_PROMTOOL")).args(arguments).current_dir(folder()).output().unwrap();
    let text = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&text));
}

#[test]
fn promtool_accepts_the_configuration_and_the_rules() {
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "rules.yml"]);
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    promtool(&["test", "rules", "rules_test.yml"]);
    let (rules, tests) = (read("deploy/prometheus/rules.yml"), read("deploy/prometheus/rules_test.yml"));
    for alert in values(&rules, "alert:") {
        let name = format!("alertname: {alert}\n");
        let answers = tests.split(&name).skip(1);
        let answers: Vec<_> = answers.map(|test| test.lines().nth(1).unwrap().trim()).collect();
        assert_eq!(answers, ["exp_alerts: []", "exp_alerts:"], "{alert} is to be tested quiet, then firing");
    }
}

#[test]
fn every_alert_has_a_section_that_says_what_to_do_and_every_section_an_alert() {
    let (rules, manual) = (read("deploy/prometheus/rules.yml"), read("docs/OPERATIONS.md"));
    let alerts = values(&rules, "alert:");
    for key in ["summary:", "description:", "runbook_url:"] {
        assert_eq!(values(&rules, key).len(), alerts.len(), "{key}");
    }
    let sections: BTreeSet<_> =
        values(&manual, "### EventsDb").into_iter().map(|rest| format!("EventsDb{rest}")).collect();
    assert_eq!(sections, alerts.iter().map(ToString::to_string).collect());
    // An anchor is the heading in lower case.
    let pages: Vec<_> = alerts.iter().map(|alert| format!("docs/OPERATIONS.md#{}", alert.to_lowercase())).collect();
    assert_eq!(values(&rules, "runbook_url:"), pages);
    for link in manual.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(manual.lines().any(|line| line.starts_with('#') && anchor(line) == link), "#{link} is nowhere");
    }
}

/// As the sites that show Markdown make it of a heading.
fn anchor(heading: &str) -> String {
    heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-")
}
