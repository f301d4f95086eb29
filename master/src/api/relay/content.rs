//! What a client sends besides the head of its request, kept so that it can be sent again as long
//! as that is possible.

use crate::api::body;
use crate::api::dispatch::Content;
use crate::api::error::ApiError;
use crate::api::limits::RESENT_BYTES_MAX;
use crate::api::route::Route;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::HeaderMap;
use hyper::upgrade::OnUpgrade;

/// The content of a request that may have to be sent to several masters in turn.
pub(super) struct Kept {
    body: Held,
    /// Taken once somebody agreed to switch protocols.
    pub(super) upgrade: Option<OnUpgrade>,
}

enum Held {
    /// In memory: it can be sent as often as needed.
    Whole(Bytes),
    /// Too large, or of unknown length: it is sent once, as it comes.
    Passing(Body),
    Gone,
}

impl Kept {
    /// Read what is short, so that a change of leaders does not lose it.
    ///
    /// # Errors
    /// As [`body::read`].
    pub(super) async fn of(
        target: &Route,
        headers: &HeaderMap,
        content: Content,
    ) -> Result<Kept, ApiError> {
        let Content { body, upgrade } = content;
        let body = match body.size_hint().exact() {
            Some(0) => Held::Whole(Bytes::new()),
            // An archive is read by agents as it comes, however short.
            Some(length) if length <= RESENT_BYTES_MAX && *target != Route::Images => {
                Held::Whole(Bytes::from(body::read(headers, body).await?))
            }
            _ => Held::Passing(body),
        };
        Ok(Kept { body, upgrade })
    }

    /// Whether it can still be sent to somebody.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self.body, Held::Gone)
    }

    /// The body, for one attempt.
    pub(super) fn body(&mut self) -> Body {
        match &self.body {
            Held::Whole(bytes) => Body::from(bytes.clone()),
            Held::Passing(_) => match std::mem::replace(&mut self.body, Held::Gone) {
                Held::Passing(body) => body,
                _ => Body::empty(),
            },
            Held::Gone => Body::empty(),
        }
    }

    /// Everything, for an answer by this node itself.
    pub(super) fn content(&mut self) -> Content {
        Content { body: self.body(), upgrade: self.upgrade.take() }
    }
}
