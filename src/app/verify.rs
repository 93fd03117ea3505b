//! Whether the log in the database is whole.

use tokio_util::sync::CancellationToken;

use crate::adapters::repository::sea_orm::Verified;
use crate::app::command::{CommandError, print};
use crate::app::progress::{Progress, grouped};
use crate::app::store;
use crate::config::StoreSettings;
use crate::domain::position::Position;
use crate::ports::event_repository::EventRepository;

pub(super) async fn run(settings: &StoreSettings, interrupt: CancellationToken) -> Result<(), CommandError> {
    let repository = store::open_to_read(&settings.database, settings).await?;
    let state = repository.state().await.map_err(CommandError::because("the log cannot be read"))?;
    let mut progress = Progress::new("verified", 0, state.head.map(Position::get));
    let tell = |verified: &Verified| {
        progress.tell(verified.events, verified.reached.map_or(0, Position::get));
        !interrupt.is_cancelled()
    };
    let verified = repository.verify(tell).await.map_err(CommandError::because("the log cannot be read"))?;
    eprintln!("{}", progress.end(verified.events));
    if interrupt.is_cancelled() {
        return Err(CommandError::Interrupted("interrupted before the end".to_owned()));
    }
    for finding in &verified.findings {
        print(format!("{finding}\n").as_bytes())?;
    }
    if verified.findings_count > 0 {
        return Err(CommandError::Data(format!("{} things are wrong", grouped(verified.findings_count))));
    }
    let (events, holes) = (grouped(verified.events), grouped(verified.holes));
    let head = state.head.map_or(0, Position::get);
    print(format!("the log is whole: {events} events, {holes} deleted, head at position {head}\n").as_bytes())
}
