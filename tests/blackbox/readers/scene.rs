//! Three replicas on one database, and what breaks around them.

use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::harness::{CEILING, Server, event_body};
use crate::load::{Answer, Fate, PAUSE, Sent, append, read_events};
use crate::proxy::{Network, Proxy};
use crate::readers::nats::Nats;
use crate::seeded::Random;

const REPLICAS: usize = 3;

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing, and there is no NATS.
    NoNats,
    /// Nothing, and there is NATS.
    Nothing,
    /// NATS is killed and restarted.
    NatsKilled,
    /// NATS is flooded with false hints.
    NatsFlooded,
    /// What NATS says is held up, and its connections break.
    NatsDelayed,
    /// Replicas are killed and restarted.
    ReplicaKilled,
}

/// Everything that runs, except clients.
pub struct Scene {
    trouble: Trouble,
    nats: Option<Nats>,
    proxy: Option<Proxy>,
    envs: Vec<(&'static str, String)>,
    pub servers: Vec<Server>,
    pub urls: watch::Sender<Vec<String>>,
}

impl Scene {
    pub async fn start(trouble: Trouble, database: String, random: &mut Random) -> Self {
        let nats = if trouble == Trouble::NoNats { None } else { Some(Nats::start(random).await) };
        let proxy = match &nats {
            Some(nats) if trouble == Trouble::NatsDelayed => Some(Proxy::start(nats.address()).await),
            _ => None,
        };
        let mut envs = vec![("DATABASE_URL", database)];
        if let Some(port) = proxy.as_ref().map(|proxy| proxy.port).or(nats.as_ref().map(|nats| nats.port)) {
            envs.push(("NATS_URL", format!("nats://127.0.0.1:{port}")));
        }
        let mut scene = Self { trouble, nats, proxy, envs, servers: Vec::new(), urls: watch::Sender::new(Vec::new()) };
        for _ in 0..REPLICAS {
            scene.servers.push(Server::start(&[], &scene.envs()).await);
        }
        scene.tell();
        scene
    }

    fn envs(&self) -> Vec<(&'static str, &str)> {
        self.envs.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    fn tell(&self) {
        self.urls.send_replace(self.servers.iter().map(Server::url).collect());
    }

    /// Whether a replica has connected to NATS; fails where there is no proxy that could tell.
    pub fn is_nats_used(&self) -> bool {
        self.proxy.as_ref().expect("only a proxy can tell").is_used()
    }

    /// Lets something break.
    pub async fn break_once(&mut self, random: &mut Random) {
        match self.trouble {
            Trouble::NoNats | Trouble::Nothing => sleep(pause(random, 100)).await,
            Trouble::NatsKilled => {
                sleep(pause(random, 2_000)).await;
                self.nats.as_mut().unwrap().kill_and_restart(pause(random, 1_000)).await;
            }
            Trouble::NatsFlooded => {
                let length = pause(random, 3_000);
                timeout(length, self.nats.as_ref().unwrap().flood(random)).await.expect_err("it never ends");
            }
            Trouble::NatsDelayed => {
                for state in [Network::Hung, Network::Up, Network::Hung, Network::Cut, Network::Up] {
                    self.proxy.as_ref().unwrap().set(state);
                    sleep(pause(random, 700)).await;
                }
            }
            Trouble::ReplicaKilled => {
                sleep(pause(random, 1_500)).await;
                let killed = usize::try_from(random.below(REPLICAS as u64)).unwrap();
                let server = self.servers.swap_remove(killed).restart(&[], &self.envs()).await;
                self.servers.push(server);
                self.tell();
            }
        }
    }

    /// Appends an event behind everything that was appended before, and reads the log up to it.
    pub async fn end(&self) -> (Sent, Vec<Value>) {
        let request = Client::new().post(self.servers[0].at("/events"));
        let answer = append(request, &event_body("marker", b"marker")).await;
        let Answer::Stored { positions, .. } = answer else { panic!("the marker is not stored: {answer:?}") };
        let started = Instant::now();
        loop {
            let log = read_events(&self.servers[1].url()).await;
            if log.len() >= usize::try_from(positions[0]).unwrap() {
                return (Sent { tokens: vec!["marker".to_owned()], fate: Fate::At(positions) }, log);
            }
            assert!(started.elapsed() < CEILING, "the other replica never comes to {positions:?}");
            sleep(PAUSE).await;
        }
    }
}

fn pause(random: &mut Random, most: u64) -> Duration {
    Duration::from_millis(random.below(most))
}
