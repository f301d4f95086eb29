//! One leader per term (Raft, section 5.2: election safety).
//!
//! A leader that restarts may go on in its term: openraft finds its own vote, confirmed by a quorum,
//! on disk, and has sent out no entry that is not there as well.

use super::{Invariant, Sight};
use std::collections::BTreeMap;

/// Who led, by term.
#[derive(Default)]
pub struct OneLeader(BTreeMap<u64, usize>);

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
            let first = *self.0.entry(seen.term).or_insert(place);
            if first != place {
                let term = seen.term;
                return Err(format!("master {place} leads term {term}, which {first} has led"));
            }
        }
        Ok(())
    }
}
