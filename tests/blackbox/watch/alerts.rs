//! Rules and alerts in a real Prometheus that scrapes real servers.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Client;

use crate::commit_proxy::Engine;
use crate::harness::{Server, event_body};
use crate::private_database::PrivateDatabase;
use crate::seeded::{Random, seed};
use crate::watch::busy::Busy;
use crate::watch::prometheus::Prometheus;

/// The metrics and recorded series that an expression names.
fn series(expression: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = expression.split(|c| !is_name(c)).filter(|word| !word.is_empty());
    let of_ours = |word: &&str| {
        ["eventsdb_", "app_", "process_"].iter().any(|start| word.starts_with(start)) || word.contains(':')
    };
    words.filter(of_ours).map(str::to_owned).collect()
}

/// Before the first scrape, Prometheus misses the server.
async fn nothing_fires(prometheus: &Prometheus) {
    prometheus
        .eventually("nothing fires", async || match prometheus.firing().await?.as_slice() {
            [] => Ok(()),
            firing => Err(format!("{firing:?}")),
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_series_of_the_rules_is_there_and_nothing_fires_while_all_is_well() {
    let busy = Busy::start().await;
    let prometheus = Prometheus::start(&[&busy.server]).await;
    let rules = prometheus.rules().await;
    let names: BTreeSet<_> = rules.iter().flat_map(|rule| series(rule["query"].as_str().unwrap())).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        prometheus
            .eventually(&format!("{name} is there"), async || match prometheus.query(&name).await?.as_slice() {
                [] => Err("it is not".to_owned()),
                _ => Ok(()),
            })
            .await;
    }
    for rule in rules.iter().filter(|rule| rule["type"] == "recording") {
        let name = rule["name"].as_str().unwrap();
        let recorded = async || match prometheus.query(name).await?.as_slice() {
            [] => Err("it is not".to_owned()),
            _ => Ok(()),
        };
        prometheus.eventually(&format!("{name} is recorded"), recorded).await;
    }
    let rules = prometheus.rules().await;
    let failed: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    nothing_fires(&prometheus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_fire_when_their_cause_is_made() {
    let database = PrivateDatabase::start(Engine::Postgres, &mut Random::new(seed()));
    let url = database.url();
    let server =
        Server::start(&["--max-batch-events", "1", "--max-queued-events", "1"], &[("DATABASE_URL", &url)]).await;
    let prometheus = Prometheus::start(&[&server]).await;
    nothing_fires(&prometheus).await;
    let fires = async |alert: &str| {
        let firing = prometheus.firing().await?;
        firing.iter().any(|name| name == alert).then_some(()).ok_or(format!("only {firing:?} fire"))
    };
    let client = Client::new();
    prometheus
        .eventually("the alert of refused appends fires", async || {
            // One waits while another one is written; there is no room for the others.
            let append = || client.post(server.at("/events")).json(&event_body("s", b"x")).send();
            join_all((0..8).map(|_| append())).await;
            fires("EventsDbAppendsRefused").await
        })
        .await;
    drop(database);
    prometheus.eventually("the alert of the database fires", async || fires("EventsDbDatabaseAway").await).await;
    prometheus
        .eventually("the alert of failing appends fires", async || {
            client.post(server.at("/events")).json(&event_body("s", b"x")).send().await.unwrap();
            fires("EventsDbAppendsFailing").await
        })
        .await;
    server.signal("TERM");
    server.wait_for_exit().await;
    prometheus.eventually("the alert of the instance fires", async || fires("EventsDbInstanceDown").await).await;
}
