//! What must hold, one invariant per file. They look at what nodes hold and machines run, and
//! change nothing.

mod acknowledged;
mod constraints;
mod converges;
mod log_matching;
mod no_overcommit;
mod one_agent;
mod one_leader;

pub use converges::unsettled;

use crate::world::World;
use bramble_core::model::State;
use std::collections::BTreeMap;

/// What an invariant may look at.
pub struct Sight<'a> {
    pub world: &'a World,
}

/// By master and life: the index that was looked at last.
#[derive(Default)]
pub(crate) struct Looked(BTreeMap<(usize, u64), u64>);

impl Looked {
    /// Look at the state of each master that has changed since.
    ///
    /// # Errors
    /// The first of what `look` finds.
    fn each_new(
        &mut self,
        sight: &Sight,
        look: impl Fn(&State) -> Result<(), String>,
    ) -> Result<(), String> {
        for (place, master) in sight.world.masters.iter().enumerate() {
            let Some(inside) = master.inside() else { continue };
            let looked = self.0.entry((place, sight.world.nodes[place].life)).or_default();
            inside.store.read(|state| {
                if state.applied_index == *looked {
                    return Ok(());
                }
                *looked = state.applied_index;
                look(state)
            })?;
        }
        Ok(())
    }
}

pub trait Invariant {
    fn name(&self) -> &'static str;

    /// Look while the world goes on.
    ///
    /// # Errors
    /// What does not hold.
    fn look(&mut self, sight: &Sight) -> Result<(), String>;

    /// Look once the world has healed and come to rest.
    ///
    /// # Errors
    /// What does not hold.
    fn at_the_end(&mut self, sight: &Sight) -> Result<(), String> {
        self.look(sight)
    }
}

pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(one_leader::OneLeader::default()),
        Box::new(log_matching::LogMatching::default()),
        Box::new(acknowledged::Acknowledged::default()),
        Box::new(one_agent::OneAgent),
        Box::new(no_overcommit::NoOvercommit::default()),
        Box::new(constraints::Constraints::default()),
    ]
}
