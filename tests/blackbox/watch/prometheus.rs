//! A real Prometheus of one test alone, with the published configuration and rules.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{CEILING, Server, tool};
use crate::private_database::free_port;
use crate::seeded::{Random, seed};
use crate::watch::rules;

/// How often it scrapes and evaluates here.
const INTERVAL: &str = "250ms";

/// A running Prometheus. It dies with the thread that started it.
pub struct Prometheus {
    port: u16,
    folder: TempDir,
    process: Child,
}

impl Prometheus {
    /// Starts one that scrapes `servers` as the published configuration says, only more often; alerts fire at once.
    pub async fn start(servers: &[&Server]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let read = |file: &str| std::fs::read_to_string(rules::folder().join(file)).unwrap();
        let targets: Vec<_> = servers.iter().map(|server| format!("\"127.0.0.1:{}\"", server.port())).collect();
        let mut config = replaced(&read("prometheus.yml"), "\"events-db:8080\"", &targets.join(", "));
        config = replaced(&config, ": 15s", &format!(": {INTERVAL}"));
        if servers[0].url().starts_with("https") {
            let job = "  - job_name: events-db\n";
            let tls = "    scheme: https\n    tls_config: {insecure_skip_verify: true}\n";
            config = replaced(&config, job, &format!("{job}{tls}"));
        }
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let rules = read("rules.yml");
        let at_once = rules.lines().filter(|line| !line.trim_start().starts_with("for: "));
        std::fs::write(folder.path().join("rules.yml"), at_once.collect::<Vec<_>>().join("\n")).unwrap();
        let port = free_port(&mut Random::new(seed()));
        let process = spawn(&folder, port);
        let prometheus = Self { port, folder, process };
        prometheus
            .eventually("every target is up", async || {
                let up = prometheus.query("up == 1").await?;
                if up.len() == servers.len() { Ok(()) } else { Err(format!("{up:?}")) }
            })
            .await;
        prometheus
    }

    /// The series that `expression` gives now.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let answer = self.get("query", &[("query", expression)]).await?;
        Ok(answer["result"].as_array().ok_or("it gives no series")?.clone())
    }

    /// The rules as they were understood.
    pub async fn rules(&self) -> Vec<Value> {
        let answer = self.get("rules", &[]).await.unwrap();
        answer["groups"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .collect()
    }

    /// The names of the alerts that fire.
    pub async fn firing(&self) -> Result<Vec<String>, String> {
        let answer = self.get("alerts", &[]).await?;
        let firing = answer["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing");
        Ok(firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect())
    }

    /// What the API answers, its data.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.port);
        let answer = Client::new().get(url).query(query).send().await.map_err(|error| error.to_string())?;
        let mut answer = answer.json::<Value>().await.map_err(|error| error.to_string())?;
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(format!("{query:?}: {answer}")) }
    }

    /// Repeats `check` until it is `Ok`; fails with its last answer and the log.
    pub async fn eventually<T>(&self, what: &str, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
        let started = Instant::now();
        loop {
            match check().await {
                Ok(value) => return value,
                Err(last) if started.elapsed() > CEILING => {
                    let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                    panic!("waited in vain until {what}: {last}; the log of Prometheus:\n{log}");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _already_gone = self.process.kill();
        let _status = self.process.wait();
    }
}

fn spawn(folder: &TempDir, port: u16) -> Child {
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    Command::new(tool("EVENTS_DB_TEST_SETPRIV"))
        .args(["--pdeathsig", "KILL", "--", &tool("EVENTS_DB_TEST_PROMETHEUS")])
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// `text` with `old` replaced, which must be there.
fn replaced(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old} is not in\n{text}");
    text.replace(old, new)
}
