//! Posting events to the URLs that users subscribed: one delivery at a time for each, so that a
//! slow or dead receiver holds up nobody else and hears what it hears in order.

use super::hub::{Hub, Stream};
use super::notice::{Notice, PlanFormat};
use crate::store::Store;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Bytes of a callback's URL.
const URL_BYTES_MAX: usize = 1024;
/// Longest time for one delivery: connecting, sending, and the status of the answer.
const DELIVERY_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause after the first failure of a receiver in a row; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Deliveries tried of one event before it is given up.
const ATTEMPTS_MAX: u32 = 5;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum CallbackUrlError {
    #[error("callbackUrl is missing; give it as ?callbackUrl=http://HOST:PORT/PATH")]
    Missing,
    #[error("callbackUrl is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("callbackUrl '{0}' is no URL")]
    Malformed(String),
    #[error("callbackUrl '{0}' is not http; only plain http is posted to")]
    NotHttp(String),
    #[error("callbackUrl '{0}' holds a user name; such credentials would be shown to everyone")]
    Credentials(String),
}

#[derive(Debug, Error)]
enum DeliveryError {
    #[error("no answer within {seconds} seconds", seconds = DELIVERY_TIME_MAX.as_secs())]
    Timeout,
    #[error("connecting")]
    Connect(#[source] io::Error),
    #[error("posting")]
    Http(#[from] hyper::Error),
    #[error("building the request")]
    Request(#[from] http::Error),
}

/// Where a callback is posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackUrl {
    /// `host:port`, to connect to.
    address: String,
    /// As the URL has it, for the `Host` header.
    authority: String,
    path: String,
}

impl CallbackUrl {
    /// Read what a user subscribed.
    ///
    /// # Errors
    /// It is no URL that can be posted to, with the reason.
    pub fn parse(text: &str) -> Result<Self, CallbackUrlError> {
        let malformed = || CallbackUrlError::Malformed(text.to_string());
        if text.is_empty() {
            return Err(CallbackUrlError::Missing);
        }
        if text.len() > URL_BYTES_MAX {
            return Err(CallbackUrlError::TooLong { max: URL_BYTES_MAX });
        }
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some(_) => return Err(CallbackUrlError::NotHttp(text.to_string())),
            None => return Err(malformed()),
        }
        let authority = uri.authority().ok_or_else(malformed)?;
        if authority.as_str().contains('@') {
            return Err(CallbackUrlError::Credentials(text.to_string()));
        }
        // The library calls a port out of range no port at all.
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => Some(80),
            Some(port) => port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()),
            None => None,
        };
        let port = port.filter(|port| *port > 0 && !host.is_empty()).ok_or_else(malformed)?;
        Ok(Self {
            address: format!("{host}:{port}"),
            authority: authority.as_str().to_string(),
            path: uri.path_and_query().map_or_else(|| "/".into(), |path| path.as_str().to_string()),
        })
    }
}

/// Post events to every subscribed URL until `stop`. For the leader alone, or every master would.
pub async fn deliver(hub: Arc<Hub>, store: Arc<Store>, stop: CancellationToken) {
    let mut running: BTreeMap<String, CancellationToken> = BTreeMap::new();
    let mut changes = store.watch();
    loop {
        changes.mark_unchanged();
        let wanted = store.read(|state| state.callbacks.clone());
        running.retain(|url, one| {
            let stays = wanted.contains(url);
            if !stays {
                one.cancel();
            }
            stays
        });
        for url in wanted {
            if running.contains_key(&url) {
                continue;
            }
            let one = stop.child_token();
            match CallbackUrl::parse(&url) {
                // Listening begins here and not in the task, so that nothing after is missed.
                Ok(to) => drop(tokio::spawn(run(url.clone(), to, hub.listen(), one.clone()))),
                Err(error) => tracing::warn!(url, %error, "a callback cannot be served"),
            }
            running.insert(url, one);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Serve one callback.
async fn run(url: String, to: CallbackUrl, mut stream: Stream, stop: CancellationToken) {
    let mut pause = PAUSE_MIN;
    loop {
        let notice = tokio::select! {
            () = stop.cancelled() => return,
            notice = stream.next() => match notice {
                Some(notice) => notice,
                None => return,
            },
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = insist(&url, &to, &notice, &mut pause) => {}
        }
    }
}

/// Deliver one event, with pauses between the attempts. Meanwhile later events queue up, and of
/// those beyond the queue the latest are lost.
async fn insist(url: &str, to: &CallbackUrl, notice: &Notice, pause: &mut Duration) {
    // The form of the time when Marathon had callbacks.
    let json = Bytes::from(notice.json(PlanFormat::Heavy));
    for attempt in 1..=ATTEMPTS_MAX {
        let posted = tokio::time::timeout(DELIVERY_TIME_MAX, post(to, json.clone())).await;
        match posted.map_err(|_| DeliveryError::Timeout).and_then(|posted| posted) {
            Ok(status) => {
                if !status.is_success() {
                    // It was heard; saying it again would not make it liked better.
                    tracing::info!(url, status = status.as_u16(), "a callback refused an event");
                }
                *pause = PAUSE_MIN;
                return;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::info!(url, attempt, %error, cause, "a callback was not reached");
                tokio::time::sleep(*pause).await;
                *pause = (*pause * 2).min(PAUSE_MAX);
            }
        }
    }
    tracing::warn!(url, event = notice.event_type(), "a callback misses an event");
}

async fn post(to: &CallbackUrl, json: Bytes) -> Result<StatusCode, DeliveryError> {
    let stream = TcpStream::connect(&to.address).await.map_err(DeliveryError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(&to.path)
        .header(HOST, &to.authority)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(json))?;
    let driven = async {
        // Its errors reach us through the answer.
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answer = sender.send_request(request) => Ok(answer?.status()),
        never = driven => match never {},
    }
}

#[cfg(test)]
mod tests;
