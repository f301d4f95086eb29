//! One file over HTTP into a staging file.
//!
//! Owns the clients and the bounds of a transfer. Certificates are checked against the machine's;
//! a machine that has none can still fetch by http.

use super::Progress;
use super::source::{Url, shown};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, StatusCode};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncWriteExt, BufWriter};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces of a body, not for the whole.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 10;
const USER_AGENT: &str = concat!("bramble/", env!("CARGO_PKG_VERSION"));
const WRITE_BUFFER_BYTES: usize = 512 * 1024;
const MIB: u64 = 1024 * 1024;

#[derive(Debug, Error)]
pub enum HttpError {
    #[error("making an HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("asking the server")]
    Request(#[source] reqwest::Error),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("the transfer broke off after {bytes} bytes")]
    Transfer {
        bytes: u64,
        #[source]
        source: reqwest::Error,
    },
    #[error("larger than allowed")]
    TooLarge,
    #[error("writing to the disk")]
    Write(#[source] std::io::Error),
}

/// Made when first needed: reading the machine's certificates takes memory and time.
#[derive(Default)]
pub(super) struct Clients {
    checked: OnceLock<Client>,
    plain: OnceLock<Client>,
}

impl Clients {
    /// Write what `url` gives to `path`.
    pub(super) async fn download(
        &self,
        url: &Url,
        path: &Path,
        limit_bytes: u64,
        progress: Progress<'_>,
    ) -> Result<(), HttpError> {
        let asked = self.of(url)?.get(url.clone()).send().await;
        // Without the URL, which names the password it may hold; the caller names the URI.
        let mut answer = asked.map_err(|error| HttpError::Request(error.without_url()))?;
        if !answer.status().is_success() {
            return Err(HttpError::Status(answer.status()));
        }
        if answer.content_length().is_some_and(|length| length > limit_bytes) {
            return Err(HttpError::TooLarge);
        }
        let file = tokio::fs::File::create(path).await.map_err(HttpError::Write)?;
        let mut file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
        let tell = |bytes: u64| {
            let uri = shown(url.as_str());
            progress(format!("fetching {uri}: {} MiB", bytes / MIB));
        };
        copy(&mut answer, &mut file, limit_bytes, tell).await?;
        file.flush().await.map_err(HttpError::Write)
    }

    fn of(&self, url: &Url) -> Result<&Client, HttpError> {
        let checked = made(&self.checked, || builder().redirect(Policy::limited(REDIRECTS_MAX)));
        match checked {
            // No certificate on this machine to check others with: nothing may lead to https.
            Err(_) if url.scheme() == "http" => made(&self.plain, || {
                let policy = Policy::custom(|attempt| {
                    if attempt.url().scheme() != "http" || attempt.previous().len() > REDIRECTS_MAX
                    {
                        attempt.error("redirected to where this machine cannot follow")
                    } else {
                        attempt.follow()
                    }
                });
                builder().redirect(policy).tls_danger_accept_invalid_certs(true)
            }),
            other => other,
        }
    }
}

async fn copy(
    answer: &mut Response,
    file: &mut BufWriter<tokio::fs::File>,
    limit_bytes: u64,
    tell: impl Fn(u64),
) -> Result<(), HttpError> {
    let mut bytes = 0;
    loop {
        let piece = answer
            .chunk()
            .await
            .map_err(|source| HttpError::Transfer { bytes, source: source.without_url() })?;
        let Some(piece) = piece else { return Ok(()) };
        let before = bytes / MIB;
        bytes += piece.len() as u64;
        if bytes > limit_bytes {
            return Err(HttpError::TooLarge);
        }
        file.write_all(&piece).await.map_err(HttpError::Write)?;
        if bytes / MIB > before {
            tell(bytes);
        }
    }
}

fn builder() -> ClientBuilder {
    // The HTTP client takes the process's provider; one installed earlier is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(USER_AGENT)
}

fn made(
    place: &OnceLock<Client>,
    make: impl FnOnce() -> ClientBuilder,
) -> Result<&Client, HttpError> {
    if let Some(client) = place.get() {
        return Ok(client);
    }
    let client = make().build().map_err(HttpError::Client)?;
    Ok(place.get_or_init(|| client))
}
