//! The pod: several containers that share one network, one lifetime and some directories
//! (Marathon's contract, section 9).
//!
//! A pod is placed, deployed, scaled and kept as an app is: it is an [`App`] that has this part
//! besides. What both have (networks, counts, strategies, labels, environment) stands in the app;
//! here is what only a pod has.

use super::{
    App, Constraint, EnvValue, Fetch, LinuxInfo, Protocol, ResourceLimits, Resources, TaskCommand,
    VolumeMode,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Never empty after validation; their order is the order of their ports.
    pub containers: Vec<PodContainer>,
    pub volumes: Vec<PodVolume>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodContainer {
    /// Unique in the pod.
    pub name: String,
    /// `None`: the image's own command.
    pub exec: Option<PodExec>,
    pub resources: Resources,
    pub resource_limits: Option<ResourceLimits>,
    pub endpoints: Vec<Endpoint>,
    /// `None`: a command that sees the host's programs (DESIGN 2.14).
    pub image: Option<PodImage>,
    pub environment: BTreeMap<String, EnvValue>,
    /// `None`: the pod's.
    pub user: Option<String>,
    pub health_check: Option<PodHealthCheck>,
    /// Its result is shown, nothing follows from it.
    pub check: Option<PodCheck>,
    pub volume_mounts: Vec<VolumeMount>,
    pub artifacts: Vec<Fetch>,
    pub labels: BTreeMap<String, String>,
    /// `None`: the agent's default applies.
    pub kill_grace_ms: Option<u64>,
    pub tty: Option<bool>,
    pub linux_info: Option<LinuxInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodExec {
    pub command: PodCommand,
    /// Whether the command takes the place of the image's entrypoint; `None`: not said.
    pub override_entrypoint: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodCommand {
    /// Run by `/bin/sh -c`.
    Shell(String),
    Argv(Vec<String>),
}

/// A named port of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Unique in the pod.
    pub name: String,
    /// Not on the host network, else always; 0 = the same number as the host port.
    pub container_port: Option<u16>,
    /// `Some(0)` = any from the agent's range; `None` = not on the host.
    pub host_port: Option<u16>,
    pub protocol: Protocol,
    pub labels: BTreeMap<String, String>,
    pub network_names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodImage {
    pub id: String,
    pub force_pull: Option<bool>,
    /// Name of the secret with registry credentials.
    pub pull_config_secret: Option<String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodHealthCheck {
    pub probe: PodProbe,
    pub grace_ms: u64,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub delay_ms: u64,
    /// 0 = never kill.
    pub max_consecutive_failures: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCheck {
    pub probe: PodProbe,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub delay_ms: u64,
}

/// How a container is asked; an endpoint is one of its own, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodProbe {
    Http { endpoint: String, path: Option<String>, https: bool },
    Tcp { endpoint: String },
    Exec { command: PodCommand },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Name of one of the pod's volumes.
    pub name: String,
    pub mount_path: String,
    pub read_only: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodVolume {
    /// Unique in the pod.
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// A directory that comes and goes with each instance.
    Ephemeral,
    /// A path of the agent's machine.
    Host(String),
    Persistent {
        /// `root`, `path` or `mount`.
        kind: String,
        size_mib: u64,
        max_size_mib: Option<u64>,
        profile_name: Option<String>,
        constraints: Vec<Constraint>,
    },
    /// Name of an entry in `secrets`.
    Secret(String),
}

impl VolumeMount {
    /// What the container may do there.
    pub fn mode(&self) -> VolumeMode {
        match self.read_only {
            Some(true) => VolumeMode::ReadOnly,
            _ => VolumeMode::ReadWrite,
        }
    }
}

impl PodCommand {
    /// As one line of a shell.
    pub fn as_line(&self) -> String {
        match self {
            PodCommand::Shell(line) => line.clone(),
            PodCommand::Argv(words) => {
                words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

impl PodExec {
    /// What an agent is told. An image's entrypoint takes arguments; a command that is to stand
    /// in its place is handed to the shell, which becomes that command.
    pub fn task_command(&self) -> TaskCommand {
        match &self.command {
            PodCommand::Shell(line) => TaskCommand::Shell(line.clone()),
            PodCommand::Argv(_) if self.override_entrypoint == Some(true) => {
                TaskCommand::Shell(format!("exec {}", self.command.as_line()))
            }
            PodCommand::Argv(words) => TaskCommand::Args(words.clone()),
        }
    }
}

/// A word that a shell reads back as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Pod {
    /// What one instance takes: the sum over its containers.
    pub fn resources(&self) -> Resources {
        self.containers.iter().fold(Resources::default(), |sum, c| sum.plus(&c.resources))
    }

    /// Every endpoint with its container, in the order of their ports.
    pub fn endpoints(&self) -> impl Iterator<Item = (&PodContainer, &Endpoint)> {
        self.containers.iter().flat_map(|c| c.endpoints.iter().map(move |e| (c, e)))
    }

    /// Every endpoint with its container and the host port it got of `ports`, an instance's.
    pub fn allocated<'a>(
        &'a self,
        ports: &'a [u16],
    ) -> impl Iterator<Item = (&'a PodContainer, &'a Endpoint, Option<u16>)> {
        let mut ports = ports.iter().copied();
        self.endpoints().map(move |(c, e)| (c, e, e.host_port.and_then(|_| ports.next())))
    }

    /// A volume by its name.
    pub fn volume(&self, name: &str) -> Option<&PodVolume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }
}

impl App {
    /// Whether this is a pod.
    pub fn is_pod(&self) -> bool {
        self.pod.is_some()
    }

    /// Whether anything says if its tasks are healthy.
    pub fn has_health_checks(&self) -> bool {
        let containers = self.pod.iter().flat_map(|pod| &pod.containers);
        !self.health_checks.is_empty() || containers.into_iter().any(|c| c.health_check.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_become_what_agents_are_told() {
        let argv = |words: &[&str]| PodCommand::Argv(words.iter().map(|w| w.to_string()).collect());
        let rows = [
            (PodCommand::Shell("a b".into()), None, TaskCommand::Shell("a b".into())),
            (argv(&["a", "b c"]), None, TaskCommand::Args(vec!["a".into(), "b c".into()])),
            (argv(&["a", "it's"]), Some(true), TaskCommand::Shell(r"exec 'a' 'it'\''s'".into())),
            (argv(&["a"]), Some(false), TaskCommand::Args(vec!["a".into()])),
        ];
        for (command, override_entrypoint, told) in rows {
            assert_eq!(PodExec { command, override_entrypoint }.task_command(), told);
        }
    }
}
