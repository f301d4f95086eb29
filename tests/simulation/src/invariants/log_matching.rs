//! Log matching and state machine safety (Raft, section 5.3): what one master has committed at an
//! index, every master has; and two logs that agree on an entry agree on all before it.

use super::{Invariant, Sight};
use crate::trace::digest;
use bramble_master::consensus::simulated::Platter;
use std::collections::BTreeMap;

/// Looks between two comparisons of whole logs.
const LOOKS: u32 = 25;

/// Who wrote an entry, and its bytes in short.
type Short = ((u64, u64), u64);

#[derive(Default)]
pub struct LogMatching {
    /// What was committed, by index.
    committed: BTreeMap<u64, u64>,
    /// By master and life: the index up to which its committed entries were looked at.
    looked: BTreeMap<(usize, u64), u64>,
    authors: BTreeMap<u64, (u64, u64)>,
    looks: u32,
}

impl LogMatching {
    fn committed(&mut self, sight: &Sight) -> Result<(), String> {
        for (place, master) in sight.world.masters.iter().enumerate() {
            let Some(inside) = master.inside() else { continue };
            let applied = inside.store.read(|state| state.applied_index);
            let life = sight.world.nodes[place].life;
            let from = self.looked.entry((place, life)).or_default();
            if *from >= applied {
                continue;
            }
            for (index, bytes) in master.platter.raw_entries_after(*from) {
                if index > applied {
                    break;
                }
                let here = digest(&bytes);
                let first = *self.committed.entry(index).or_insert(here);
                if first != here {
                    return Err(format!(
                        "entry {index} of master {place} is not what was committed"
                    ));
                }
            }
            *from = applied;
        }
        Ok(())
    }

    /// The whole log of a master, in short.
    fn log(&mut self, platter: &Platter) -> BTreeMap<u64, Short> {
        let entries = platter.raw_entries_after(0).into_iter();
        let short = entries.map(|(index, bytes)| {
            let sum = digest(&bytes);
            let author = self.authors.entry(sum).or_insert_with(|| Platter::author(index, bytes));
            (index, (*author, sum))
        });
        short.collect()
    }

    fn matching(&mut self, sight: &Sight) -> Result<(), String> {
        let masters = &sight.world.masters;
        let logs: Vec<_> = masters.iter().map(|master| self.log(&master.platter)).collect();
        for (a, one) in logs.iter().enumerate() {
            for (b, other) in logs.iter().enumerate().skip(a + 1) {
                let mut agreed = false;
                for (index, (author, sum)) in one.iter().rev() {
                    let Some((other_author, other_sum)) = other.get(index) else { continue };
                    agreed |= author == other_author;
                    if agreed && sum != other_sum {
                        return Err(format!(
                            "the logs of masters {a} and {b} differ at {index} and agree later"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn look(&mut self, sight: &Sight) -> Result<(), String> {
        self.committed(sight)?;
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS) { self.matching(sight) } else { Ok(()) }
    }

    fn at_the_end(&mut self, sight: &Sight) -> Result<(), String> {
        self.committed(sight)?;
        self.matching(sight)
    }
}
