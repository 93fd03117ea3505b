//! Lets go of a response whose reader takes nothing.
//!
//! hyper asks a body for more only when the reader has room. So the task that carries the response watches beside it, and
//! drops the connection (HTTP/1) or resets the stream (HTTP/2).

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::adapters::response_cut::ResponseCut;
use http::Response;

/// How long a response may take to end by itself once it is to be given up: it may have a last word for a reader that
/// takes it.
const GRACE: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// What the task has last been told of the response that it carries.
    static NOTE: RefCell<Option<Note>>;
}

/// What ends a response before its time, if anything.
struct Note(Option<ResponseCut>);

/// Notes what ends `response`, which the task that asks carries from now on.
pub(super) fn note<B>(response: &Response<B>) {
    let cut = response.extensions().get::<ResponseCut>().cloned();
    // Outside of such a task there is nothing that could be cut.
    let _nobody_watches = NOTE.try_with(|note| note.replace(Some(Note(cut))));
}

/// Carries out `work`, which answers requests, and gives it up with `None` if a response is to be given up and does not
/// end by itself.
pub(super) fn unless_cut<F: Future>(work: F) -> impl Future<Output = Option<F::Output>> {
    NOTE.scope(RefCell::new(None), Watched { work: Box::pin(work), over: None })
}

struct Watched<F> {
    work: Pin<Box<F>>,
    /// Done when the response that is carried has to be given up.
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<F: Future> Future for Watched<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.work.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        // A response that has come meanwhile is watched from now on, and the one before it no longer.
        if let Some(Note(cut)) = NOTE.with(RefCell::take) {
            self.over = cut.map(|cut| Box::pin(cut.is_due(GRACE)) as _);
        }
        match &mut self.over {
            Some(over) => over.as_mut().poll(context).map(|()| None),
            None => Poll::Pending,
        }
    }
}
