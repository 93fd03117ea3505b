//! The built server as a child process.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;

/// What a start may take on a loaded machine.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The program that is built here.
pub(crate) const BUILT: &str = env!("CARGO_BIN_EXE_events-db");

/// A server on a free port; killed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
}

impl Server {
    /// Starts `program`, such as [`BUILT`], on the database at `url`.
    pub(crate) fn start(program: impl AsRef<OsStr>, url: &str) -> Outcome<Self> {
        Self::spawn(Command::new(program).env("DATABASE_URL", url), |port| {
            ["--bind", "127.0.0.1", "--port", &port.to_string()].map(str::to_owned).to_vec()
        })
    }

    /// Starts `command` with the arguments for a port, and waits until it is ready there.
    pub(crate) fn spawn(command: &mut Command, arguments: impl Fn(u16) -> Vec<String>) -> Outcome<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let command = command.args(arguments(port)).env("RUST_LOG", "warn,sqlx=error").env_remove("AUTH_TOKEN");
        let process = command.stdin(Stdio::null()).spawn()?;
        let mut server = Self { process, port };
        let started = Instant::now();
        while !server.is_ready() {
            if let Some(status) = server.process.try_wait()? {
                return Err(format!("the server ended with {status}").into());
            }
            if started.elapsed() > READY_WITHIN {
                return Err("the server does not become ready".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    fn is_ready(&self) -> bool {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _sent = stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
            let _cut = stream.read_to_string(&mut answer);
        }
        answer.starts_with("HTTP/1.1 200")
    }

    /// Memory that is resident now, in KiB.
    pub(crate) fn resident_kib(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.process.kill();
        let _status = self.process.wait();
    }
}
