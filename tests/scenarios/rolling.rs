//! Changes of a running app roll as its upgrade strategy says.

use bramble_tests::{Node, can_run_containers, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;

fn running(tasks: &[Value]) -> usize {
    tasks.iter().filter(|task| task["state"] == "TASK_RUNNING").count()
}

fn versions(tasks: &[Value]) -> BTreeSet<String> {
    tasks.iter().filter_map(|t| t["version"].as_str()).map(str::to_string).collect()
}

#[test]
fn capacity_stays_within_its_bounds() {
    if !can_run_containers("rolling change") {
        return;
    }
    let node = Node::start();
    let app = r#"{"id":"web","cmd":"sleep 10000","cpus":0.1,"mem":16,"instances":4,"upgradeStrategy":{"minimumHealthCapacity":0.5,"maximumOverCapacity":0.25}}"#;
    node.api("POST", "/v2/apps", Some(app)).expect(201);
    let old = versions(&node.running("web", 4));
    let answer = node.api("PUT", "/v2/apps/web", Some(r#"{"env":{"A":"b"}}"#)).expect(200).json();
    let version = answer["version"].as_str().expect("a version").to_string();
    let (mut least, mut most) = (usize::MAX, 0);
    let tasks = eventually("only new tasks", || {
        let tasks = node.tasks("web");
        least = least.min(running(&tasks));
        most = most.max(tasks.len());
        let new = tasks.iter().all(|t| t["version"] == version.as_str());
        (new && running(&tasks) == 4 && tasks.len() == 4).then_some(tasks)
    });
    assert!(least >= 2 && most <= 5, "between {least} and {most} tasks");
    assert!(versions(&tasks).is_disjoint(&old));
    eventually("the end of the deployment", || {
        node.get("/v2/deployments").as_array().is_some_and(Vec::is_empty).then_some(())
    });
    let known = node.get("/v2/apps/web/versions")["versions"].as_array().expect("versions").clone();
    assert_eq!(known.len(), 2);
    assert_eq!(known[0].as_str(), Some(version.as_str()));
}

#[test]
fn scaling_keeps_what_runs_and_restart_replaces_it() {
    if !can_run_containers("scale and restart") {
        return;
    }
    let node = Node::start();
    let app = r#"{"id":"web","cmd":"sleep 10000","cpus":0.1,"mem":16,"instances":1}"#;
    node.api("POST", "/v2/apps", Some(app)).expect(201);
    let first = node.running("web", 1).remove(0)["id"].clone();
    node.api("PUT", "/v2/apps/web?force=true", Some(r#"{"instances":3}"#)).expect(200);
    let three = node.running("web", 3);
    assert!(three.iter().any(|t| t["id"] == first));
    eventually("the end of the deployment", || {
        node.get("/v2/deployments").as_array().is_some_and(Vec::is_empty).then_some(())
    });
    // Killing with scale lowers the count by exactly that task.
    let victim = three[1]["id"].as_str().expect("id");
    node.api("DELETE", &format!("/v2/apps/web/tasks/{victim}?scale=true"), None).expect(200);
    let two = node.running("web", 2);
    assert!(two.iter().all(|t| t["id"] != victim));
    assert_eq!(node.get("/v2/apps/web")["app"]["instances"], 2);
    eventually("the end of the deployment", || {
        node.get("/v2/deployments").as_array().is_some_and(Vec::is_empty).then_some(())
    });
    // Killing without scale replaces it.
    let victim = two[0]["id"].as_str().expect("id").to_string();
    node.api("DELETE", &format!("/v2/apps/web/tasks/{victim}"), None).expect(200);
    eventually("its replacement", || {
        let tasks = node.tasks("web");
        (running(&tasks) == 2 && tasks.iter().all(|t| t["id"] != victim.as_str())).then_some(())
    });
    let before: Vec<Value> = node.running("web", 2).iter().map(|t| t["id"].clone()).collect();
    node.api("POST", "/v2/apps/web/restart", None).expect(200);
    eventually("all tasks replaced", || {
        let tasks = node.tasks("web");
        let replaced = tasks.iter().all(|t| !before.contains(&t["id"]));
        (running(&tasks) == 2 && tasks.len() == 2 && replaced).then_some(())
    });
}

#[test]
fn a_roll_goes_on_after_the_master_was_killed_half_way() {
    if !can_run_containers("restart half way") {
        return;
    }
    let mut node = Node::start();
    let app = r#"{"id":"web","cmd":"sleep 10000","cpus":0.1,"mem":16,"instances":3,"upgradeStrategy":{"minimumHealthCapacity":1,"maximumOverCapacity":0},"healthChecks":[{"protocol":"COMMAND","command":{"value":"test -e $MESOS_SANDBOX/good"},"intervalSeconds":1,"timeoutSeconds":5,"delaySeconds":0,"gracePeriodSeconds":300}]}"#;
    node.api("POST", "/v2/apps", Some(&app.replace("sleep", "touch good; sleep"))).expect(201);
    let old = versions(&node.running("web", 3));
    eventually("the end of the deployment", || {
        node.get("/v2/deployments").as_array().is_some_and(Vec::is_empty).then_some(())
    });
    // Its one more task is not healthy until somebody says so: the roll stands half way.
    let answer = node.api("PUT", "/v2/apps/web", Some(r#"{"cmd":"sleep 10001"}"#)).expect(200);
    let deployment = answer.json()["deploymentId"].clone();
    node.running("web", 4);
    node.stop(Signal::SIGKILL);
    node.up();
    assert_eq!(node.get("/v2/deployments")[0]["id"], deployment, "it is still under way");
    let tasks = eventually("only new tasks", || {
        let tasks = node.tasks("web");
        let new: Vec<&Value> =
            tasks.iter().filter(|t| !old.contains(t["version"].as_str().unwrap_or("-"))).collect();
        for task in new.iter().filter(|t| t["state"] == "TASK_RUNNING") {
            let id = task["id"].as_str().expect("an id");
            node.bramble(&["exec", id, "--", "touch", "good"]);
        }
        (new.len() == 3 && tasks.len() == 3 && running(&tasks) == 3).then_some(tasks)
    });
    assert!(versions(&tasks).is_disjoint(&old));
    eventually("the end of the deployment", || {
        node.get("/v2/deployments").as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

#[test]
fn a_deployment_locks_its_app() {
    if !can_run_containers("lock") {
        return;
    }
    let node = Node::start();
    let stuck = r#"{"id":"stuck","cmd":"sleep 10000","cpus":1000,"mem":16}"#;
    let created = node.api("POST", "/v2/apps", Some(stuck)).expect(201);
    let deployment = created.header("marathon-deployment-id").expect("an id").to_string();
    let locked = node.api("PUT", "/v2/apps/stuck", Some(r#"{"cpus":0.1}"#)).expect(409).json();
    assert_eq!(locked["deployments"][0]["id"], deployment.as_str());
    assert!(locked["message"].as_str().is_some_and(|m| m.contains("force=true")), "{locked}");
    node.api("PUT", "/v2/apps/stuck?force=true", Some(r#"{"cpus":0.1}"#)).expect(200);
    node.running("stuck", 1);
}
