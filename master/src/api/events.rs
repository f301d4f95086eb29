//! `/v2/events` and `/v2/eventSubscriptions` (Marathon's contract, sections 2.6 and 2.7).
//!
//! Frames and subscriptions only; what is told, and in which order, is decided in `crate::events`.

use super::change;
use super::dispatch::Call;
use super::error::ApiError;
use super::limits::EVENTS_SILENCE_MAX;
use super::reply::{self, Reply};
use crate::events::{CallbackUrl, PlanFormat, STREAMS_MAX, Stream, Wanted};
use axum::body::Body;
use bramble_core::command::Command;
use bramble_protocol::rest::event::{EventBody, EventJson};
use bytes::Bytes;
use http::header::ACCEPT;
use http::{Method, StatusCode};
use serde_json::json;
use std::io;
use tokio_util::sync::CancellationToken;

const EVENT_STREAM: &str = "text/event-stream";

/// `GET /v2/events`.
///
/// Any master answers: what is told follows from the log, which all of them apply.
pub(crate) fn stream(call: &Call) -> Result<Reply, ApiError> {
    if call.method != Method::GET || !asks_for_stream(call) {
        return Err(ApiError::MethodNotAllowed);
    }
    let wanted = Wanted(call.query.all("event_type").map(str::to_string).collect());
    let format = match call.query.get("plan-format") {
        Some("heavy") => PlanFormat::Heavy,
        _ => PlanFormat::Light,
    };
    let cut = call.hangup.clone();
    let events = call
        .api()
        .events
        .attach(call.client_ip(), wanted, cut)
        .ok_or(ApiError::TooManyEventStreams { max: STREAMS_MAX })?;
    let feed = Feed { events, format, stop: call.shared.shutdown.clone() };
    let body = Body::from_stream(futures_util::stream::unfold(feed, next));
    Ok(reply::typed(StatusCode::OK, EVENT_STREAM, body))
}

/// Whether the client names event streams; one that takes anything did not ask for one.
fn asks_for_stream(call: &Call) -> bool {
    let named = |value: &str| value.to_ascii_lowercase().contains(EVENT_STREAM);
    call.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(named)
}

struct Feed {
    events: Stream,
    format: PlanFormat,
    stop: CancellationToken,
}

async fn next(mut feed: Feed) -> Option<(Result<Bytes, io::Error>, Feed)> {
    let event = tokio::select! {
        () = feed.stop.cancelled() => return None,
        event = tokio::time::timeout(EVENTS_SILENCE_MAX, feed.events.next()) => event,
    };
    match event {
        Ok(Some(notice)) => Some((Ok(notice.frame(feed.format)), feed)),
        // Cut for being too slow: the connection breaks, so that nobody takes it for the end.
        Ok(None) => Some((Err(io::ErrorKind::TimedOut.into()), feed)),
        Err(_) => Some((Ok(Bytes::from_static(b"\r\n")), feed)),
    }
}

/// `GET /v2/eventSubscriptions`.
pub(crate) fn subscriptions(call: &Call) -> Result<Reply, ApiError> {
    let urls = call.api().store.read(|state| state.callbacks.clone());
    Ok(reply::json(StatusCode::OK, &json!({ "callbackUrls": urls })))
}

/// `POST /v2/eventSubscriptions?callbackUrl=`.
pub(crate) async fn subscribe(call: &Call) -> Result<Reply, ApiError> {
    let url = callback_url(call);
    CallbackUrl::parse(&url).map_err(|error| ApiError::Argument(error.to_string()))?;
    change::commit(call.api(), Command::AddCallback { url: url.clone() }).await?;
    let client_ip = call.client_ip();
    Ok(told(call, EventBody::Subscribe { client_ip, callback_url: url }))
}

/// `DELETE /v2/eventSubscriptions?callbackUrl=`; one that is not subscribed is answered alike.
pub(crate) async fn unsubscribe(call: &Call) -> Result<Reply, ApiError> {
    let url = callback_url(call);
    CallbackUrl::parse(&url).map_err(|error| ApiError::Argument(error.to_string()))?;
    change::commit(call.api(), Command::RemoveCallback { url: url.clone() }).await?;
    let client_ip = call.client_ip();
    Ok(told(call, EventBody::Unsubscribe { client_ip, callback_url: url }))
}

fn callback_url(call: &Call) -> String {
    call.query.get("callbackUrl").unwrap_or_default().to_string()
}

/// Tell everyone, and answer with the same event.
fn told(call: &Call, body: EventBody) -> Reply {
    let answer = reply::json(StatusCode::OK, &EventJson::new(&body, call.api().store.now()));
    call.api().events.publish(body);
    answer
}
