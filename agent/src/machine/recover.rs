//! What an earlier life of the agent left on the machine, container by container, then put together
//! where they are of one pod.

use super::{Machine, Made, bridge_ports, chain, clean_runtime};
use crate::network::NetworkError;
use crate::reconciler::{Ending, Found, Whole, assemble, owners};
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

/// Addresses by the task they belong to; `None`: it could not be connected.
type Addresses = BTreeMap<TaskId, Option<Ipv4Addr>>;

/// Look at every run directory; take over networks, drop those of nobody.
pub(super) async fn recover(
    machine: &Machine,
    assignments: &BTreeMap<TaskId, Arc<Assignment>>,
) -> BTreeMap<TaskId, Found<Whole<Made>>> {
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
    let owners = owners(assignments);
    // The assignment of a task, or of the pod a container is part of: it has the network.
    let owner = |id: &TaskId| owners.get(id).copied().or(assignments.get(id)).map(Arc::as_ref);
    let mut addresses = adopt_networks(machine, owner, &left).await;
    let mut found = BTreeMap::new();
    for (task_id, left) in left {
        let what = match left {
            Left::Live(handle) => {
                live(machine, owner(&task_id), &task_id, handle, &mut addresses).await
            }
            Left::Ended(record) => Found::Ended(Ending::Exited(record)),
            Left::Dead => Found::Dead,
        };
        found.insert(task_id, what);
    }
    assemble(assignments, found)
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
async fn adopt_networks<'a>(
    machine: &Machine,
    owner: impl Fn(&TaskId) -> Option<&'a Assignment>,
    left: &[(TaskId, Left)],
) -> Addresses {
    let mut addresses = Addresses::new();
    for (task_id, left) in left {
        let Left::Live(handle) = left else { continue };
        let Some(owner) = owner(task_id) else { continue };
        let Some(ports) = bridge_ports(owner) else { continue };
        if addresses.contains_key(&owner.task_id) {
            continue;
        }
        match machine.network.adopt(&owner.task_id, handle.init().pid, ports).await {
            Ok(attached) => drop(addresses.insert(owner.task_id.clone(), Some(attached.ip))),
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
    owner: Option<&Assignment>,
    task_id: &TaskId,
    handle: TaskHandle,
    addresses: &mut Addresses,
) -> Found<Made> {
    let created = handle.phase() == Some(Phase::Created);
    // Nobody else has any of it yet: this is the first that the machine hears of tasks.
    let held = owner.map_or(&[][..], |owner| &owner.spec.devices);
    if let Err(error) = machine.claims.claim(task_id, held) {
        tracing::error!(%task_id, %error, "two tasks have one device");
    }
    let mut made = machine.made(task_id, handle);
    if let Some((owner, ports)) = owner.and_then(|owner| Some((owner, bridge_ports(owner)?))) {
        // The agent died between making the container and connecting it, or somebody cut it off.
        let ip = match addresses.get(&owner.task_id) {
            Some(ip) => *ip,
            None => machine.connect(&owner.task_id, &made.handle, ports).await.map_or_else(
                |refusal| {
                    let message = refusal.message;
                    tracing::error!(%task_id, message, "a task without network is given up");
                    None
                },
                Some,
            ),
        };
        addresses.insert(owner.task_id.clone(), ip);
        if ip.is_none() {
            clean_runtime(&machine.runtime, task_id).await;
            return Found::Dead;
        }
        made = machine.at_address(made, ip);
    }
    if created { Found::Created(made) } else { Found::Running(made) }
}

fn tell(task_id: &TaskId, error: &NetworkError, what: &'static str) {
    tracing::warn!(%task_id, error = chain(error), "{what}");
}
