//! The deployer: sole writer of instance goals and of a deployment's step.

use super::{Control, RETRY_MS, sleep_or_never};
use bramble_core::command::Command;
use bramble_core::deploy::{self, IdSource};
use bramble_core::lease::{LEASE_MARGIN_MS, LEASE_MS};
use bramble_core::model::{AgentId, State};
use futures_util::{StreamExt, stream};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Commands proposed before the first of them is known to be committed.
const PROPOSALS_AT_ONCE: usize = 64;

/// Milliseconds before a new leader takes deployments back, or stops tasks, because their time is
/// over: what agents had to say while nobody led must have arrived.
const JUDGE_AFTER_MS: u64 = 10_000;

/// Time for which the leader itself has to have known an agent as away before it takes the leases
/// there for over.
const LEASES_OVER: Duration = Duration::from_millis(LEASE_MS + LEASE_MARGIN_MS);

/// Random ids of the running leader; the pure core gets them handed in.
struct RandomIds;

impl IdSource for RandomIds {
    fn uuid(&mut self) -> String {
        Uuid::new_v4().to_string()
    }
}

pub(super) async fn run(control: &Control, stop: &CancellationToken) {
    let mut changes = control.store.watch();
    let judges_from = Instant::now() + Duration::from_millis(JUDGE_AFTER_MS);
    let mut away = Away::default();
    loop {
        changes.mark_unchanged();
        let look = look(control, judges_from, &mut away);
        if look.commands.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep_or_never(look.pause) => {}
            }
            continue;
        }
        if let Err(error) = propose_all(control, look.commands).await {
            tracing::warn!(%error, "the deployer waits before it looks again");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(RETRY_MS)) => {}
            }
        }
    }
}

struct Look {
    commands: Vec<Command>,
    /// Until a deadline that nothing else announces.
    pause: Option<Duration>,
}

/// Since when this leader has known agents as away. The replicated moment alone is not enough for
/// what must not run twice: wall clocks can be set, this one cannot.
#[derive(Default)]
struct Away(BTreeMap<AgentId, Instant>);

impl Away {
    fn follow(&mut self, state: &State) {
        self.0.retain(|id, _| state.away.contains_key(id));
        for id in state.away.keys() {
            if !self.0.contains_key(id) {
                self.0.insert(id.clone(), Instant::now());
            }
        }
    }

    fn leases_are_over(&self, id: &AgentId, now: Instant) -> bool {
        self.0.get(id).is_some_and(|since| now >= *since + LEASES_OVER)
    }

    /// From `now` until the next of them may be said to be over. Asked with the same moment as
    /// what is over: one that ends between two would wait for something else to happen.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let left = |since: &Instant| (*since + LEASES_OVER).checked_duration_since(now);
        self.0.values().filter_map(left).filter(|left| !left.is_zero()).min()
    }
}

/// What shall change now: deployments first, then apps that no deployment touches.
fn look(control: &Control, judges_from: Instant, away: &mut Away) -> Look {
    let until_judging = judges_from.saturating_duration_since(Instant::now());
    control.store.read(|state| {
        // A deadline passes by the clock although nothing is applied meanwhile.
        let now = control.store.now();
        away.follow(state);
        let looked = Instant::now();
        let mut commands = deploy::absences(state, now, &|id| away.leases_are_over(id, looked));
        for deployment in state.deployments.values() {
            let judged = until_judging.is_zero();
            let back = judged.then(|| deploy::give_up(deployment, state, now, &mut RandomIds));
            match back.flatten() {
                Some(back) => {
                    tracing::info!(deployment_id = %deployment.id, "its time is over: going back");
                    commands.push(back);
                }
                None => {
                    let advance = deploy::advance(deployment, state, now, &mut RandomIds);
                    commands.extend(advance.commands);
                }
            }
        }
        if until_judging.is_zero() {
            commands.extend(deploy::stuck(state, now));
        }
        commands.extend(deploy::end_rebalance(state, now));
        if control.rebalance && until_judging.is_zero() {
            commands.extend(deploy::rebalance(state, now));
        }
        commands.extend(deploy::keep(state, &mut RandomIds));
        let absence = deploy::next_absence(state, now).map(|at| at.since_ms(now).max(1));
        let absence = absence.map(Duration::from_millis);
        let even = deploy::next_rebalance(state, now).map(|at| at.since_ms(now).max(1));
        let even = even.map(|ms| Duration::from_millis(ms).max(until_judging));
        let deadlines = [deploy::next_deadline(state), deploy::next_stuck(state)];
        let deadline = deadlines.into_iter().flatten().min().map(|deadline| {
            // One that is past and not acted on must not make this loop spin.
            let left = if deadline > now { deadline.since_ms(now) } else { RETRY_MS };
            Duration::from_millis(left).max(until_judging)
        });
        let pause = deadline.into_iter().chain(absence).chain(away.pause(looked)).chain(even).min();
        Look { commands, pause }
    })
}

async fn propose_all(
    control: &Control,
    commands: Vec<Command>,
) -> Result<(), crate::propose::ProposeError> {
    // In order, but not one after the other: what is under way at once shares one write to disk,
    // without which a thousand new apps would cost a thousand of them.
    let proposals = commands.into_iter().map(|command| {
        tracing::debug!(?command, "the deployer proposes");
        control.propose.propose(command)
    });
    let mut proposals = stream::iter(proposals).buffered(PROPOSALS_AT_ONCE);
    while let Some(committed) = proposals.next().await {
        committed?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_every_moment_a_lease_is_over_or_waited_for() {
        let (id, since) = (AgentId::new("n"), Instant::now());
        let away = Away(BTreeMap::from([(id.clone(), since)]));
        let millisecond = Duration::from_millis(1);
        let moments = [Duration::ZERO, LEASES_OVER - millisecond, LEASES_OVER, LEASES_OVER * 2];
        for (moment, over) in moments.into_iter().zip([false, false, true, true]) {
            let now = since + moment;
            assert_eq!(away.leases_are_over(&id, now), over, "{moment:?}");
            assert_eq!(away.pause(now), (!over).then(|| LEASES_OVER - moment));
        }
    }
}
