//! An append under way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

use crate::domain::service::append::{AppendAnswer, AppendEventsError};
use crate::ports::event_repository::AppendError;

/// A request that was submitted. Resolves to its answer, as [`EventService::append`](super::EventService::append) gives it;
/// the work goes on when this is dropped.
#[derive(Debug)]
pub struct Submitted(Submission);

impl Submitted {
    pub(super) fn answered(answer: AppendAnswer) -> Self {
        Self(Submission::Answered(Some(answer)))
    }

    pub(super) fn queued(answer: oneshot::Receiver<AppendAnswer>) -> Self {
        Self(Submission::Queued(answer))
    }
}

#[derive(Debug)]
enum Submission {
    Answered(Option<AppendAnswer>),
    Queued(oneshot::Receiver<AppendAnswer>),
}

impl Future for Submitted {
    type Output = AppendAnswer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<AppendAnswer> {
        match &mut self.0 {
            Submission::Answered(answer) => Poll::Ready(answer.take().expect("an answer is taken once")),
            Submission::Queued(answer) => Pin::new(answer).poll(context).map(|answer| {
                let unknown = |gone: RecvError| AppendError::OutcomeUnknown(gone.into());
                answer.unwrap_or_else(|gone| Err(AppendEventsError::Store(Arc::new(unknown(gone)))))
            }),
        }
    }
}
