//! A rolling update: three replicas behind a proxy, restarted one by one while clients append and read.

use tokio::sync::watch;

use crate::databases;
use crate::follower::Follower;
use crate::front::{Front, Kind};
use crate::harness::Server;
use crate::load::{Fate, Load, read_events, token};
use crate::private_database::free_port;
use crate::readers::reader::Readers;
use crate::seeded::{self, Random};

const CLIENTS: u64 = 12;

/// Ten of each protocol.
const READERS: usize = 30;

/// The longest time between two appends of one client, in milliseconds.
const REST_MAX: u64 = 50;

/// Appends between two restarts.
const BETWEEN_RESTARTS: u64 = 100;

/// As in deploy/kubernetes: ten times as long as the proxy takes to notice.
const SHUTDOWN_DELAY: &str = "--shutdown-delay=5";

struct Replica {
    server: Server,
    port: String,
}

impl Replica {
    async fn start(random: &mut Random, envs: &[(&str, &str)]) -> Self {
        let port = format!("--port={}", free_port(random));
        Self { server: Server::start(&[SHUTDOWN_DELAY, &port], envs).await, port }
    }

    /// Lets it leave in peace and starts it again on its port.
    async fn update(self, envs: &[(&str, &str)]) -> Self {
        self.server.signal("TERM");
        let status = self.server.wait_for_exit().await;
        assert_eq!(status.code(), Some(0), "{}", self.server.log_text());
        assert!(!self.server.log_text().contains("cut"), "something did not end in time:\n{}", self.server.log_text());
        let server = self.server.restart(&[SHUTDOWN_DELAY, &self.port], envs).await;
        // The proxy has to see it before the next one leaves, as Kubernetes waits for readiness.
        server
            .eventually("the proxy sends it appends", async || {
                let metrics = reqwest::get(server.at("/metrics")).await.map_err(|error| error.to_string())?;
                let metrics = metrics.text().await.map_err(|error| error.to_string())?;
                if metrics.contains(r#"app_event_operations_total{operation="create_event""#) {
                    Ok(())
                } else {
                    Err("none came".to_owned())
                }
            })
            .await;
        Self { server, port: self.port }
    }
}

async fn nothing_is_lost(variable: &str) {
    let seed = seeded::seed();
    let mut random = Random::new(seed);
    let database = databases::fresh(variable, "rolling").await;
    let envs = [("DATABASE_URL", database.as_str())];
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(&mut random, &envs).await);
    }
    let ports: Vec<_> = replicas.iter().map(|replica| replica.server.port()).collect();
    let front = Front::start(Kind::HaProxy, &ports, &mut random).await;
    let urls = watch::Sender::new(vec![front.url.clone()]);
    let mut load = Load::start_paced(&urls.subscribe(), 0..CLIENTS, seed, REST_MAX);
    let follower = Follower::start(urls.subscribe());
    let readers = Readers::start(READERS, 0, 0, &urls.subscribe(), &mut random);
    load.acknowledges(BETWEEN_RESTARTS).await;
    for _ in 0..replicas.len() {
        let updated = replicas.remove(0).update(&envs).await;
        replicas.push(updated);
        load.acknowledges(BETWEEN_RESTARTS).await;
    }
    let record = load.stop().await;
    // Half of them have no id, and are sent only once.
    let failed: Vec<_> = record.0.iter().flatten().filter(|sent| !matches!(sent.fate, Fate::At(_))).collect();
    assert!(failed.is_empty(), "appends failed: {failed:?}");
    let log = read_events(&front.url).await;
    let tokens: Vec<_> = log.iter().map(token).collect();
    let (acknowledged, _) = record.compare(&tokens);
    let sequence = follower.finish(log.len()).await;
    assert!(sequence.tokens == tokens, "the follower saw other events than are stored");
    let ended = readers.finish(log).await;
    println!("{acknowledged} acknowledged, {} stored, {ended} streams resumed", tokens.len());
    assert!(ended >= READERS, "every replica was updated, so every reader had to resume: {ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_fails_no_append_and_readers_resume_on_mariadb() {
    nothing_is_lost("EVENTS_DB_TEST_MARIADB_URL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_fails_no_append_and_readers_resume_on_postgresql() {
    nothing_is_lost("EVENTS_DB_TEST_POSTGRES_URL").await;
}
