//! What offers hold that is not free: the room reserved for volumes.

use crate::model::{Offer, State};

/// Take off the offers what is reserved on their agents. An agent knows its tasks alone; volumes
/// keep their room also while no task uses them, and only the state knows of those.
pub fn without_reserved(state: &State, mut offers: Vec<Offer>) -> Vec<Offer> {
    let reserved = state.reserved();
    for offer in &mut offers {
        if let Some(taken) = reserved.get(&offer.agent_id) {
            offer.free = offer.free.minus(taken);
        }
    }
    offers
}
