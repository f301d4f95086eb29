//! Whether the API of another node answers at all.

use super::head::{self, Aim};
use crate::api::access::Peer;
use crate::masters::BoxPipe;
use axum::body::Body;
use http::{HeaderMap, Request, Uri};
use hyper_util::rt::TokioIo;

/// Ask for a ping at the other end of `pipe`. Waits as long as it takes.
pub async fn answers(pipe: BoxPipe) -> bool {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(pipe)).await;
    let Ok((mut sender, connection)) = handshake else { return false };
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from_static("/ping");
    *request.headers_mut() =
        head::request(&HeaderMap::new(), Peer::Unix, Aim::Leader, "probe", false);
    tokio::select! {
        answer = sender.send_request(request) => answer.is_ok_and(|a| a.status().is_success()),
        _ = connection => false,
    }
}
