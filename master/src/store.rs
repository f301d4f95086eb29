//! The read view of the replicated state, word of its changes, and the cluster's time.

use crate::clock::{ClusterClock, WallClock};
use bramble_core::event::Event;
use bramble_core::model::{State, Time};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{broadcast, watch};

/// Events kept for a subscriber that lags; beyond it the subscriber is told that it missed some.
const EVENTS_BUFFERED_MAX: usize = 1024;

/// One change: the log index and what followed from it.
#[derive(Clone, Debug)]
pub struct Published {
    pub index: u64,
    /// Cluster time of the change.
    pub at: Time,
    pub events: Vec<Event>,
}

/// Read by everyone, written only by the consensus room.
pub struct Store {
    state: RwLock<State>,
    clock: Arc<ClusterClock>,
    index: watch::Sender<u64>,
    events: broadcast::Sender<Published>,
}

impl Store {
    /// Start from a recovered (or empty) state.
    pub fn new(state: State) -> Self {
        Self::with_wall_clock(state, WallClock::default())
    }

    /// As [`Store::new`], with a wall clock of one's own.
    pub fn with_wall_clock(state: State, wall: WallClock) -> Self {
        let index = watch::Sender::new(state.applied_index);
        Self {
            clock: Arc::new(ClusterClock::new(wall, state.now)),
            state: RwLock::new(state),
            index,
            events: broadcast::Sender::new(EVENTS_BUFFERED_MAX),
        }
    }

    /// Look at the state. `look` must be short: it holds up writes.
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// This moment in cluster time. Never before the time in the state; may be called while it is
    /// read.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The clock behind [`Store::now`].
    pub fn clock(&self) -> &Arc<ClusterClock> {
        &self.clock
    }

    /// A level trigger: its value is the last applied index.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    /// Every change from now on, in order.
    pub fn events(&self) -> broadcast::Receiver<Published> {
        self.events.subscribe()
    }

    /// Change the state and tell everyone. For the consensus room alone.
    pub fn write<R>(&self, change: impl FnOnce(&mut State) -> (R, Vec<Event>)) -> R {
        let (result, index, at, events) = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let (result, events) = change(&mut state);
            // Under the lock: whoever sees this state must not see an earlier time.
            self.clock.observe(state.now);
            (result, state.applied_index, state.now, events)
        };
        if !events.is_empty() {
            // No receiver is no error: nobody listens yet.
            let _ = self.events.send(Published { index, at, events });
        }
        self.index.send_replace(index);
        result
    }
}
