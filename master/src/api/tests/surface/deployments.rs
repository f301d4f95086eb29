//! Section 2.4: `/v2/deployments`.

use super::*;
use serde_json::json;

#[tokio::test]
async fn get_v2_deployments() {
    let pointer = "/0/currentActions/0";
    table([
        line("a bare array", "GET /v2/deployments", 200)
            .keys(
                "/0",
                "affectedApps affectedPods currentActions currentStep id steps totalSteps version",
            )
            .is("/0/id", HELD)
            .is("/0/version", "1970-01-01T00:00:02.000Z")
            .is("/0/affectedApps", json!(["/busy"]))
            .is("/0/affectedPods", json!([]))
            .is("/0/currentStep", 1)
            .is("/0/totalSteps", 1)
            .lacks("/1"),
        line("an action", "GET /v2/deployments", 200)
            .is("/0/steps/0/actions/0", json!({ "action": "ScaleApplication", "app": "/busy" }))
            .keys(pointer, "action app readinessCheckResults")
            .is("/0/currentActions/0/readinessCheckResults", json!([])),
        line("a new app takes two steps", "GET /v2/deployments", 200)
            .after("PUT /v2/apps/new", r#"{"cmd":"sleep 5"}"#)
            .part(r#""steps":[{"actions":[{"action":"StartApplication","app":"/new"}]},{"actions":[{"action":"ScaleApplication","app":"/new"}]}]"#),
        line("what only scales is scaled", "GET /v2/deployments", 200)
            .after("PUT /v2/apps/web", r#"{"instances":5}"#)
            .part(r#"[{"actions":[{"action":"ScaleApplication","app":"/web"}]}]"#),
        line("what changes is restarted", "GET /v2/deployments", 200)
            .after("PUT /v2/apps/web", r#"{"cpus":0.7,"cmd":"sleep 7"}"#)
            .part(r#"[{"actions":[{"action":"RestartApplication","app":"/web"}]}]"#),
        line("what goes is stopped", "GET /v2/deployments", 200)
            .after("DELETE /v2/apps/web", "")
            .part(r#"[{"actions":[{"action":"StopApplication","app":"/web"}]}]"#),
    ])
    .await;
}

#[tokio::test]
async fn delete_v2_deployments_id() {
    let held = |query: &str| format!("DELETE /v2/deployments/{HELD}{query}");
    table([
        line("rolls back by a new one", held(""), 200).deploys(),
        line("force=False is no force", held("?force=False"), 200).deploys(),
        line("stops", held("?force=true"), 202).text("").header("marathon-deployment-id", ""),
        line("stops in any case", held("?force=True"), 202).text(""),
        line("gone", "GET /v2/deployments", 200).after(&held("?force=true"), "").text("[]"),
        line("unknown", "DELETE /v2/deployments/nope", 404)
            .message("DeploymentPlan nope does not exist"),
        line("unknown, forced", "DELETE /v2/deployments/nope?force=true", 404)
            .message("DeploymentPlan nope does not exist"),
        line("reading one", format!("GET /v2/deployments/{HELD}"), 405)
            .message("Method Not Allowed"),
    ])
    .await;
}

#[tokio::test]
async fn too_many_deployments_are_a_403() {
    let node = Node::start().await;
    node.edit(seed);
    node.edit(|all| {
        let one = all.deployments.values().next().unwrap().clone();
        for number in 1..bramble_core::machine::DEPLOYMENTS_MAX {
            let id = DeploymentId::new(format!("d{number}"));
            all.deployments.insert(id.clone(), Deployment { id, ..one.clone() });
        }
    });
    let answer = send(&node, "PUT /v2/apps/web", &[], r#"{"cpus":2}"#).await;
    let message = answer.json()["message"].as_str().unwrap().to_string();
    assert_eq!(answer.status, 403, "{message}");
    assert!(
        message.starts_with("Max number (100) of running deployments is achieved. "),
        "{message}"
    );
}
