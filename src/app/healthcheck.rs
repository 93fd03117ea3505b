//! Asking a running server whether it is ready, for containers that have no other program.

use crate::adapters::client::{Client, ClientOptions};
use crate::app::command::CommandError;
use crate::config::HealthcheckSettings;
use crate::error_chain::error_chain;

pub(super) async fn run(settings: HealthcheckSettings) -> Result<(), CommandError> {
    // Whoever may start this program beside the server need not be proved who the server is.
    let options = ClientOptions { takes_any_certificate: true, ..ClientOptions::of(settings.url) };
    let client = Client::new(options).map_err(CommandError::because("the client cannot be set up"))?;
    let ready = tokio::time::timeout(settings.timeout, client.ready()).await;
    match ready {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(CommandError::NotReady(error_chain(&error))),
        Err(_) => Err(CommandError::NotReady(format!("no answer within {} s", settings.timeout.as_secs()))),
    }
}
