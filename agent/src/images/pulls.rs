//! One pull at a time per reference; who comes meanwhile shares its outcome.
//!
//! Owns the waiting. A hundred tasks of one app ask the registry once, also when it says no.

use super::{ImageError, Progress};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// How the last finished pull of a reference ended.
type Outcome = Result<(), Arc<ImageError>>;

#[derive(Default)]
struct Slot {
    /// Pulls that came to an end. Who waited and sees it grown has its answer.
    finished: AtomicU64,
    last: tokio::sync::Mutex<Option<Outcome>>,
}

#[derive(Default)]
pub(super) struct Pulls {
    slots: Mutex<HashMap<String, Weak<Slot>>>,
}

impl Pulls {
    /// Runs `pull`, unless one of the same reference ends while this one waits for it.
    ///
    /// A pull that is dropped half way counts for nothing: the next in line runs its own.
    pub(super) async fn once<F>(
        &self,
        reference: &str,
        progress: Progress<'_>,
        pull: impl FnOnce() -> F,
    ) -> Result<(), ImageError>
    where
        F: Future<Output = Result<(), ImageError>>,
    {
        let slot = self.slot(reference);
        let seen = slot.finished.load(Ordering::Acquire);
        let mut last = match slot.last.try_lock() {
            Ok(last) => last,
            Err(_) => {
                progress(format!("{reference}: waiting for a pull under way"));
                slot.last.lock().await
            }
        };
        if slot.finished.load(Ordering::Acquire) != seen
            && let Some(outcome) = &*last
        {
            return outcome.clone().map_err(ImageError::Shared);
        }
        let outcome = pull().await.map_err(Arc::new);
        *last = Some(outcome.clone());
        slot.finished.fetch_add(1, Ordering::Release);
        outcome.map_err(ImageError::Shared)
    }

    fn slot(&self, reference: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        slots.retain(|_, slot| slot.strong_count() > 0);
        if let Some(slot) = slots.get(reference).and_then(Weak::upgrade) {
            return slot;
        }
        let slot = Arc::new(Slot::default());
        slots.insert(reference.to_owned(), Arc::downgrade(&slot));
        slot
    }
}
