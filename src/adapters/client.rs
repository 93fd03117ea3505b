//! A client of a running server, for the commands that talk to one: REST, as everybody else may use it.

mod frames;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Certificate, Response, StatusCode};
use serde::Deserialize;
use url::{Host, Url};

use crate::adapters::cloudevents::JSON_BATCH;
use frames::Frames;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream that is silent for so long is dead: the server sends a comment every `--heartbeat-interval`, 300 s at the most.
const SILENCE_MAX: Duration = Duration::from_secs(330);

/// Bytes of an answer's text that an error repeats.
const SHOWN_BYTES_MAX: usize = 500;

/// How to reach a server.
pub struct ClientOptions {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub url: String,
    /// The token to show.
    pub token: Option<String>,
    /// Whether any certificate is good enough.
    pub takes_any_certificate: bool,
    /// The only authority to trust, PEM; those of the system when `None`.
    pub authority: Option<PathBuf>,
}

/// A server to talk to.
pub struct Client {
    http: reqwest::Client,
    url: String,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The options cannot be used.
    #[error("{problem}")]
    Options {
        /// Which one, and what is wrong with it.
        problem: String,
        /// What was said of it.
        #[source]
        cause: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The server cannot be reached, or has left in the middle. What was to be appended may be stored.
    #[error("the server does not answer")]
    Unreachable(#[source] reqwest::Error),
    /// The server does not prove who it is.
    #[error("the server's certificate is not trusted; --ca names its authority")]
    Untrusted(#[source] reqwest::Error),
    /// The server cannot do it now; trying again may help.
    #[error("the server answers {status}: {text}")]
    Busy {
        /// The HTTP status.
        status: StatusCode,
        /// What it says.
        text: String,
    },
    /// The server refuses it, and would again.
    #[error("the server answers {status}: {text}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it says.
        text: String,
    },
    /// The answer is not one of ours.
    #[error("the server's answer is not that of an event store")]
    Strange,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Appended {
    /// Where its events are, in their order.
    pub ids: Vec<i64>,
    /// Those of these positions at which an event was stored before.
    #[serde(default)]
    pub duplicates: Vec<i64>,
}

/// What comes over a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Followed {
    /// An event, as JSON on one line.
    Event {
        /// Where it is.
        position: i64,
        /// The event.
        json: String,
    },
    /// A place to go on after, without an event.
    Place(i64),
}

/// An open stream of events.
pub struct Following {
    response: Response,
    frames: Frames,
}

impl ClientOptions {
    /// A server without a token, that proves itself if it speaks TLS.
    #[must_use]
    pub fn of(url: String) -> Self {
        Self { url, token: None, takes_any_certificate: false, authority: None }
    }
}

impl ClientError {
    /// Whether the same call may pass later.
    #[must_use]
    pub fn may_pass_later(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Busy { .. } => true,
            Self::Options { .. } | Self::Untrusted(_) | Self::Refused { .. } | Self::Strange => false,
        }
    }
}

impl Client {
    /// Sets the client up; nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Options`].
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        let problem = |problem: &str| ClientError::Options { problem: problem.to_owned(), cause: None };
        // The library brings no cryptography of its own; a second call changes nothing.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        if let Some(token) = options.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| problem("AUTH_TOKEN cannot stand in a header"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_MAX);
        if options.takes_any_certificate {
            http = http.tls_danger_accept_invalid_certs(true);
        }
        if let Some(path) = options.authority {
            let cause = |cause: Box<dyn Error + Send + Sync>| {
                let problem = format!("--ca {} cannot be used", path.display());
                ClientError::Options { problem, cause: Some(cause) }
            };
            let pem = std::fs::read(&path).map_err(|error| cause(error.into()))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| cause(error.into()))?;
            http = http.tls_certs_only(certificates);
        }
        if is_on_this_machine(&options.url) {
            // A proxy would look for it on its own.
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| ClientError::Options {
            problem: "TLS cannot be set up".to_owned(),
            cause: Some(error.into()),
        })?;
        Ok(Self { http, url: options.url })
    }

    /// Whether the server is ready.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn ready(&self) -> Result<(), ClientError> {
        let answer = self.http.get(format!("{}/readyz", self.url)).send().await;
        answered(answer).await.map(|_| ())
    }

    /// Appends a batch of `CloudEvents` in JSON, whole or not at all.
    ///
    /// # Errors
    /// As [`ClientError`] says; events that may be stored are sent again without harm, as their ids are the same.
    pub async fn append(&self, batch: Vec<u8>) -> Result<Appended, ClientError> {
        let request = self.http.post(format!("{}/events", self.url)).header(CONTENT_TYPE, JSON_BATCH);
        let answer = answered(request.body(batch).send().await).await?;
        let body = answer.bytes().await.map_err(ClientError::Unreachable)?;
        serde_json::from_slice(&body).map_err(|_| ClientError::Strange)
    }

    /// Opens the stream with `query`, parameters of `/events/stream` as names and values; after `last` if it is given.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn follow(&self, query: &[(&str, &str)], last: Option<i64>) -> Result<Following, ClientError> {
        let address = Url::parse_with_params(&format!("{}/events/stream", self.url), query);
        let address = address.map_err(|error| ClientError::Options {
            problem: "--url cannot be used".to_owned(),
            cause: Some(error.into()),
        })?;
        let mut request = self.http.get(address);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = answered(request.send().await).await?;
        Ok(Following { response, frames: Frames::default() })
    }
}

impl Following {
    /// What comes next; `None` when the server has ended the stream.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when it was cut, [`ClientError::Strange`].
    pub async fn next(&mut self) -> Result<Option<Followed>, ClientError> {
        loop {
            if let Some(frame) = self.frames.next() {
                return frame.map(Some);
            }
            match self.response.chunk().await.map_err(ClientError::Unreachable)? {
                Some(chunk) => self.frames.push(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// The answer, if it is a good one.
async fn answered(answer: Result<Response, reqwest::Error>) -> Result<Response, ClientError> {
    let answer = answer.map_err(|error| {
        if is_about_a_certificate(&error) { ClientError::Untrusted(error) } else { ClientError::Unreachable(error) }
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = answer.text().await.unwrap_or_default();
    let text = detail(&text);
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Err(ClientError::Busy { status, text })
    } else {
        Err(ClientError::Refused { status, text })
    }
}

/// Whether a certificate was refused, which is no better the next time.
fn is_about_a_certificate(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        // An error of the system hides the one that it was made of.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.map(|inner| -> &(dyn Error + 'static) { inner });
        if let Some(rustls::Error::InvalidCertificate(_)) = inner.unwrap_or(error).downcast_ref() {
            return true;
        }
        next = inner.or_else(|| error.source());
    }
    false
}

/// What a problem says, or the text as it is.
fn detail(text: &str) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    serde_json::from_str(text).map_or_else(
        |_| text.chars().take(SHOWN_BYTES_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect(),
        |Problem { detail }| detail,
    )
}

/// Whether `url` leads to a server on this machine.
fn is_on_this_machine(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    })
}
