//! What a node says while no cluster has let it in.

use std::time::{Duration, Instant};

/// Silence before it is said how to go on; then it is said again, now and then.
const PATIENCE: Duration = Duration::from_secs(30);
const SAY_AGAIN: Duration = Duration::from_secs(600);

/// See the module.
pub struct Waiting {
    next: Instant,
    said: bool,
}

impl Waiting {
    pub fn begin() -> Waiting {
        Waiting { next: Instant::now() + PATIENCE, said: false }
    }

    /// Say what is waited for. `nobody`: no address is known that could be asked.
    pub fn say(&mut self, nobody: bool) {
        if nobody && !self.said {
            self.said = true;
            tracing::info!(
                "waiting for a node of the cluster to be heard by mDNS; \
                --join HOST:PORT names one"
            );
        }
        if self.next <= Instant::now() {
            self.next = Instant::now() + SAY_AGAIN;
            tracing::warn!(
                "still waiting: with a token alone, a node never founds. Another node of the \
                 cluster must run, at first the one that is given the founding file. If that one's \
                 disk is lost before any node has joined, give a copy of the file to another node, \
                 or make a new cluster (`bramble cluster new`)"
            );
        }
    }
}
