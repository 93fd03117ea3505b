//! The published dashboard against a real Prometheus.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::tool;
use crate::watch::busy::Busy;
use crate::watch::prometheus::Prometheus;
use crate::watch::rules;

/// A panel that shows something.
pub struct Panel {
    pub title: String,
    pub kind: String,
    pub unit: String,
    /// Its place, in cells: left, top, width, height.
    pub place: [f64; 4],
    /// From which value on a statistic has which colour.
    pub thresholds: Vec<(f64, String)>,
    /// Words instead of values.
    pub words: Vec<(String, String)>,
    /// Expressions with the variables filled in, and the names of their series.
    pub targets: Vec<(String, String)>,
}

/// The dashboard as it is published.
pub fn published() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/dashboards/events-db.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Its panels without the rows; rates look at `interval`.
pub fn panels(dashboard: &Value, interval: &str) -> Vec<Panel> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    panels
        .map(|panel| {
            let filled =
                |expression: String| expression.replace("$instance", ".*").replace("$__rate_interval", interval);
            let targets = panel["targets"].as_array().unwrap().iter();
            Panel {
                title: text(&panel["title"]),
                kind: text(&panel["type"]),
                unit: text(&panel["fieldConfig"]["defaults"]["unit"]),
                place: ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_f64().unwrap()),
                thresholds: thresholds(&panel["fieldConfig"]["defaults"]),
                words: words(&panel["fieldConfig"]["defaults"]),
                targets: targets.map(|target| (filled(text(&target["expr"])), text(&target["legendFormat"]))).collect(),
            }
        })
        .collect()
}

fn thresholds(defaults: &Value) -> Vec<(f64, String)> {
    let steps = defaults["thresholds"]["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let colour = |step: &Value| step["color"].as_str().unwrap().to_owned();
    steps.iter().map(|step| (step["value"].as_f64().unwrap_or(f64::MIN), colour(step))).collect()
}

fn words(defaults: &Value) -> Vec<(String, String)> {
    let mappings = defaults["mappings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let options = mappings.iter().filter_map(|mapping| mapping["options"].as_object()).flatten();
    options.map(|(value, option)| (value.clone(), option["text"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn panels_are_whole() {
    let dashboard = published();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: HashSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    let mut taken = HashSet::new();
    for panel in panels {
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + width <= 24, "{} leaves the grid", panel["title"]);
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} lies on another panel", panel["title"]);
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{}", panel["title"]);
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "instance"]);
    for panel in self::panels(&dashboard, "1m") {
        for (expression, _) in panel.targets {
            assert!(!expression.contains('$'), "{}: a variable is unknown in {expression}", panel.title);
        }
    }
}

/// A YAML file below `deploy/grafana/provisioning`.
fn provisioning(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/provisioning").join(file);
    let program = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let read = Command::new(tool("EVENTS_DB_TEST_PYTHON")).args(["-c", program]).arg(path).output().unwrap();
    assert!(read.status.success(), "{file}: {}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).unwrap()
}

#[test]
fn provisioning_names_a_prometheus_and_the_folder_of_dashboards() {
    let sources = provisioning("datasources/prometheus.yml");
    let providers = provisioning("dashboards/events-db.yml");
    assert_eq!((&sources["apiVersion"], &providers["apiVersion"]), (&json!(1), &json!(1)));
    let source = &sources["datasources"][0];
    assert_eq!((source["type"].as_str(), source["isDefault"].as_bool()), (Some("prometheus"), Some(true)));
    // A rate looks at four of these, so it must be what Prometheus does.
    let prometheus = std::fs::read_to_string(rules::folder().join("prometheus.yml")).unwrap();
    let interval = source["jsonData"]["timeInterval"].as_str().unwrap();
    assert!(prometheus.contains(&format!("scrape_interval: {interval}\n")), "{interval}");
    let provider = &providers["providers"][0];
    assert_eq!(provider["type"].as_str(), Some("file"));
    assert!(provider["options"]["path"].as_str().is_some_and(|path| path.starts_with('/')), "{provider}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_shows_data_of_a_busy_server() {
    let busy = Busy::start().await;
    let prometheus = Prometheus::start(&[&busy.server]).await;
    for Panel { title, targets, .. } in panels(&published(), "10s") {
        for (expression, _) in targets {
            prometheus
                .eventually(&format!("{title} shows {expression}"), async || {
                    let series = prometheus.query(&expression).await?;
                    let is_number = |one: &Value| one["value"][1].as_str().is_some_and(|number| number != "NaN");
                    if series.iter().any(is_number) { Ok(()) } else { Err(format!("{series:?}")) }
                })
                .await;
        }
    }
    for annotation in published()["annotations"]["list"].as_array().unwrap() {
        prometheus.query(&annotation["expr"].as_str().unwrap().replace("$instance", ".*")).await.unwrap();
    }
}
