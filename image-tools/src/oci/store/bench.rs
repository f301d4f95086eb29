//! A session used from asynchronous code: its work runs on threads that may block.
//!
//! Owns knowing when all work has ended, also work whose caller was dropped: only then is the
//! session's directory nobody's.

use super::{Session, Store, StoreError};
use std::sync::Arc;
use tokio::sync::RwLock;

/// The runtime is shutting down, and the work was not done.
pub(crate) struct Stopped;

pub(crate) struct Bench {
    session: Arc<Session>,
    /// Read by every piece of work, so that its end can be awaited.
    busy: Arc<RwLock<()>>,
}

impl Bench {
    pub(crate) async fn begin<E>(store: &Arc<Store>) -> Result<Bench, E>
    where
        E: From<Stopped> + From<StoreError> + Send + 'static,
    {
        let store = Arc::clone(store);
        let session = blocking(move || Ok::<_, E>(Arc::new(Session::begin(&store)?))).await?;
        Ok(Bench { session, busy: Arc::default() })
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Runs work that needs the session.
    pub(crate) async fn work<T, E>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Stopped> + Send + 'static,
    {
        let busy = Arc::clone(&self.busy).read_owned().await;
        let session = Arc::clone(&self.session);
        blocking(move || {
            let result = work(&session);
            drop(session);
            drop(busy);
            result
        })
        .await
    }

    /// Waits until nothing is at work.
    pub(crate) async fn idle(&self) {
        drop(self.busy.write().await);
    }

    /// Waits until nothing is at work, then removes what was not committed.
    pub(crate) async fn end(self) -> Result<(), Stopped> {
        self.idle().await;
        blocking(move || {
            drop(self);
            Ok(())
        })
        .await
    }
}

pub(crate) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Stopped> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Stopped.into()))
}
