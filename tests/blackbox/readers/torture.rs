//! Writers and readers on three replicas that share a database, while NATS, what it says or a replica fails: every
//! reader's sequence equals the filtered log.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use reqwest::Client;
use tokio::sync::watch;

use crate::databases;
use crate::harness::{Server, event_body};
use crate::load::{Answer, Fate, Load, Record, Replicas, Sent, append, token};
use crate::readers::reader::Readers;
use crate::readers::scene::{Scene, Trouble};
use crate::seeded::{self, Random};

const CLIENTS: u64 = 12;
const READERS: usize = 30;
const CUTS: usize = 100;

/// Cuts where readers are cut by what breaks, too, or where only hints change.
const FEW_CUTS: usize = 40;

const MARIADB: &str = "EVENTS_DB_TEST_MARIADB_URL";
const POSTGRESQL: &str = "EVENTS_DB_TEST_POSTGRES_URL";

/// Appends before the first reader comes.
const HEAD: u64 = 100;

/// The longest time between two appends of one client, in milliseconds.
const REST_MAX: u64 = 100;

/// How long the readers may take for all their cuts.
const CUT_WITHIN: Duration = Duration::from_mins(4);

async fn readers_see_the_log(variable: &str, trouble: Trouble, cuts: usize) {
    let seed = seeded::seed();
    let mut random = Random::new(seed);
    let database = databases::fresh(variable, &format!("readers_{trouble:?}").to_lowercase()).await;
    let mut scene = Scene::start(trouble, database.to_string(), &mut random).await;
    let mut load = Load::start_paced(&scene.urls.subscribe(), 0..CLIENTS, seed, REST_MAX);
    load.acknowledges(HEAD).await;
    // Some begin beyond the head, which reaches them later.
    let readers = Readers::start(READERS, cuts, 2 * HEAD, &scene.urls.subscribe(), &mut random);
    let started = Instant::now();
    while !readers.are_cut() {
        assert!(started.elapsed() < CUT_WITHIN, "the readers are not cut as often as they are to be");
        scene.break_once(&mut random).await;
    }
    let mut record = load.stop().await;
    let (marker, log) = scene.end().await;
    record.0.push(vec![marker]);
    let (acknowledged, open) = record.compare(&log.iter().map(token).collect::<Vec<_>>());
    println!("{acknowledged} acknowledged, {open} open, {} stored, cut within {:?}", log.len(), started.elapsed());
    let ended = readers.finish(log).await;
    assert!(ended == 0 || trouble == Trouble::ReplicaKilled, "{ended} streams were refused or ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_log_of_mariadb_without_nats() {
    readers_see_the_log(MARIADB, Trouble::NoNats, CUTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_log_of_postgresql_without_nats() {
    readers_see_the_log(POSTGRESQL, Trouble::NoNats, CUTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_log_of_mariadb_with_nats() {
    readers_see_the_log(MARIADB, Trouble::Nothing, CUTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_log_of_postgresql_with_nats() {
    readers_see_the_log(POSTGRESQL, Trouble::Nothing, CUTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_log_of_mariadb_while_nats_is_killed() {
    readers_see_the_log(MARIADB, Trouble::NatsKilled, CUTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_log_of_postgresql_while_nats_is_killed() {
    readers_see_the_log(POSTGRESQL, Trouble::NatsKilled, CUTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_log_while_nats_is_flooded_with_false_hints() {
    readers_see_the_log(MARIADB, Trouble::NatsFlooded, FEW_CUTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_log_while_nats_is_delayed() {
    readers_see_the_log(POSTGRESQL, Trouble::NatsDelayed, FEW_CUTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_log_of_mariadb_while_replicas_are_killed() {
    readers_see_the_log(MARIADB, Trouble::ReplicaKilled, FEW_CUTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_log_of_postgresql_while_replicas_are_killed() {
    readers_see_the_log(POSTGRESQL, Trouble::ReplicaKilled, FEW_CUTS).await;
}

/// Without it, the tests above would say little about NATS.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_connect_to_the_nats_they_are_told_of() {
    let mut random = Random::new(seeded::seed());
    let database = databases::fresh(MARIADB, "readers_nats").await;
    let scene = Scene::start(Trouble::NatsDelayed, database.to_string(), &mut random).await;
    let is_used = async || if scene.is_nats_used() { Ok(()) } else { Err("none is".to_owned()) };
    scene.servers[0].eventually("a replica is connected to NATS", is_used).await;
    let woken = async || {
        scene.servers[0].append("s", b"x").await;
        let metrics = reqwest::get(scene.servers[1].at("/metrics")).await.unwrap().text().await.unwrap();
        let line = metrics.lines().find(|line| line.starts_with(r#"eventsdb_tail_wakes_total{cause="hint"}"#)).unwrap();
        if line.ends_with(" 0") { Err(line.to_owned()) } else { Ok(()) }
    };
    scene.servers[1].eventually("a replica is woken by another one's hint", woken).await;
}

/// All readers are on one replica, which is killed for good while the others append.
async fn readers_leave_a_killed_replica(variable: &str) {
    let seed = seeded::seed();
    let mut random = Random::new(seed);
    let database = databases::fresh(variable, "readers_leave").await;
    let mut scene = Scene::start(Trouble::Nothing, database.to_string(), &mut random).await;
    let killed = scene.servers.remove(0);
    let others = scene.servers.iter().map(Server::url).collect::<Vec<_>>();
    scene.urls.send_replace(others.clone());
    let replicas = watch::Sender::new(vec![killed.url()]);
    let readers = Readers::start(READERS, 0, 0, &replicas.subscribe(), &mut random);
    let mut load = Load::start_paced(&scene.urls.subscribe(), 0..CLIENTS, seed, REST_MAX);
    killed
        .eventually("all readers are there", async || match killed.metric("app_active_event_streams").await {
            READERS => Ok(()),
            count => Err(format!("{count} are")),
        })
        .await;
    load.acknowledges(HEAD).await;
    killed.signal("KILL");
    killed.wait_for_exit().await;
    replicas.send_replace(others);
    load.acknowledges(HEAD).await;
    let mut record = load.stop().await;
    let (marker, log) = scene.end().await;
    record.0.push(vec![marker]);
    record.compare(&log.iter().map(token).collect::<Vec<_>>());
    assert!(readers.finish(log).await >= READERS, "each had to resume");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_killed_replica_resume_on_another_on_mariadb() {
    readers_leave_a_killed_replica(MARIADB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_killed_replica_resume_on_another_on_postgresql() {
    readers_leave_a_killed_replica(POSTGRESQL).await;
}

/// Publishes a thousand events a second; what the servers hold up comes as soon as it can.
async fn publish(number: u64, urls: Replicas) -> Vec<Sent> {
    const CALLS: usize = 150;
    const EVENTS: usize = 20;
    let (http, mut random) = (Client::new(), Random::new(number));
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let mut sent = Vec::new();
    for call in 0..CALLS {
        ticks.tick().await;
        let tokens: Vec<_> = (0..EVENTS).map(|place| format!("{number}-{call}-{place}")).collect();
        let events = tokens.iter().map(|token| event_body(&format!("client/{number}"), token.as_bytes()));
        let request = http.post(format!("{}/events", random.of(&urls.borrow())));
        let Answer::Stored { positions, is_duplicate: false } = append(request, &events.collect()).await else {
            panic!("nothing is in the way of an append");
        };
        sent.push(Sent { tokens, fate: Fate::At(positions) });
    }
    sent
}

async fn publishers_lose_nothing(variable: &str) {
    let mut random = Random::new(seeded::seed());
    let database = databases::fresh(variable, "readers_publishers").await;
    let scene = Scene::start(Trouble::Nothing, database.to_string(), &mut random).await;
    let readers = Readers::start(READERS, CUTS / 10, 0, &scene.urls.subscribe(), &mut random);
    let started = Instant::now();
    let publishers = (0..4).map(|number| tokio::spawn(publish(number, scene.urls.subscribe())));
    let mut record = Record(try_join_all(publishers).await.expect("a publisher failed"));
    let published = started.elapsed();
    let (marker, log) = scene.end().await;
    println!("{} events within {published:?}", log.len());
    record.0.push(vec![marker]);
    record.compare(&log.iter().map(token).collect::<Vec<_>>());
    assert_eq!(readers.finish(log).await, 0, "streams were refused or ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_publishers_lose_nothing_on_mariadb() {
    publishers_lose_nothing(MARIADB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_publishers_lose_nothing_on_postgresql() {
    publishers_lose_nothing(POSTGRESQL).await;
}
