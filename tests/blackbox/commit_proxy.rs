//! A TCP proxy between the server and its database that loses commits, or only the answers to them.
//!
//! It knows of the protocols what it takes to tell where a message ends, which one commits, and what answers it.

mod mysql;
mod postgres;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::seeded::Random;

/// What happens to a commit that is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The database commits; its answer is dropped and both connections are closed.
    SwallowCommitAnswer,
    /// The database never hears of the commit; both connections are closed.
    DropCommit,
    /// The database commits; its answer is dropped and the connection stays open, silent.
    HoldCommitAnswer,
    /// The database answers the statements and never hears that it should commit; then both connections are closed.
    ///
    /// Only where statements and commit are one request; elsewhere this is [`Self::DropCommit`].
    AnswerWithoutCommit,
    /// The client's connection is closed first, and up to [`LATEST`] later the database hears of the commit.
    LateCommit,
}

/// How long a commit is on its way when it is late: enough for the client to come back and ask what became of it.
const LATEST: Duration = Duration::from_millis(50);

/// Which commits are hit, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    pub fault: Fault,
    pub pick: Pick,
    /// How many commits are hit before everything passes again.
    pub most: u64,
}

/// Which commits are picked.
#[derive(Debug, Clone)]
pub enum Pick {
    /// The n-th, the 2n-th and so on.
    Every(u64),
    /// By chance, so many of a hundred.
    Percent(u64, Random),
}

impl Pick {
    fn hits(&mut self, number: u64) -> bool {
        match self {
            Self::Every(step) => number.is_multiple_of(*step),
            Self::Percent(percent, random) => random.percent(*percent),
        }
    }
}

/// What the proxy has seen and done.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were opened.
    pub connections: AtomicU64,
    /// Commits that were asked for.
    pub commits: AtomicU64,
    /// Commits that were hit, in whatever way.
    pub hit: AtomicU64,
    /// Those among the hit that the database carried out, by its own word.
    pub committed: AtomicU64,
}

impl Counters {
    fn count(counter: &AtomicU64) -> u64 {
        counter.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    MySql,
    Postgres,
}

/// What a client sends as one.
enum Request {
    /// To be passed on.
    Plain(Bytes),
    /// To be answered by the proxy, with these bytes.
    Refused(&'static [u8]),
    /// A commit. Once its answer was read, the database has done it, or never will.
    Commit {
        /// To be passed on.
        bytes: Bytes,
        /// To be passed on instead so that the answer comes and the commit does not; empty where there is no such way.
        without_commit: Bytes,
    },
}

/// One message of the database.
struct Answer {
    bytes: Bytes,
    /// Whether what a commit is to commit ran to its end here, or failed.
    ends_statement: bool,
    /// Whether a request succeeded, in the last message of its answer.
    succeeded: Option<bool>,
}

/// One connection, as its messages tell.
trait Protocol: Send {
    /// Takes the next request off `buffer`; `None` until it is there in full.
    fn request(&mut self, buffer: &mut BytesMut) -> Option<Request>;

    /// Takes the next message of the database off `buffer`; `None` until it is there in full.
    fn answer(&mut self, buffer: &mut BytesMut) -> Option<Answer>;

    /// Whether every request that was sent is answered.
    fn is_idle(&self) -> bool;
}

/// A proxy in front of one database server. Its connections end when it is dropped.
pub struct CommitProxy {
    /// Where to connect instead.
    pub port: u16,
    pub counters: Arc<Counters>,
    plan: Arc<Mutex<Option<Plan>>>,
    accepting: AbortHandle,
}

impl CommitProxy {
    /// Starts to forward to `target`; everything passes.
    pub async fn start(engine: Engine, target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let counters = Arc::new(Counters::default());
        let plan = Arc::new(Mutex::new(None));
        let (counted, planned) = (Arc::clone(&counters), Arc::clone(&plan));
        let accepting = tokio::spawn(async move {
            // Dropped with this task, so that no connection outlives the proxy.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                Counters::count(&counted.connections);
                let protocol: Box<dyn Protocol> = match engine {
                    Engine::MySql => Box::new(mysql::Connection::default()),
                    Engine::Postgres => Box::new(postgres::Connection::default()),
                };
                let (target, counters, plan) = (target.clone(), Arc::clone(&counted), Arc::clone(&planned));
                connections.spawn(async move {
                    let Ok(database) = TcpStream::connect(target).await else { return };
                    let mut wire = Wire { client, database, from_client: empty(), from_database: empty(), protocol };
                    // Either side may leave at any time.
                    let _left = wire.forward(&counters, &plan).await;
                });
            }
        });
        Self { port, counters, plan, accepting: accepting.abort_handle() }
    }

    /// Hits commits from now on; `None` lets everything pass.
    pub fn set(&self, plan: Option<Plan>) {
        *self.plan.lock().unwrap() = plan;
    }
}

impl Drop for CommitProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What happens to the commit that was just asked for.
fn fate(counters: &Counters, plan: &Mutex<Option<Plan>>) -> Option<Fault> {
    let mut plan = plan.lock().unwrap();
    let number = Counters::count(&counters.commits);
    let plan = plan.as_mut()?;
    if plan.most == 0 || !plan.pick.hits(number) {
        return None;
    }
    plan.most -= 1;
    Counters::count(&counters.hit);
    Some(plan.fault)
}

fn empty() -> BytesMut {
    BytesMut::with_capacity(16 * 1024)
}

/// Both halves of one connection, and what came and is not complete.
struct Wire {
    client: TcpStream,
    database: TcpStream,
    from_client: BytesMut,
    from_database: BytesMut,
    protocol: Box<dyn Protocol>,
}

impl Wire {
    async fn forward(&mut self, counters: &Counters, plan: &Mutex<Option<Plan>>) -> io::Result<()> {
        self.client.set_nodelay(true)?;
        self.database.set_nodelay(true)?;
        loop {
            while let Some(answer) = self.protocol.answer(&mut self.from_database) {
                self.client.write_all(&answer.bytes).await?;
            }
            while let Some(request) = self.protocol.request(&mut self.from_client) {
                match request {
                    Request::Plain(bytes) => self.database.write_all(&bytes).await?,
                    Request::Refused(answer) => self.client.write_all(answer).await?,
                    Request::Commit { bytes, without_commit } => match fate(counters, plan) {
                        None => self.database.write_all(&bytes).await?,
                        Some(fault) => return self.hit(fault, &bytes, &without_commit, counters).await,
                    },
                }
            }
            let count = tokio::select! {
                count = self.client.read_buf(&mut self.from_client) => count?,
                count = self.database.read_buf(&mut self.from_database) => count?,
            };
            if count == 0 {
                return Ok(());
            }
        }
    }

    /// Ends the connection around a commit.
    async fn hit(&mut self, fault: Fault, commit: &[u8], without_commit: &[u8], counters: &Counters) -> io::Result<()> {
        match fault {
            Fault::DropCommit => Ok(()),
            Fault::AnswerWithoutCommit => {
                self.database.write_all(without_commit).await?;
                while !without_commit.is_empty() && self.database.read_buf(&mut self.from_database).await? > 0 {
                    while let Some(answer) = self.protocol.answer(&mut self.from_database) {
                        self.client.write_all(&answer.bytes).await?;
                        if answer.ends_statement {
                            return Ok(());
                        }
                    }
                }
                Ok(())
            }
            Fault::LateCommit => {
                self.client.shutdown().await?;
                // From no delay at all up to the longest, in turn.
                let part = u32::try_from(counters.hit.load(Ordering::SeqCst) % 10).expect("it is below 10");
                tokio::time::sleep(LATEST * part / 9).await;
                self.database.write_all(commit).await?;
                if self.whole_answer().await? {
                    Counters::count(&counters.committed);
                }
                Ok(())
            }
            Fault::SwallowCommitAnswer | Fault::HoldCommitAnswer => {
                self.database.write_all(commit).await?;
                if self.whole_answer().await? {
                    Counters::count(&counters.committed);
                }
                if fault == Fault::HoldCommitAnswer {
                    // Until the client has lost its patience.
                    while self.client.read_buf(&mut self.from_client).await? > 0 {
                        self.from_client.clear();
                    }
                }
                Ok(())
            }
        }
    }

    /// Reads up to the end of the last answer that is due, and returns whether that was a success.
    async fn whole_answer(&mut self) -> io::Result<bool> {
        let mut succeeded = false;
        while !self.protocol.is_idle() {
            match self.protocol.answer(&mut self.from_database) {
                Some(answer) => succeeded = answer.succeeded.unwrap_or(succeeded),
                None if self.database.read_buf(&mut self.from_database).await? == 0 => return Ok(false),
                None => {}
            }
        }
        Ok(succeeded)
    }
}

/// Whether `sql` begins with `word`, in whatever case.
fn begins_with(sql: &[u8], word: &str) -> bool {
    let sql = sql.trim_ascii_start();
    sql.get(..word.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether `sql` contains `words`, in whatever case.
fn contains(sql: &[u8], words: &str) -> bool {
    sql.windows(words.len()).any(|part| part.eq_ignore_ascii_case(words.as_bytes()))
}
