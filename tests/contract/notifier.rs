//! What every notifier promises, on each adapter, and what NATS may not take from it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use events_db::adapters::notifier::broadcast::BroadcastNotifier;
use events_db::adapters::notifier::nats::NatsNotifier;
use events_db::domain::log_state::LogState;
use events_db::domain::position::Position;
use events_db::ports::notifier::Notifier;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Beyond this, something that must happen does not.
const CEILING: Duration = Duration::from_mins(1);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

const SUBJECT: &str = "contract.head";

type Hints = BoxStream<'static, LogState>;

fn state(head: i64) -> LogState {
    LogState { head: Position::new(head).ok(), deletions: u64::try_from(head).unwrap() / 2 }
}

/// The next hint.
async fn hint(hints: &mut Hints) -> LogState {
    timeout(CEILING, hints.next()).await.expect("a hint comes").expect("the notifier is there")
}

/// Listens until `wanted` is heard; whatever comes before it must be older.
async fn hear(hints: &mut Hints, wanted: LogState) {
    loop {
        let found = hint(hints).await;
        if found == wanted {
            return;
        }
        assert!(found.head < wanted.head, "{found:?} before {wanted:?}");
    }
}

/// Tells rising states from `first` on until one of them is heard, and returns the last one that was told and how many
/// older ones were heard: hints may be late, and lost while the server is away.
async fn tell_until_heard(teller: &dyn Notifier, hints: &mut Hints, first: i64) -> (i64, usize) {
    let started = Instant::now();
    let (mut head, mut older) = (first, 0);
    while started.elapsed() < CEILING {
        teller.notify(state(head)).await;
        if let Ok(Some(found)) = timeout(PAUSE, hints.next()).await {
            assert!(found.head <= state(head).head, "{found:?}");
            if found.head >= state(first).head {
                return (head, older);
            }
            older += 1;
        }
        head += 1;
    }
    panic!("nothing is heard of {head} hints");
}

/// A NATS server of one case alone.
struct Server {
    port: u16,
    process: Option<Child>,
}

impl Server {
    /// A port that nobody listens on yet.
    fn later() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { port, process: None }
    }

    async fn now() -> Self {
        let mut server = Self::later();
        server.start().await;
        server
    }

    async fn start(&mut self) {
        let program = std::env::var("EVENTS_DB_TEST_NATS_SERVER").expect("run this by `cargo xtask test`");
        let process = Command::new(program)
            .args(["--addr", "127.0.0.1", "--port", &self.port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.unwrap());
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(started.elapsed() < CEILING, "NATS does not start");
            sleep(PAUSE).await;
        }
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    async fn notifier(&self, subject: &str) -> NatsNotifier {
        let url = format!("nats://127.0.0.1:{}", self.port);
        NatsNotifier::connect(&[url], subject.to_owned()).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn listeners_hear_the_newest(notifier: Arc<dyn Notifier>) {
    notifier.notify(state(1)).await;
    let (mut first, mut second) = (notifier.listen(), notifier.listen());
    notifier.notify(state(2)).await;
    assert_eq!(hint(&mut first).await, state(2));
    drop(notifier.listen());
    // Far more than anybody keeps for a listener that is behind.
    for head in 3..=1_000 {
        notifier.notify(state(head)).await;
    }
    hear(&mut first, state(1_000)).await;
    hear(&mut second, state(1_000)).await;
    drop(notifier);
    assert_eq!(timeout(CEILING, first.next()).await.expect("the stream ends"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_of_a_process_hear_the_newest() {
    listeners_hear_the_newest(Arc::new(BroadcastNotifier::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_hear_the_newest_with_nats() {
    let server = Server::now().await;
    listeners_hear_the_newest(Arc::new(server.notifier(SUBJECT).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_processes_hear_on_their_subject_alone() {
    let server = Server::now().await;
    let [here, there] = [server.notifier(SUBJECT).await, server.notifier(SUBJECT).await];
    let [other, other_there] = [server.notifier("contract.other").await, server.notifier("contract.other").await];
    let (mut hints, mut other_hints) = (there.listen(), other_there.listen());
    let (told, _) = tell_until_heard(&here, &mut hints, 1).await;
    // Nothing of that comes on the other subject before what is told there.
    let (_, older) = tell_until_heard(&other, &mut other_hints, told + 1).await;
    assert_eq!(older, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_no_hints_are_overlooked() {
    let server = Server::now().await;
    let notifier = server.notifier(SUBJECT).await;
    let mut hints = notifier.listen();
    let teller = server.notifier(SUBJECT).await;
    let (told, _) = tell_until_heard(&teller, &mut hints, 1).await;
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let mut script = b"CONNECT {\"verbose\":false}\r\n".to_vec();
    for junk in [&b""[..], b"x", b"1", b"-5 0", b"9223372036854775808 0", &[0xff; 64], &[b'1'; 10_000]] {
        script.extend(format!("PUB {SUBJECT} {}\r\n", junk.len()).into_bytes());
        script.extend(junk);
        script.extend(b"\r\n");
    }
    script.extend(format!("PUB {SUBJECT} 6\r\n5000 0\r\n").into_bytes());
    socket.write_all(&script).await.unwrap();
    loop {
        let found = hint(&mut hints).await;
        if found == (LogState { head: Position::new(5_000).ok(), deletions: 0 }) {
            return;
        }
        assert!(found.head <= state(told).head, "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_away_takes_nothing_but_other_processes() {
    let mut server = Server::later();
    let [here, there] = [server.notifier(SUBJECT).await, server.notifier(SUBJECT).await];
    let (mut own, mut others) = (here.listen(), there.listen());
    here.notify(state(1)).await;
    hear(&mut own, state(1)).await;
    server.start().await;
    let (told, _) = tell_until_heard(&here, &mut others, 2).await;
    server.kill();
    here.notify(state(told + 1)).await;
    hear(&mut own, state(told + 1)).await;
    server.start().await;
    tell_until_heard(&here, &mut others, told + 2).await;
}
