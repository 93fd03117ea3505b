//! Connections that are open and silent, as a firewall leaves them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use events_db::ports::event_repository::{AppendError, EventRepository, ReadError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::foreign::{forbid_connection_of, typed};
use crate::groups::group;
use crate::reading::{append, events, exact, position};
use crate::store::Store;

/// More than a repository reads with at once.
const READS: usize = 40;

/// Every call answers within a few seconds.
const ANSWER_MAX: Duration = Duration::from_secs(8);

/// Stands between the repository and the server, and passes on what it gets.
struct Between {
    port: u16,
    /// Set for each connection once it shall be silent.
    silenced: Arc<std::sync::Mutex<Vec<Arc<AtomicBool>>>>,
}

impl Between {
    async fn start(server: (String, u16)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silenced = Arc::new(std::sync::Mutex::new(Vec::new()));
        let connections = Arc::clone(&silenced);
        tokio::spawn(async move {
            loop {
                let (ours, _) = listener.accept().await.unwrap();
                let theirs = TcpStream::connect(&server).await.unwrap();
                let is_silent = Arc::new(AtomicBool::new(false));
                connections.lock().unwrap().push(Arc::clone(&is_silent));
                let (our_half, their_half) = (ours.into_split(), theirs.into_split());
                tokio::spawn(pass(our_half.0, their_half.1, Arc::clone(&is_silent)));
                tokio::spawn(pass(their_half.0, our_half.1, is_silent));
            }
        });
        Self { port, silenced }
    }

    /// How many connections there were.
    fn connections(&self) -> usize {
        self.silenced.lock().unwrap().len()
    }

    /// From now on nothing passes over the connections that are open; later ones are not concerned.
    fn silence(&self) {
        for is_silent in self.silenced.lock().unwrap().drain(..) {
            is_silent.store(true, Ordering::SeqCst);
        }
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    is_silent: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        if is_silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// Reads by many at once; says how many got an answer.
async fn read_by_many(repository: &Arc<dyn EventRepository>) -> usize {
    let reads: Vec<_> = (0..READS)
        .map(|_| {
            let repository = Arc::clone(repository);
            tokio::spawn(async move {
                let started = Instant::now();
                let answer = repository.get(position(1)).await;
                assert!(started.elapsed() < ANSWER_MAX, "{:?}", started.elapsed());
                match answer {
                    Ok(event) => event.is_some(),
                    Err(ReadError::Unavailable(_)) => false,
                    Err(error) => panic!("{error}"),
                }
            })
        })
        .collect();
    let mut answered = 0;
    for read in reads {
        answered += usize::from(read.await.unwrap());
    }
    answered
}

pub(crate) async fn silent_connections_take_no_place_for_long(store: &Store) {
    let between = Between::start(store.address()).await;
    let repository = store.open_through(between.port).await;
    append(&*repository, events(&["a", "b", "c"])).await;
    assert_eq!(repository.delete(exact(&["b"]), position(1), position(3)).await.unwrap(), 1);
    assert_eq!(read_by_many(&repository).await, READS);
    between.silence();
    assert!(read_by_many(&repository).await < READS);
    // Each call that got no answer has left its place to a new connection.
    let started = Instant::now();
    assert_eq!(read_by_many(&repository).await, READS);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let delete = async || repository.delete(exact(&["c"]), position(1), position(3)).await;
    assert!(delete().await.is_err());
    assert_eq!(delete().await.unwrap(), 1);
}

pub(crate) async fn reads_that_nobody_waits_for_any_more_take_no_place_for_long(store: &Store) {
    let between = Between::start(store.address()).await;
    let repository = store.open_through(between.port).await;
    append(&*repository, events(&["a"])).await;
    assert_eq!(read_by_many(&repository).await, READS);
    between.silence();
    let mut left = JoinSet::new();
    for _ in 0..READS {
        let repository = Arc::clone(&repository);
        left.spawn(async move { tokio::time::timeout(Duration::from_millis(200), repository.get(position(1))).await });
    }
    while let Some(answer) = left.join_next().await {
        assert!(answer.unwrap().is_err(), "nothing passes");
    }
    let started = Instant::now();
    while read_by_many(&repository).await < READS {
        assert!(started.elapsed() < Duration::from_secs(30), "places are still taken");
    }
}

/// Or else they would deny what the writer stores on another server.
pub(crate) async fn reads_leave_a_server_that_refuses_the_writer(store: &Store) {
    let between = Between::start(store.address()).await;
    let repository = store.open_through(between.port).await;
    append(&*repository, events(&["before"])).await;
    forbid_connection_of("first", store).await;
    assert!(group(&*repository, vec![typed("first")]).await[0].is_ok());
    assert!(repository.get(position(1)).await.unwrap().is_some());
    let before = between.connections();
    assert!(repository.get(position(1)).await.unwrap().is_some());
    assert_eq!(between.connections(), before);
    let refused = repository.append(Arc::new([typed("later")])).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert!(repository.get(position(1)).await.unwrap().is_some());
    assert_eq!(between.connections(), before + 1);
}
