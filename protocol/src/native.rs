//! JSON of bramble's own endpoints under `/v1/bramble/`: what the master answers and the client
//! verbs read. Amounts are in Marathon's units (cores, MiB), so that one table can show both.
//!
//! Nothing of the Marathon-compatible surface belongs here.

use crate::message::OsSlots;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Value of the `Upgrade` header of an exec request. After the 101 both directions carry frames
/// of [`crate::codec`]: [`crate::message::ExecInput`] up, [`crate::message::ExecOutput`] down.
/// Closing either direction ends the session.
pub const EXEC_UPGRADE: &str = "bramble-exec/1";

/// `GET /v1/bramble/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// `None`: not founded yet.
    pub cluster: Option<String>,
    /// Name of the node that answers.
    pub node: String,
    /// Version of bramble.
    pub version: String,
    /// `host:port` of the leader's API; `None` while there is none.
    pub leader: Option<String>,
    /// Whether the node that answers leads.
    pub elected: bool,
    pub uptime_seconds: u64,
    pub agents: Vec<AgentView>,
    pub apps: u64,
    #[serde(default)]
    pub pods: u64,
    /// Tasks that have not ended.
    pub tasks: u64,
    pub deployments: u64,
    /// Set when this node is not to take part any more, with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Nodes whose key a second machine uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clones: Vec<CloneView>,
}

/// A second machine with the key of a node; it is refused while the first one lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloneView {
    pub id: String,
    pub name: String,
    /// Where the first one is, and where the second.
    pub address: String,
    pub refused: String,
    pub seconds_ago: u64,
}

/// One item of `GET /v1/bramble/agents`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    pub id: String,
    pub name: String,
    /// As the cluster recorded it.
    pub reachable: bool,
    /// Whether a session stands on the master that answers.
    pub connected: bool,
    pub total: Amounts,
    /// What tasks that have not ended take.
    pub used: Amounts,
    /// Tasks that have not ended.
    pub tasks: u64,
    /// Host ports it lends, as inclusive ranges.
    pub ports: Vec<(u16, u16)>,
    /// As the agent tells them and users changed them.
    pub attributes: BTreeMap<String, String>,
    /// Whom it lends to; `*` = to anybody.
    #[serde(default)]
    pub roles: Vec<String>,
    /// `draining` while tasks are left on it that it was told to lose, `drained` after; else
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<String>,
    /// How it does; absent while the master that answers has heard nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<HardwareView>,
    /// Devices that tasks can ask for by the label `BRAMBLE_DEVICES`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceView>,
}

/// Readings of an agent's machine; what it has no sensor for is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HardwareView {
    /// Whole degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<i32>,
    /// `never`, `earlier` (since the machine started) or `now`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undervoltage: Option<String>,
    /// The same: whether it runs slower than it could, for heat or voltage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<String>,
    /// Percent of its memory card's life that is used, as the card estimates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_wear: Option<u8>,
    /// GiB written to its disks since it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_gib: Option<u64>,
    /// Bytes of a memory page.
    pub page_size: u64,
    /// Whether tasks are kept within their memory; else the kernel runs without its controller.
    pub memory_limits: bool,
}

/// A device of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceView {
    /// What it may be called.
    pub ids: Vec<String>,
    /// Whether several tasks may have it at once.
    pub shared: bool,
    /// Tasks that have it.
    #[serde(default)]
    pub tasks: Vec<String>,
}

/// Answer of `GET`, `POST` and `DELETE /v1/bramble/agents/{agent}/drain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainView {
    pub agent_id: String,
    pub host: String,
    /// `open`, `draining` or `drained`.
    pub state: String,
    /// When it was told to drain.
    #[serde(default)]
    pub since: Option<String>,
    /// Tasks that are left.
    pub tasks: Vec<DrainTask>,
}

/// A task that is left on an agent, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainTask {
    pub id: String,
    pub app: String,
    /// Whether it goes by itself; else `message` says what is in the way.
    pub goes: bool,
    pub message: String,
}

/// Body of `PATCH /v1/bramble/agents/{agent}`: what it does not name stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentPatch {
    /// `null` takes an attribute away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Option<String>>,
    /// Empty: lend to anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
}

/// Cores, MiB, MiB, whole GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Amounts {
    pub cpus: f64,
    pub mem: f64,
    pub disk: f64,
    pub gpus: u32,
}

/// One item of `GET /v1/bramble/images`: an image and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageView {
    pub reference: String,
    pub digest: String,
    pub platform: String,
    pub size_bytes: u64,
    /// Seconds since 1970; the oldest of its holders.
    pub created_unix_s: u64,
    /// Ids of the agents that hold it.
    pub agents: Vec<String>,
}

/// One line of the answer to `POST /v1/bramble/images`. The last one is `Done` or `Failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LoadLine {
    /// Bytes of the archive that the slowest agent has read.
    Read(u64),
    /// One line for the user.
    Note(String),
    Done(Vec<ImageView>),
    Failed(String),
}

/// One item of `GET /v1/bramble/os`: what an agent's machine runs from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OsView {
    pub agent_id: String,
    pub host: String,
    /// `None`: it tells nothing.
    pub slots: Option<OsSlots>,
    /// Why it tells nothing: away, older than this question, or not started from an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One item of `GET /v1/bramble/volumes`: a persistent volume, known to the cluster or found on an
/// agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeView {
    pub id: String,
    pub agent_id: String,
    pub host: String,
    /// `None`: it is nobody's.
    pub app: Option<String>,
    pub state: VolumeState,
    /// What placing reserves for it; nothing keeps a task from writing more.
    pub reserved_bytes: u64,
    /// What its files take; `None` while its agent does not answer.
    pub used_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeState {
    /// Its instance runs, or shall.
    Used,
    /// Its instance rests until the app is made larger again.
    Kept,
    /// Its data is being removed.
    GivenUp,
    /// No instance knows it.
    LeftOver,
}

/// One item of `GET /v1/bramble/masters`, as the node that answers sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MasterView {
    pub id: String,
    pub name: String,
    /// `voter`, `learner` or `outside` (admitted, not yet in the log's membership).
    pub standing: String,
    pub leader: bool,
    /// Whether it is the one that answers.
    pub answers: bool,
    /// Seconds since it last answered this one; `None`: never, or it is this one.
    pub heard_seconds_ago: Option<u64>,
    /// Entries it is behind, as the leader knows.
    pub lag: Option<u64>,
    /// Where it was seen last, best first.
    pub addresses: Vec<String>,
    /// Other masters or agents of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub same_name: Vec<String>,
}

/// Answer to `DELETE /v1/bramble/nodes/{node}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemovedNode {
    pub id: String,
    pub name: String,
    /// Whether it was a master: the CA and the data key are being replaced then.
    pub master: bool,
    /// Tasks it had, which are replaced elsewhere.
    pub tasks: u64,
}

/// `GET /v1/bramble/token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub token: String,
}

/// `GET /v1/bramble/secrets`: everything about secrets but what they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    pub secrets: Vec<SecretView>,
}

/// A secret without its value; also the answer to a `PUT` of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretView {
    pub name: String,
    /// Counts the values it had, from 1.
    pub version: u64,
    /// `2015-02-05T11:45:31.026Z`.
    pub created_at: String,
    pub changed_at: String,
    /// Apps whose definition names it.
    pub apps: Vec<String>,
}

/// Where the instances of an app would land, and what is in the way of the rest: the answer to
/// `POST` and `PUT` of an app with `dryRun=true`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlookView {
    pub app: String,
    /// Instances that want a place, at most [`considered`](Self::considered) of which were tried.
    pub wanted: u32,
    pub considered: u32,
    pub placements: Vec<PlacementView>,
    pub unplaced: u32,
    /// Every agent, with what speaks against one more instance there; empty when all find a place.
    pub agents: Vec<ObstacleView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementView {
    pub agent_id: String,
    pub host: String,
    pub instances: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObstacleView {
    pub agent_id: String,
    pub host: String,
    /// Whether the agent offers anything now; one that is away does not.
    pub offers: bool,
    pub reasons: Vec<ReasonView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonView {
    /// Marathon's name.
    pub reason: String,
    /// What is missing, by how much.
    pub missing: String,
    /// The smallest change that would take this reason away.
    pub change: String,
}

/// `GET /v1/bramble/why/{app}`: why an app is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    pub app: String,
    pub instances: u32,
    pub running: u32,
    /// Running, but unhealthy or not ready.
    pub not_ready: u32,
    pub staging: u32,
    /// Without a place.
    pub waiting: u32,
    /// Seconds until the next launch is allowed, after failures.
    pub delay_seconds: u64,
    /// Ids of the deployments that touch it.
    pub deployments: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// What tasks that are not ready say: task and message.
    pub progress: Vec<(String, String)>,
    pub outlook: OutlookView,
}

/// One item of `GET /v1/bramble/deployments`: what Marathon's list has no words for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentView {
    pub id: String,
    pub version: String,
    /// From 1; 0 where there are none.
    pub current_step: u32,
    pub total_steps: u32,
    /// Whether someone has to promote or to withdraw it.
    pub waiting: bool,
    /// The deployment that this one takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<UndoView>,
    pub apps: Vec<RolloutView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UndoView {
    pub deployment_id: String,
    pub reason: String,
}

/// Where one app of a deployment stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutView {
    pub app: String,
    /// `pending`, `starting`, `stopping`, `scaling`, `rolling`, `canary`, `canary-waiting`,
    /// `green`, `green-waiting`, `promoted` or `done`.
    pub phase: String,
    pub old: SetView,
    pub new: SetView,
    /// Instances of either that still stop.
    pub stopping: u32,
    /// When it is taken back if not all new instances are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
}

/// Instances of one version of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetView {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How many shall run in the present phase.
    pub wanted: u32,
    /// Those not told to stop.
    pub instances: u32,
    /// Running, healthy and ready, as the app's checks ask.
    pub ready: u32,
    /// Whether requests to the app may go to them.
    pub live: bool,
}

/// Body of every refusal under `/v1/bramble/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub message: String,
    /// What an ambiguous task name could have meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_lines_have_one_key() {
        let rows = [
            (LoadLine::Read(5), r#"{"read":5}"#),
            (LoadLine::Note("layer 1".into()), r#"{"note":"layer 1"}"#),
            (LoadLine::Done(vec![]), r#"{"done":[]}"#),
            (LoadLine::Failed("cut off".into()), r#"{"failed":"cut off"}"#),
        ];
        for (line, text) in rows {
            assert_eq!(serde_json::to_string(&line).expect("serializes"), text);
            assert_eq!(serde_json::from_str::<LoadLine>(text).expect("parses"), line);
        }
    }
}
