//! Databases of their own on the servers that `cargo xtask test` started.

use sea_orm::ConnectionTrait;
use url::Url;

use crate::harness::tool;

/// A role of PostgreSQL whose password is `events`, made with one round of hashing instead of 4,096: without compiler
/// optimizations the usual login takes the client 50 ms, and faults cost a login each.
const QUICK_ROLE: &str = "\
    DO $$ BEGIN \
        CREATE ROLE quick SUPERUSER LOGIN PASSWORD \
        'SCRAM-SHA-256$1:MDEyMzQ1Njc4OWFiY2RlZg==$PUcyOuZdbdmQ5hfdoaRcB7lZcMJwG3nsIscorCJ8EbU=:n2G76OCkSvxTkWN3mRDnV96wSmWWgmHpPFUVOlW+eBU='; \
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";

/// The URL of a new and empty database on the server behind `variable`.
pub async fn fresh(variable: &str, purpose: &str) -> Url {
    let mut url = Url::parse(&tool(variable)).unwrap();
    let name = format!("{purpose}_{}", std::process::id());
    let admin = sea_orm::Database::connect(url.as_str()).await.unwrap();
    for statement in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
        admin.execute_unprepared(&statement).await.unwrap();
    }
    if url.scheme() == "postgres" {
        admin.execute_unprepared(QUICK_ROLE).await.unwrap();
        url.set_username("quick").unwrap();
        url.set_password(Some("events")).unwrap();
    }
    url.set_path(&name);
    url
}

/// `HOST:PORT` of a URL.
pub fn address(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
}
