//! Servers and databases are killed under load, and several servers work on one database at once.

use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use tokio::sync::watch;

use crate::commit_proxy::{CommitProxy, Engine, Fault, Pick, Plan};
use crate::databases;
use crate::follower::Follower;
use crate::harness::{Server, event_body};
use crate::load::{Answer, Fate, Load, Record, Sent, append, insist, read_log};
use crate::private_database::PrivateDatabase;
use crate::seeded::{self, Random};

const CLIENTS: u64 = 12;

/// The most acknowledgements, or milliseconds, between two kills.
const BETWEEN_KILLS: u64 = 60;

/// Compares what clients and readers saw with what is stored.
async fn compare(server: &Server, record: &Record, followers: Vec<Follower>) -> usize {
    let log = read_log(&server.url()).await;
    let (acknowledged, open) = record.compare(&log);
    println!("{acknowledged} acknowledged, {open} open, {} stored", log.len());
    let mut connections = 0;
    for follower in followers {
        let seen = follower.finish(log.len()).await;
        assert!(seen.tokens == log, "the reader saw other events than are stored");
        connections += seen.connections;
    }
    connections
}

/// Goes on for a time by chance: up to a number of acknowledgements, or wherever the next milliseconds lead.
async fn go_on(load: &mut Load, random: &mut Random) {
    let length = random.below(BETWEEN_KILLS);
    if random.percent(50) {
        load.acknowledges(length).await;
    } else {
        tokio::time::sleep(Duration::from_millis(length)).await;
    }
}

async fn the_server_is_killed(database: Option<&str>) {
    const KILLS: usize = 50;
    let seed = seeded::seed();
    let envs: Vec<_> = database.map(|url| ("DATABASE_URL", url)).into_iter().collect();
    let mut random = Random::new(seed);
    let mut server = Server::start(&[], &envs).await;
    let url = watch::Sender::new(vec![server.url()]);
    let mut load = Load::start(&url.subscribe(), 0..CLIENTS, seed);
    let follower = Follower::start(url.subscribe());
    for _ in 0..KILLS {
        go_on(&mut load, &mut random).await;
        server = server.restart(&[], &envs).await;
        url.send_replace(vec![server.url()]);
    }
    load.acknowledges(CLIENTS).await;
    let record = load.stop().await;
    compare(&server, &record, vec![follower]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_killed_over_sqlite() {
    the_server_is_killed(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_killed_over_mariadb() {
    let url = databases::fresh("EVENTS_DB_TEST_MARIADB_URL", "torture_kill").await;
    the_server_is_killed(Some(url.as_str())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_killed_over_postgresql() {
    let url = databases::fresh("EVENTS_DB_TEST_POSTGRES_URL", "torture_kill").await;
    the_server_is_killed(Some(url.as_str())).await;
}

async fn the_database_is_killed(engine: Engine) {
    const KILLS: usize = 20;
    let seed = seeded::seed();
    let mut random = Random::new(seed);
    let mut database = PrivateDatabase::start(engine, &mut random);
    let server = Server::start(&[], &[("DATABASE_URL", &database.url())]).await;
    let url = watch::Sender::new(vec![server.url()]);
    let mut load = Load::start(&url.subscribe(), 0..CLIENTS, seed);
    let follower = Follower::start(url.subscribe());
    for _ in 0..KILLS {
        // Otherwise nothing but the start of the database would be interrupted.
        load.acknowledges(1).await;
        go_on(&mut load, &mut random).await;
        database.kill_and_restart();
    }
    load.acknowledges(CLIENTS).await;
    let record = load.stop().await;
    let connections = compare(&server, &record, vec![follower]).await;
    assert_eq!(connections, 1, "the stream stays open while the database is away");
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_killed() {
    the_database_is_killed(Engine::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_killed() {
    the_database_is_killed(Engine::Postgres).await;
}

/// Two servers on one database, asked in turn.
struct Pair {
    servers: [Server; 2],
    client: Client,
}

impl Pair {
    fn post(&self, turn: usize) -> RequestBuilder {
        self.client.post(self.servers[turn % 2].at("/events"))
    }

    /// The same event with an id, three times on each server at once.
    async fn race_with_an_id(&self, number: usize) -> Sent {
        let token = format!("raced-{number}");
        let mut body = event_body("raced", token.as_bytes());
        body["id"] = token.as_str().into();
        let sends = (0..6).map(|turn| insist(move || self.post(turn), &body, true));
        let answers = futures_util::future::join_all(sends).await;
        let positions = answers[0].0.clone();
        assert!(answers.iter().all(|answer| answer.0 == positions), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| !answer.1).count(), 1, "one was first: {answers:?}");
        Sent { tokens: vec![token], fate: Fate::At(positions) }
    }

    /// Twenty events that each ask to be the next of one subject, after `last`.
    async fn race_for_a_place(&self, round: usize, last: Option<i64>) -> (i64, Vec<Sent>) {
        let sends = (0..20).map(async |turn| {
            let token = format!("place-{round}-{turn}");
            let request = match last {
                Some(position) => self.post(turn).header("if-match", format!("\"{position}\"")),
                None => self.post(turn).header("if-none-match", "*"),
            };
            let fate = match append(request, &event_body("place", token.as_bytes())).await {
                Answer::Stored { positions, is_duplicate: false } => Fate::At(positions),
                Answer::PreconditionFailed => Fate::Nowhere,
                other => panic!("{token}: {other:?}"),
            };
            Sent { tokens: vec![token], fate }
        });
        let answers = futures_util::future::join_all(sends).await;
        let positions = answers.iter().filter_map(|sent| match &sent.fate {
            Fate::At(positions) => Some(positions[0]),
            Fate::Nowhere | Fate::Open => None,
        });
        let [position] = positions.collect::<Vec<_>>()[..] else { panic!("not one winner: {answers:?}") };
        (position, answers)
    }
}

async fn two_servers_share(engine: Engine, variable: &str, swallowed_percent: u64) {
    const RACES: usize = 30;
    let seed = seeded::seed();
    let mut database = databases::fresh(variable, &format!("torture_pair_{swallowed_percent}")).await;
    let proxy = CommitProxy::start(engine, databases::address(&database)).await;
    database.set_port(Some(proxy.port)).unwrap();
    let envs = [("DATABASE_URL", database.as_str())];
    let servers = [Server::start(&[], &envs).await, Server::start(&[], &envs).await];
    let pair = Pair { servers, client: Client::new() };
    let pick = Pick::Percent(swallowed_percent, Random::new(seed));
    proxy.set(Some(Plan { fault: Fault::SwallowCommitAnswer, pick, most: u64::MAX }));
    let urls = pair.servers.each_ref().map(|server| watch::Sender::new(vec![server.url()]));
    let followers = urls.iter().map(|url| Follower::start(url.subscribe())).collect();
    let mut loads = [
        Load::start(&urls[0].subscribe(), 0..CLIENTS / 2, seed),
        Load::start(&urls[1].subscribe(), CLIENTS / 2..CLIENTS, seed),
    ];
    // Each a client of its own: they do not send one after the other.
    let mut racers = Vec::new();
    let mut last = None;
    for round in 0..RACES {
        racers.push(vec![pair.race_with_an_id(round).await]);
        let (position, answers) = pair.race_for_a_place(round, last).await;
        last = Some(position);
        racers.extend(answers.into_iter().map(|answer| vec![answer]));
    }
    let mut record = Record(racers);
    for load in &mut loads {
        load.acknowledges(CLIENTS).await;
    }
    for load in loads {
        record.0.extend(load.stop().await.0);
    }
    let connections = compare(&pair.servers[1], &record, followers).await;
    assert_eq!(connections, 2, "nothing cuts the readers");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_share_mariadb() {
    two_servers_share(Engine::MySql, "EVENTS_DB_TEST_MARIADB_URL", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_share_postgresql() {
    two_servers_share(Engine::Postgres, "EVENTS_DB_TEST_POSTGRES_URL", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_lose_answers_of_mariadb() {
    two_servers_share(Engine::MySql, "EVENTS_DB_TEST_MARIADB_URL", 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_lose_answers_of_postgresql() {
    two_servers_share(Engine::Postgres, "EVENTS_DB_TEST_POSTGRES_URL", 30).await;
}
