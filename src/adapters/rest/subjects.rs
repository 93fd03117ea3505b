//! The calls under `/subjects`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;

use crate::adapters::api_error::ApiError;
use crate::adapters::cloudevents::write_json_text;
use crate::adapters::rest::parameters::Query;
use crate::adapters::rest::{RestState, json};
use crate::domain::attribute::Subject;
use crate::domain::position::Position;
use crate::domain::service::EventService;
use crate::ports::event_repository::ReadError;

/// Subjects that are held in memory at once on their way to a client: at most about a megabyte.
const PAGE_SUBJECTS: usize = 1_000;

/// What narrows a read but not a deletion.
const NOT_FOR_DELETIONS: [&str; 7] = ["from", "from_time", "order", "latest", "after_subject", "min_position", "limit"];

/// Where a listing stands.
enum Listing {
    /// The first page is read and to be written.
    First(Vec<Subject>),
    /// The page after this subject is to be read.
    After(Subject),
    /// The end is written.
    Done,
}

/// `GET /subjects`.
///
/// The first page is read before the status is sent. A store that goes away later breaks the body off, so that a part
/// cannot pass for the whole.
pub(super) async fn list(State(state): State<Arc<RestState>>) -> Result<Response, ApiError> {
    let subjects = state.service.subjects(None, PAGE_SUBJECTS).await?;
    if subjects.len() < PAGE_SUBJECTS {
        return Ok(json(write_page(&subjects, true)));
    }
    let start = (state.service.clone(), Listing::First(subjects));
    let chunks = stream::try_unfold(start, |(service, listing)| async move {
        let next = next_chunk(&service, listing).await.map_err(ApiError::from).inspect_err(ApiError::log)?;
        Ok::<_, ApiError>(next.map(|(chunk, listing)| (chunk, (service, listing))))
    });
    Ok(json(Body::from_stream(chunks)))
}

/// `POST /subjects/delete`.
pub(super) async fn delete(State(state): State<Arc<RestState>>, query: Query) -> Result<Response, ApiError> {
    query.refuse(&NOT_FOR_DELETIONS, "is not for deletions")?;
    let from = query.after_id()?.unwrap_or(Position::FIRST);
    let deleted = state.service.delete(query.filter()?, from).await?;
    Ok(json(format!("{{\"status\":\"ok\",\"deleted\":{deleted}}}")))
}

async fn next_chunk(service: &EventService, listing: Listing) -> Result<Option<(Bytes, Listing)>, ReadError> {
    let (subjects, is_first) = match listing {
        Listing::First(subjects) => (subjects, true),
        Listing::After(subject) => (service.subjects(Some(subject), PAGE_SUBJECTS).await?, false),
        Listing::Done => return Ok(None),
    };
    let chunk = write_page(&subjects, is_first).into();
    let rest = match subjects.into_iter().nth(PAGE_SUBJECTS - 1) {
        Some(last) => Listing::After(last),
        None => Listing::Done,
    };
    Ok(Some((chunk, rest)))
}

/// A piece of the array: a page that is not full is the last one.
fn write_page(subjects: &[Subject], is_first: bool) -> Vec<u8> {
    let bytes: usize = subjects.iter().map(|subject| subject.as_str().len() + 3).sum();
    let mut out = Vec::with_capacity(bytes + 2);
    if is_first {
        out.push(b'[');
    }
    for (index, subject) in subjects.iter().enumerate() {
        if index > 0 || !is_first {
            out.push(b',');
        }
        write_json_text(&mut out, subject.as_str());
    }
    if subjects.len() < PAGE_SUBJECTS {
        out.push(b']');
    }
    out
}
