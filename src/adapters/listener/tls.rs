//! TLS: the server's certificate, read from two PEM files and read again whenever they change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::validity::not_after;
use crate::error_chain::error_chain;

/// What we offer by ALPN, best first.
const ALPN_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the server's certificate, then those that lead to the root.
    pub certificate: PathBuf,
    /// PEM: its private key, RSA (PKCS#1), EC (SEC1) or any (PKCS#8), not encrypted.
    pub key: PathBuf,
}

/// Why a pair of files cannot be used. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file is missing or may not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The file is damaged.
    #[error("{} is not valid PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        cause: io::Error,
    },
    /// There is no `CERTIFICATE` section.
    #[error("there is no certificate in {}", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no `PRIVATE KEY` section, or only an encrypted one.
    #[error("there is no private key in {}, or it is encrypted", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The certificate or the key cannot be used.
    #[error("the certificate in {} or the key in {} cannot be used", certificate.display(), key.display())]
    Unusable {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What rustls said.
        #[source]
        cause: rustls::Error,
    },
    /// Each is fine, but they are not a pair.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
}

/// The certificate that new connections are shown.
#[derive(Debug)]
pub struct ServerCertificate {
    files: CertificateFiles,
    provider: Arc<CryptoProvider>,
    current: RwLock<Current>,
}

impl ServerCertificate {
    /// Reads the files for the first time. Blocks.
    ///
    /// # Errors
    /// Any [`CertificateError`]: the server has nothing to show.
    pub fn load(files: CertificateFiles) -> Result<Arc<Self>, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let contents = Contents::read(&files)?;
        let current = Current { pair: contents.parse(&files, &provider)?, seen: contents.fingerprint() };
        Ok(Arc::new(Self { files, provider, current: RwLock::new(current) }))
    }

    /// Looks at the files every `interval` until `stop`; when their content has changed, new connections get the new
    /// pair. A pair that cannot be used is logged once, and the old one stays.
    ///
    /// The paths are followed anew each time, as Kubernetes replaces a directory behind a symbolic link; its content
    /// is compared and not its time of change, which such a switch may set back.
    pub async fn watch_files(self: Arc<Self>, interval: Duration, stop: CancellationToken) {
        let mut last_failure = None;
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let certificate = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || certificate.reload()).await;
            let Ok(looked) = looked else { return }; // the runtime is going down
            match looked {
                Ok(Reload::Unchanged) => last_failure = None,
                Ok(Reload::Changed) => {
                    last_failure = None;
                    tracing::info!(certificate = %self.files.certificate.display(), "reloaded the TLS certificate");
                }
                Err(failure) => {
                    if last_failure.as_ref() != Some(&failure.seen) {
                        let error = error_chain(&failure.error);
                        tracing::warn!(error, "kept the old TLS certificate, as the new one cannot be used");
                    }
                    last_failure = Some(failure.seen);
                }
            }
        }
    }

    /// When the certificate that is shown, or one of those that lead to the root, runs out: the earliest of these times, in
    /// seconds since 1970. `None` if none of them says.
    #[must_use]
    pub fn expires_at(&self) -> Option<i64> {
        let pair = Arc::clone(&self.read().pair);
        pair.cert.iter().filter_map(|certificate| not_after(certificate)).map(OffsetDateTime::unix_timestamp).min()
    }

    /// How connections are set up: TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1.
    pub(super) fn server_config(self: &Arc<Self>) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("ring has cipher suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(self))));
        config.alpn_protocols = ALPN_PROTOCOLS.map(<[u8]>::to_vec).into();
        config
    }

    fn reload(&self) -> Result<Reload, Box<Failure>> {
        let contents = Contents::read(&self.files).map_err(|error| Box::new(Failure { error, seen: None }))?;
        let seen = contents.fingerprint();
        if self.read().seen == seen {
            return Ok(Reload::Unchanged);
        }
        let pair = contents
            .parse(&self.files, &self.provider)
            .map_err(|error| Box::new(Failure { error, seen: Some(seen) }))?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current { pair, seen };
        Ok(Reload::Changed)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A newtype, since the trait is rustls's and the certificate is handed out as an `Arc` of ours.
#[derive(Debug)]
struct Resolver(Arc<ServerCertificate>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().pair))
    }
}

#[derive(Debug)]
struct Current {
    pair: Arc<CertifiedKey>,
    seen: Fingerprint,
}

#[derive(Debug, PartialEq, Eq)]
enum Reload {
    Unchanged,
    Changed,
}

/// What went wrong, and with which content; `None` if there was nothing to read.
#[derive(Debug)]
struct Failure {
    error: CertificateError,
    seen: Option<Fingerprint>,
}

type Fingerprint = [u8; 32];

/// Both files as they are on disk.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    fn read(files: &CertificateFiles) -> Result<Self, CertificateError> {
        let read =
            |path: &Path| fs::read(path).map_err(|cause| CertificateError::Read { path: path.to_path_buf(), cause });
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    /// Instead of the content, so that no second copy of the key stays in memory.
    fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        hash.update(self.certificate.len().to_be_bytes());
        hash.update(&self.certificate);
        hash.update(&self.key);
        hash.finalize().into()
    }

    fn parse(
        &self,
        files: &CertificateFiles,
        provider: &CryptoProvider,
    ) -> Result<Arc<CertifiedKey>, CertificateError> {
        let chain = self.chain(&files.certificate)?;
        let key = self.private_key(&files.key)?;
        let CertificateFiles { certificate, key: key_path } = files.clone();
        CertifiedKey::from_der(chain, key, provider).map(Arc::new).map_err(|cause| match cause {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::Mismatch { certificate, key: key_path }
            }
            cause => CertificateError::Unusable { certificate, key: key_path, cause },
        })
    }

    fn chain(&self, path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let path = path.to_path_buf();
        match rustls_pemfile::certs(&mut self.certificate.as_slice()).collect::<Result<Vec<_>, _>>() {
            Ok(chain) if chain.is_empty() => Err(CertificateError::NoCertificate { path }),
            Ok(chain) => Ok(chain),
            Err(cause) => Err(CertificateError::Pem { path, cause }),
        }
    }

    fn private_key(&self, path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
        let path = path.to_path_buf();
        match rustls_pemfile::private_key(&mut self.key.as_slice()) {
            Ok(Some(key)) => Ok(key),
            Ok(None) => Err(CertificateError::NoKey { path }),
            Err(cause) => Err(CertificateError::Pem { path, cause }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(certificate: &str, key: &str) -> CertificateFiles {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
        CertificateFiles { certificate: folder.join(certificate), key: folder.join(key) }
    }

    fn load_error(files: CertificateFiles) -> String {
        ServerCertificate::load(files).unwrap_err().to_string()
    }

    #[test]
    fn keys_of_every_kind_are_read() {
        for (certificate, key) in [
            ("rsa.crt", "rsa-pkcs1.key"),
            ("rsa.crt", "rsa-pkcs8.key"),
            ("ec.crt", "ec-sec1.key"),
            ("ec.crt", "ec-pkcs8.key"),
        ] {
            let loaded = ServerCertificate::load(fixture(certificate, key));
            assert!(loaded.is_ok(), "{certificate}, {key}: {loaded:?}");
        }
    }

    #[test]
    fn the_earliest_end_of_the_chain_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let late = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = CertificateFiles { certificate: folder.path().join("c"), key: folder.path().join("k") };
        let early = fs::read_to_string(fixture("ec.crt", "").certificate).unwrap();
        fs::write(&files.certificate, late.cert.pem() + &early).unwrap();
        fs::write(&files.key, late.signing_key.serialize_pem()).unwrap();
        // As `openssl x509 -enddate` says of the fixture.
        assert_eq!(ServerCertificate::load(files).unwrap().expires_at(), Some(4_949_046_147));
    }

    #[test]
    fn errors_name_the_file_and_the_trouble() {
        let error = load_error(fixture("missing.crt", "ec-sec1.key"));
        assert!(error.starts_with("cannot read ") && error.ends_with("missing.crt"), "{error}");
        let error = load_error(fixture("ec-sec1.key", "ec-sec1.key"));
        assert!(error.starts_with("there is no certificate in ") && error.ends_with("ec-sec1.key"), "{error}");
        let error = load_error(fixture("ec.crt", "ec.crt"));
        assert!(error.starts_with("there is no private key in ") && error.contains("ec.crt"), "{error}");
        let error = load_error(fixture("ec.crt", "rsa-pkcs1.key"));
        assert!(error.contains("rsa-pkcs1.key does not belong to the certificate"), "{error}");

        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let mut files = fixture("ec.crt", "ec-sec1.key");
        files.certificate = write("cut.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n");
        let error = load_error(files.clone());
        assert!(error.ends_with("cut.crt is not valid PEM"), "{error}");
        files.certificate = write("junk.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let error = load_error(files);
        assert!(error.contains("junk.crt") && error.ends_with("cannot be used"), "{error}");
    }

    #[test]
    fn reload_takes_a_good_pair_and_keeps_the_old_one_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let files = CertificateFiles { certificate: folder.path().join("c"), key: folder.path().join("k") };
        let ec = fixture("ec.crt", "ec-sec1.key");
        let rsa = fixture("rsa.crt", "rsa-pkcs1.key");
        fs::copy(&ec.certificate, &files.certificate).unwrap();
        fs::copy(&ec.key, &files.key).unwrap();
        let certificate = ServerCertificate::load(files.clone()).unwrap();
        let shown = || certificate.read().pair.cert[0].clone();
        let old = shown();
        assert_eq!(certificate.reload().unwrap(), Reload::Unchanged);

        fs::copy(&rsa.certificate, &files.certificate).unwrap();
        assert!(matches!(certificate.reload().unwrap_err().error, CertificateError::Mismatch { .. }));
        assert_eq!(shown(), old);
        fs::remove_file(&files.key).unwrap();
        assert!(matches!(certificate.reload().unwrap_err().error, CertificateError::Read { .. }));
        assert_eq!(shown(), old);

        fs::copy(&rsa.key, &files.key).unwrap();
        assert_eq!(certificate.reload().unwrap(), Reload::Changed);
        assert_ne!(shown(), old);
    }
}
