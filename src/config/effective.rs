//! The settings that hold, as a configuration file would have them, and where each comes from.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write;

use clap::ArgMatches;
use clap::parser::ValueSource;
use toml::Value;
use url::Url;

use crate::config::file::File;
use crate::config::variables::Layer;
use crate::config::{DATABASE_URL_DEFAULT, serve_arguments};

/// Stands for what nobody may see.
const HIDDEN: &str = "…";

/// Which settings come from the file, and which from the environment.
pub(super) struct Origins {
    flags_of_file: BTreeSet<String>,
    environment: BTreeSet<String>,
}

impl Origins {
    pub(super) fn new(file: &File, environment: &Layer) -> Self {
        let flags = serve_arguments().filter_map(|argument| argument.get_long().map(ToOwned::to_owned));
        let flags = flags.chain(["log-format".to_owned()]);
        let of_file = |name: &String| file.flag(name).is_some() || (name == "port" && file.flag("rest-port").is_some());
        Self {
            flags_of_file: flags.filter(of_file).collect(),
            environment: environment.iter().map(|(name, _)| name.to_owned()).collect(),
        }
    }
}

/// A line per flag of the server and per variable that is set.
pub(super) fn text(matches: &ArgMatches, variables: &Layer, origins: &Origins) -> String {
    // The flags of a command are its own.
    let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
    let mut text = String::new();
    let names =
        serve_arguments().map(|argument| (argument.get_id().clone(), argument.get_long().map(ToOwned::to_owned)));
    let names = names.filter_map(|(id, name)| Some((id, name?)));
    for (id, name) in names.chain([("log_format".into(), "log-format".to_owned())]) {
        let Ok(Some(mut values)) = matches.try_get_raw(id.as_str()) else { continue };
        let value = values.next().map(OsStr::to_string_lossy).unwrap_or_default();
        let origin = match matches.value_source(id.as_str()) {
            Some(ValueSource::CommandLine) => "flag",
            _ if origins.flags_of_file.contains(&name) => "file",
            _ => "default",
        };
        line(&mut text, &name, &typed(&value), origin);
    }
    for (name, value) in variables.iter() {
        let origin = if origins.environment.contains(name) { "environment" } else { "file" };
        let shown = shown(name, value);
        line(&mut text, &name.to_ascii_lowercase().replace('_', "-"), &Value::String(shown), origin);
    }
    if !variables.names_database() {
        line(&mut text, "database-url", &Value::String(DATABASE_URL_DEFAULT.to_owned()), "default");
    }
    text
}

fn line(text: &mut String, name: &str, value: &Value, origin: &str) {
    let _written = writeln!(text, "{name} = {value}  # {origin}");
}

fn typed(text: &str) -> Value {
    let number = text.parse().ok().map(Value::Integer);
    let flag = || text.parse().ok().map(Value::Boolean);
    number.or_else(flag).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The value of a variable, without what is secret of it.
fn shown(name: &str, value: &str) -> String {
    match name {
        "AUTH_TOKEN" | "MYSQL_PASSWORD" => HIDDEN.to_owned(),
        "DATABASE_URL" | "IMPORT_FROM" => url_shown(value),
        "NATS_URL" => value.split(',').map(|url| url_shown(url.trim())).collect::<Vec<_>>().join(","),
        _ => value.to_owned(),
    }
}

/// Scheme, host and path; a user alone may be a token.
fn url_shown(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return HIDDEN.to_owned() };
    // A password with a character that must be escaped may look like another part of the URL.
    let has_user = !url.username().is_empty() || url.password().is_some();
    if text.matches('@').count() != usize::from(has_user) || url.fragment().is_some() {
        return HIDDEN.to_owned();
    }
    let hidden = if url.password().is_some() {
        url.set_password(Some(HIDDEN))
    } else if url.username().is_empty() {
        Ok(())
    } else {
        url.set_username(HIDDEN)
    };
    if hidden.is_err() {
        return HIDDEN.to_owned();
    }
    if url.query().is_some() {
        url.set_query(Some(HIDDEN));
    }
    url.to_string().replace("%E2%80%A6", HIDDEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_their_secrets() {
        for (url, seen) in [
            ("sqlite://events.db", "sqlite://events.db"),
            ("mysql://root:s3cret@db:3306/events", "mysql://root:…@db:3306/events"),
            ("postgres://s3cret@db/events", "postgres://…@db/events"),
            ("postgres://u:s3cret@db/e?sslpassword=s3cret", "postgres://u:…@db/e?…"),
            ("s3cret", "…"),
            ("postgres://u:a,b:s3cret@db/e", "postgres://u:…@db/e"),
            ("postgres://u:12/s3cret@db/e", "…"),
            ("postgres://u:12#s3cret@db/e", "…"),
            ("postgres://u:s3@cret@db/e", "…"),
        ] {
            assert_eq!(shown("DATABASE_URL", url), seen);
        }
        assert_eq!(shown("NATS_URL", "nats://s3cret@a, nats://b"), "nats://…@a,nats://b");
        assert_eq!((shown("AUTH_TOKEN", "s3cret"), shown("RUST_LOG", "info")), ("…".to_owned(), "info".to_owned()));
    }
}
