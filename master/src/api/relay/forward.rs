//! One request, passed on to another node over a connection of its own, and its answer.
//!
//! HTTP/1 over whatever connects nodes: bodies stream both ways, upgrades are passed through, and
//! a side that goes away is seen to go by the other.

use super::content::Kept;
use super::head::{self, Aim, NOT_LEADER_HEADER};
use super::splice::splice;
use super::{Attempt, Passed};
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::limits::{LOST_LEADER_GRACE, OPEN_TIME_MAX};
use crate::api::reply::Reply;
use crate::masters::BoxPipe;
use axum::body::{Body, HttpBody};
use bramble_core::model::NodeId;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;

/// Pass a request on to `node`.
pub(super) async fn forward(call: &Call, kept: &mut Kept, node: &NodeId, aim: Aim) -> Attempt {
    let masters = &call.api().masters;
    let pipe = match tokio::time::timeout(OPEN_TIME_MAX, masters.open(node)).await {
        Ok(Ok(pipe)) => pipe,
        Ok(Err(error)) => {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(%node, error, "a master was not reached");
            return Attempt::NotDone;
        }
        Err(_) => return Attempt::NotDone,
    };
    let permit = match kept.upgrade.is_some() {
        // What switches protocols outlives its request.
        true => match call.shared.streams.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => return Attempt::Answered(Err(ApiError::TooManyStreams)),
        },
        false => None,
    };
    let Ok((mut sender, connection)) = connect(pipe).await else { return Attempt::NotDone };
    let answer = sender.send_request(request(call, kept, aim));
    // As long as it lives, a request that meets the end of its connection may be lost between the
    // two (hyper 1.12), and is waited for in vain.
    drop(sender);
    let answer = tokio::select! {
        answer = answer => answer,
        // A dead leader's link takes seconds to be known as dead; its successor is known before.
        () = lost(call, node) => return Attempt::Unsure,
    };
    match answer {
        Ok(answer) if is_refusal(&answer) => Attempt::NotDone,
        Ok(answer) => Attempt::Answered(Ok(pass(call, kept, answer, connection, permit))),
        Err(error) => {
            tracing::debug!(%node, %error, "a request passed on was not answered");
            // One that was cancelled never left this node.
            if error.is_canceled() { Attempt::NotDone } else { Attempt::Unsure }
        }
    }
}

type Connection = AbortOnDropHandle<()>;

async fn connect(pipe: BoxPipe) -> hyper::Result<(SendRequest<Body>, Connection)> {
    let (sender, connection) = http1::handshake(TokioIo::new(pipe)).await?;
    let running = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection between nodes ended badly");
        }
    });
    Ok((sender, AbortOnDropHandle::new(running)))
}

fn request(call: &Call, kept: &mut Kept, aim: Aim) -> Request<Body> {
    let upgrades = kept.upgrade.is_some();
    let own = call.shared.address();
    let mut request = Request::new(kept.body());
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = call.uri.clone();
    *request.headers_mut() = head::request(&call.headers, call.peer, aim, &own, upgrades);
    request
}

/// Resolves once the leadership has moved on and `node` had time to answer what it was asked
/// before.
async fn lost(call: &Call, node: &NodeId) {
    let mut lead = call.api().masters.lead();
    loop {
        if lead.wait_for(|lead| !lead.is_through(node)).await.is_err() {
            // This node shuts down; the connection ends with it.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(LOST_LEADER_GRACE).await;
        if !lead.borrow().is_through(node) {
            return;
        }
    }
}

fn is_refusal(answer: &Response<Incoming>) -> bool {
    answer.status() == StatusCode::SERVICE_UNAVAILABLE
        && answer.headers().contains_key(NOT_LEADER_HEADER)
}

/// Turn another node's answer into this node's.
fn pass(
    call: &Call,
    kept: &mut Kept,
    answer: Response<Incoming>,
    connection: Connection,
    permit: Option<OwnedSemaphorePermit>,
) -> Reply {
    let own = call.shared.address();
    let status = answer.status();
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let headers = head::answer(status, answer.headers(), &own);
    let body = match kept.upgrade.take().filter(|_| switches) {
        Some(client) => {
            let stop = call.shared.shutdown.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let leader = hyper::upgrade::on(answer).await;
                let _connection = connection;
                let (Ok(leader), Ok(client)) = (leader, client.await) else { return };
                let (client, leader) = (TokioIo::new(client), TokioIo::new(leader));
                let ended = tokio::select! {
                    ended = splice(client, leader) => ended,
                    () = stop.cancelled() => Ok(()),
                };
                tracing::debug!(?ended, "an upgraded connection between nodes ended");
            });
            Body::empty()
        }
        None => {
            let (body, stop) = (answer.into_body(), call.shared.shutdown.clone());
            let stopped = Box::pin(async move { stop.cancelled().await });
            Body::new(Passing { body, stopped, _connection: connection })
        }
    };
    let mut reply = Response::new(body);
    (*reply.status_mut(), *reply.headers_mut()) = (status, headers);
    reply.extensions_mut().insert(Passed);
    reply
}

/// The body of an answer on its way; dropped early, the other node sees its connection break.
struct Passing {
    body: Incoming,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    _connection: Connection,
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new))),
            // A stream that would go on for ever must not hold up the end of this node.
            Poll::Pending => self.stopped.as_mut().poll(cx).map(|()| None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
