//! `/metrics` and the table of `docs/OPERATIONS.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::Client;

use crate::harness::event_body;
use crate::watch::busy::complete_server;

/// Type and labels by name.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

/// What a server exports.
fn exported(text: &str) -> Families {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), labels_of(text, name, kind)))).collect()
}

/// The labels of all series of a family, without `le`, which makes a histogram of it.
fn labels_of(text: &str, name: &str, kind: &str) -> BTreeSet<String> {
    let series = if kind == "histogram" { format!("{name}_bucket") } else { name.to_owned() };
    let labels = text.lines().filter_map(|line| line.strip_prefix(&series)?.strip_prefix('{')?.split_once('}'));
    let names = labels.flat_map(|(labels, _)| labels.split(',').filter_map(|label| label.split('=').next()));
    names.filter(|name| *name != "le").map(str::to_owned).collect()
}

/// What the table says: `| name | type | labels | what it tells |`, names in backquotes.
fn documented() -> Families {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md");
    let text = std::fs::read_to_string(file).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let quoted = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    rows.filter_map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let ["", name, kind @ ("counter" | "gauge" | "histogram"), labels, _, ""] = cells[..] else { return None };
        Some((quoted(name).concat(), (kind.to_owned(), quoted(labels).into_iter().collect())))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_every_documented_one_is_there() {
    let (server, _nats) = complete_server().await;
    let client = Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    let answer = client.post(server.at("/events")).json(&event_body("s", b"x")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = client.get(server.at("/metrics")).send().await.unwrap().text().await.unwrap();
    assert_eq!(exported(&text), documented());
    // As `openssl x509 -enddate` says of the certificate.
    for line in ["eventsdb_certificate_expiry_timestamp_seconds 4949046147", "eventsdb_head_position 1"] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
    server
        .eventually("NATS is connected", async || {
            let text = client.get(server.at("/metrics")).send().await.unwrap().text().await.unwrap();
            text.contains("\neventsdb_nats_connected 1\n").then_some(()).ok_or(text)
        })
        .await;
}
