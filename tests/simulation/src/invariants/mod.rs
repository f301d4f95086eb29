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

/// What an invariant may look at.
pub struct Sight<'a> {
    pub world: &'a World,
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
