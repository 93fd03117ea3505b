//! What settings are made of; secrets do not show themselves.

use std::path::PathBuf;

/// A database URL. Never shown: it can carry a password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(pub(super) String);

/// The token of the configuration. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthToken(pub(super) String);

/// NATS servers of one cluster. The URLs are never shown: they can carry credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsServers {
    /// `nats://…` or `tls://…`, at least one.
    pub urls: Vec<String>,
    /// The subject of the wake-ups.
    pub subject: String,
}

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

impl DatabaseUrl {
    /// The URL with its secrets.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = self.0.split(':').next().unwrap_or_default();
        write!(formatter, "{scheme}:…")
    }
}

impl AuthToken {
    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for NatsServers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NatsServers").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for AuthToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AuthToken(…)")
    }
}
