//! Making a pod: its shared directories, then one container after the other, each in the network
//! of the first, which is connected once.

use super::{Machine, Made, bridge_ports, chain};
use crate::images::ImageOnDisk;
use crate::reconciler::{Part, Performer, Pod, Progress, Refusal, member};
use crate::runtime::{PodPlace, SharedDirectory};
use crate::sandboxes::SandboxError;
use bramble_core::model::{Assignment, PodTask, TaskNetwork};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Bring what each container needs from elsewhere, in definition order.
pub(super) async fn fetch(
    machine: &Machine,
    pod: &Assignment,
    progress: Progress<'_>,
) -> Result<Vec<Option<ImageOnDisk>>, Refusal> {
    let mut images = Vec::with_capacity(pod.spec.pod.len());
    for task in &pod.spec.pod {
        let fetched = machine.fetch_one(&member(pod, task), progress).await;
        images.push(fetched.map_err(|refusal| refusal.of_container(&task.name))?);
    }
    Ok(images)
}

/// Make every container of a pod; none of them runs yet. Nothing of any is left when one fails.
pub(super) async fn create(
    machine: &Machine,
    pod: &Assignment,
    images: Vec<Option<ImageOnDisk>>,
) -> Result<Pod<Made>, Refusal> {
    let mut made = Vec::with_capacity(images.len());
    match create_all(machine, pod, images, &mut made).await {
        Ok(()) => Ok(Pod::new(pod, made.into_iter().map(Part::Live).collect())),
        Err(refusal) => {
            for container in &made {
                machine.clean(&container.task_id).await;
            }
            Err(refusal)
        }
    }
}

async fn create_all(
    machine: &Machine,
    pod: &Assignment,
    images: Vec<Option<ImageOnDisk>>,
    made: &mut Vec<Made>,
) -> Result<(), Refusal> {
    let directories = share(machine, pod).map_err(|error| match error {
        SandboxError::Volume(_) => Refusal::error(chain(&error)),
        error => Refusal::failed(chain(&error)),
    })?;
    let own_network = matches!(pod.spec.network, TaskNetwork::Bridge(_));
    for (task, image) in pod.spec.pod.iter().zip(images) {
        let first = made.first().filter(|_| own_network);
        let network_of = first.map(|first| first.handle.init());
        let place = PodPlace { network_of, shared: seen_by(task, &directories) };
        let container = machine.create_one(&member(pod, task), image, place).await;
        made.push(container.map_err(|refusal| refusal.of_container(&task.name))?);
    }
    if let (Some(ports), Some(first)) = (bridge_ports(pod), made.first()) {
        let ip = machine.connect(&pod.task_id, &first.handle, ports).await?;
        let connected = made.drain(..).map(|one| machine.at_address(one, Some(ip)));
        *made = connected.collect();
    }
    Ok(())
}

/// Make the directories that any container of the pod names.
fn share<'a>(
    machine: &Machine,
    pod: &'a Assignment,
) -> Result<BTreeMap<&'a str, PathBuf>, SandboxError> {
    let mut directories = BTreeMap::new();
    for mount in pod.spec.pod.iter().flat_map(|task| &task.shared) {
        if !directories.contains_key(mount.volume.as_str()) {
            let path = machine.sandboxes.create_shared(&pod.task_id, &mount.volume)?;
            directories.insert(mount.volume.as_str(), path);
        }
    }
    Ok(directories)
}

fn seen_by(task: &PodTask, directories: &BTreeMap<&str, PathBuf>) -> Vec<SharedDirectory> {
    let seen = task.shared.iter().filter_map(|mount| {
        Some(SharedDirectory {
            host_path: directories.get(mount.volume.as_str())?.clone(),
            container_path: mount.container_path.clone(),
            mode: mount.mode,
        })
    });
    seen.collect()
}
