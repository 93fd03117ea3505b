//! Starts the built binary and talks to it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for something that must happen: far longer than it ever takes.
pub const CEILING: Duration = Duration::from_mins(1);

/// A running server; killed when dropped.
pub struct Server {
    process: Mutex<Child>,
    ports: Vec<u16>,
    log: Arc<Mutex<Vec<String>>>,
    directory: TempDir,
    scheme: &'static str,
}

impl Server {
    /// Starts the built binary on a free port with a fresh SQLite database, unless `envs` says otherwise, and waits
    /// until it is ready.
    pub async fn start(args: &[&str], envs: &[(&str, &str)]) -> Self {
        let server = Self::start_unready(tempfile::tempdir().unwrap(), args, envs).await;
        server.wait_until_ready().await;
        server
    }

    /// Starts the binary again over what an earlier server left behind.
    pub async fn restart(self, args: &[&str], envs: &[(&str, &str)]) -> Self {
        self.kill();
        let directory = self.dismantle();
        let server = Self::start_unready(directory, args, envs).await;
        server.wait_until_ready().await;
        server
    }

    async fn start_unready(directory: TempDir, args: &[&str], envs: &[(&str, &str)]) -> Self {
        // The HTTP client of the tests brings no cryptography of its own; a second call changes nothing.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let scheme = if envs.iter().any(|(name, _)| *name == "TLS_CERT_FILE") { "https" } else { "http" };
        let mut process = command(directory.path(), args, envs).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let mut server = Self { process: Mutex::new(process), ports: Vec::new(), log, directory, scheme };
        server.ports = server
            .eventually("the server listens", async || {
                let line = server.log_line("listening").ok_or("no line says so yet")?;
                let addresses = line["addresses"].as_str().ok_or("the line has no addresses")?;
                Ok::<_, String>(
                    addresses.split(' ').filter_map(|address| address.rsplit(':').next()?.parse().ok()).collect(),
                )
            })
            .await;
        server
    }

    async fn wait_until_ready(&self) {
        let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
        self.eventually("the server is ready", async || {
            let answer = client.get(self.at("/readyz")).send().await.map_err(|error| error.to_string())?;
            if answer.status() == 200 { Ok(()) } else { Err(answer.status().to_string()) }
        })
        .await;
    }

    /// The one port.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The port of `--grpc-port`.
    pub fn second_port(&self) -> u16 {
        self.ports[1]
    }

    /// `http://127.0.0.1:PORT`, or `https://…`.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port())
    }

    /// The URL of `path`.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url())
    }

    /// The directory the server runs in, where its SQLite database is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The first log line with this message, as JSON.
    pub fn log_line(&self, message: &str) -> Option<Value> {
        let log = self.log.lock().unwrap();
        log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|line| line["message"] == message)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.lock().unwrap().id()
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the process to exit.
    pub async fn wait_for_exit(&self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.lock().unwrap().try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < CEILING, "the server does not exit; its log:\n{}", self.log_text());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Appends an event of the plain form and returns its position.
    pub async fn append(&self, subject: &str, data: &[u8]) -> i64 {
        let body = event_body(subject, data);
        let answer = reqwest::Client::new().post(self.at("/events")).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        answer.json::<Value>().await.unwrap()["id"].as_i64().unwrap()
    }

    /// The value of a metric, the sum over all its labels.
    pub async fn metric(&self, name: &str) -> usize {
        let metrics = reqwest::get(self.at("/metrics")).await.unwrap().text().await.unwrap();
        let values = metrics.lines().filter_map(|line| {
            let labels = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
            Some(labels.rsplit(' ').next()?.parse::<usize>().unwrap())
        });
        let values: Vec<_> = values.collect();
        assert!(!values.is_empty(), "{name} is not in {metrics}");
        values.iter().sum()
    }

    /// How many entries the system lists for the process: its open descriptors are `fd`, its threads `task`.
    pub fn count_of(&self, list: &str) -> usize {
        std::fs::read_dir(format!("/proc/{}/{list}", self.pid())).unwrap().count()
    }

    /// Repeats `check` every 10 ms until it is `Ok`; fails with its last answer, or at once when the server is gone.
    pub async fn eventually<T>(&self, what: &str, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
        let started = Instant::now();
        loop {
            let exited = self.process.lock().unwrap().try_wait().unwrap();
            if let Some(status) = exited {
                panic!("waiting until {what}: the server exited with {status}; its log:\n{}", self.log_text());
            }
            match check().await {
                Ok(value) => return value,
                Err(last) if started.elapsed() > CEILING => {
                    panic!("waited in vain until {what}: {last}; the log:\n{}", self.log_text());
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Everything the server wrote to its log.
    pub fn log_text(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        let _already_gone = process.kill();
        process.wait().unwrap();
    }

    fn dismantle(mut self) -> TempDir {
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log_text());
        }
    }
}

/// The binary with a clean environment, in `directory`.
pub fn command(directory: &Path, args: &[&str], envs: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_events-db"));
    command.current_dir(directory).env_clear().stdin(Stdio::null());
    command.args(["--log-format", "json", "--bind", "127.0.0.1"]);
    if !args.iter().any(|arg| arg.starts_with("--port")) {
        command.args(["--port", "0"]);
    }
    command.args(args).envs(envs.iter().copied());
    command
}

/// An event of the plain form.
pub fn event_body(subject: &str, data: &[u8]) -> Value {
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.encode(data);
    serde_json::json!({ "source": "tests", "type": "made", "subject": subject, "data": data })
}

/// The value of an environment variable that `cargo xtask test` sets; fails when it is missing.
pub fn tool(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `cargo xtask test`"))
}
