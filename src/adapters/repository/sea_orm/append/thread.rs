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
pub(in crate::adapters::repository::sea_orm) enum NoAnswer {
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
    ) -> Result<T, NoAnswer> {
        let deadline = Instant::now() + patience;
        let Ok(turn) = tokio::time::timeout_at(deadline, self.turn()).await else { return Err(NoAnswer::NotBegun) };
        let (answer, answered) = oneshot::channel();
        if self.work.send(answering(work, answer, turn)).is_err() {
            return Err(NoAnswer::NotBegun);
        }
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_dropped)) => Err(NoAnswer::Unknown("the writer has panicked".into())),
            Err(late) => Err(NoAnswer::Unknown(late.into())),
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
