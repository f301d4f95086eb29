use super::*;
use crate::rest::app::health_check;
use crate::rest::task::ip_address;
use bramble_core::model::{
    ActionKind, App, AppId, DeploymentAction, DeploymentId, HealthCheck, HealthCheckKind, Plan,
    Step,
};
use serde_json::Value;

const AT: &str = r#""timestamp":"1970-01-01T00:00:00.005Z"}"#;

fn text(body: &EventBody) -> String {
    serde_json::to_string(&EventJson::new(body, Time(5))).expect("an event can be written")
}

fn s(text: &str) -> String {
    text.to_string()
}

fn deployment() -> Deployment {
    let scale = DeploymentAction { kind: ActionKind::Scale, app_id: AppId::new("/a"), pod: false };
    let mut target = Group::default();
    let app = App { cmd: Some("x".into()), ..App::with_defaults(AppId::new("/a")) };
    target.apps.insert(app.id.clone(), app);
    Deployment {
        id: DeploymentId::new("d"),
        version: Time(1),
        plan: Plan { steps: vec![Step { actions: vec![scale] }] },
        current_step: 0,
        original: Group::default(),
        target,
        rollouts: <_>::default(),
        undoes: None,
    }
}

fn probe() -> Box<HealthCheckJson> {
    Box::new(health_check(&HealthCheck {
        kind: HealthCheckKind::Tcp,
        path: None,
        port_index: Some(0),
        port: None,
        command: None,
        grace_ms: 1000,
        interval_ms: 2000,
        timeout_ms: 3000,
        max_consecutive_failures: 4,
        delay_ms: 5000,
        ignore_http_1xx: false,
        ip_protocol: None,
    }))
}

#[test]
fn every_type_has_its_fields() {
    let plan = || plan(&deployment());
    let step = || plan().steps.remove(0);
    let (ip, url) = (s("10.0.0.1"), s("http://x/"));
    let (id, app, version) = (s("a.instance-1"), s("/a"), s("v"));
    let plan_text = r#""plan":{"id":"d","steps":[{"actions":[{"action":"ScaleApplication","app":"/a"}]}],"version":"1970-01-01T00:00:00.001Z"}"#;
    let step_text = r#""currentStep":{"actions":[{"action":"ScaleApplication","app":"/a"}]}"#;
    let check_text = r#""healthCheck":{"gracePeriodSeconds":1,"ignoreHttp1xx":false,"intervalSeconds":2,"maxConsecutiveFailures":4,"portIndex":0,"protocol":"TCP","timeoutSeconds":3,"delaySeconds":5}"#;
    let from = r#""clientIp":"10.0.0.1""#;
    let to = r#""callbackUrl":"http://x/""#;
    let status = StatusUpdateJson {
        slave_id: s("g"),
        task_id: s("t"),
        task_status: "TASK_RUNNING",
        message: s("m"),
        app_id: app.clone(),
        host: s("h"),
        ip_addresses: vec![ip_address("172.20.0.2")],
        ports: vec![31000],
        version: version.clone(),
    };
    let rows: Vec<(EventBody, String)> = vec![
        (
            EventBody::StatusUpdate(Box::new(status)),
            s(
                r#"{"eventType":"status_update_event","slaveId":"g","taskId":"t","taskStatus":"TASK_RUNNING","message":"m","appId":"/a","host":"h","ipAddresses":[{"ipAddress":"172.20.0.2","protocol":"IPv4"}],"ports":[31000],"version":"v","#,
            ),
        ),
        (
            EventBody::FrameworkMessage { executor_id: s("e"), slave_id: s("g"), message: s("m") },
            s(
                r#"{"eventType":"framework_message_event","executorId":"e","slaveId":"g","message":"m","#,
            ),
        ),
        (
            EventBody::Subscribe { client_ip: ip.clone(), callback_url: url.clone() },
            format!(r#"{{"eventType":"subscribe_event",{from},{to},"#),
        ),
        (
            EventBody::Unsubscribe { client_ip: ip.clone(), callback_url: url },
            format!(r#"{{"eventType":"unsubscribe_event",{from},{to},"#),
        ),
        (
            EventBody::StreamAttached { remote_address: ip.clone() },
            s(r#"{"eventType":"event_stream_attached","remoteAddress":"10.0.0.1","#),
        ),
        (
            EventBody::StreamDetached { remote_address: ip.clone() },
            s(r#"{"eventType":"event_stream_detached","remoteAddress":"10.0.0.1","#),
        ),
        (
            EventBody::AddHealthCheck {
                app_id: app.clone(),
                version: version.clone(),
                health_check: probe(),
            },
            format!(
                r#"{{"eventType":"add_health_check_event","appId":"/a","version":"v",{check_text},"#
            ),
        ),
        (
            EventBody::RemoveHealthCheck { app_id: app.clone() },
            s(r#"{"eventType":"remove_health_check_event","appId":"/a","#),
        ),
        (
            EventBody::FailedHealthCheck {
                app_id: app.clone(),
                task_id: id.clone(),
                health_check: probe(),
            },
            format!(
                r#"{{"eventType":"failed_health_check_event","appId":"/a","taskId":"a.instance-1",{check_text},"#
            ),
        ),
        (
            EventBody::HealthStatusChanged {
                app_id: app.clone(),
                instance_id: id.clone(),
                version: version.clone(),
                alive: true,
            },
            s(
                r#"{"eventType":"health_status_changed_event","appId":"/a","instanceId":"a.instance-1","version":"v","alive":true,"#,
            ),
        ),
        (
            EventBody::UnhealthyInstanceKill {
                app_id: app.clone(),
                task_id: s("t"),
                instance_id: id.clone(),
                version: version.clone(),
                reason: s("r"),
                host: s("h"),
                slave_id: s("g"),
            },
            s(
                r#"{"eventType":"unhealthy_instance_kill_event","appId":"/a","taskId":"t","instanceId":"a.instance-1","version":"v","reason":"r","host":"h","slaveId":"g","#,
            ),
        ),
        (
            EventBody::GroupChangeSuccess { group_id: s("/"), version: version.clone() },
            s(r#"{"eventType":"group_change_success","groupId":"/","version":"v","#),
        ),
        (
            EventBody::GroupChangeFailed {
                group_id: s("/"),
                version: version.clone(),
                reason: s("r"),
            },
            s(r#"{"eventType":"group_change_failed","groupId":"/","version":"v","reason":"r","#),
        ),
        (
            EventBody::DeploymentSuccess { id: s("d"), plan: plan() },
            format!(r#"{{"eventType":"deployment_success","id":"d",{plan_text},"#),
        ),
        (
            EventBody::DeploymentFailed { id: s("d"), plan: plan(), reason: s("r") },
            format!(r#"{{"eventType":"deployment_failed","id":"d",{plan_text},"reason":"r","#),
        ),
        (
            EventBody::DeploymentInfo { plan: plan(), current_step: step() },
            format!(r#"{{"eventType":"deployment_info",{plan_text},{step_text},"#),
        ),
        (
            EventBody::DeploymentStepSuccess { plan: plan(), current_step: step() },
            format!(r#"{{"eventType":"deployment_step_success",{plan_text},{step_text},"#),
        ),
        (
            EventBody::DeploymentStepFailure { plan: plan(), current_step: step() },
            format!(r#"{{"eventType":"deployment_step_failure",{plan_text},{step_text},"#),
        ),
        (
            EventBody::AppTerminated { app_id: app.clone() },
            s(r#"{"eventType":"app_terminated_event","appId":"/a","#),
        ),
        (
            EventBody::InstanceChanged {
                instance_id: id.clone(),
                condition: s("Scheduled"),
                run_spec_id: app.clone(),
                agent_id: None,
                host: None,
                run_spec_version: version.clone(),
            },
            s(
                r#"{"eventType":"instance_changed_event","instanceId":"a.instance-1","condition":"Scheduled","runSpecId":"/a","agentId":null,"host":null,"runSpecVersion":"v","#,
            ),
        ),
        (
            EventBody::InstanceHealthChanged {
                instance_id: id.clone(),
                run_spec_id: app.clone(),
                healthy: None,
                run_spec_version: version,
            },
            s(
                r#"{"eventType":"instance_health_changed_event","instanceId":"a.instance-1","runSpecId":"/a","healthy":null,"runSpecVersion":"v","#,
            ),
        ),
        (
            EventBody::UnknownInstanceTerminated {
                instance_id: id,
                run_spec_id: app,
                condition: s("Killed"),
            },
            s(
                r#"{"eventType":"unknown_instance_terminated_event","instanceId":"a.instance-1","runSpecId":"/a","condition":"Killed","#,
            ),
        ),
        (
            EventBody::PodCreated { client_ip: ip.clone(), uri: s("/v2/pods") },
            format!(r#"{{"eventType":"pod_created_event",{from},"uri":"/v2/pods","#),
        ),
        (
            EventBody::PodUpdated { client_ip: ip.clone(), uri: s("/v2/pods") },
            format!(r#"{{"eventType":"pod_updated_event",{from},"uri":"/v2/pods","#),
        ),
        (
            EventBody::PodDeleted { client_ip: ip, uri: s("/v2/pods") },
            format!(r#"{{"eventType":"pod_deleted_event",{from},"uri":"/v2/pods","#),
        ),
        (
            EventBody::SchedulerRegistered { framework_id: s("f"), master: s("m:1") },
            s(r#"{"eventType":"scheduler_registered_event","frameworkId":"f","master":"m:1","#),
        ),
        (
            EventBody::SchedulerReregistered { framework_id: s("f"), master: s("m:1") },
            s(r#"{"eventType":"scheduler_reregistered_event","frameworkId":"f","master":"m:1","#),
        ),
        (EventBody::SchedulerDisconnected {}, s(r#"{"eventType":"scheduler_disconnected_event","#)),
    ];
    for (body, begins) in rows {
        assert_eq!(text(&body), format!("{begins}{AT}"));
    }
}

#[test]
fn a_post_shows_the_whole_app() {
    let app = App { cmd: Some("x".into()), ..App::with_defaults(AppId::new("/a")) };
    let body = EventBody::ApiPost {
        client_ip: s("10.0.0.1"),
        uri: s("/v2/apps"),
        app_definition: Box::new(canonical(&app)),
    };
    let event: Value = serde_json::from_str(&text(&body)).expect("JSON");
    assert_eq!(event["eventType"], "api_post_event");
    assert_eq!(event["uri"], "/v2/apps");
    assert_eq!(event["appDefinition"], serde_json::to_value(canonical(&app)).expect("JSON"));
}

#[test]
fn a_heavy_plan_has_both_groups_and_nothing_else_grows() {
    let deployment = deployment();
    let body = EventBody::DeploymentSuccess { id: s("d"), plan: plan(&deployment) };
    let light: Value = serde_json::from_str(&text(&body)).expect("JSON");
    assert!(light["plan"].get("original").is_none() && light["plan"].get("target").is_none());
    let heavy: Value = serde_json::from_str(&text(&body.heavy(&deployment))).expect("JSON");
    let plan = &heavy["plan"];
    assert_eq!(plan["steps"], light["plan"]["steps"]);
    assert_eq!(plan["original"]["apps"].as_array().map(Vec::len), Some(0));
    assert_eq!(plan["target"]["id"], "/");
    assert_eq!(plan["target"]["apps"][0]["id"], "/a");
    let other = EventBody::AppTerminated { app_id: s("/a") };
    assert_eq!(text(&other), text(&other.heavy(&deployment)));
}
