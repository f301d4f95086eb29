//! Tasks end when their device is pulled: it may be in another machine a moment later, and their
//! app follows it there.

use super::life::Order;
use super::{Performer, Reconciler};
use bramble_core::converge::Seen;
use bramble_core::model::TaskId;
use std::collections::BTreeSet;

/// Told of a device that is not there.
pub const UNPLUGGED: &str = "it is not plugged in here any more";

impl<P: Performer> Reconciler<P> {
    /// End tasks that have a device which is not among these. They are told as killed: nothing is
    /// wrong with their app, so its next launch need not wait.
    pub(super) fn end_unplugged(&mut self, here: &BTreeSet<String>) {
        let living = self.roster.snapshot().into_iter();
        let living = living.filter(|(_, seen)| matches!(seen, Seen::Starting | Seen::Running));
        let orders: Vec<(TaskId, Order)> = living
            .filter_map(|(id, _)| {
                let spec = &self.book.assignments.get(&id)?.spec;
                let gone = spec.devices.iter().find(|d| !here.contains(&d.held.key))?;
                let reason = Some(format!("device {}: {UNPLUGGED}", gone.id));
                Some((id, Order { grace_ms: spec.kill_grace_ms, reason }))
            })
            .collect();
        for (id, order) in orders {
            self.stop(&id, order);
        }
    }
}
