//! The machine as the reconciler sees it: images, sandboxes, the container runtime and the
//! network behind one [`Performer`].
//!
//! Owns the order of steps that make and unmake a task. Decides nothing about which tasks there
//! should be.

mod pod;
mod recover;

use crate::fetch::Fetcher;
use crate::hardware::{Claims, Hardware};
use crate::images::{ImageOnDisk, Images};
use crate::network::Network;
use crate::reconciler::{Container, Ending, Found, Performer, Progress, Refusal, UNPLUGGED, Whole};
use crate::runtime::config::ConfigError;
use crate::runtime::{
    Ended, ExecRequest, ExecStreams, Launch, LaunchDevice, LaunchImage, PodPlace, Runtime,
    RuntimeError, TaskHandle,
};
use crate::sandboxes::Sandboxes;
use crate::secrets::{Safe, SecretsError};
use crate::volumes::Volumes;
use bramble_core::model::{
    Assignment, PublishedPort, TaskId, TaskImage, TaskNetwork, TaskSpec, VolumeId,
};
use bramble_protocol::message::AssignmentSet;
use bramble_protocol::net::SealError;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

/// Characters of a bridge container's host name, as Docker cuts its own.
const HOSTNAME_CHARS: usize = 12;

/// Everything of this machine that tasks are made from.
pub struct Machine {
    pub runtime: Runtime,
    pub network: Arc<Network>,
    pub images: Arc<Images>,
    pub fetcher: Fetcher,
    pub sandboxes: Sandboxes,
    pub safe: Safe,
    pub volumes: Volumes,
    pub hardware: watch::Receiver<Arc<Hardware>>,
    pub claims: Claims,
    /// The node's name, which is the host name of tasks on the host's network.
    pub name: String,
    pub allow_host_volumes: bool,
    pub allow_privileged: bool,
}

/// A container with an executor and, on the bridge, an address.
pub struct Made {
    task_id: TaskId,
    runtime: Runtime,
    handle: TaskHandle,
    ip: Option<Ipv4Addr>,
}

impl Container for Made {
    async fn start(&self) -> Result<(), Refusal> {
        self.handle.start().await.map_err(|error| refusal(&error))
    }

    async fn resize(&self, spec: &TaskSpec) -> Result<(), Refusal> {
        let resized = self.runtime.resize(self.task_id.as_str(), spec).await;
        resized.map_err(|error| refusal(&error))
    }

    async fn renew(&self, until_ms: u64) {
        if let Err(error) = self.handle.renew(until_ms).await {
            // It ends in time without a word.
            let error: &dyn Error = &error;
            tracing::debug!(task_id = %self.task_id, error, "an executor did not take its lease");
        }
    }

    async fn stop(&self, grace_ms: u64) {
        if let Err(error) = self.handle.stop(grace_ms).await {
            // An executor that cannot be told is dying; `wait` hears of that.
            let error: &dyn Error = &error;
            tracing::warn!(task_id = %self.task_id, error, "an executor did not take a stop");
        }
    }

    async fn wait(&self) -> Ending {
        match self.handle.wait().await {
            Ended::Exited(record) => Ending::Exited(record),
            Ended::ExecutorDied => {
                // Nothing may run on behind a report that it ended.
                clean_runtime(&self.runtime, &self.task_id).await;
                Ending::ExecutorDied
            }
        }
    }

    fn ip(&self) -> Option<String> {
        self.ip.map(|ip| ip.to_string())
    }
}

impl Performer for Machine {
    /// Of an app one, of a pod one for each container, in definition order.
    type Image = Vec<Option<ImageOnDisk>>;
    type Container = Whole<Made>;

    fn seal(
        &self,
        set: &mut AssignmentSet,
        held: &BTreeMap<TaskId, Arc<Assignment>>,
    ) -> Result<(), SealError> {
        self.safe.take(set, held)
    }

    async fn fetch(
        &self,
        assignment: &Assignment,
        progress: Progress<'_>,
    ) -> Result<Vec<Option<ImageOnDisk>>, Refusal> {
        if assignment.spec.pod.is_empty() {
            return Ok(vec![self.fetch_one(assignment, progress).await?]);
        }
        pod::fetch(self, assignment, progress).await
    }

    async fn create(
        &self,
        assignment: &Assignment,
        images: Vec<Option<ImageOnDisk>>,
    ) -> Result<Whole<Made>, Refusal> {
        if !assignment.spec.pod.is_empty() {
            return pod::create(self, assignment, images).await.map(Whole::Pod);
        }
        let image = images.into_iter().next().flatten();
        let made = self.create_one(assignment, image, PodPlace::default()).await?;
        let ip = match bridge_ports(assignment) {
            None => None,
            Some(ports) => match self.connect(&assignment.task_id, &made.handle, ports).await {
                Ok(ip) => Some(ip),
                Err(refusal) => {
                    self.clean(&assignment.task_id).await;
                    return Err(refusal);
                }
            },
        };
        Ok(Whole::One(self.at_address(made, ip)))
    }

    async fn release(&self, task_id: &TaskId) {
        if let Err(error) = self.network.detach(task_id).await {
            let error: &dyn Error = &error;
            tracing::warn!(%task_id, error, "a task stays connected");
        }
    }

    async fn clean(&self, task_id: &TaskId) {
        clean_runtime(&self.runtime, task_id).await;
        self.remove_work(task_id);
        self.claims.release(task_id);
    }

    async fn recover(
        &self,
        assignments: &BTreeMap<TaskId, Arc<Assignment>>,
    ) -> BTreeMap<TaskId, Found<Whole<Made>>> {
        recover::recover(self, assignments).await
    }

    async fn sweep(&self, keep: BTreeSet<TaskId>) {
        let sandboxes = self.sandboxes.clone();
        let swept = tokio::task::spawn_blocking(move || sandboxes.sweep(&keep)).await;
        if let Ok(Err(error)) = swept {
            let error: &dyn Error = &error;
            tracing::warn!(error, "old sandboxes were not removed");
        }
    }

    async fn remove_volumes(&self, ids: BTreeSet<VolumeId>) -> BTreeSet<VolumeId> {
        let volumes = self.volumes.clone();
        let removed = tokio::task::spawn_blocking(move || volumes.remove_all(ids)).await;
        removed.unwrap_or_default()
    }

    async fn run_inside(&self, task_id: &TaskId, line: &str) -> Result<i32, Refusal> {
        let command = ["/bin/sh", "-c", line].map(str::to_string).to_vec();
        let request = ExecRequest { command, tty: false, rows: 0, columns: 0 };
        let session = self.runtime.exec(task_id.as_str(), request).await;
        let mut session = session.map_err(|error| refusal(&error))?;
        let Some(ExecStreams::Pipes { mut stdin, mut stdout, mut stderr }) = session.take_streams()
        else {
            return Err(Refusal::failed("a command without pipes"));
        };
        // A check that reads finds an end; one that talks must not fill a pipe and hang. That
        // its output cannot be read says nothing about its exit.
        let _ = stdin.shutdown().await;
        drop(stdin);
        let (mut nowhere, mut neither) = (tokio::io::sink(), tokio::io::sink());
        let (ended, _, _) = tokio::join!(
            session.wait(),
            tokio::io::copy(&mut stdout, &mut nowhere),
            tokio::io::copy(&mut stderr, &mut neither),
        );
        ended.map_err(|error| refusal(&error))
    }
}

impl Machine {
    async fn fetch_one(
        &self,
        assignment: &Assignment,
        progress: Progress<'_>,
    ) -> Result<Option<ImageOnDisk>, Refusal> {
        let image = match &assignment.spec.image {
            None => None,
            Some(image) => {
                let login = self.safe.login(&assignment.spec);
                let login = login.map_err(|error| secrets_refusal(&error))?;
                let TaskImage { reference, force_pull, .. } = image;
                let ensuring = self.images.ensure(reference, *force_pull, login.as_ref(), progress);
                let had = ensuring.await;
                Some(had.map_err(|error| image_refusal(&image.reference, error.reason()))?)
            }
        };
        self.fetch_files(assignment, progress).await?;
        Ok(image)
    }

    async fn fetch_files(
        &self,
        assignment: &Assignment,
        progress: Progress<'_>,
    ) -> Result<(), Refusal> {
        let files = &assignment.spec.fetch;
        if files.is_empty() {
            return Ok(());
        }
        let made = self.sandboxes.create(&assignment.task_id);
        let (sandbox, _) = made.map_err(|error| Refusal::failed(chain(&error)))?;
        let fetched = self.fetcher.fetch(files, &sandbox, progress).await;
        fetched.map_err(|error| Refusal::failed(chain(&error)))
    }

    fn launch(
        &self,
        assignment: &Assignment,
        image: Option<ImageOnDisk>,
        pod: PodPlace,
    ) -> Result<Launch, Refusal> {
        let task_id = &assignment.task_id;
        let secrets = self.safe.open(&assignment.spec).map_err(|error| secrets_refusal(&error))?;
        let failed = |error: &dyn Error| Refusal::failed(chain(error));
        // What an earlier, broken off creation wrote must not show up in this container.
        self.sandboxes.remove_work(task_id).map_err(|error| failed(&error))?;
        let (sandbox, work_dir) = self.sandboxes.create(task_id).map_err(|error| failed(&error))?;
        let volumes = assignment.spec.local_volumes.iter().map(|volume| {
            let directory = self.volumes.ensure(&volume.id);
            directory.map(|directory| (volume.container_path.clone(), directory))
        });
        let volumes = volumes.collect::<Result<_, _>>().map_err(|error| failed(&error))?;
        let devices = self.devices(assignment)?;
        let bridged = matches!(assignment.spec.network, TaskNetwork::Bridge(_));
        Ok(Launch {
            image: image.map(launch_image),
            sandbox,
            work_dir,
            volumes,
            resolv_conf: bridged.then(crate::network::resolv_conf),
            hostname: if bridged { short_name(assignment) } else { self.name.clone() },
            secrets,
            devices,
            allow_host_volumes: self.allow_host_volumes,
            allow_privileged: self.allow_privileged,
            pod,
            assignment: assignment.clone(),
        })
    }

    /// The devices of a task as they are on this machine now.
    fn devices(&self, assignment: &Assignment) -> Result<Vec<LaunchDevice>, Refusal> {
        let wanted = &assignment.spec.devices;
        let claimed = self.claims.claim(&assignment.task_id, wanted);
        claimed.map_err(|error| Refusal::failed(error.to_string()))?;
        let hardware = self.hardware.borrow().clone();
        let found = wanted.iter().map(|device| match hardware.device(&device.held.key) {
            Some(here) => Ok(LaunchDevice { nodes: here.nodes.clone(), path: device.path.clone() }),
            None => Err(Refusal::failed(format!("device {}: {UNPLUGGED}", device.id))),
        });
        found.collect()
    }

    /// Make one container, not yet connected to the bridge; leaves nothing behind when it fails.
    async fn create_one(
        &self,
        assignment: &Assignment,
        image: Option<ImageOnDisk>,
        pod: PodPlace,
    ) -> Result<Made, Refusal> {
        let task_id = &assignment.task_id;
        let created = match self.launch(assignment, image, pod) {
            Ok(launch) => self.runtime.create(launch).await.map_err(|error| refusal(&error)),
            Err(refusal) => Err(refusal),
        };
        match created {
            Ok(handle) => Ok(self.made(task_id, handle)),
            Err(refusal) => {
                self.remove_work(task_id);
                self.claims.release(task_id);
                Err(refusal)
            }
        }
    }

    fn made(&self, task_id: &TaskId, handle: TaskHandle) -> Made {
        Made { task_id: task_id.clone(), runtime: self.runtime.clone(), handle, ip: None }
    }

    /// Tell a container the address of its network, where that has one.
    fn at_address(&self, made: Made, ip: Option<Ipv4Addr>) -> Made {
        let task_id = &made.task_id;
        if let Some(Err(error)) = ip.map(|ip| self.name_address(task_id, ip)) {
            // Its own name then leads to loopback, which most programs never ask.
            let error: &dyn Error = &error;
            tracing::warn!(%task_id, error, "a container's own address is not in its hosts file");
        }
        Made { ip, ..made }
    }

    async fn connect(
        &self,
        task_id: &TaskId,
        handle: &TaskHandle,
        ports: &[PublishedPort],
    ) -> Result<Ipv4Addr, Refusal> {
        let attached = self.network.attach(task_id, handle.init().pid, ports).await;
        Ok(attached.map_err(|error| Refusal::failed(chain(&error)))?.ip)
    }

    /// Put the address, known only now, where the container looks up its own name.
    fn name_address(&self, task_id: &TaskId, ip: Ipv4Addr) -> Result<(), RuntimeError> {
        let path = self.runtime.hosts_file(task_id.as_str())?;
        let failed = |source| RuntimeError::File { path: path.clone(), source };
        let hosts = std::fs::read_to_string(&path).map_err(failed)?;
        let named = hosts.replace("127.0.1.1\t", &format!("{ip}\t"));
        if named == hosts {
            return Ok(());
        }
        // In place: the file is mounted by inode.
        std::fs::write(&path, named).map_err(failed)
    }

    fn remove_work(&self, task_id: &TaskId) {
        if let Err(error) = self.sandboxes.remove_work(task_id) {
            let error: &dyn Error = &error;
            tracing::warn!(%task_id, error, "a work directory stays");
        }
    }
}

/// The ports of a task on the bridge; `None` on the host's network.
fn bridge_ports(assignment: &Assignment) -> Option<&[PublishedPort]> {
    match &assignment.spec.network {
        TaskNetwork::Host => None,
        TaskNetwork::Bridge(ports) => Some(ports),
    }
}

/// The instance's UUID without dashes, cut short.
fn short_name(assignment: &Assignment) -> String {
    let id = assignment.instance_id.as_str();
    let uuid = id.rsplit_once(".instance-").map_or(id, |(_, uuid)| uuid);
    uuid.chars().filter(char::is_ascii_alphanumeric).take(HOSTNAME_CHARS).collect()
}

fn launch_image(image: ImageOnDisk) -> LaunchImage {
    let ImageOnDisk { layers, config, .. } = image;
    let given = |text: String| (!text.is_empty()).then_some(text);
    LaunchImage {
        layers,
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        env: config.env,
        user: given(config.user),
        working_dir: given(config.working_dir),
        stop_signal: config.stop_signal,
    }
}

async fn clean_runtime(runtime: &Runtime, task_id: &TaskId) {
    if let Err(error) = runtime.clean(task_id.as_str()).await {
        let error: &dyn Error = &error;
        tracing::error!(%task_id, error, "traces of a task stay");
    }
}

/// A registry's refusal names the image; a full disk does not.
fn image_refusal(reference: &str, reason: String) -> Refusal {
    Refusal::failed(match reason.contains(reference) {
        true => reason,
        false => format!("image {reference}: {reason}"),
    })
}

fn secrets_refusal(error: &SecretsError) -> Refusal {
    match error {
        SecretsError::NotText { .. } => Refusal::error(chain(error)),
        error => Refusal::failed(chain(error)),
    }
}

fn refusal(error: &RuntimeError) -> Refusal {
    match error {
        // The node's own word: another try here changes nothing.
        RuntimeError::Config(
            error @ (ConfigError::HostVolume { .. }
            | ConfigError::Privileged
            | ConfigError::VolumeKind(_)
            | ConfigError::VolumePath { .. }
            | ConfigError::Parameter(_)
            | ConfigError::NoCommand
            | ConfigError::Environment(_)),
        ) => Refusal::error(chain(error)),
        error => Refusal::failed(chain(error)),
    }
}

/// An error and its causes in one line, for a status.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_core::model::{InstanceId, TaskState};

    #[test]
    fn bridge_containers_have_short_names() {
        let named = |id: &str| {
            let task = crate::samples::assignment("a", true);
            short_name(&Assignment { instance_id: InstanceId::new(id), ..task })
        };
        assert_eq!(named("web.instance-01234567-89ab-cdef-0123-456789abcdef"), "0123456789ab");
        assert_eq!(named("odd"), "odd");
    }

    #[test]
    fn what_the_node_forbids_is_an_error_and_the_rest_a_failure() {
        let told = refusal(&RuntimeError::Config(ConfigError::Privileged));
        assert_eq!(told.state, TaskState::Error);
        assert!(told.message.contains("--allow-privileged"), "{}", told.message);
        let told = refusal(&RuntimeError::NotCreated("no space left".into()));
        assert_eq!(told.state, TaskState::Failed);
    }
}
