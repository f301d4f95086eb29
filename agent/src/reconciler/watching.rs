//! Watching a task that runs, whether one container or several: its checks, and what becomes of
//! the parts of a pod.

use super::TaskNews;
use super::performer::{Container, Performer};
use super::pod::PodWatch;
use crate::checks::{Checks, Resumed, Verdict};
use bramble_core::model::Assignment;
use std::sync::Arc;
use tokio::sync::Semaphore;

pub(super) enum Watch {
    App(Checks),
    Pod(PodWatch),
}

impl Watch {
    /// Begin to probe every check of a running task.
    pub(super) fn begin<P: Performer>(
        performer: &Arc<P>,
        assignment: &Arc<Assignment>,
        container: &P::Container,
        resumed: Resumed,
        gate: &Arc<Semaphore>,
    ) -> Self {
        let (assignment, ip) = (Arc::clone(assignment), container.ip());
        match container.ends() {
            Some(ends) => {
                Watch::Pod(PodWatch::begin(performer, assignment, ip, &resumed, gate, ends))
            }
            None => {
                let (performer, gate) = (Arc::clone(performer), Arc::clone(gate));
                Watch::App(Checks::begin(performer, assignment, ip, resumed, gate))
            }
        }
    }

    /// Stop probing: a task on its way out fails its checks, which is no news.
    pub(super) fn end(&mut self) {
        match self {
            Watch::App(checks) => checks.end(),
            Watch::Pod(pod) => pod.end(),
        }
    }

    /// The next news; never resolves where there is nothing to watch. May be dropped and called
    /// again.
    pub(super) async fn next(&mut self) -> TaskNews {
        match self {
            Watch::App(checks) => match checks.next().await {
                Verdict::Turned { healthy, probes } => TaskNews::Probed { healthy, probes },
                Verdict::Kill => TaskNews::Unhealthy { container: None },
            },
            Watch::Pod(pod) => pod.next().await,
        }
    }
}
