//! What an earlier life of the agent left on the machine, container by container.

use super::{Machine, Made, bridge_ports, chain, clean_runtime};
use crate::network::NetworkError;
use crate::reconciler::Found;
use crate::runtime::{Adopted, Phase, TaskHandle};
use bramble_core::model::{Assignment, TaskId};
use bramble_protocol::executor::ExitRecord;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What is left of one task.
enum Left {
    Live(TaskHandle),
    Ended(ExitRecord),
    Dead,
}

/// Look at every run directory; take over networks, drop those of nobody.
pub(super) async fn recover(
    machine: &Machine,
    assignments: &BTreeMap<TaskId, Arc<Assignment>>,
) -> BTreeMap<TaskId, Found<Made>> {
    let ids = machine.runtime.list().unwrap_or_else(|error| {
        let error: &dyn std::error::Error = &error;
        tracing::error!(error, "the run directory cannot be read: running tasks are not adopted");
        Vec::new()
    });
    let looks = ids.into_iter().map(|id| async {
        let left = look(machine, &id).await;
        (TaskId::new(id), left)
    });
    let left = join_all(looks).await;
    let addresses = adopt_networks(machine, assignments, &left).await;
    let mut found = BTreeMap::new();
    for (task_id, left) in left {
        let assignment = assignments.get(&task_id).map(Arc::as_ref);
        let address = addresses.get(&task_id).copied();
        let what = match left {
            Left::Live(handle) => live(machine, assignment, &task_id, handle, address).await,
            Left::Ended(record) => Found::Exited(record),
            Left::Dead => Found::Dead,
        };
        found.insert(task_id, what);
    }
    found
}

async fn look(machine: &Machine, id: &str) -> Left {
    match machine.runtime.adopt(id).await {
        Ok(Adopted::Live(handle)) => Left::Live(handle),
        Ok(Adopted::Ended(record)) => Left::Ended(record),
        Ok(Adopted::Dead) => {
            // Its processes may have outlived its executor.
            clean_runtime(&machine.runtime, &TaskId::new(id)).await;
            Left::Dead
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(task_id = id, error, "a run directory cannot be adopted");
            Left::Dead
        }
    }
}

/// Addresses of the live tasks that are still connected; everything else is disconnected.
async fn adopt_networks(
    machine: &Machine,
    assignments: &BTreeMap<TaskId, Arc<Assignment>>,
    left: &[(TaskId, Left)],
) -> BTreeMap<TaskId, Ipv4Addr> {
    let mut addresses = BTreeMap::new();
    for (task_id, left) in left {
        let Left::Live(handle) = left else { continue };
        let Some(ports) = assignments.get(task_id).and_then(|a| bridge_ports(a)) else { continue };
        match machine.network.adopt(task_id, handle.init().pid, ports).await {
            Ok(attached) => drop(addresses.insert(task_id.clone(), attached.ip)),
            Err(error) => tell(task_id, &error, "a task's network was not found"),
        }
    }
    let connected: Vec<TaskId> = addresses.keys().cloned().collect();
    if let Err(error) = machine.network.prune(&connected).await {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, "networks of ended tasks stay");
    }
    addresses
}

async fn live(
    machine: &Machine,
    assignment: Option<&Assignment>,
    task_id: &TaskId,
    handle: TaskHandle,
    address: Option<Ipv4Addr>,
) -> Found<Made> {
    let mut ip = address;
    // The agent died between making the container and connecting it, or somebody cut it off.
    if let (None, Some(ports)) = (address, assignment.and_then(bridge_ports)) {
        match machine.connect(task_id, &handle, ports).await {
            Ok(connected) => ip = Some(connected),
            Err(refusal) => {
                let message = refusal.message;
                tracing::error!(%task_id, message, "a task without network is given up");
                clean_runtime(&machine.runtime, task_id).await;
                return Found::Dead;
            }
        }
    }
    let created = handle.phase() == Some(Phase::Created);
    let runtime = machine.runtime.clone();
    let made = Made { task_id: task_id.clone(), runtime, handle, ip };
    if created { Found::Created(made) } else { Found::Running(made) }
}

fn tell(task_id: &TaskId, error: &NetworkError, what: &'static str) {
    tracing::warn!(%task_id, error = chain(error), "{what}");
}
