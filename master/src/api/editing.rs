//! Turns: from reading something to changing it, nobody else changes it.
//!
//! An app's turn leaves other apps theirs, so that changes of many apps share an entry of the log
//! and its fsync; with one turn for all, each of them waited for a write to disk of its own.

use bramble_core::model::AppId;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Turns that apps share by their ids. Two apps that meet in one only wait for each other.
const TURNS: usize = 256;

/// Who may change what now.
pub(crate) struct Editing {
    all: RwLock<()>,
    apps: Vec<Mutex<()>>,
}

/// A turn, until dropped.
pub(crate) enum Turn<'a> {
    One { _others: RwLockReadGuard<'a, ()>, _app: MutexGuard<'a, ()> },
    All { _everything: RwLockWriteGuard<'a, ()> },
}

impl Default for Editing {
    fn default() -> Self {
        Self { all: RwLock::new(()), apps: (0..TURNS).map(|_| Mutex::new(())).collect() }
    }
}

impl Editing {
    /// Wait until nobody else is between reading this app or pod and changing it.
    pub(crate) async fn one(&self, id: &AppId) -> Turn<'_> {
        let others = self.all.read().await;
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(id.as_str());
        let app = self.apps[(hash % TURNS as u64) as usize].lock().await;
        Turn::One { _others: others, _app: app }
    }

    /// Wait until nobody else is between reading anything and changing it.
    pub(crate) async fn all(&self) -> Turn<'_> {
        Turn::All { _everything: self.all.write().await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn comes_now<F: Future>(turn: F) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        matches!(pin!(turn).poll(&mut context), Poll::Ready(_))
    }

    #[tokio::test]
    async fn an_app_waits_for_itself_and_for_all_and_for_no_other() {
        let editing = Editing::default();
        let (one, other) = (AppId::new("/one"), AppId::new("/other"));
        let turn = editing.one(&one).await;
        assert!(!comes_now(editing.one(&one)));
        assert!(comes_now(editing.one(&other)));
        assert!(!comes_now(editing.all()));
        drop(turn);
        let turn = editing.all().await;
        assert!(!comes_now(editing.one(&other)) && !comes_now(editing.all()));
        drop(turn);
        assert!(comes_now(editing.one(&one)));
    }
}
