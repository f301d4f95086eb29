//! Decide where waiting instances run: offers x demands -> decisions, and why not.

mod reason;

pub use crate::command::Placed;
pub use reason::Reason;

use crate::model::{AgentId, AppId, Demand, InstanceId, Offer};

/// What the caller may tune.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Where the choice of dynamic ports starts, so that a port just given back rests a while.
    pub port_seed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    pub decisions: Vec<Placed>,
    pub refused: Vec<Refused>,
}

/// An instance that found no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub instance_id: InstanceId,
    pub app_id: AppId,
    /// Every offer's agent and all that spoke against it, in the order of [`Reason::FUNNEL`].
    pub per_agent: Vec<(AgentId, Vec<Reason>)>,
}

/// Choose a place for each demand.
pub fn place(offers: &[Offer], demands: &[Demand<'_>], policy: &Policy) -> Placement {
    let _ = (offers, demands, policy);
    Placement::default()
}
