//! One leader per term (Raft, section 5.2: election safety), as openraft has it.
//!
//! openraft's term is a pair: number, and id of the candidate. Within a number a candidate of a
//! larger id may take the place of one of a smaller id, which then commits nothing more. Never the
//! other way round: a master that is the first to be seen leading a number after one of a larger
//! id was elected by somebody who forgot a vote.
//!
//! A leader that restarts may go on in its term: it finds its own vote, confirmed by a quorum, on
//! disk, and has sent out no entry that is not there as well.

use super::{Invariant, Sight};
use std::collections::{BTreeMap, BTreeSet};

/// Who led, by number of the term. Places are in the order of Raft ids.
#[derive(Default)]
pub struct OneLeader(BTreeMap<u64, BTreeSet<usize>>);

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "one leader per term"
    }

    fn look(&mut self, sight: &Sight) -> Result<(), String> {
        for (place, master) in sight.world.masters.iter().enumerate() {
            let Some(inside) = master.inside() else { continue };
            let seen = inside.consensus.leadership().borrow().clone();
            if !seen.here {
                continue;
            }
            let led = self.0.entry(seen.term).or_default();
            let largest = led.last().copied();
            if led.insert(place)
                && let Some(other) = largest.filter(|largest| *largest > place)
            {
                let term = seen.term;
                return Err(format!("master {place} leads term {term}, which {other} has led"));
            }
        }
        Ok(())
    }
}
