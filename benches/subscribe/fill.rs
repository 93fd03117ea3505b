//! Logs that are there before anybody reads.

use bytes::Bytes;
use events_db::adapters::repository::sea_orm::{SeaOrmRepository, StoreConfig};
use events_db::domain::append::AppendRequest;
use events_db::domain::attribute::{EventSource, EventType, Subject};
use events_db::domain::event::NewEvent;
use events_db::ports::event_repository::EventRepository;

use crate::Outcome;
use crate::payload::payload;

/// Events in one request.
const REQUEST_EVENTS: u64 = 1_000;

/// Requests in one transaction.
const REQUESTS: u64 = 10;

/// Appends `count` events to the database at `url`, the subject of each by its number.
pub(crate) async fn fill(url: &str, count: u64, subject: impl Fn(u64) -> String) -> Outcome<()> {
    let config = StoreConfig { url: url.to_owned(), event_bytes_max: 1 << 20, allows_lazy_durability: false };
    let repository = SeaOrmRepository::connect(&config).await?;
    let data = Bytes::from(payload());
    let event = |number| NewEvent {
        id: None,
        event_source: EventSource::from_stored("bench".to_owned()),
        event_type: EventType::from_stored("made".to_owned()),
        subject: Subject::from_stored(subject(number)),
        time: None,
        data: data.clone(),
        context: None,
    };
    let mut done = 0;
    while done < count {
        let mut requests = Vec::new();
        for _ in 0..REQUESTS {
            let end = count.min(done + REQUEST_EVENTS);
            if done < end {
                requests.push(AppendRequest { events: (done..end).map(event).collect(), preconditions: Vec::new() });
            }
            done = end;
        }
        for outcome in repository.append(requests.into()).await?.outcomes {
            outcome?;
        }
    }
    Ok(())
}
