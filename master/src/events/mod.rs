//! Events as Marathon's clients know them: from what the cluster and the API did to streams and
//! callbacks.
//!
//! Keeps nothing: an event that nobody listens to is gone. It only tells; it never proposes, and
//! nothing in the cluster may depend on an event having been heard.

mod callback;
mod hub;
mod notice;
mod translate;

pub use callback::{CallbackUrl, CallbackUrlError, deliver};
pub use hub::{EVENTS_BUFFERED_MAX, Hub, STREAMS_MAX, Stream, Wanted};
pub use notice::{Notice, PlanFormat};
pub(crate) use translate::group_of;
pub use translate::{Announced, Announcement};

use crate::store::{Published, Store};
use bramble_protocol::rest::event::EventBody;
use std::sync::Arc;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

/// Tell what the store publishes, until `stop`.
pub async fn relay(hub: Arc<Hub>, mut changes: Receiver<Published>, stop: CancellationToken) {
    loop {
        let published = tokio::select! {
            () = stop.cancelled() => return,
            published = changes.recv() => published,
        };
        match published {
            Ok(published) => {
                let at = published.at;
                let told = translate::translate(published.events, &mut |id| hub.announced(id));
                hub.tell(told.into_iter().map(|told| Notice::new(told, at)));
            }
            Err(RecvError::Lagged(missed)) => {
                // A stream with a hole in it would be believed; one that ends is opened again,
                // and its client reads the present state first.
                tracing::warn!(missed, "events were lost; every stream is closed");
                hub.cut_all();
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Say that this master leads now. `master` is its API's `host:port`.
pub fn leads(hub: &Hub, store: &Store, master: &str) {
    let (framework_id, fresh) = store.read(|state| {
        let cluster = state.cluster.as_ref().map(|cluster| cluster.id.clone());
        (cluster.unwrap_or_default(), state.agents.is_empty())
    });
    let master = master.to_string();
    hub.publish(if fresh {
        EventBody::SchedulerRegistered { framework_id, master }
    } else {
        EventBody::SchedulerReregistered { framework_id, master }
    });
}

impl Hub {
    /// Tell something that is in no log, as of now.
    pub fn publish(&self, body: EventBody) {
        self.tell([Notice::of(body, self.now())]);
    }
}
