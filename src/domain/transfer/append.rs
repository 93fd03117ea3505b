//! An archive behind what the log has: each event at a new position, each source and id once.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::domain::append::{AppendRefusal, AppendRequest};
use crate::domain::attribute::EventId;
use crate::domain::transfer::{ATTEMPTS, RETRY_WAIT, TransferError, Transferred};
use crate::ports::archive::{ArchiveReader, ArchivedEvent, Place};
use crate::ports::event_repository::{AppendError, EventRepository};

/// Events in one transaction.
const GROUP_EVENTS_MAX: usize = 1_000;

/// Bytes of events in one transaction.
const GROUP_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Appends the events of `archive`, each of at most `event_bytes_max`. An event that came without an id is known by its
/// position in the archive's log, so that an import that was cut is simply begun again. `on_group` hears how far it has
/// come; `stop` ends it between two groups.
///
/// # Errors
/// As [`TransferError`] says.
pub async fn append(
    repository: &dyn EventRepository,
    archive: &mut dyn ArchiveReader,
    event_bytes_max: usize,
    mut on_group: impl FnMut(&Transferred),
    stop: &CancellationToken,
) -> Result<Transferred, TransferError> {
    let mut done = Transferred::default();
    while !stop.is_cancelled() {
        let next = tokio::select! {
            next = archive.next() => next?,
            () = stop.cancelled() => break,
        };
        let Some(events) = next else {
            done.is_complete = true;
            break;
        };
        let (mut group, mut bytes) = (Vec::new(), 0);
        for archived in events {
            let (place, request) = request(archived, event_bytes_max)?;
            let size = request.size_bytes();
            if !group.is_empty() && (group.len() == GROUP_EVENTS_MAX || bytes + size > GROUP_BYTES_MAX) {
                put(repository, std::mem::take(&mut group), &mut done).await?;
                bytes = 0;
            }
            bytes += size;
            group.push((place, request));
        }
        put(repository, group, &mut done).await?;
        on_group(&done);
    }
    Ok(done)
}

/// Each event is a request of its own, so that one that is there already concerns no other.
fn request(archived: ArchivedEvent, bytes_max: usize) -> Result<(Place, AppendRequest), TransferError> {
    let ArchivedEvent { place, position, mut event, .. } = archived;
    let bytes = event.content_bytes();
    if bytes > bytes_max {
        return Err(TransferError::TooLarge { place, bytes, bytes_max });
    }
    if let (None, Some(position)) = (&event.id, position) {
        event.id = Some(EventId::from_stored(position.to_string()));
    }
    Ok((place, AppendRequest { events: vec![event], preconditions: Vec::new() }))
}

async fn put(
    repository: &dyn EventRepository,
    group: Vec<(Place, AppendRequest)>,
    done: &mut Transferred,
) -> Result<(), TransferError> {
    let (places, requests): (Vec<Place>, Vec<AppendRequest>) = group.into_iter().unzip();
    let Some(first) = places.first() else { return Ok(()) };
    let requests: Arc<[AppendRequest]> = requests.into();
    let mut attempt = 1;
    let appended = loop {
        match repository.append(Arc::clone(&requests)).await {
            Ok(appended) => break appended,
            // Sent again without harm: every event has an id.
            Err(AppendError::Unavailable(_) | AppendError::OutcomeUnknown(_)) if attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(RETRY_WAIT).await;
            }
            Err(cause) => return Err(TransferError::Append { place: *first, cause }),
        }
    };
    for (place, outcome) in places.iter().zip(appended.outcomes) {
        match outcome {
            Ok(events) => {
                for event in events {
                    *(if event.is_duplicate { &mut done.present } else { &mut done.written }) += 1;
                    done.reached = done.reached.max(Some(event.position));
                }
            }
            Err(AppendRefusal::IdConflict { position, .. }) => {
                return Err(TransferError::IdConflict { place: *place, position });
            }
            Err(AppendRefusal::Precondition { .. }) => unreachable!("nothing was assumed"),
        }
    }
    Ok(())
}
