//! The thread that the writer has for itself.
//!
//! Every append waits for the one that is being written. A thread that also served requests would look late at what the
//! database has answered, and an embedded database works on the thread that calls it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};
use tokio::time::Instant;

use crate::adapters::repository::sea_orm::append::Writer;
use crate::ports::event_repository::Fault;

/// The way to the writer. Its thread ends when this is dropped, once the work under way is done.
pub(in crate::adapters::repository::sea_orm) struct WriterThread {
    work: mpsc::UnboundedSender<Work>,
    turn: Arc<Mutex<()>>,
}

/// Why there is no answer.
pub(in crate::adapters::repository::sea_orm) enum Unanswered {
    /// The work was not begun and never will be.
    NotBegun,
    /// The work was begun, and goes on or has panicked.
    Unknown(Fault),
}

type Work = Box<dyn for<'w> FnOnce(&'w mut Writer) -> BoxFuture<'w, ()> + Send>;

impl WriterThread {
    /// # Errors
    /// Those of the system, which gives no thread.
    pub(in crate::adapters::repository::sea_orm) async fn start(writer: Writer) -> io::Result<Self> {
        let (work, queue) = mpsc::unbounded_channel();
        let (started, outcome) = oneshot::channel();
        thread::Builder::new().name("writer".to_owned()).spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let _starter_left = started.send(runtime.as_ref().map(|_| ()).map_err(io::Error::kind));
            if let Ok(runtime) = runtime {
                write(&runtime, writer, queue);
            }
        })?;
        outcome.await.map_err(io::Error::other)??;
        Ok(Self { work, turn: Arc::default() })
    }

    /// Keeps the writer from its next work as long as this is held.
    pub(in crate::adapters::repository::sea_orm) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Has the writer do `work` when it is its turn, and waits for it as long as `patience` says. What is begun goes on when
    /// nobody waits.
    pub(in crate::adapters::repository::sea_orm) async fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl for<'w> FnOnce(&'w mut Writer) -> BoxFuture<'w, T> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let deadline = Instant::now() + patience;
        let Ok(turn) = tokio::time::timeout_at(deadline, self.turn()).await else { return Err(Unanswered::NotBegun) };
        let (answer, answered) = oneshot::channel();
        if self.work.send(answering(work, answer, turn)).is_err() {
            return Err(Unanswered::NotBegun);
        }
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_dropped)) => Err(Unanswered::Unknown("the writer has panicked".into())),
            Err(late) => Err(Unanswered::Unknown(late.into())),
        }
    }
}

fn answering<T: Send + 'static>(
    work: impl for<'w> FnOnce(&'w mut Writer) -> BoxFuture<'w, T> + Send + 'static,
    answer: oneshot::Sender<T>,
    turn: OwnedMutexGuard<()>,
) -> Work {
    Box::new(|writer| {
        let working = work(writer);
        Box::pin(async {
            let done = working.await;
            drop(turn);
            let _caller_left = answer.send(done);
        })
    })
}

fn write(runtime: &Runtime, mut writer: Writer, mut queue: mpsc::UnboundedReceiver<Work>) {
    runtime.block_on(async {
        while let Some(work) = queue.recv().await {
            // A writer that panics has lost its connection with all that was open in it, and takes another one.
            let _panic = AssertUnwindSafe(work(&mut writer)).catch_unwind().await;
        }
    });
}

#[cfg(test)]
mod tests {
    use sea_orm::sqlx::sqlite::SqliteConnectOptions;

    use super::*;
    use crate::adapters::repository::sea_orm::append::{Connector, RetryCounts};

    const SOON: Duration = Duration::from_millis(10);
    const LONG: Duration = Duration::from_mins(1);

    async fn writer() -> WriterThread {
        let connector = Connector::Sqlite(Box::new(SqliteConnectOptions::new()));
        WriterThread::start(Writer::new(connector, Arc::new(RetryCounts::default()))).await.unwrap()
    }

    #[tokio::test]
    async fn what_has_no_turn_in_time_is_never_begun() {
        let writer = writer().await;
        let turn = writer.turn().await;
        let (begun, never) = oneshot::channel();
        let refused = writer.run(SOON, move |_| Box::pin(async move { begun.send(7).unwrap() })).await;
        assert!(matches!(refused, Err(Unanswered::NotBegun)));
        assert!(never.await.is_err());
        drop(turn);
        assert_eq!(writer.run(LONG, |_| Box::pin(async { 7 })).await.ok(), Some(7));
    }

    #[tokio::test]
    async fn what_is_begun_goes_on_when_nobody_waits() {
        let writer = writer().await;
        let (disk, answers) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel();
        // As an embedded database does, it keeps the thread to itself.
        let late = writer.run(SOON, move |_| {
            Box::pin(async move {
                let answer: i32 = answers.recv().unwrap();
                end.send(answer).unwrap();
            })
        });
        assert!(matches!(late.await, Err(Unanswered::Unknown(_))));
        assert!(matches!(writer.run(SOON, |_| Box::pin(async {})).await, Err(Unanswered::NotBegun)), "it is not done");
        disk.send(7).unwrap();
        assert_eq!(ended.await, Ok(7));
        assert!(writer.run(LONG, |_| Box::pin(async {})).await.is_ok());
    }

    #[tokio::test]
    async fn panic_leaves_the_outcome_unknown_and_the_thread_alive() {
        let writer = writer().await;
        let torn = writer.run(LONG, |_| Box::pin(async { panic!("as the test wants") })).await;
        assert!(matches!(torn, Err::<(), _>(Unanswered::Unknown(_))));
        assert_eq!(writer.run(LONG, |_| Box::pin(async { 7 })).await.ok(), Some(7));
    }
}
