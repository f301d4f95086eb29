//! The leader's loops. Each is level-triggered: a wake-up says "look again", never what to do, so
//! a new leader needs no hand-over and a missed wake-up costs nothing once the next one comes.

mod autopilot;
mod deployer;
mod placer;

pub use placer::PlacerView;

use crate::membership::Membership;
use crate::offers::OfferBook;
use crate::propose::Propose;
use crate::store::Store;
use bramble_core::model::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What the loops share.
#[derive(Clone)]
pub struct Control {
    pub store: Arc<Store>,
    pub propose: Arc<dyn Propose>,
    pub offers: Arc<OfferBook>,
    pub view: Arc<PlacerView>,
    /// Whether tasks move onto agents that came lately, just to even out.
    pub rebalance: bool,
    /// This master.
    pub own: NodeId,
    pub membership: Arc<dyn Membership>,
    pub heard: Arc<dyn Heard>,
    /// Silence after which a voter's vote goes to another master.
    pub voter_grace: Duration,
}

/// When other masters last answered this one.
pub trait Heard: Send + Sync + 'static {
    fn of(&self, node: &NodeId) -> Option<Instant>;
}

/// Milliseconds before a loop looks again after the log refused a command, so that a full disk
/// does not make it spin.
const RETRY_MS: u64 = 500;

/// Run every loop until `stop`.
pub async fn run(control: Control, stop: CancellationToken) {
    tokio::join!(
        deployer::run(&control, &stop),
        placer::run(&control, &stop),
        autopilot::run(&control, &stop),
    );
}

/// Sleep, or for ever where there is nothing to wake up for.
async fn sleep_or_never(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
