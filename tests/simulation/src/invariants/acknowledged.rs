//! No acknowledged write is lost: whoever leads has it, and in the end everybody does.

use super::{Invariant, Sight};
use crate::client::Known;
use std::collections::BTreeMap;

/// By master: the life and term in which it was looked at, and how many writes then.
#[derive(Default)]
pub struct Acknowledged(BTreeMap<usize, (u64, u64, usize)>);

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        "no acknowledged write is lost"
    }

    fn look(&mut self, sight: &Sight) -> Result<(), String> {
        let writes = &sight.world.client.acknowledged;
        for (place, master) in sight.world.masters.iter().enumerate() {
            let Some(inside) = master.inside() else { continue };
            let seen = inside.consensus.leadership().borrow().clone();
            let now = (sight.world.nodes[place].life, seen.term, writes.len());
            if !seen.here || self.0.get(&place) == Some(&now) {
                continue;
            }
            let lost = inside.store.read(|state| {
                let old = writes.iter().filter(|write| write.index <= state.applied_index);
                let mut lost = old.filter(|write| !state.nodes.contains_key(&write.marker));
                lost.next().cloned()
            });
            if let Some(write) = lost {
                return Err(format!("master {place} leads term {} without {write:?}", seen.term));
            }
            self.0.insert(place, now);
        }
        Ok(())
    }

    fn at_the_end(&mut self, sight: &Sight) -> Result<(), String> {
        let client = &sight.world.client;
        for (place, master) in sight.world.masters.iter().enumerate() {
            let Some(inside) = master.inside() else { return Err(format!("{place} is down")) };
            let leads = inside.consensus.is_leader();
            inside.store.read(|state| {
                // A follower may not have heard of the very last ones yet.
                if state.applied_index < client.last_index && !leads {
                    return Ok(());
                }
                for write in &client.acknowledged {
                    if !state.nodes.contains_key(&write.marker) {
                        return Err(format!("master {place} has no {write:?}"));
                    }
                }
                for (id, known) in &client.apps {
                    let Known::Surely(wanted) = known else { continue };
                    let app = state.apps.get(id).map(|record| &record.app);
                    let found = app.map(|app| (app.instances, app.cmd.clone()));
                    if found != *wanted {
                        return Err(format!("{id} is {found:?} on master {place}, not {wanted:?}"));
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
