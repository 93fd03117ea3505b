//! The answer to a commit does not come: what clients are told is true all the same.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reqwest::Client;
use tokio::sync::watch;

use crate::commit_proxy::{CommitProxy, Engine, Fault, Pick, Plan};
use crate::databases;
use crate::follower::Follower;
use crate::harness::{Server, event_body};
use crate::load::{Answer, Load, append, insist, read_log};
use crate::seeded::{self, Random};

/// Clients at once: enough that commits carry several events.
const CLIENTS: u64 = 10;

/// Far longer than any of these takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// A server whose connections to its database go through a proxy.
struct Proxied {
    server: Server,
    proxy: CommitProxy,
}

impl Proxied {
    async fn start(engine: Engine, variable: &str, purpose: &str) -> Self {
        let mut url = databases::fresh(variable, purpose).await;
        let proxy = CommitProxy::start(engine, databases::address(&url)).await;
        url.set_port(Some(proxy.port)).unwrap();
        let server = Server::start(&[], &[("DATABASE_URL", url.as_str())]).await;
        Self { server, proxy }
    }

    fn hit(&self, fault: Fault, pick: Pick, most: u64) {
        self.proxy.set(Some(Plan { fault, pick, most }));
    }

    fn hits(&self) -> u64 {
        self.proxy.counters.hit.load(Ordering::SeqCst)
    }

    fn swallowed(&self) -> u64 {
        self.proxy.counters.committed.load(Ordering::SeqCst)
    }

    /// Lets clients append until `reached`, then compares; returns how many appends were acknowledged, and how many
    /// are open.
    async fn append_until(&self, seed: u64, reached: impl Fn() -> bool) -> (usize, usize) {
        let started = Instant::now();
        let url = watch::Sender::new(vec![self.server.url()]);
        let reader = Follower::start(url.subscribe());
        let mut load = Load::start(&url.subscribe(), 0..CLIENTS, seed);
        load.goes_on_until("enough commits are hit", PATIENCE, reached).await;
        self.proxy.set(None);
        load.acknowledges(CLIENTS).await;
        let record = load.stop().await;
        let log = read_log(&self.server.url()).await;
        let (acknowledged, open) = record.compare(&log);
        let followed = reader.finish(log.len()).await;
        assert!(followed.tokens == log, "the reader saw other events than are stored");
        assert_eq!(followed.connections, 1, "nothing cuts the reader");
        let commits = self.proxy.counters.commits.load(Ordering::SeqCst);
        println!(
            "{acknowledged} acknowledged, {open} open, {commits} commits, {} hit, {} carried out, {:?}",
            self.hits(),
            self.swallowed(),
            started.elapsed()
        );
        (acknowledged, open)
    }
}

/// Half of all commits are carried out and not answered.
async fn swallowed_answers_are_found_out(engine: Engine, variable: &str) {
    const SWALLOWED: u64 = 1_000;
    let seed = seeded::seed();
    let proxied = Proxied::start(engine, variable, "lost_swallow").await;
    proxied.hit(Fault::SwallowCommitAnswer, Pick::Percent(50, Random::new(seed)), u64::MAX);
    let (acknowledged, open) = proxied.append_until(seed, || proxied.swallowed() >= SWALLOWED).await;
    // The server finds out by itself; only when that fails too it may say that it does not know.
    assert!(open * 100 <= acknowledged, "{open} of {} are open", acknowledged + open);
}

/// A third of all commits never arrives.
async fn dropped_commits_are_not_stored_in_secret(engine: Engine, variable: &str) {
    const DROPPED: u64 = 200;
    let seed = seeded::seed();
    let proxied = Proxied::start(engine, variable, "lost_drop").await;
    proxied.hit(Fault::DropCommit, Pick::Percent(33, Random::new(seed)), u64::MAX);
    let (acknowledged, open) = proxied.append_until(seed, || proxied.hits() >= DROPPED).await;
    assert_eq!(proxied.swallowed(), 0);
    assert!(open * 100 <= acknowledged, "{open} of {} are open", acknowledged + open);
}

/// A third of all commits arrives when the server has given up the connection: whatever it finds out about them must
/// stay true.
async fn late_commits_change_nothing_that_was_said(engine: Engine, variable: &str) {
    const LATE: u64 = 200;
    let seed = seeded::seed();
    let proxied = Proxied::start(engine, variable, "lost_late").await;
    proxied.hit(Fault::LateCommit, Pick::Percent(33, Random::new(seed)), u64::MAX);
    let (acknowledged, open) = proxied.append_until(seed, || proxied.hits() >= LATE).await;
    assert!(open * 100 <= acknowledged, "{open} of {} are open", acknowledged + open);
}

/// The database commits and says nothing, on a connection that stays open.
async fn held_answers_end_in_the_truth(engine: Engine, variable: &str) {
    const HELD: u64 = 3;
    let seed = seeded::seed();
    let proxied = Proxied::start(engine, variable, "lost_hold").await;
    proxied.hit(Fault::HoldCommitAnswer, Pick::Every(10), HELD);
    proxied.append_until(seed, || proxied.hits() >= HELD).await;
}

/// Each link is appended if the one before it is the last, while every other answer is lost.
async fn chains_go_on(engine: Engine, variable: &str) {
    const CHAINS: u64 = 4;
    const LINKS: u64 = 40;
    let seed = seeded::seed();
    let proxied = Proxied::start(engine, variable, "lost_chains").await;
    proxied.hit(Fault::SwallowCommitAnswer, Pick::Percent(50, Random::new(seed)), u64::MAX);
    let url = proxied.server.at("/events");
    let chain = async |number: u64| {
        let client = Client::new();
        let mut last: Option<i64> = None;
        for link in 0..LINKS {
            let name = format!("{number}-{link}");
            let mut body = event_body(&format!("chain/{number}"), name.as_bytes());
            body["id"] = name.into();
            let request = || match last {
                Some(position) => client.post(&url).header("if-match", format!("\"{position}\"")),
                None => client.post(&url).header("if-none-match", "*"),
            };
            let (positions, _) = insist(request, &body, false).await;
            assert!(positions.last().copied() > last);
            // What was true when it was stored is so for good: the id is known, so nobody asks for the last position.
            assert_eq!(insist(request, &body, true).await, (positions.clone(), true));
            last = positions.last().copied();
        }
    };
    tokio::join!(chain(0), chain(1), chain(2), chain(3));
    proxied.proxy.set(None);
    // One commit may carry a link of every chain.
    assert!(proxied.swallowed() > LINKS / 4, "{}", proxied.swallowed());
    let log = read_log(&proxied.server.url()).await;
    for number in 0..CHAINS {
        let links: Vec<_> = log.iter().filter(|token| token.starts_with(&format!("{number}-"))).collect();
        assert!(links.iter().copied().eq(&(0..LINKS).map(|link| format!("{number}-{link}")).collect::<Vec<_>>()));
    }
    // A new id with an old position is no repetition.
    let mut late = event_body("chain/0", b"late");
    late["id"] = "late".into();
    let refused = append(Client::new().post(&url).header("if-none-match", "*"), &late).await;
    assert_eq!(refused, Answer::PreconditionFailed);
}

/// The databases take statements and commit as one request, and answer the statements first.
async fn an_answer_before_the_commit_is_no_acknowledgement(engine: Engine, variable: &str) {
    const TORN: u64 = 100;
    let seed = seeded::seed();
    let proxied = Proxied::start(engine, variable, "lost_torn").await;
    proxied.hit(Fault::AnswerWithoutCommit, Pick::Percent(33, Random::new(seed)), u64::MAX);
    proxied.append_until(seed, || proxied.hits() >= TORN).await;
}

macro_rules! on_every_engine {
    ($($case:ident: $mariadb:ident, $postgresql:ident;)+) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $mariadb() {
            $case(Engine::MySql, "EVENTS_DB_TEST_MARIADB_URL").await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn $postgresql() {
            $case(Engine::Postgres, "EVENTS_DB_TEST_POSTGRES_URL").await;
        }
    )+ };
}

on_every_engine! {
    swallowed_answers_are_found_out: swallowed_answers_on_mariadb, swallowed_answers_on_postgresql;
    dropped_commits_are_not_stored_in_secret: dropped_commits_on_mariadb, dropped_commits_on_postgresql;
    late_commits_change_nothing_that_was_said: late_commits_on_mariadb, late_commits_on_postgresql;
    held_answers_end_in_the_truth: held_answers_on_mariadb, held_answers_on_postgresql;
    chains_go_on: chains_on_mariadb, chains_on_postgresql;
    an_answer_before_the_commit_is_no_acknowledgement: torn_answers_on_mariadb, torn_answers_on_postgresql;
}
