//! The picture of the dashboard: `cargo xtask dashboard`. Two replicas under a load that grows, an outage of their database,
//! and its end, as a real Prometheus saw them.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::databases;
use crate::harness::{Server, event_body};
use crate::proxy::{Network, Proxy};
use crate::readers::nats::Nats;
use crate::seeded::{Random, seed};
use crate::watch::dashboard::{Panel, panels, published};
use crate::watch::drawing::{Drawing, Series};
use crate::watch::prometheus::Prometheus;

/// How long each part of the story takes.
const PART: Duration = Duration::from_secs(30);

/// How long the database is away.
const OUTAGE: Duration = Duration::from_secs(10);

const STEP_SECONDS: u64 = 1;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes docs/images/dashboard.svg and takes minutes: run it with `cargo xtask dashboard`"]
async fn draw_the_dashboard_from_real_data() {
    let mut database = databases::fresh("EVENTS_DB_TEST_POSTGRES_URL", "dashboard").await;
    let proxy = Proxy::start(databases::address(&database)).await;
    database.set_port(Some(proxy.port)).unwrap();
    let nats = Nats::start(&mut Random::new(seed())).await;
    let nats_url = format!("nats://{}", nats.address());
    let envs = [("DATABASE_URL", database.as_str()), ("NATS_URL", &nats_url)];
    let args = ["--max-batch-events", "20", "--max-queued-events", "60"];
    let servers = [Server::start(&args, &envs).await, Server::start(&args, &envs).await];
    let prometheus = Prometheus::start(&[&servers[0], &servers[1]]).await;
    let began = now();
    let mut clients = JoinSet::new();
    for reader in 0..12 {
        let url = servers[reader % 2].at(&format!("/events/stream?subject=user-{}&recursive=true", reader % 4));
        clients.spawn(read(url));
    }
    for clients_more in [2, 6, 30] {
        for client in 0..clients_more {
            clients.spawn(write([servers[0].url(), servers[1].url()], client));
        }
        println!("{} clients for {} seconds", clients.len(), PART.as_secs());
        tokio::time::sleep(PART).await;
    }
    println!("the database is away for {} seconds", OUTAGE.as_secs());
    proxy.set(Network::Cut);
    tokio::time::sleep(OUTAGE).await;
    proxy.set(Network::Up);
    tokio::time::sleep(PART).await;
    let picture = draw(&prometheus, &servers, (began, now())).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images/dashboard.svg");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, &picture).unwrap();
    println!("{} has {} bytes", file.display(), picture.len());
    drop(clients);
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Reads a stream and opens it again when it ends.
async fn read(url: String) {
    let client = Client::new();
    loop {
        if let Ok(answer) = client.get(&url).send().await {
            let mut body = answer.bytes_stream();
            while let Some(Ok(_)) = body.next().await {}
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Appends, and now and then reads or asks for something that is not there.
async fn write(urls: [String; 2], number: usize) {
    let client = Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    let mut random = Random::new(u64::try_from(number).unwrap());
    loop {
        let url = &urls[usize::try_from(random.below(2)).unwrap()];
        let subject = format!("user-{}", random.below(40));
        let request = match random.below(20) {
            0 => client.get(format!("{url}/events/historic?subject={subject}")),
            1 => client.get(format!("{url}/events/get?id={}", random.below(2_000) + 1)),
            2 => client.get(format!("{url}/subjects")),
            3 => client
                .post(format!("{url}/events"))
                .json(&json!([event_body(&subject, b"a"), event_body(&subject, b"b")])),
            4 => client.post(format!("{url}/events")).header("if-none-match", "*").json(&event_body(&subject, b"x")),
            _ => client.post(format!("{url}/events")).json(&event_body(&subject, &[b'x'; 200])),
        };
        if let Ok(answer) = request.send().await {
            let _whole = answer.bytes().await;
        }
        tokio::time::sleep(Duration::from_millis(random.below(20))).await;
    }
}

async fn draw(prometheus: &Prometheus, servers: &[Server], (from, to): (u64, u64)) -> String {
    let dashboard = published();
    let mut drawing = Drawing::new();
    let rows = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] == "row");
    for row in rows {
        drawing.heading(row["title"].as_str().unwrap(), row["gridPos"]["y"].as_f64().unwrap());
    }
    for panel in panels(&dashboard, "10s") {
        let series = series(prometheus, servers, &panel, (from, to)).await;
        drawing.panel(&panel, &series);
    }
    drawing.finish()
}

/// What the panel's expressions gave at each step.
async fn series(prometheus: &Prometheus, servers: &[Server], panel: &Panel, (from, to): (u64, u64)) -> Vec<Series> {
    let mut all = Vec::new();
    let (start, end, step) = (from.to_string(), to.to_string(), STEP_SECONDS.to_string());
    for (expression, legend) in &panel.targets {
        let query = [("query", expression.as_str()), ("start", &start), ("end", &end), ("step", &step)];
        let answer = prometheus.get("query_range", &query).await.unwrap();
        for one in answer["result"].as_array().unwrap() {
            let mut values = vec![None; usize::try_from((to - from) / STEP_SECONDS + 1).unwrap()];
            for point in one["values"].as_array().unwrap() {
                let at = usize::try_from((point[0].as_u64().unwrap() - from) / STEP_SECONDS).unwrap();
                values[at] = point[1].as_str().unwrap().parse().ok().filter(|value: &f64| value.is_finite());
            }
            all.push(Series { name: name(legend, &one["metric"], servers), values });
        }
    }
    all
}

/// The legend with its labels filled in; instances are called as in a deployment.
fn name(legend: &str, labels: &Value, servers: &[Server]) -> String {
    let mut name = legend.to_owned();
    for (label, value) in labels.as_object().unwrap() {
        name = name.replace(&format!("{{{{{label}}}}}"), value.as_str().unwrap());
    }
    for (index, server) in servers.iter().enumerate() {
        name = name.replace(&format!("127.0.0.1:{}", server.port()), &format!("events-db-{index}"));
    }
    name
}
