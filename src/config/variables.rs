//! Variables in layers: the environment over the configuration file, and secrets that are in files of their own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use crate::config::ConfigError;
use crate::config::environment::Environment;

/// Variables whose value may be in a file that `<NAME>_FILE` names, as Kubernetes and Docker hand secrets over.
const SECRETS: [&str; 5] = ["AUTH_TOKEN", "DATABASE_URL", "IMPORT_FROM", "MYSQL_PASSWORD", "NATS_URL"];

/// What the name of such a file ends in.
const FILE_SUFFIX: &str = "_FILE";

/// Variables that together name the database: a layer that sets one of them sets them all.
const DATABASE: [&str; 6] =
    ["DATABASE_URL", "MYSQL_HOST", "MYSQL_PORT", "MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_DATABASE_NAME"];

/// Bytes of a secret at the most: more is the wrong file.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Variables that are set, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer(BTreeMap<String, String>);

impl Layer {
    /// The known ones of `variables`, with what is in files. One that is empty is not set, as in the Go service.
    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut given: BTreeMap<String, String> =
            variables.into_iter().filter(|(name, value)| is_known(name) && !is_unset(name, value)).collect();
        for name in SECRETS {
            let in_file = format!("{name}{FILE_SUFFIX}");
            let Some(path) = given.remove(&in_file) else { continue };
            if given.contains_key(name) {
                return Err(ConfigError::Invalid(format!("{name} and {in_file} exclude each other")));
            }
            given.insert(name.to_owned(), secret(&in_file, &path)?);
        }
        Ok(Self(given))
    }

    /// This layer on top of `below`.
    pub(super) fn over(self, mut below: Self) -> Self {
        if self.names_database() {
            below.0.retain(|name, _| !DATABASE.contains(&name.as_str()));
        }
        below.0.extend(self.0);
        below
    }

    /// Whether it says where the database is.
    pub(super) fn names_database(&self) -> bool {
        DATABASE.iter().any(|name| self.0.contains_key(*name))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn into_pairs(self) -> impl Iterator<Item = (String, String)> {
        self.0.into_iter()
    }
}

/// Whether it is as good as not there: empty, or what Kubernetes tells every pod of a service that is called `mysql`.
fn is_unset(name: &str, value: &str) -> bool {
    value.is_empty() || (name == "MYSQL_PORT" && value.starts_with("tcp://"))
}

/// Whether `name` is a variable that is read, or that names the file of one.
pub(super) fn is_known(name: &str) -> bool {
    let in_file = name.strip_suffix(FILE_SUFFIX).is_some_and(|secret| SECRETS.contains(&secret));
    in_file || Environment::knows(name)
}

/// What the file at `path` holds, without the line break that editors put at its end.
fn secret(variable: &str, path: &str) -> Result<String, ConfigError> {
    let invalid = |problem: &str| ConfigError::Invalid(format!("{variable} {problem}"));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| invalid(&format!("cannot be read: {error}")))?;
    let read = file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| invalid(&format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(invalid(&format!("names a file of more than {SECRET_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid("names a file that is not valid UTF-8"))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() { Err(invalid("names an empty file")) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn layer(variables: &[(&str, &str)]) -> Result<Layer, ConfigError> {
        Layer::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn service_that_kubernetes_tells_of_is_no_setting() {
        let layer = layer(&[("MYSQL_PORT", "tcp://10.0.0.7:3306"), ("DATABASE_URL", "sqlite://events.db")]).unwrap();
        assert_eq!(layer.iter().collect::<Vec<_>>(), [("DATABASE_URL", "sqlite://events.db")]);
        assert!(self::layer(&[("MYSQL_PORT", "3307")]).unwrap().names_database());
    }

    #[test]
    fn secret_is_what_its_file_holds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for (content, token) in
            [("s3cret", "s3cret"), ("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("a\n\n", "a\n")]
        {
            fs::write(&path, content).unwrap();
            let layer = layer(&[("AUTH_TOKEN_FILE", path.to_str().unwrap())]).unwrap();
            assert_eq!(layer.iter().collect::<Vec<_>>(), [("AUTH_TOKEN", token)]);
        }
    }

    #[test]
    fn file_that_cannot_be_the_secret_is_refused_by_the_name_of_its_variable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let most = usize::try_from(SECRET_BYTES_MAX).unwrap();
        for (content, is_taken) in
            [(vec![b'x'; most], true), (vec![b'x'; most + 1], false), (b"\n".to_vec(), false), (vec![0xff], false)]
        {
            fs::write(&path, content).unwrap();
            let taken = layer(&[("DATABASE_URL_FILE", path.to_str().unwrap())]);
            assert_eq!(taken.is_ok(), is_taken, "{taken:?}");
            assert!(taken.is_ok() || taken.unwrap_err().to_string().starts_with("DATABASE_URL_FILE "));
        }
        let absent = layer(&[("NATS_URL_FILE", "absent")]).unwrap_err().to_string();
        assert!(absent.starts_with("NATS_URL_FILE cannot be read: "), "{absent}");
        let both = layer(&[("MYSQL_PASSWORD", "a"), ("MYSQL_PASSWORD_FILE", "b")]).unwrap_err().to_string();
        assert_eq!(both, "MYSQL_PASSWORD and MYSQL_PASSWORD_FILE exclude each other");
    }

    #[test]
    fn layer_that_names_a_database_names_all_of_it() {
        let below = layer(&[("DATABASE_URL", "postgres://db/events"), ("RUST_LOG", "warn")]).unwrap();
        let above = layer(&[("MYSQL_HOST", "db"), ("SHELL", "sh"), ("AUTH_TOKEN", "")]).unwrap();
        let both = above.over(below);
        assert_eq!(both.iter().collect::<Vec<_>>(), [("MYSQL_HOST", "db"), ("RUST_LOG", "warn")]);
    }
}
