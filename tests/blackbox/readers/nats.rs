//! A NATS server of one test alone, and clients that abuse it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::harness::{CEILING, tool};
use crate::load::PAUSE;
use crate::private_database::free_port;
use crate::seeded::Random;

/// Where replicas tell each other their head and the count of deletions.
const SUBJECT: &str = "eventsdb.head";

/// A running server. It dies with the thread that started it.
pub struct Nats {
    pub port: u16,
    process: Child,
}

impl Nats {
    /// Starts a server and waits until it takes connections.
    pub async fn start(random: &mut Random) -> Self {
        let port = free_port(random);
        let nats = Self { port, process: spawn(port) };
        nats.wait_until_it_listens().await;
        nats
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills the server, and starts it again on the same port after a while.
    pub async fn kill_and_restart(&mut self, after: Duration) {
        assert!(self.process.try_wait().unwrap().is_none(), "NATS ended by itself");
        self.kill();
        sleep(after).await;
        self.process = spawn(self.port);
        self.wait_until_it_listens().await;
    }

    /// Publishes hints that are wrong, far faster than events come.
    pub async fn flood(&self, random: &mut Random) {
        let mut socket = TcpStream::connect(self.address()).await.unwrap();
        socket.write_all(b"CONNECT {\"verbose\":false}\r\n").await.unwrap();
        let mut answers = vec![0; 4_096];
        loop {
            let mut hints = Vec::new();
            for _ in 0..random.below(60) {
                let hint = false_hint(random);
                hints.extend(format!("PUB {SUBJECT} {}\r\n", hint.len()).into_bytes());
                hints.extend(hint);
                hints.extend(b"\r\n");
            }
            socket.write_all(&hints).await.unwrap();
            tokio::select! {
                // The greeting, and questions whether this client lives.
                count = socket.read(&mut answers) => assert_ne!(count.unwrap(), 0, "NATS hung up"),
                () = sleep(Duration::from_millis(random.below(20))) => {}
            }
        }
    }

    async fn wait_until_it_listens(&self) {
        let started = Instant::now();
        while TcpStream::connect(self.address()).await.is_err() {
            assert!(started.elapsed() < CEILING, "NATS does not start");
            sleep(PAUSE).await;
        }
    }

    fn kill(&mut self) {
        let _already_gone = self.process.kill();
        self.process.wait().unwrap();
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16) -> Child {
    let mut command = Command::new(tool("EVENTS_DB_TEST_SETPRIV"));
    command.args(["--pdeathsig", "KILL", "--"]).arg(tool("EVENTS_DB_TEST_NATS_SERVER"));
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn false_hint(random: &mut Random) -> Vec<u8> {
    let near = |random: &mut Random| random.below(20_000);
    match random.below(10) {
        0 => Vec::new(),
        1 => (0..random.below(64)).map(|_| random.next().to_le_bytes()[0]).collect(),
        2 => vec![b'9'; 70_000],
        3 => format!("{} 0", i64::MAX).into_bytes(),
        4 => format!("{} {}", u64::MAX, u64::MAX).into_bytes(),
        5 => format!("-{} -1", near(random)).into_bytes(),
        6 => format!("{}", near(random)).into_bytes(),
        7 => format!("{} {}", near(random), random.below(3)).into_bytes(),
        8 => format!("{} {}", near(random), random.next()).into_bytes(),
        _ => format!("{} 0", near(random)).into_bytes(),
    }
}
