//! The environment variables.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::config::variables::Layer;
use crate::config::{AuthToken, ConfigError, DatabaseUrl, NatsServers, TlsFiles};

/// Where processes of one database tell each other of new events.
const NATS_SUBJECT_DEFAULT: &str = "eventsdb.head";

/// Every variable that is read, in the spelling of the environment.
const NAMES: [&str; 14] = [
    "DATABASE_URL",
    "MYSQL_USER",
    "MYSQL_PASSWORD",
    "MYSQL_DATABASE_NAME",
    "MYSQL_HOST",
    "MYSQL_PORT",
    "AUTH_TOKEN",
    "TLS_CERT_FILE",
    "TLS_KEY_FILE",
    "CORS_ALLOWED_ORIGINS",
    "NATS_URL",
    "NATS_SUBJECT",
    "RUST_LOG",
    "IMPORT_FROM",
];

/// The variables as they come; each field is named like its variable.
#[derive(Debug, Deserialize)]
pub(super) struct Environment {
    database_url: Option<String>,
    mysql_user: Option<String>,
    mysql_password: Option<String>,
    mysql_database_name: Option<String>,
    mysql_host: Option<String>,
    mysql_port: Option<u16>,
    auth_token: Option<String>,
    tls_cert_file: Option<String>,
    tls_key_file: Option<String>,
    cors_allowed_origins: Option<String>,
    nats_url: Option<String>,
    nats_subject: Option<String>,
    rust_log: Option<String>,
    import_from: Option<String>,
}

impl Environment {
    pub(super) fn knows(name: &str) -> bool {
        NAMES.contains(&name)
    }

    pub(super) fn read(variables: Layer) -> Result<Self, ConfigError> {
        envy::from_iter(variables.into_pairs()).map_err(|error| ConfigError::Invalid(error.to_string()))
    }

    /// Whether each variable can be what it is; that some go together is for those to see who use them.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.database_url()?;
        self.import_from()?;
        self.auth_token()?;
        self.cors_allowed_origins()?;
        self.nats()?;
        self.log_filter("info").map(drop)
    }

    pub(super) fn database_url(&self) -> Result<Option<DatabaseUrl>, ConfigError> {
        match &self.database_url {
            Some(url) => check_database_url("DATABASE_URL", url).map(Some),
            None => self.mysql_url(),
        }
    }

    /// The database to import from, which a flag would show to everybody on the machine.
    pub(super) fn import_from(&self) -> Result<Option<DatabaseUrl>, ConfigError> {
        self.import_from.as_deref().map(|url| check_database_url("IMPORT_FROM", url)).transpose()
    }

    /// The Go service's variables, if any of them is set.
    fn mysql_url(&self) -> Result<Option<DatabaseUrl>, ConfigError> {
        let texts = [&self.mysql_user, &self.mysql_password, &self.mysql_database_name, &self.mysql_host];
        if texts.iter().all(|text| text.is_none()) && self.mysql_port.is_none() {
            return Ok(None);
        }
        let or_root = |text: &Option<String>| text.clone().unwrap_or_else(|| "root".to_owned());
        let port = self.mysql_port.unwrap_or(3306);
        if port == 0 {
            return Err(invalid("MYSQL_PORT", "must be from 1 to 65535"));
        }
        let mut url = Url::parse("mysql://localhost/").expect("a literal URL is valid");
        url.set_host(Some(self.mysql_host.as_deref().unwrap_or("localhost")))
            .map_err(|_| invalid("MYSQL_HOST", "is not a host name or address"))?;
        let parts = url.set_port(Some(port)).and_then(|()| url.set_username(&or_root(&self.mysql_user)));
        parts.and_then(|()| url.set_password(Some(&or_root(&self.mysql_password)))).expect("a mysql URL has a host");
        url.path_segments_mut().expect("a mysql URL has a path").clear().push(&or_root(&self.mysql_database_name));
        Ok(Some(DatabaseUrl(url.into())))
    }

    pub(super) fn auth_token(&self) -> Result<Option<AuthToken>, ConfigError> {
        let Some(token) = &self.auth_token else {
            return Ok(None);
        };
        if token.trim() != token || token.chars().any(char::is_control) {
            return Err(invalid("AUTH_TOKEN", "must not start or end with white space or contain control characters"));
        }
        Ok(Some(AuthToken(token.clone())))
    }

    pub(super) fn tls_files(&self) -> Result<Option<TlsFiles>, ConfigError> {
        match (&self.tls_cert_file, &self.tls_key_file) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate: certificate.into(), key: key.into() })),
            (Some(_), None) => Err(invalid("TLS_KEY_FILE", "must be set too when TLS_CERT_FILE is")),
            (None, Some(_)) => Err(invalid("TLS_CERT_FILE", "must be set too when TLS_KEY_FILE is")),
        }
    }

    pub(super) fn cors_allowed_origins(&self) -> Result<Vec<String>, ConfigError> {
        let list = self.cors_allowed_origins.as_deref().unwrap_or_default();
        let origins = list.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        origins.map(check_origin).collect()
    }

    pub(super) fn nats(&self) -> Result<Option<NatsServers>, ConfigError> {
        let subject = self.nats_subject.as_deref().unwrap_or(NATS_SUBJECT_DEFAULT);
        let is_token = |token: &str| !token.is_empty() && !token.contains(['*', '>']);
        if !subject.split('.').all(is_token) || subject.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(invalid("NATS_SUBJECT", "must be words separated by dots, without * and >"));
        }
        let Some(list) = &self.nats_url else { return Ok(None) };
        let urls = list.split(',').map(str::trim).map(check_nats_url).collect::<Result<_, _>>()?;
        Ok(Some(NatsServers { urls, subject: subject.to_owned() }))
    }

    /// What is logged, `default` when nobody says.
    pub(super) fn log_filter(&self, default: &str) -> Result<String, ConfigError> {
        let filter = self.rust_log.as_deref().unwrap_or(default);
        EnvFilter::try_new(filter).map_err(|error| invalid("RUST_LOG", &format!("is not a log filter: {error}")))?;
        Ok(filter.to_owned())
    }
}

pub(super) fn check_database_url(name: &str, url: &str) -> Result<DatabaseUrl, ConfigError> {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme);
    match scheme {
        Some("sqlite") => Ok(DatabaseUrl(url.to_owned())),
        Some("mysql" | "mariadb" | "postgres" | "postgresql") => match Url::parse(url) {
            Ok(parsed) if parsed.host_str().is_some_and(|host| !host.is_empty()) => Ok(DatabaseUrl(url.to_owned())),
            Ok(_) => Err(invalid(name, "names no host")),
            Err(error) => Err(invalid(name, &format!("is not a URL: {error}"))),
        },
        Some(_) | None => Err(invalid(name, "must start with sqlite://, mysql:// or postgres://")),
    }
}

fn check_nats_url(url: &str) -> Result<String, ConfigError> {
    match Url::parse(url) {
        Ok(parsed) if !matches!(parsed.scheme(), "nats" | "tls") => {
            Err(invalid("NATS_URL", "must start with nats:// or tls://"))
        }
        Ok(parsed) if parsed.host_str().is_none_or(str::is_empty) => Err(invalid("NATS_URL", "names no host")),
        Ok(_) => Ok(url.to_owned()),
        Err(error) => Err(invalid("NATS_URL", &format!("is not a URL: {error}"))),
    }
}

fn check_origin(origin: &str) -> Result<String, ConfigError> {
    let is_origin = origin == "*"
        || Url::parse(origin).is_ok_and(|url| url.origin().is_tuple() && url.origin().ascii_serialization() == origin);
    if is_origin {
        Ok(origin.to_owned())
    } else {
        Err(invalid("CORS_ALLOWED_ORIGINS", "must list origins such as https://app.example.org, or be *"))
    }
}

fn invalid(name: &str, problem: &str) -> ConfigError {
    ConfigError::Invalid(format!("{name} {problem}"))
}
