//! The placer: sole writer of assignments. Matches waiting instances with live offers.

use super::{Control, RETRY_MS, sleep_or_never};
use crate::offers::Pending;
use crate::queue_view::{QueueEntry, QueueView};
use bramble_core::command::{Command, Placed};
use bramble_core::event::Event;
use bramble_core::model::{AppId, InstanceId, Offer, Resources, Time};
use bramble_core::place::{self, Placement, Policy};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Milliseconds between two looks while something waits for room that no event will announce
/// (a foreign process leaving a port, for example).
const LOOK_AGAIN_MS: u64 = 5_000;

/// Milliseconds before the placer looks again after a placement no longer held: by then the agent's
/// next offer or the state has caught up.
const REFUSED_MS: u64 = 50;

/// What the last placing said about apps that still wait; read by `/v2/queue`.
#[derive(Default)]
pub struct PlacerView {
    entries: Mutex<BTreeMap<AppId, QueueEntry>>,
}

impl QueueView for PlacerView {
    fn refusals(&self, app_id: &AppId) -> Option<QueueEntry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).get(app_id).cloned()
    }
}

pub(super) async fn run(control: &Control, stop: &CancellationToken) {
    let mut changes = control.store.watch();
    let mut offers = control.offers.watch();
    let mut turn = 0u64;
    loop {
        changes.mark_unchanged();
        offers.mark_unchanged();
        turn += 1;
        let look = look(control, turn);
        if let Some(pause) = assign(control, look.placement.decisions, &look.needs).await {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            continue;
        }
        let pause = look.next_ms.map(Duration::from_millis);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            changed = offers.changed() => if changed.is_err() { return },
            () = sleep_or_never(pause) => {}
        }
    }
}

struct Look {
    placement: Placement,
    /// Resources of the instances placed, for the offer book.
    needs: BTreeMap<InstanceId, Resources>,
    next_ms: Option<u64>,
}

fn look(control: &Control, turn: u64) -> Look {
    let offers = control.offers.current();
    control.store.read(|state| {
        // A launch delay ends by the clock although nothing is applied meanwhile.
        let now = control.store.now();
        let demands = state.demands(now);
        let offers = place::without_reserved(state, offers);
        let offers = place::with_what_is_known(state, offers, &demands);
        let placement = place::place(&offers, &demands, &Policy { port_seed: turn });
        let needs = demands
            .iter()
            .map(|demand| (demand.instance_id.clone(), demand.app.resources))
            .collect();
        control.view.remember(&placement, &offers, now);
        let delayed = state.next_wake(now).map(|at| at.since_ms(now).max(1));
        let refused = (!placement.refused.is_empty()).then_some(LOOK_AGAIN_MS);
        let next_ms = match (delayed, refused) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Look { placement, needs, next_ms }
    })
}

/// Commit the decisions. Gives a pause when looking again at once would only repeat a failure.
async fn assign(
    control: &Control,
    decisions: Vec<Placed>,
    needs: &BTreeMap<InstanceId, Resources>,
) -> Option<Duration> {
    if decisions.is_empty() {
        return None;
    }
    let retry = Some(Duration::from_millis(RETRY_MS));
    match control.propose.propose(Command::Assign { assignments: decisions.clone() }).await {
        Ok(committed) => {
            let mut refused = false;
            for event in &committed.events {
                if let Event::AssignmentRefused { instance_id, reason, .. } = event {
                    tracing::debug!(%instance_id, ?reason, "a placement no longer held");
                    refused = true;
                }
            }
            for placed in decisions {
                let resources = needs.get(&placed.instance_id).copied().unwrap_or_default();
                let (ports, devices) = (placed.ports, placed.devices);
                let pending = Pending { index: committed.index, resources, ports, devices };
                control.offers.spend(&placed.agent_id, pending);
            }
            refused.then_some(Duration::from_millis(REFUSED_MS))
        }
        Err(error) => {
            tracing::warn!(%error, "the placer waits before it looks again");
            retry
        }
    }
}

impl PlacerView {
    /// Keep what this look refused; apps that no longer wait are forgotten.
    fn remember(&self, placement: &Placement, offers: &[Offer], now: Time) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh: BTreeMap<AppId, QueueEntry> = BTreeMap::new();
        for refused in &placement.refused {
            let earlier = entries.remove(&refused.app_id);
            fresh
                .entry(refused.app_id.clone())
                .or_insert_with(|| earlier.unwrap_or_default())
                .refuse(refused, offers, now);
        }
        *entries = fresh;
    }
}
