//! Volumes that the cluster gave up, from the order to the word that they are gone.
//!
//! Only what an order names is removed, and nothing an assignment here still names. The order is
//! a whole list, told again with every session: what failed or was in use comes round again.

use super::{Event, Performer, Reconciler};
use bramble_core::model::{TaskSpec, VolumeId};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

pub(super) struct GivenUp {
    /// To be removed.
    ordered: BTreeSet<VolumeId>,
    /// A removal is under way.
    busy: bool,
    /// There was reason to look again meanwhile.
    again: bool,
    /// Gone, and the cluster may not know yet.
    removed: watch::Sender<BTreeSet<VolumeId>>,
}

impl GivenUp {
    pub(super) fn new() -> (Self, watch::Receiver<BTreeSet<VolumeId>>) {
        let (removed, watch) = watch::channel(BTreeSet::new());
        (Self { ordered: BTreeSet::new(), busy: false, again: false, removed }, watch)
    }
}

impl<P: Performer> Reconciler<P> {
    pub(super) fn give_up(&mut self, ids: BTreeSet<VolumeId>) {
        // What is no longer ordered, the cluster knows to be gone.
        self.given_up.removed.send_modify(|removed| removed.retain(|id| ids.contains(id)));
        self.given_up.ordered = ids;
        self.remove_volumes();
    }

    /// Remove what may be removed now, one removal at a time.
    pub(super) fn remove_volumes(&mut self) {
        if self.given_up.busy {
            self.given_up.again = true;
            return;
        }
        let used: BTreeSet<&VolumeId> =
            self.book.assignments.values().flat_map(|a| volumes_of(&a.spec)).collect();
        let removed = self.given_up.removed.borrow().clone();
        let ready = |id: &&VolumeId| !used.contains(id) && !removed.contains(id);
        let ready: BTreeSet<VolumeId> =
            self.given_up.ordered.iter().filter(ready).cloned().collect();
        if ready.is_empty() {
            return;
        }
        self.given_up.busy = true;
        let (performer, events) = (Arc::clone(&self.performer), self.sender.clone());
        self.lives.spawn(async move {
            let gone = performer.remove_volumes(ready).await;
            // Fails only when the agent goes down; the next session orders it again.
            let _ = events.send(Event::VolumesRemoved(gone)).await;
        });
    }

    pub(super) fn volumes_removed(&mut self, gone: BTreeSet<VolumeId>) {
        self.given_up.busy = false;
        self.given_up.removed.send_modify(|removed| removed.extend(gone));
        if std::mem::take(&mut self.given_up.again) {
            self.remove_volumes();
        }
    }
}

fn volumes_of(spec: &TaskSpec) -> impl Iterator<Item = &VolumeId> {
    let of_pod = spec.pod.iter().flat_map(|container| &container.spec.local_volumes);
    spec.local_volumes.iter().chain(of_pod).map(|volume| &volume.id)
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Agent, within};
    use super::*;
    use crate::samples::assignment;
    use bramble_core::model::{Assignment, LocalVolume};

    fn ids(ids: &[&str]) -> BTreeSet<VolumeId> {
        ids.iter().map(|id| VolumeId::new(*id)).collect()
    }

    fn with_volume(task: &str, run: bool, volume: &str) -> Assignment {
        let mut assignment = assignment(task, run);
        assignment.spec.local_volumes.push(LocalVolume {
            id: VolumeId::new(volume),
            container_path: "data".into(),
            size_bytes: 1,
        });
        assignment
    }

    async fn removed(agent: &Agent, wanted: &[&str]) {
        let mut removed = agent.handle.removed.clone();
        within(removed.wait_for(|removed| *removed == ids(wanted))).await.unwrap();
    }

    #[tokio::test]
    async fn only_what_is_named_and_unused_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let machine = Arc::default();
        let mut agent = Agent::start(directory.path(), &machine, "boot").await;
        agent.assign(vec![with_volume("a", true, "kept"), with_volume("b", true, "used")]).await;
        agent.handle.give_up(ids(&["old", "used", "stuck"])).await;
        removed(&agent, &["old"]).await;
        // An assignment set without the task sets its volume free; the kept one is never touched.
        agent.assign(vec![with_volume("a", true, "kept")]).await;
        removed(&agent, &["old", "used"]).await;
        agent.assign(vec![]).await;
        // Told again, as with a new session: what failed is tried again, what is gone is not.
        agent.handle.give_up(ids(&["used", "stuck"])).await;
        removed(&agent, &["used"]).await;
        agent.settle().await;
        let log = machine.log();
        let count = |line: &str| log.iter().filter(|l| *l == line).count();
        assert!(count("remove stuck") >= 2, "{log:?}");
        assert_eq!((count("remove old"), count("remove used")), (1, 1), "{log:?}");
        assert_eq!(count("remove kept"), 0, "{log:?}");
        // An empty list removes nothing.
        agent.handle.give_up(BTreeSet::new()).await;
        removed(&agent, &[]).await;
        assert_eq!(machine.log().iter().filter(|l| l.starts_with("remove kept")).count(), 0);
        agent.leave().await;
    }
}
