//! The configuration file: TOML with the names of flags and variables.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use crate::config::{ConfigError, variables};

/// What the file of `--config` says.
#[derive(Debug, Default)]
pub(super) struct File {
    /// By the flag's name without dashes.
    flags: BTreeMap<String, String>,
    /// By the variable's name.
    variables: BTreeMap<String, String>,
}

impl File {
    /// Reads the file at `path`; `flags` are those it may set.
    pub(super) fn read(path: &Path, flags: &[String]) -> Result<Self, ConfigError> {
        let name = path.display();
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| ConfigError::Invalid(format!("--config {name} cannot be read: {error}")))?;
        Self::parse(&text, flags).map_err(|problem| ConfigError::Invalid(format!("{name}: {problem}")))
    }

    fn parse(text: &str, flags: &[String]) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| one_line(text, &error))?;
        let mut file = Self::default();
        for (key, value) in table {
            let flag = key.replace('_', "-");
            let variable = key.replace('-', "_").to_ascii_uppercase();
            let (known, name) = if flags.contains(&flag) {
                (&mut file.flags, flag)
            } else if variables::is_known(&variable) {
                (&mut file.variables, variable)
            } else {
                return Err(format!("{key} is not a setting"));
            };
            let text =
                setting(&value).ok_or_else(|| format!("{key} must be a text, a number, true, false or a list"))?;
            if known.insert(name, text).is_some() {
                return Err(format!("{key} must not be given more than once"));
            }
        }
        Ok(file)
    }

    pub(super) fn flag(&self, name: &str) -> Option<&str> {
        self.flags.get(name).map(String::as_str)
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        self.variables.iter().map(|(name, value)| (name.clone(), value.clone()))
    }
}

/// A value as a flag or a variable has it; a list is separated by commas.
fn setting(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            items.map(|items| items.join(","))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// What is wrong and where, without the text around it, which may be a secret.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    format!("line {line}: {}", error.message().replace('\n', ", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<File, String> {
        File::parse(text, &["port".to_owned(), "max-event-bytes".to_owned()])
    }

    #[test]
    fn keys_are_flags_and_variables_in_either_spelling() {
        let text = "port = 80\nmax_event_bytes = 7\ndatabase-url = 'sqlite://a'\nnats_url = ['nats://a', 'nats://b']\n";
        let file = parse(text).unwrap();
        assert_eq!((file.flag("port"), file.flag("max-event-bytes"), file.flag("bind")), (Some("80"), Some("7"), None));
        let variables: Vec<_> = file.variables().collect();
        let expected = [("DATABASE_URL", "sqlite://a"), ("NATS_URL", "nats://a,nats://b")];
        assert_eq!(variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, problem) in [
            ("colour = 'red'", "colour is not a setting"),
            ("[port]\nx = 1", "port must be a text, a number, true, false or a list"),
            ("nats-url = ['a', 1]", "nats-url must be a text, a number, true, false or a list"),
            ("max-event-bytes = 1\nmax_event_bytes = 2", "max_event_bytes must not be given more than once"),
        ] {
            assert_eq!(parse(text).unwrap_err(), problem);
        }
        let secret = parse("port = 80\nauth-token = s3cret").unwrap_err();
        assert!(secret.starts_with("line 2: ") && !secret.contains("s3cret") && !secret.contains('\n'), "{secret}");
    }
}
