//! Keeps Raft's membership as the cluster's masters ask for it: see `core::autopilot` for what
//! that is. Sole writer of the membership.

use super::Control;
use crate::membership::Member;
use bramble_core::autopilot::{self, Liveness, Seen, Standing};
use bramble_core::model::{NodeId, NodeRole};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pause between two looks while there are other masters; alone, only changes are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Silence after which a master is not given a vote.
const UNSURE_AFTER: Duration = Duration::from_secs(2);
/// Entries a learner may be behind when it is given a vote.
const LAG_MAX: u64 = 100;

/// Look after the membership until `stop`.
pub(super) async fn run(control: &Control, stop: &CancellationToken) {
    let mut changes = control.store.watch();
    let since = Instant::now();
    loop {
        changes.mark_unchanged();
        let masters = masters(control);
        let (seen, alone) = (look(control, &masters, since), masters.len() < 2);
        if let Some(change) = autopilot::next(&control.own, &seen) {
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                changed = control.membership.change(change.clone()) => changed,
            };
            match changed {
                Ok(()) => {
                    // Only now: until then, the earlier voters are needed as well.
                    tracing::info!(?change, "the masters changed");
                    continue;
                }
                Err(error) => tracing::warn!(%error, "the masters do not change yet"),
            }
        }
        let idle = alone && control.membership.members().len() < 2;
        let pause = super::sleep_or_never((!idle).then_some(LOOK_EVERY));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = pause => {}
        }
    }
}

/// Masters that the cluster has admitted.
fn masters(control: &Control) -> BTreeSet<NodeId> {
    control.store.read(|state| {
        let masters = state.nodes.values().filter(|node| node.role != NodeRole::Agent);
        masters.map(|node| node.id.clone()).collect()
    })
}

/// `since`: this leader's beginning, before which it heard nobody.
fn look(control: &Control, admitted: &BTreeSet<NodeId>, since: Instant) -> Vec<Seen> {
    let members: BTreeMap<NodeId, Member> =
        control.membership.members().into_iter().map(|m| (m.id.clone(), m)).collect();
    let all: BTreeSet<&NodeId> = admitted.iter().chain(members.keys()).collect();
    let seen = |id: &NodeId| {
        let member = members.get(id);
        let silent = control.heard.of(id).unwrap_or(since).max(since).elapsed();
        let near = member.and_then(|m| m.lag).is_some_and(|lag| lag <= LAG_MAX);
        // Who leads without the key can neither admit a node nor give a task its secrets.
        let able = near && control.store.read(|state| state.holds_data_key(id));
        let liveness = match () {
            () if *id == control.own => Liveness::Ready,
            () if silent >= control.voter_grace => Liveness::Gone,
            () if silent < UNSURE_AFTER && able && control.heard.of(id).is_some() => {
                Liveness::Ready
            }
            () => Liveness::Unsure,
        };
        let standing = member.map_or(Standing::Outside, |m| m.standing);
        Seen { id: id.clone(), standing, liveness, admitted: admitted.contains(id) }
    };
    all.into_iter().map(seen).collect()
}
