//! Changes that are tried before they are trusted: what an app goes back to, and how far its new
//! version has come. Which labels ask for that is read in `deploy::asked`.

use super::{AppId, DeploymentId, LaunchDelay, Time};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Label that takes a change back by itself, once its time is over and not all is healthy.
pub const LABEL_ROLLBACK_AFTER: &str = "BRAMBLE_ROLLBACK_AFTER";
/// Label that starts a few instances of a new version first.
pub const LABEL_CANARY: &str = "BRAMBLE_CANARY";
/// Label that starts a whole second set of a new version first.
pub const LABEL_BLUE_GREEN: &str = "BRAMBLE_BLUEGREEN";

/// How a new version comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutKind {
    /// Straight on, as the app's upgrade strategy says.
    Rolling,
    /// This many instances first; the rest once it is promoted.
    Canary { count: u32 },
    /// All instances beside the old ones; these go once it is promoted.
    BlueGreen,
}

/// How far a new version has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Its step has not begun.
    Pending,
    /// Canaries or the second set start.
    Trying,
    /// They work: someone has to promote or to withdraw them.
    Waiting,
    /// It takes the place of the old version.
    Rolling,
    /// All of it worked before its deadline.
    Proven,
}

/// One app's new version on trial. Apps whose labels ask for nothing have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub kind: RolloutKind,
    pub phase: Phase,
    /// The version to go back to: the last one that was not itself on trial.
    pub stable: Time,
    /// How many instances of it there shall be.
    pub stable_instances: u32,
    pub rollback_after_ms: Option<u64>,
    /// When the present phase is over; `None`: whenever it may be.
    pub deadline: Option<Time>,
    /// Launch delay of the stable version while it is kept up: not the new one's, which may fail
    /// all the time.
    pub stable_delay: LaunchDelay,
}

impl Rollout {
    /// Whether canaries or a second set run, or start, beside a stable version that is kept up.
    pub fn is_held(&self) -> bool {
        self.kind != RolloutKind::Rolling && matches!(self.phase, Phase::Trying | Phase::Waiting)
    }

    /// Whether nothing speaks against going back to this version later: someone promoted it, or
    /// it kept its deadline.
    pub fn is_trusted(&self) -> bool {
        self.deadline.is_none() && matches!(self.phase, Phase::Rolling | Phase::Proven)
    }

    /// Instances of the new version wanted in the present phase, of `instances` at last.
    pub fn fresh(&self, instances: u32) -> u32 {
        match self.kind {
            RolloutKind::Canary { count } if self.is_held() => count.max(1).min(instances),
            _ => instances,
        }
    }

    /// Enter a phase at `now`; the two in which something has to become healthy have a deadline.
    pub fn enter(&mut self, phase: Phase, now: Time) {
        let limited = matches!(phase, Phase::Trying | Phase::Rolling);
        self.deadline = self.rollback_after_ms.filter(|_| limited).map(|ms| now.plus_ms(ms));
        self.phase = phase;
    }
}

/// The deployment that another one takes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    pub id: DeploymentId,
    pub reason: UndoReason,
}

/// Why a deployment was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UndoReason {
    /// By a user, as any deployment can be.
    Requested,
    /// By a user, instead of promoting it.
    Withdrawn,
    /// An app's new version was not healthy in time.
    Overdue { app_id: AppId, after_ms: u64 },
}

impl fmt::Display for UndoReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UndoReason::Requested => f.write_str("The deployment was rolled back"),
            UndoReason::Withdrawn => f.write_str("The deployment was withdrawn"),
            UndoReason::Overdue { app_id, after_ms } => {
                let seconds = after_ms / 1000;
                write!(f, "The new version of {app_id} was not healthy within {seconds} s")
            }
        }
    }
}
