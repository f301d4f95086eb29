//! Several containers as one task: started together, stopped together, ended by the rules of
//! Mesos' default executor.
//!
//! Owns what the parts of a pod mean for the whole: one that ends well leaves the others running,
//! one that does not takes them along. Knows nothing of how a container is made.

mod assemble;
mod status;
mod watching;

#[cfg(test)]
mod tests;

pub use assemble::{assemble, owners};
pub(super) use status::{carried, judge_pod};
pub(super) use watching::PodWatch;

use super::performer::{Container, Ending, Refusal};
use bramble_core::model::{Assignment, PodTask, TaskId, TaskSpec};
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// The assignment of one container of a pod: its own specification on the pod's network.
pub fn member(pod: &Assignment, task: &PodTask) -> Assignment {
    let spec = TaskSpec {
        network: pod.spec.network.clone(),
        host_ports: pod.spec.host_ports.clone(),
        alone: pod.spec.alone,
        ..task.spec.clone()
    };
    Assignment { task_id: task.task_id.clone(), spec, ..pod.clone() }
}

/// The ids under which a task leaves traces on its machine: those of a pod's containers, and last
/// its own.
pub fn task_ids(assignment: &Assignment) -> impl Iterator<Item = &TaskId> {
    let containers = assignment.spec.pod.iter().map(|task| &task.task_id);
    containers.chain([&assignment.task_id])
}

/// What an assignment became: an app's container, or the containers of a pod.
#[derive(Debug)]
pub enum Whole<C> {
    One(C),
    Pod(Pod<C>),
}

/// One container of a pod, as it was made or found.
#[derive(Debug)]
pub enum Part<C> {
    Live(C),
    /// It had ended before anybody looked.
    Ended(Ending),
}

/// How the containers of a pod ended so far, in definition order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    pub endings: Vec<Option<Ending>>,
    /// The first that did not end well; it takes the others along.
    pub culprit: Option<usize>,
}

/// The containers of a pod. Dropping it leaves them running.
#[derive(Debug)]
pub struct Pod<C> {
    members: Vec<Member<C>>,
    ip: Option<String>,
    ends: watch::Sender<Ends>,
    /// All were told to stop.
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Member<C> {
    name: String,
    kill_grace_ms: u64,
    /// `None`: it had ended before.
    container: Option<C>,
}

impl Ends {
    fn note(&mut self, at: usize, ending: Ending) {
        if self.culprit.is_none() && !is_finish(&ending) {
            self.culprit = Some(at);
        }
        self.endings[at] = Some(ending);
    }
}

/// Whether a container did what it was there for.
fn is_finish(ending: &Ending) -> bool {
    match ending {
        Ending::Exited(exit) => exit.code == 0 && !exit.stopped && exit.failure.is_none(),
        Ending::Pod(ends) => ends.culprit.is_none(),
        Ending::ExecutorDied => false,
    }
}

impl<C: Container> Pod<C> {
    /// Take the containers of `pod` as one; `parts` are in the order of its definition.
    pub fn new(pod: &Assignment, parts: Vec<Part<C>>) -> Self {
        let mut ends = Ends { endings: vec![None; parts.len()], culprit: None };
        let mut members = Vec::with_capacity(parts.len());
        for (at, (task, part)) in pod.spec.pod.iter().zip(parts).enumerate() {
            let container = match part {
                Part::Live(container) => Some(container),
                Part::Ended(ending) => {
                    ends.note(at, ending);
                    None
                }
            };
            let kill_grace_ms = task.spec.kill_grace_ms;
            members.push(Member { name: task.name.clone(), kill_grace_ms, container });
        }
        let ip = members.iter().find_map(|member| member.container.as_ref()?.ip());
        Self { members, ip, ends: watch::Sender::new(ends), stopping: AtomicBool::new(false) }
    }

    /// Stop what still runs: each within `grace_ms` and no later than its own grace.
    async fn stop_all(&self, grace_ms: u64) {
        self.stopping.store(true, Ordering::Relaxed);
        let ended: Vec<bool> = self.ends.borrow().endings.iter().map(Option::is_some).collect();
        let living = self.members.iter().zip(ended).filter(|(_, ended)| !ended);
        let stops = living.filter_map(|(member, _)| {
            let container = member.container.as_ref()?;
            Some(container.stop(grace_ms.min(member.kill_grace_ms)))
        });
        join_all(stops).await;
    }

    async fn renew(&self, until_ms: u64) {
        let living = self.members.iter().filter_map(|member| member.container.as_ref());
        join_all(living.map(|container| container.renew(until_ms))).await;
    }

    async fn start(&self) -> Result<(), Refusal> {
        let culprit = self.ends.borrow().culprit;
        if let Some(at) = culprit {
            let name = &self.members[at].name;
            return Err(Refusal::failed(format!("container {name} ended before all were started")));
        }
        for member in &self.members {
            let Some(container) = &member.container else { continue };
            container.start().await.map_err(|refusal| refusal.of_container(&member.name))?;
        }
        Ok(())
    }

    /// Give each container that runs the limits of its own specification.
    async fn resize(&self, spec: &TaskSpec) -> Result<(), Refusal> {
        let ended: Vec<bool> = self.ends.borrow().endings.iter().map(Option::is_some).collect();
        for ((member, task), ended) in self.members.iter().zip(&spec.pod).zip(ended) {
            if let (Some(container), false) = (&member.container, ended) {
                let resized = container.resize(&task.spec).await;
                resized.map_err(|refusal| refusal.of_container(&member.name))?;
            }
        }
        Ok(())
    }

    /// The end of all. One that ends badly has the others stopped, whoever waits when it does.
    async fn wait(&self) -> Ends {
        let waits = self.members.iter().enumerate().filter_map(|(at, member)| {
            let container = member.container.as_ref()?;
            Some(async move { (at, container.wait().await) })
        });
        let mut waits: FuturesUnordered<_> = waits.collect();
        loop {
            let bad = self.ends.borrow().culprit.is_some();
            if bad && !self.stopping.load(Ordering::Relaxed) {
                self.stop_all(u64::MAX).await;
            }
            let Some((at, ending)) = waits.next().await else { break };
            self.ends.send_if_modified(|ends| {
                let new = ends.endings[at].is_none();
                if new {
                    ends.note(at, ending);
                }
                new
            });
        }
        self.ends.borrow().clone()
    }
}

impl<C: Container> Container for Whole<C> {
    async fn start(&self) -> Result<(), Refusal> {
        match self {
            Whole::One(container) => container.start().await,
            Whole::Pod(pod) => pod.start().await,
        }
    }

    async fn resize(&self, spec: &TaskSpec) -> Result<(), Refusal> {
        match self {
            Whole::One(container) => container.resize(spec).await,
            Whole::Pod(pod) => pod.resize(spec).await,
        }
    }

    async fn renew(&self, until_ms: u64) {
        match self {
            Whole::One(container) => container.renew(until_ms).await,
            Whole::Pod(pod) => pod.renew(until_ms).await,
        }
    }

    async fn stop(&self, grace_ms: u64) {
        match self {
            Whole::One(container) => container.stop(grace_ms).await,
            Whole::Pod(pod) => pod.stop_all(grace_ms).await,
        }
    }

    async fn wait(&self) -> Ending {
        match self {
            Whole::One(container) => container.wait().await,
            Whole::Pod(pod) => Ending::Pod(pod.wait().await),
        }
    }

    fn ip(&self) -> Option<String> {
        match self {
            Whole::One(container) => container.ip(),
            Whole::Pod(pod) => pod.ip.clone(),
        }
    }

    fn ends(&self) -> Option<watch::Receiver<Ends>> {
        match self {
            Whole::One(_) => None,
            Whole::Pod(pod) => Some(pod.ends.subscribe()),
        }
    }
}
