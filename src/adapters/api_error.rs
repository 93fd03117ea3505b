//! The one table that turns errors into HTTP and gRPC answers.

use crate::domain::append::AppendRefusal;
use crate::domain::attribute::InvalidAttribute;
use crate::domain::position::Position;
use crate::domain::service::AppendEventsError;
use crate::domain::subscription::{StartError, SubscribeError, SubscriptionEnded};
use crate::error_chain::error_chain;
use crate::ports::authenticator::AuthenticationError;
use crate::ports::event_repository::{AppendError, DeleteError, Fault, ReadError};

/// What happened, as clients can tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiErrorKind {
    /// A field, parameter or header is wrong.
    InvalidArgument,
    /// The caller is not let in.
    Unauthenticated,
    /// There is no such event or path.
    NotFound,
    /// The path is right, the method is not.
    MethodNotAllowed,
    /// The request or its event is larger than allowed.
    TooLarge,
    /// The body's media type is not one we read.
    UnsupportedMediaType,
    /// A precondition does not hold; nothing is stored.
    PreconditionFailed,
    /// The source and id of an event are taken by another one; nothing is stored.
    IdConflict,
    /// All stream slots are taken.
    TooManyStreams,
    /// Too many events wait to be stored; nothing is stored.
    QueueFull,
    /// The log has not come to the position that a read asks for.
    PositionNotReached,
    /// A reader took nothing for too long.
    SlowReader,
    /// The store cannot be reached; nothing was done.
    Unavailable,
    /// The events may or may not be stored.
    OutcomeUnknown,
    /// A fault of ours.
    Internal,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiErrorRow {
    /// Last segment of the problem type (RFC 9457).
    pub slug: &'static str,
    /// Short text of the kind (RFC 9457 `title`).
    pub title: &'static str,
    /// HTTP status.
    pub http_status: u16,
    /// gRPC status code, as the number on the wire.
    pub grpc_code: i32,
    /// After how many seconds repeating the request makes sense, if it does.
    pub retry_after_seconds: Option<u32>,
}

/// A part of an error that a program may want: a member of the problem object (RFC 9457, "Extension Members").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// The subject in question.
    Subject(String),
    /// The position of its last event; `None` when it has no events.
    LastPosition(Option<i64>),
    /// The position of the event in question.
    Position(i64),
}

/// An error on its way to a client.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct ApiError {
    /// What happened.
    pub kind: ApiErrorKind,
    /// What the client is told.
    pub detail: String,
    /// The field, parameter or header that is wrong, if it is one.
    pub field: Option<String>,
    /// What the client is told besides, for programs.
    pub members: Vec<Member>,
    /// What only the log is told.
    #[source]
    pub cause: Option<Fault>,
}

impl ApiErrorKind {
    /// How this kind looks on the wire.
    #[must_use]
    pub const fn row(self) -> ApiErrorRow {
        const fn row(slug: &'static str, title: &'static str, http_status: u16, grpc_code: i32) -> ApiErrorRow {
            ApiErrorRow { slug, title, http_status, grpc_code, retry_after_seconds: None }
        }
        const fn retry(row: ApiErrorRow) -> ApiErrorRow {
            ApiErrorRow { retry_after_seconds: Some(1), ..row }
        }
        match self {
            Self::InvalidArgument => row("invalid-argument", "Invalid argument", 400, 3),
            Self::Unauthenticated => row("unauthenticated", "Unauthenticated", 401, 16),
            Self::NotFound => row("not-found", "Not found", 404, 5),
            Self::MethodNotAllowed => row("method-not-allowed", "Method not allowed", 405, 12),
            Self::TooLarge => row("too-large", "Content too large", 413, 8),
            Self::UnsupportedMediaType => row("unsupported-media-type", "Unsupported media type", 415, 3),
            Self::PreconditionFailed => row("precondition-failed", "Precondition failed", 412, 9),
            Self::IdConflict => row("id-conflict", "Id conflict", 409, 6),
            Self::QueueFull => retry(row("queue-full", "Queue full", 429, 8)),
            Self::TooManyStreams => retry(row("too-many-streams", "Too many streams", 429, 8)),
            Self::PositionNotReached => retry(row("position-not-reached", "Position not reached", 503, 14)),
            Self::SlowReader => row("slow-reader", "Slow reader", 503, 14),
            Self::Unavailable => retry(row("unavailable", "Unavailable", 503, 14)),
            Self::OutcomeUnknown => retry(row("outcome-unknown", "Outcome unknown", 503, 14)),
            Self::Internal => row("internal", "Internal error", 500, 13),
        }
    }
}

impl ApiError {
    /// An error that says `detail` to the client.
    pub fn new(kind: ApiErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), field: None, members: Vec::new(), cause: None }
    }

    /// A field, parameter or header called `name` is wrong; `problem` continues the sentence.
    pub fn invalid(name: &str, problem: impl std::fmt::Display) -> Self {
        let field = Some(name.to_owned());
        Self { field, ..Self::new(ApiErrorKind::InvalidArgument, format!("{name} {problem}")) }
    }

    /// The same of the event at `index` of a batch.
    #[must_use]
    pub fn of_event(self, index: usize) -> Self {
        self.within(&format!("[{index}]."))
    }

    /// The same of a field whose name begins with `prefix`.
    #[must_use]
    pub fn within(self, prefix: &str) -> Self {
        let field = self.field.map(|field| format!("{prefix}{field}"));
        Self { detail: format!("{prefix}{}", self.detail), field, ..self }
    }

    /// The attribute called `name` is wrong.
    #[must_use]
    pub fn attribute(name: &str, problem: InvalidAttribute) -> Self {
        Self::invalid(name, problem)
    }

    /// Tells the log what is kept from the client; refusals keep nothing. Called once, where the answer is rendered.
    pub fn log(&self) {
        let Some(cause) = &self.cause else { return };
        let (kind, cause) = (self.kind.row().slug, error_chain(cause.as_ref()));
        tracing::warn!(kind, cause, "a request failed: {self}");
    }

    fn caused(kind: ApiErrorKind, detail: &str, cause: Fault) -> Self {
        Self { cause: Some(cause), ..Self::new(kind, detail) }
    }
}

impl From<AuthenticationError> for ApiError {
    fn from(error: AuthenticationError) -> Self {
        Self::new(ApiErrorKind::Unauthenticated, error.to_string())
    }
}

impl From<AppendEventsError> for ApiError {
    fn from(error: AppendEventsError) -> Self {
        match error {
            AppendEventsError::TooLarge { .. }
            | AppendEventsError::TooManyEvents { .. }
            | AppendEventsError::TooManyPreconditions { .. }
            | AppendEventsError::BatchTooLarge { .. } => Self::new(ApiErrorKind::TooLarge, error.to_string()),
            AppendEventsError::QueueFull { .. } => Self::new(ApiErrorKind::QueueFull, error.to_string()),
            AppendEventsError::Overdue | AppendEventsError::ShuttingDown => {
                Self::new(ApiErrorKind::Unavailable, error.to_string())
            }
            AppendEventsError::Refused(refusal) => refusal.into(),
            AppendEventsError::Store(error) => {
                let (kind, detail) = match *error {
                    AppendError::Rejected(_) => {
                        (ApiErrorKind::InvalidArgument, "the event store does not take the event, nothing is stored")
                    }
                    AppendError::Unavailable(_) => {
                        (ApiErrorKind::Unavailable, "the event store is unavailable, nothing is stored")
                    }
                    AppendError::OutcomeUnknown(_) => (
                        ApiErrorKind::OutcomeUnknown,
                        "the event store went away while it stored the event: it may be stored or not",
                    ),
                };
                // The cause is one for the whole group, and logged with that.
                Self::new(kind, detail)
            }
        }
    }
}

impl From<AppendRefusal> for ApiError {
    fn from(refusal: AppendRefusal) -> Self {
        let detail = format!("{refusal}, nothing is stored");
        let (kind, members) = match refusal {
            AppendRefusal::Precondition { subject, last } => (
                ApiErrorKind::PreconditionFailed,
                vec![Member::Subject(subject.into_string()), Member::LastPosition(last.map(Position::get))],
            ),
            AppendRefusal::IdConflict { position, .. } => {
                (ApiErrorKind::IdConflict, vec![Member::Position(position.get())])
            }
        };
        Self { members, ..Self::new(kind, detail) }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(cause) => {
                Self::caused(ApiErrorKind::Unavailable, "the event store is unavailable", cause)
            }
            ReadError::Corrupt(cause) => Self::caused(ApiErrorKind::Internal, "a stored event cannot be read", cause),
        }
    }
}

impl From<DeleteError> for ApiError {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::Unavailable(cause) => Self::caused(
                ApiErrorKind::Unavailable,
                "the event store is unavailable, a part of the events may be deleted",
                cause,
            ),
        }
    }
}

impl From<SubscribeError> for ApiError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::TooMany { .. } => Self::new(ApiErrorKind::TooManyStreams, error.to_string()),
            SubscribeError::Start(error) => error.into(),
        }
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NotReached { .. } => Self::new(ApiErrorKind::PositionNotReached, error.to_string()),
            StartError::Read(error) => error.into(),
        }
    }
}

impl From<SubscriptionEnded> for ApiError {
    fn from(error: SubscriptionEnded) -> Self {
        match error {
            SubscriptionEnded::ShuttingDown => Self::new(ApiErrorKind::Unavailable, error.to_string()),
            SubscriptionEnded::TooSlow => Self::new(ApiErrorKind::SlowReader, error.to_string()),
            SubscriptionEnded::Corrupt(error) => error.into(),
        }
    }
}
