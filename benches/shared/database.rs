//! Databases of the benchmarks.

use sea_orm::{ConnectionTrait, Database};

use crate::Outcome;

/// An empty database called `name` on the server at `url`.
pub(crate) async fn fresh_database(url: &str, name: &str) -> Outcome<String> {
    let admin = Database::connect(url).await?;
    admin.execute_unprepared(&format!("DROP DATABASE IF EXISTS {name}")).await?;
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await?;
    admin.close().await?;
    let mut url = url::Url::parse(url)?;
    url.set_path(name);
    if url.scheme().starts_with("postgres") {
        // The tests' server offers TLS. Nobody has it here, because the driver stalls on raw statements of more than
        // one TLS record, as it does on MySQL's.
        url.set_query(Some("sslmode=disable"));
    }
    Ok(url.into())
}
