//! Events in JSON (Marathon's contract, section 2.7): every type with its fields, in their order.
//!
//! Owns the text form alone; which fact becomes which event is decided in the master.

use super::app::{AppJson, HealthCheckJson, canonical};
use super::deployment::{StepJson, step};
use super::pod::{PodJson, pod};
use super::task::IpAddressJson;
use crate::timestamp;
use bramble_core::model::{Deployment, Group, Time};
use serde::Serialize;

/// One event as it is sent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventJson<'a> {
    pub event_type: &'static str,
    #[serde(flatten)]
    pub body: &'a EventBody,
    pub timestamp: String,
}

impl<'a> EventJson<'a> {
    /// Write `body` as an event of the moment `at`.
    pub fn new(body: &'a EventBody, at: Time) -> Self {
        Self { event_type: body.event_type(), body, timestamp: timestamp::format(at) }
    }
}

/// What an event says besides its type and its time.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum EventBody {
    ApiPost {
        client_ip: String,
        uri: String,
        app_definition: Box<AppJson>,
    },
    StatusUpdate(Box<StatusUpdateJson>),
    FrameworkMessage {
        executor_id: String,
        slave_id: String,
        message: String,
    },
    Subscribe {
        client_ip: String,
        callback_url: String,
    },
    Unsubscribe {
        client_ip: String,
        callback_url: String,
    },
    StreamAttached {
        remote_address: String,
    },
    StreamDetached {
        remote_address: String,
    },
    AddHealthCheck {
        app_id: String,
        version: String,
        health_check: Box<HealthCheckJson>,
    },
    RemoveHealthCheck {
        app_id: String,
    },
    FailedHealthCheck {
        app_id: String,
        /// An instance id, whatever the name says.
        task_id: String,
        health_check: Box<HealthCheckJson>,
    },
    HealthStatusChanged {
        app_id: String,
        instance_id: String,
        version: String,
        alive: bool,
    },
    UnhealthyInstanceKill {
        app_id: String,
        task_id: String,
        instance_id: String,
        version: String,
        reason: String,
        host: String,
        slave_id: String,
    },
    GroupChangeSuccess {
        group_id: String,
        version: String,
    },
    GroupChangeFailed {
        group_id: String,
        version: String,
        reason: String,
    },
    DeploymentSuccess {
        id: String,
        plan: PlanJson,
    },
    DeploymentFailed {
        id: String,
        plan: PlanJson,
        reason: String,
    },
    DeploymentInfo {
        plan: PlanJson,
        current_step: StepJson,
    },
    DeploymentStepSuccess {
        plan: PlanJson,
        current_step: StepJson,
    },
    DeploymentStepFailure {
        plan: PlanJson,
        current_step: StepJson,
    },
    AppTerminated {
        app_id: String,
    },
    InstanceChanged {
        instance_id: String,
        condition: String,
        run_spec_id: String,
        /// Null until the instance has a place.
        agent_id: Option<String>,
        host: Option<String>,
        run_spec_version: String,
    },
    InstanceHealthChanged {
        instance_id: String,
        run_spec_id: String,
        healthy: Option<bool>,
        run_spec_version: String,
    },
    UnknownInstanceTerminated {
        instance_id: String,
        run_spec_id: String,
        condition: String,
    },
    PodCreated {
        client_ip: String,
        uri: String,
    },
    PodUpdated {
        client_ip: String,
        uri: String,
    },
    PodDeleted {
        client_ip: String,
        uri: String,
    },
    SchedulerRegistered {
        framework_id: String,
        master: String,
    },
    SchedulerReregistered {
        framework_id: String,
        master: String,
    },
    SchedulerDisconnected {},
}

/// Body of `status_update_event`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusUpdateJson {
    pub slave_id: String,
    pub task_id: String,
    pub task_status: &'static str,
    pub message: String,
    pub app_id: String,
    pub host: String,
    pub ip_addresses: Vec<IpAddressJson>,
    pub ports: Vec<u16>,
    pub version: String,
}

/// A deployment's plan; with the groups before and after it is the heavy form of Marathon 1.7 and
/// earlier, which strict clients of that time need.
#[derive(Clone, Debug, Serialize)]
pub struct PlanJson {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<Box<PlanGroupJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Box<PlanGroupJson>>,
    pub steps: Vec<StepJson>,
    pub version: String,
}

/// The apps that a deployment touches, as members of the root group.
#[derive(Clone, Debug, Serialize)]
pub struct PlanGroupJson {
    pub id: &'static str,
    pub apps: Vec<AppJson>,
    pub pods: Vec<PodJson>,
    pub groups: Vec<serde_json::Value>,
    pub dependencies: Vec<String>,
    pub version: String,
}

/// Write a deployment's plan in its light form.
pub fn plan(deployment: &Deployment) -> PlanJson {
    PlanJson {
        id: deployment.id.0.clone(),
        original: None,
        target: None,
        steps: deployment.plan.steps.iter().map(step).collect(),
        version: timestamp::format(deployment.version),
    }
}

fn group(group: &Group, version: Time) -> Box<PlanGroupJson> {
    Box::new(PlanGroupJson {
        id: "/",
        apps: group.apps.values().filter(|app| !app.is_pod()).map(canonical).collect(),
        pods: group.apps.values().filter_map(pod).collect(),
        groups: Vec::new(),
        dependencies: Vec::new(),
        version: timestamp::format(version),
    })
}

impl EventBody {
    /// The name under which clients know it.
    pub fn event_type(&self) -> &'static str {
        match self {
            EventBody::ApiPost { .. } => "api_post_event",
            EventBody::StatusUpdate(_) => "status_update_event",
            EventBody::FrameworkMessage { .. } => "framework_message_event",
            EventBody::Subscribe { .. } => "subscribe_event",
            EventBody::Unsubscribe { .. } => "unsubscribe_event",
            EventBody::StreamAttached { .. } => "event_stream_attached",
            EventBody::StreamDetached { .. } => "event_stream_detached",
            EventBody::AddHealthCheck { .. } => "add_health_check_event",
            EventBody::RemoveHealthCheck { .. } => "remove_health_check_event",
            EventBody::FailedHealthCheck { .. } => "failed_health_check_event",
            EventBody::HealthStatusChanged { .. } => "health_status_changed_event",
            EventBody::UnhealthyInstanceKill { .. } => "unhealthy_instance_kill_event",
            EventBody::GroupChangeSuccess { .. } => "group_change_success",
            EventBody::GroupChangeFailed { .. } => "group_change_failed",
            EventBody::DeploymentSuccess { .. } => "deployment_success",
            EventBody::DeploymentFailed { .. } => "deployment_failed",
            EventBody::DeploymentInfo { .. } => "deployment_info",
            EventBody::DeploymentStepSuccess { .. } => "deployment_step_success",
            EventBody::DeploymentStepFailure { .. } => "deployment_step_failure",
            EventBody::AppTerminated { .. } => "app_terminated_event",
            EventBody::InstanceChanged { .. } => "instance_changed_event",
            EventBody::InstanceHealthChanged { .. } => "instance_health_changed_event",
            EventBody::UnknownInstanceTerminated { .. } => "unknown_instance_terminated_event",
            EventBody::PodCreated { .. } => "pod_created_event",
            EventBody::PodUpdated { .. } => "pod_updated_event",
            EventBody::PodDeleted { .. } => "pod_deleted_event",
            EventBody::SchedulerRegistered { .. } => "scheduler_registered_event",
            EventBody::SchedulerReregistered { .. } => "scheduler_reregistered_event",
            EventBody::SchedulerDisconnected {} => "scheduler_disconnected_event",
        }
    }

    /// The same with the groups of `deployment` in its plan; what has no plan stays as it is.
    pub fn heavy(&self, deployment: &Deployment) -> EventBody {
        let mut body = self.clone();
        let plan = match &mut body {
            EventBody::DeploymentSuccess { plan, .. }
            | EventBody::DeploymentFailed { plan, .. }
            | EventBody::DeploymentInfo { plan, .. }
            | EventBody::DeploymentStepSuccess { plan, .. }
            | EventBody::DeploymentStepFailure { plan, .. } => plan,
            _ => return body,
        };
        // A group's version is that of its latest change; before this one nothing is known of it.
        let latest = deployment.original.apps.values().map(|app| app.version).max();
        plan.original = Some(group(&deployment.original, latest.unwrap_or_default()));
        plan.target = Some(group(&deployment.target, deployment.version));
        body
    }
}

#[cfg(test)]
mod tests;
