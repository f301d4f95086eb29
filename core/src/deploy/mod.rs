//! Deployments: what to do for a change ([`plan`]), and what comes next ([`advance`], [`keep`]).
//!
//! Everything is computed from the state alone, each time anew: a new leader needs no hand-over.

use crate::command::Command;
use crate::model::{AppId, Deployment, Group, Plan, State, Time};
use std::collections::BTreeSet;

/// Where new ids come from; the leader's is random, a test's counts.
pub trait IdSource {
    /// Give a new UUID text.
    fn uuid(&mut self) -> String;
}

/// What to propose next for a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    pub commands: Vec<Command>,
    pub status: Status,
}

/// Where the present step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There are commands to propose.
    Acting,
    /// Nothing to do until something changes in the cluster.
    Waiting,
    /// The step is complete; the command moves to the next, or ends the deployment.
    StepDone,
}

/// Plan the steps from `original` to `target`.
pub fn plan(original: &Group, target: &Group) -> Plan {
    plan_with_restarts(original, target, &BTreeSet::new())
}

/// Plan the steps, restarting `restarts` even where their definition stays.
pub fn plan_with_restarts(original: &Group, target: &Group, restarts: &BTreeSet<AppId>) -> Plan {
    let _ = (original, target, restarts);
    Plan::default()
}

/// Compute what a deployment needs next.
pub fn advance(
    deployment: &Deployment,
    state: &State,
    now: Time,
    ids: &mut dyn IdSource,
) -> Advance {
    let _ = (deployment, state, now, ids);
    Advance { commands: Vec::new(), status: Status::Waiting }
}

/// Keep the instance count of every app that no deployment touches.
pub fn keep(state: &State, ids: &mut dyn IdSource) -> Vec<Command> {
    let _ = (state, ids);
    Vec::new()
}
