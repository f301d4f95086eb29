//! Readiness, health and generic checks: done by the agent, shown by the API, waited for by
//! deployments.

use bramble_tests::{Node, can_run_containers, eventually};
use serde_json::{Value, json};

/// A web server that answers 404 until `/ready` exists in its sandbox.
fn app(id: &str, version: &str) -> Value {
    json!({
        "id": id,
        "cmd": format!("mkdir -p www; echo {version} > www/index.html; \
            exec busybox httpd -f -p 127.0.0.1:$PORT0 -h www"),
        "cpus": 0.1, "mem": 16, "instances": 1,
        "portDefinitions": [{ "port": 0, "name": "http" }],
        "readinessChecks": [{
            "name": "ready", "portName": "http", "path": "/ready",
            "intervalSeconds": 2, "timeoutSeconds": 1, "preserveLastResponse": true
        }]
    })
}

fn deployments(node: &Node) -> Vec<Value> {
    node.get("/v2/deployments").as_array().cloned().unwrap_or_default()
}

fn make_ready(node: &Node, task: &Value) {
    let id = task["id"].as_str().expect("an id");
    let output = node.bramble(&["exec", id, "--", "sh", "-c", "echo yes > www/ready"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_deployment_waits_until_its_tasks_are_ready() {
    if !can_run_containers("readiness") {
        return;
    }
    let node = Node::start();
    node.api("POST", "/v2/apps", Some(&app("web", "one").to_string())).expect(201);
    let task = node.running("web", 1).remove(0);
    let result = eventually("a first answer that says not ready", || {
        let deployment = deployments(&node).first().cloned()?;
        let result = deployment["currentActions"][0]["readinessCheckResults"][0].clone();
        (result["lastResponse"]["status"] == 404).then_some(result)
    });
    assert_eq!((&result["name"], &result["ready"]), (&json!("ready"), &json!(false)));
    assert_eq!(result["taskId"], task["id"]);
    make_ready(&node, &task);
    eventually("the end of the deployment", || deployments(&node).is_empty().then_some(()));
    let embedded = node.get("/v2/apps/web?embed=app.readiness");
    assert_eq!(embedded["app"]["readinessCheckResults"][0]["ready"], true, "{embedded}");

    // An upgrade keeps the old task until the new one is ready.
    node.api("PUT", "/v2/apps/web", Some(&app("web", "two").to_string())).expect(200);
    let two = node.running("web", 2);
    let new = two.iter().find(|t| t["id"] != task["id"]).expect("a new task");
    eventually("its first answer", || {
        let results = node.get("/v2/deployments")[0]["currentActions"][0].clone();
        let results = results["readinessCheckResults"].as_array().cloned().unwrap_or_default();
        results.iter().any(|r| r["lastResponse"]["status"] == 404).then_some(())
    });
    assert_eq!(node.running("web", 2).len(), 2);
    make_ready(&node, new);
    eventually("only the new task", || {
        let tasks = node.tasks("web");
        (tasks.len() == 1 && tasks[0]["id"] == new["id"]).then_some(())
    });
    eventually("the end of the deployment", || deployments(&node).is_empty().then_some(()));
}

#[test]
fn health_and_generic_results_say_everything() {
    if !can_run_containers("check results") {
        return;
    }
    let node = Node::start();
    let app = json!({
        "id": "checked", "cmd": "touch good; sleep 10000", "cpus": 0.1, "mem": 16,
        "healthChecks": [
            { "protocol": "COMMAND", "command": { "value": "test -e good" },
              "intervalSeconds": 1, "timeoutSeconds": 5, "gracePeriodSeconds": 0,
              "delaySeconds": 0, "maxConsecutiveFailures": 0 },
            { "protocol": "COMMAND", "command": { "value": "true" },
              "intervalSeconds": 1, "timeoutSeconds": 5, "delaySeconds": 0 }
        ],
        "check": { "exec": { "command": { "shell": "exit 7" } },
                   "intervalSeconds": 1, "timeoutSeconds": 5, "delaySeconds": 0 }
    });
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    let task = eventually("two good checks and a result", || {
        let task = node.tasks("checked").pop()?;
        let results = task["healthCheckResults"].as_array().cloned().unwrap_or_default();
        let good = results.len() == 2 && results.iter().all(|r| r["alive"] == true);
        (good && task["checkResult"].is_object()).then_some(task)
    });
    assert_eq!(task["checkResult"], json!({ "command": { "exitCode": 7 } }));
    let result = &task["healthCheckResults"][0];
    assert!(result["firstSuccess"].is_string() && result["lastSuccess"].is_string(), "{result}");
    assert_eq!(result["consecutiveFailures"], 0);
    let id = task["id"].as_str().expect("an id");
    assert!(node.bramble(&["exec", id, "--", "rm", "good"]).status.success());
    let result = eventually("the first check to fail alone", || {
        let task = node.tasks("checked").pop()?;
        let results = task["healthCheckResults"].clone();
        (results[0]["alive"] == false && results[1]["alive"] == true).then(|| results[0].clone())
    });
    assert_eq!(result["consecutiveFailures"], 1);
    assert!(result["lastFailure"].is_string(), "{result}");
    let cause = result["lastFailureCause"].as_str().unwrap_or_default();
    assert!(cause.contains("exited with status 1"), "{result}");
    assert!(id.starts_with(result["instanceId"].as_str().unwrap_or("-")), "{result}");
}
