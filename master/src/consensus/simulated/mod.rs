//! What the simulation puts under a voter instead of sled, threads and chance. Owns no behaviour
//! of the voter: the same log store, snapshots and supervisor run over it.
//!
//! Everything is asked for by directory, on the thread that registered it, so that opening a voter
//! is the same call in the simulation and in life; a program that registers nothing gets nothing.

mod pairs;
mod platter;

pub(super) use pairs::Pairs;
pub use platter::Platter;

use super::{Consensus, ConsensusConfig, ConsensusError, PeerLink};
use crate::store::Store;
use bramble_core::command::{Entry, Rejection};
use bramble_core::event::Event;
use bramble_core::model::State;
use rand::Rng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

thread_local! {
    static PLATTERS: RefCell<BTreeMap<PathBuf, Arc<Platter>>> = RefCell::default();
}

/// Let the voter of `dir` (see [`super::ConsensusConfig`]) keep its log on `platter`.
pub fn register(dir: &Path, platter: Arc<Platter>) {
    PLATTERS.with_borrow_mut(|platters| platters.insert(dir.join("log"), platter));
}

pub(super) fn platter(log_dir: &Path) -> Option<Arc<Platter>> {
    PLATTERS.with_borrow(|platters| platters.get(log_dir).cloned())
}

/// Whether this thread simulates: then nothing may be left to other threads.
pub(super) fn is_on() -> bool {
    PLATTERS.with_borrow(|platters| !platters.is_empty())
}

/// The election timeout, drawn here and given to openraft as a range one wide: its own draw comes
/// from a generator that no seed reaches.
pub(super) fn pinned(min: u64, max: u64) -> (u64, u64) {
    if !is_on() || max - min < 2 {
        return (min, max);
    }
    let drawn = rand::rng().random_range(min..max);
    (drawn, drawn + 1)
}

/// What applies an entry: `core::machine::apply`, or that with a bug planted.
pub type ApplyEntry = fn(&mut State, &Entry) -> Result<Vec<Event>, Rejection>;

impl Consensus {
    /// [`Consensus::open`] with another state machine.
    ///
    /// # Errors
    /// As [`Consensus::open`].
    pub async fn open_applying(
        config: ConsensusConfig,
        peers: Arc<dyn PeerLink>,
        apply: ApplyEntry,
    ) -> Result<(Arc<Self>, Arc<Store>), ConsensusError> {
        Self::open_with(config, peers, apply).await
    }
}
