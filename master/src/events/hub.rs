//! Who listens, and telling all of them in one order.

use super::notice::Notice;
use super::translate::Announced;
use crate::clock::ClusterClock;
use bramble_core::model::{DeploymentId, Time};
use bramble_protocol::rest::event::EventBody;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

/// Events kept for one slow listener (Marathon's `event_stream_max_outstanding_messages`).
pub const EVENTS_BUFFERED_MAX: usize = 1024;
/// Event streams open at once; callbacks are bounded apart.
pub const STREAMS_MAX: usize = 256;
/// Announced changes whose deployment has not begun yet; as many as requests can be under way.
const ANNOUNCED_MAX: usize = 256;

/// Event types a listener wants; empty means all.
#[derive(Clone, Debug, Default)]
pub struct Wanted(pub BTreeSet<String>);

impl Wanted {
    fn wants(&self, event_type: &str) -> bool {
        self.0.is_empty() || self.0.contains(event_type)
    }
}

/// Every listener. One lock makes one order for all.
pub struct Hub {
    inner: Mutex<Inner>,
    /// For what is in no log.
    clock: Arc<ClusterClock>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    listeners: BTreeMap<u64, Listener>,
    announced: BTreeMap<DeploymentId, Announced>,
}

struct Listener {
    sender: mpsc::Sender<Arc<Notice>>,
    wanted: Wanted,
    /// What happens to one that is too slow: a stream is cut, a callback misses events.
    cut: Option<CancellationToken>,
}

/// What one listener hears. Dropped, it is no longer told anything.
pub struct Stream {
    hub: Arc<Hub>,
    number: u64,
    receiver: mpsc::Receiver<Arc<Notice>>,
    /// Where a client of `/v2/events` is; its leaving is told.
    remote: Option<String>,
}

impl Hub {
    pub fn new(clock: Arc<ClusterClock>) -> Self {
        Self { inner: Mutex::default(), clock }
    }

    /// This moment, as events are stamped with.
    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Open a stream for a client at `remote` and tell everyone, the client first of all.
    /// `cut` is cancelled when it is [`EVENTS_BUFFERED_MAX`] events behind. `None`: too many.
    pub fn attach(
        self: &Arc<Self>,
        remote: String,
        wanted: Wanted,
        cut: CancellationToken,
    ) -> Option<Stream> {
        let mut inner = self.lock();
        let streams = inner.listeners.values().filter(|listener| listener.cut.is_some()).count();
        if streams >= STREAMS_MAX {
            return None;
        }
        let (number, receiver) = inner.enter(wanted, Some(cut));
        let body = EventBody::StreamAttached { remote_address: remote.clone() };
        inner.tell(&Arc::new(Notice::of(body, self.now())));
        Some(Stream { hub: self.clone(), number, receiver, remote: Some(remote) })
    }

    /// Listen without being a stream: one that is too slow misses events.
    pub fn listen(self: &Arc<Self>) -> Stream {
        let (number, receiver) = self.lock().enter(Wanted::default(), None);
        Stream { hub: self.clone(), number, receiver, remote: None }
    }

    /// Say what request is about to start a deployment, to be told when it does.
    pub fn announce(&self, id: DeploymentId, announced: Announced) {
        let mut inner = self.lock();
        if inner.announced.len() < ANNOUNCED_MAX {
            inner.announced.insert(id, announced);
        }
    }

    /// Take back what was announced: the deployment began, or never will.
    pub fn announced(&self, id: &DeploymentId) -> Option<Announced> {
        self.lock().announced.remove(id)
    }

    /// Tell every listener, without waiting for any.
    pub(super) fn tell(&self, notices: impl IntoIterator<Item = Notice>) {
        let mut inner = self.lock();
        for notice in notices {
            inner.tell(&Arc::new(notice));
        }
    }

    /// End every stream, and forget what was announced: word of its beginning may be lost.
    pub(super) fn cut_all(&self) {
        let mut inner = self.lock();
        inner.announced.clear();
        inner
            .listeners
            .retain(|_, listener| listener.cut.as_ref().inspect(|cut| cut.cancel()).is_none());
    }

    /// How many listen now.
    #[cfg(test)]
    pub(crate) fn listeners(&self) -> usize {
        self.lock().listeners.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn enter(
        &mut self,
        wanted: Wanted,
        cut: Option<CancellationToken>,
    ) -> (u64, mpsc::Receiver<Arc<Notice>>) {
        let (sender, receiver) = mpsc::channel(EVENTS_BUFFERED_MAX);
        let number = self.next;
        self.next += 1;
        self.listeners.insert(number, Listener { sender, wanted, cut });
        (number, receiver)
    }

    fn tell(&mut self, notice: &Arc<Notice>) {
        self.listeners.retain(|_, listener| {
            if !listener.wanted.wants(notice.event_type()) {
                return true;
            }
            match (listener.sender.try_send(notice.clone()), &listener.cut) {
                (Ok(()), _) => true,
                (Err(TrySendError::Full(_)), Some(cut)) => {
                    tracing::info!("an event stream is cut: its client reads too slowly");
                    cut.cancel();
                    false
                }
                (Err(TrySendError::Full(_)), None) => {
                    tracing::debug!(event = notice.event_type(), "a callback misses an event");
                    true
                }
                (Err(TrySendError::Closed(_)), _) => false,
            }
        });
    }
}

impl Stream {
    /// The next event, once there is one. `None`: it was cut and all that was kept is read.
    pub async fn next(&mut self) -> Option<Arc<Notice>> {
        self.receiver.recv().await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.hub.lock().listeners.remove(&self.number);
        if let Some(remote_address) = self.remote.take() {
            self.hub.publish(EventBody::StreamDetached { remote_address });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallClock;
    use crate::events::Announcement;

    fn hub() -> Hub {
        Hub::new(Arc::new(ClusterClock::new(WallClock::default(), Time(0))))
    }

    fn note(number: usize) -> EventBody {
        EventBody::AppTerminated { app_id: format!("/{number}") }
    }

    async fn heard(stream: &mut Stream) -> String {
        let notice = stream.next().await.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&notice.json(<_>::default())).unwrap();
        let detail = json.get("appId").or_else(|| json.get("remoteAddress")).unwrap();
        format!("{} {}", notice.event_type(), detail.as_str().unwrap())
    }

    #[tokio::test]
    async fn everyone_hears_everything_in_one_order() {
        let hub = Arc::new(hub());
        let attach = |name: &str| {
            hub.attach(name.into(), Wanted::default(), CancellationToken::new()).unwrap()
        };
        let mut first = attach("a");
        hub.publish(note(1));
        let second = attach("b");
        drop(second);
        for want in [
            "event_stream_attached a",
            "app_terminated_event /1",
            "event_stream_attached b",
            "event_stream_detached b",
        ] {
            assert_eq!(heard(&mut first).await, want);
        }
    }

    #[tokio::test]
    async fn a_filter_lets_nothing_else_through() {
        let hub = Arc::new(hub());
        let wanted = Wanted(["app_terminated_event".to_string(), "x".to_string()].into());
        let mut stream = hub.attach("a".into(), wanted, CancellationToken::new()).unwrap();
        hub.publish(EventBody::SchedulerDisconnected {});
        hub.publish(note(1));
        assert_eq!(heard(&mut stream).await, "app_terminated_event /1");
    }

    #[tokio::test]
    async fn a_slow_stream_is_cut_and_a_slow_callback_misses() {
        let hub = Arc::new(hub());
        let cut = CancellationToken::new();
        let mut callback = hub.listen();
        let mut slow = hub.attach("a".into(), Wanted::default(), cut.clone()).unwrap();
        for number in 1..EVENTS_BUFFERED_MAX {
            hub.publish(note(number));
        }
        assert!(!cut.is_cancelled());
        hub.publish(note(0));
        assert!(cut.is_cancelled());
        let mut read = 0;
        while slow.next().await.is_some() {
            read += 1;
        }
        assert_eq!(read, EVENTS_BUFFERED_MAX);
        for _ in 0..EVENTS_BUFFERED_MAX {
            callback.next().await.unwrap();
        }
        hub.publish(note(7));
        assert_eq!(heard(&mut callback).await, "app_terminated_event /7");
    }

    #[tokio::test]
    async fn streams_are_counted() {
        let hub = Arc::new(hub());
        let attach = || hub.attach("a".into(), Wanted::default(), CancellationToken::new());
        let mut streams: Vec<Stream> = (0..STREAMS_MAX).map(|_| attach().unwrap()).collect();
        assert!(attach().is_none());
        streams.pop();
        assert!(attach().is_some());
    }

    #[test]
    fn announcements_are_taken_once() {
        let hub = hub();
        let id = DeploymentId::new("d");
        let app = bramble_core::model::App::with_defaults(bramble_core::model::AppId::new("/a"));
        let what = Announcement::App(Box::new(app));
        let post = Announced { client_ip: "i".into(), uri: "u".into(), what };
        hub.announce(id.clone(), post.clone());
        assert_eq!(hub.announced(&id), Some(post));
        assert_eq!(hub.announced(&id), None);
    }
}
