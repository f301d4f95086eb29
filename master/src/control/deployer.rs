//! The deployer: sole writer of instance goals and of a deployment's step.

use super::{Control, RETRY_MS};
use bramble_core::command::Command;
use bramble_core::deploy::{self, IdSource};
use futures_util::{StreamExt, stream};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Commands proposed before the first of them is known to be committed.
const PROPOSALS_AT_ONCE: usize = 64;

/// Random ids of the running leader; the pure core gets them handed in.
struct RandomIds;

impl IdSource for RandomIds {
    fn uuid(&mut self) -> String {
        Uuid::new_v4().to_string()
    }
}

pub(super) async fn run(control: &Control, stop: &CancellationToken) {
    let mut changes = control.store.watch();
    loop {
        changes.mark_unchanged();
        let commands = wanted(control);
        if commands.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            continue;
        }
        if let Err(error) = propose_all(control, commands).await {
            tracing::warn!(%error, "the deployer waits before it looks again");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(RETRY_MS)) => {}
            }
        }
    }
}

/// What shall change now: deployments first, then apps that no deployment touches.
fn wanted(control: &Control) -> Vec<Command> {
    control.store.read(|state| {
        let mut commands = Vec::new();
        for deployment in state.deployments.values() {
            let advance = deploy::advance(deployment, state, state.now, &mut RandomIds);
            commands.extend(advance.commands);
        }
        commands.extend(deploy::keep(state, &mut RandomIds));
        commands
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
