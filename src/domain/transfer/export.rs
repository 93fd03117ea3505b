//! The log into an archive.

use tokio_util::sync::CancellationToken;

use crate::domain::filter::Filter;
use crate::domain::position::Position;
use crate::domain::transfer::{ATTEMPTS, RETRY_WAIT, TransferError, Transferred};
use crate::ports::archive::ArchiveWriter;
use crate::ports::event_repository::{EventRepository, Order, Page, ReadError, ReadQuery};

/// Events in a page: enough that a call costs little beside them.
const PAGE_EVENTS: usize = 2_000;

/// Bytes in a page; two of them are in memory.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// What to export.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// Which events.
    pub filter: Filter,
    /// Only events above this place.
    pub after: Option<Position>,
    /// Only events up to this place: a head that was seen before.
    pub through: Position,
}

/// Writes what `request` selects to `archive`, in order, and makes it durable there. `on_page` hears how far it has come;
/// `stop` ends it between two pages.
///
/// # Errors
/// [`TransferError::Read`], [`TransferError::Archive`].
pub async fn export(
    repository: &dyn EventRepository,
    request: ExportRequest,
    archive: &mut dyn ArchiveWriter,
    mut on_page: impl FnMut(&Transferred),
    stop: &CancellationToken,
) -> Result<Transferred, TransferError> {
    let ExportRequest { filter, after, through } = request;
    let query =
        ReadQuery { filter, after, through, order: Order::Ascending, limit: PAGE_EVENTS, bytes_max: PAGE_BYTES };
    let mut done = Transferred { reached: after, ..Transferred::default() };
    let mut next = (after < Some(through)).then_some(query);
    let mut page = match &next {
        Some(query) => Some(read(repository, query).await?),
        None => None,
    };
    while let (Some(Page { events, reached }), Some(query)) = (page.take(), next.take()) {
        next = query.rest(reached).filter(|_| !stop.is_cancelled());
        done.written += events.len() as u64;
        done.reached = Some(reached);
        done.is_complete = reached >= through;
        // The next page is read while this one is written.
        let reading = async {
            match &next {
                Some(query) => read(repository, query).await.map(Some),
                None => Ok(None),
            }
        };
        let (written, read) = tokio::join!(archive.write(events), reading);
        written?;
        on_page(&done);
        page = read?;
    }
    archive.finish().await?;
    Ok(Transferred { is_complete: done.is_complete || after >= Some(through), ..done })
}

/// A page, also when the store is away for a while.
async fn read(repository: &dyn EventRepository, query: &ReadQuery) -> Result<Page, ReadError> {
    for _ in 1..ATTEMPTS {
        match repository.read(query.clone()).await {
            Err(ReadError::Unavailable(_)) => tokio::time::sleep(RETRY_WAIT).await,
            answer => return answer,
        }
    }
    repository.read(query.clone()).await
}
