//! The one writer of this process: its connection, and what becomes of a group when the database does not just say yes.

mod connection;
mod mysql;
mod postgres;
mod restore;
mod rows;
mod sqlite;
mod thread;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sea_orm::sqlx;

use crate::adapters::repository::sea_orm::fault::Effect;
use crate::domain::append::{AppendOutcome, AppendRequest, Appended, LogView, plan};
use crate::domain::event::NewEvent;
use crate::domain::position::Position;
use crate::ports::event_repository::{AppendError, Fault, GroupAppended};

pub(super) use connection::Connector;
use connection::{Commit, Committed, Failure, WriterConnection, WriterId, Written, log_is_full};
pub(super) use restore::PATIENCE as RESTORE_PATIENCE;
pub(super) use rows::Key;
pub(super) use rows::key as key_of;
use rows::rows;
pub(super) use thread::{Unanswered, WriterThread};

/// How long the database may take for a group, repetitions and all.
const APPEND_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an append is waited for: the writer ends by itself, unless the disk of an embedded database does not answer.
pub(super) const PATIENCE: Duration = APPEND_TIMEOUT.saturating_add(Duration::from_secs(1));

/// How long a commit may take to answer before it is settled over another connection, which waits for it if it is under
/// way: so that there is time left for that.
const COMMIT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Longest wait between two attempts.
const CONFLICT_WAIT_MAX: Duration = Duration::from_millis(50);

/// An idle connection is not trusted longer than this: somebody between may have dropped it. With an embedded
/// database there is nobody between.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// How often groups were written again, by cause.
#[derive(Debug, Default)]
pub struct RetryCounts {
    /// Another writer was in the way.
    pub conflicts: AtomicU64,
    /// A source and id were stored already, or a foreign writer took a position.
    pub duplicate_keys: AtomicU64,
    /// The connection broke before or after the commit was sent.
    pub lost_connections: AtomicU64,
}

/// Writes groups, one after the other.
pub(super) struct Writer {
    connector: Connector,
    id: WriterId,
    connection: Option<Held>,
    /// The number of the last commit that was tried.
    number: i64,
    retries: Arc<RetryCounts>,
}

/// An open connection.
struct Held {
    connection: Box<dyn WriterConnection>,
    fence: i64,
    used: Instant,
}

/// A commit whose answer did not come.
struct Unsettled {
    number: i64,
    outcomes: Settle,
    fault: Fault,
}

/// How the outcomes follow from a commit that turns out to have happened.
enum Settle {
    /// Every event was new, and they follow each other up to the commit's position.
    AllNew,
    Known(Vec<AppendOutcome>),
}

impl Writer {
    pub(super) fn new(connector: Connector, retries: Arc<RetryCounts>) -> Self {
        Self { connector, id: WriterId::random(), connection: None, number: 0, retries }
    }

    /// Carries out `requests` as the port promises.
    pub(super) async fn append(&mut self, requests: &[AppendRequest]) -> Result<GroupAppended, AppendError> {
        let deadline = tokio::time::Instant::now() + APPEND_TIMEOUT;
        let mut is_checked = must_be_checked(requests);
        let mut unsettled: Option<Unsettled> = None;
        for attempt in 1.. {
            let connected = within(deadline, self.connect()).await;
            let (mut held, committed) = match (connected, &unsettled) {
                (Ok(connected), _) => connected,
                (Err(_), Some(_)) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(conflict_wait(attempt)).await;
                    continue;
                }
                (Err(_), Some(_)) => break,
                (Err(error), None) => return Err(AppendError::Unavailable(error.into())),
            };
            if let (Some(pending), Some(committed)) = (unsettled.take(), committed)
                && committed.number == pending.number
            {
                self.keep(held);
                let outcomes = pending.outcomes.at(committed.position, requests);
                return Ok(GroupAppended { outcomes, recorded: None });
            }
            self.number += 1;
            let commit = Commit { writer: self.id, fence: held.fence, number: self.number };
            let failure = match attempt_append(&mut held, &commit, requests, is_checked, deadline).await {
                Ok(appended) => {
                    self.keep(held);
                    return Ok(appended);
                }
                Err(failure) => failure,
            };
            if let Some(outcomes) = failure.settle {
                count(&self.retries.lost_connections);
                let fault = failure.error.into();
                unsettled = Some(Unsettled { number: commit.number, outcomes, fault });
                continue;
            }
            let effect = Effect::of_driver(&failure.error);
            match effect {
                Effect::Lost => {}
                // Perhaps not for good, but by this server: one that has become read-only keeps its connections, while its
                // name leads to another one already.
                Effect::Refused if !self.connector.is_embedded() => {}
                Effect::Conflict | Effect::DuplicateKey | Effect::Rejected | Effect::Refused => {
                    if within(deadline, held.connection.rollback()).await.is_ok() {
                        self.keep(held);
                    }
                }
            }
            match effect {
                Effect::Conflict => count(&self.retries.conflicts),
                Effect::DuplicateKey => {
                    count(&self.retries.duplicate_keys);
                    if !std::mem::replace(&mut is_checked, true) {
                        // Nobody is in the way: it is looked at closer.
                        continue;
                    }
                }
                Effect::Lost => count(&self.retries.lost_connections),
                Effect::Rejected => return Err(AppendError::Rejected(failure.error.into())),
                Effect::Refused => return Err(AppendError::Unavailable(failure.error.into())),
            }
            let wait = conflict_wait(attempt);
            if tokio::time::Instant::now() + wait >= deadline {
                return Err(AppendError::Unavailable(failure.error.into()));
            }
            tokio::time::sleep(wait).await;
        }
        match unsettled {
            Some(Unsettled { fault, .. }) => Err(AppendError::OutcomeUnknown(fault)),
            None => Err(AppendError::Unavailable("the database does not answer in time".into())),
        }
    }

    /// The held connection, or a new one together with the last commit that this writer made over any.
    async fn connect(&mut self) -> Result<(Held, Option<Committed>), sqlx::Error> {
        if let Some(held) =
            self.connection.take().filter(|held| self.connector.is_embedded() || held.used.elapsed() < IDLE_MAX)
        {
            return Ok((held, None));
        }
        let mut connection = self.connector.connect().await?;
        let fenced = connection.fence(self.id, unix_seconds()).await?;
        // A process of the same writer id is only ever this one, so numbers never fall.
        self.number = fenced.committed.map_or(self.number, |committed| committed.number.max(self.number));
        Ok((Held { connection, fence: fenced.fence, used: Instant::now() }, fenced.committed))
    }

    fn keep(&mut self, held: Held) {
        self.connection = Some(Held { used: Instant::now(), ..held });
    }
}

/// Why an attempt has no outcomes.
struct AttemptFailure {
    error: sqlx::Error,
    /// Set when the commit may have happened: what the outcomes are if it did.
    settle: Option<Settle>,
}

impl From<sqlx::Error> for AttemptFailure {
    fn from(error: sqlx::Error) -> Self {
        Self { error, settle: None }
    }
}

async fn attempt_append(
    held: &mut Held,
    commit: &Commit,
    requests: &[AppendRequest],
    is_checked: bool,
    deadline: tokio::time::Instant,
) -> Result<GroupAppended, AttemptFailure> {
    let connection = held.connection.as_mut();
    if is_checked {
        return append_checked(connection, commit, requests, deadline).await;
    }
    let events: Vec<&NewEvent> = requests.iter().flat_map(|request| &request.events).collect();
    let rows = rows(&events);
    match within_commit(settled_by(deadline), connection.append_new(commit, &rows)).await {
        Ok(Written { last, recorded }) => {
            Ok(GroupAppended { outcomes: Settle::AllNew.at(last, requests), recorded: Some(recorded) })
        }
        Err(Failure { error, may_be_committed }) => {
            Err(AttemptFailure { error, settle: may_be_committed.then_some(Settle::AllNew) })
        }
    }
}

/// Looks before it inserts: the log stands still while the head is locked.
async fn append_checked(
    connection: &mut dyn WriterConnection,
    commit: &Commit,
    requests: &[AppendRequest],
    deadline: tokio::time::Instant,
) -> Result<GroupAppended, AttemptFailure> {
    let head = within(deadline, connection.lock_head()).await?;
    let view = within(deadline, view(connection, requests)).await?;
    let count: usize = requests.iter().map(|request| request.events.len()).sum();
    let first = head.first_free(count).ok_or_else(log_is_full)?;
    let plan = plan(requests, first, &view);
    if plan.new_events.is_empty() {
        within(deadline, connection.rollback()).await?;
        return Ok(GroupAppended { outcomes: plan.outcomes, recorded: None });
    }
    let rows = rows(&plan.new_events);
    let recorded = within(deadline, connection.insert(commit, &head, first, &rows)).await?;
    match within_commit(settled_by(deadline), connection.commit()).await {
        Ok(()) => Ok(GroupAppended { outcomes: plan.outcomes, recorded: Some(recorded) }),
        Err(Failure { error, may_be_committed }) => {
            Err(AttemptFailure { error, settle: may_be_committed.then_some(Settle::Known(plan.outcomes)) })
        }
    }
}

async fn view(connection: &mut dyn WriterConnection, requests: &[AppendRequest]) -> Result<LogView, sqlx::Error> {
    let events: Vec<&NewEvent> = requests.iter().flat_map(|request| &request.events).collect();
    let keys: HashSet<Key> = rows(&events).iter().filter_map(|row| row.key).collect();
    let subjects: HashSet<_> =
        requests.iter().flat_map(|request| &request.preconditions).map(|precondition| &precondition.subject).collect();
    let keys: Vec<Key> = keys.into_iter().collect();
    let subjects: Vec<_> = subjects.into_iter().collect();
    let stored = connection.stored(&keys).await?;
    let lasts = connection.last_positions(&subjects).await?;
    Ok(LogView { stored, last_positions: subjects.into_iter().cloned().zip(lasts).collect() })
}

/// Whether the log must be looked at before anything is inserted. Keys alone need no look: the index tells.
fn must_be_checked(requests: &[AppendRequest]) -> bool {
    let mut keys = HashSet::new();
    let events = requests.iter().flat_map(|request| &request.events);
    requests.iter().any(|request| !request.preconditions.is_empty())
        || events.filter_map(NewEvent::key).any(|key| !keys.insert(key))
        || requests.iter().all(|request| request.events.is_empty())
}

impl Settle {
    /// The outcomes of the commit whose last event is at `last`.
    fn at(self, last: Position, requests: &[AppendRequest]) -> Vec<AppendOutcome> {
        if let Self::Known(outcomes) = self {
            return outcomes;
        }
        let count: usize = requests.iter().map(|request| request.events.len()).sum();
        let mut next = last.get() - i64::try_from(count).unwrap_or(i64::MAX) + 1;
        let mut appended = || {
            let position = Position::new(next).expect("a commit's events lie above the head before it");
            next += 1;
            Appended { position, is_duplicate: false }
        };
        requests.iter().map(|request| Ok(request.events.iter().map(|_| appended()).collect())).collect()
    }
}

/// Whatever fails at the deadline has certainly not sent its commit.
async fn within<T>(
    deadline: tokio::time::Instant,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| Err(too_late()))
}

/// A commit without an answer in time may have happened.
async fn within_commit<T>(
    deadline: tokio::time::Instant,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| Err(Failure { error: too_late(), may_be_committed: true });
    tokio::time::timeout_at(deadline, work).await.unwrap_or_else(late)
}

/// When a commit must have answered so that there is time left to settle it before `deadline`.
fn settled_by(deadline: tokio::time::Instant) -> tokio::time::Instant {
    deadline.min(tokio::time::Instant::now() + COMMIT_TIMEOUT)
}

fn too_late() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the database does not answer in time"))
}

/// Up to 5 ms more with each attempt, spread so that two in each other's way part.
fn conflict_wait(attempt: u32) -> Duration {
    let spread =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()) / 1_000 % 5_000);
    (Duration::from_micros(spread) * attempt).min(CONFLICT_WAIT_MAX)
}

fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
