//! Versions on trial through the API: what is shown, the word that ends them, what is refused.

use crate::api::testing::Node;
use crate::api::testing::client::Answer;
use crate::api::testing::state;
use crate::propose::Propose;
use bramble_core::command::Command;
use bramble_core::deploy;
use bramble_core::model::{Goal, Task, Time};
use serde_json::{Value, json};

struct Ids(u32);

impl deploy::IdSource for Ids {
    fn uuid(&mut self) -> String {
        self.0 += 1;
        format!("deployer-{}", self.0)
    }
}

/// Let the deployer and obedient tasks run to rest.
async fn settle(node: &Node) {
    let mut ids = Ids(node.store.read(|state| state.applied_index) as u32 * 1000);
    for _ in 0..20 {
        let commands: Vec<Command> = node.store.read(|state| {
            let all = state.deployments.values();
            all.flat_map(|d| deploy::advance(d, state, state.now, &mut ids).commands).collect()
        });
        for command in commands {
            node.memory.propose(command).await.unwrap();
        }
        // Agents do as they are told.
        node.edit(|state| {
            state.instances.retain(|_, i| i.goal == Goal::Running);
            let some = state.instances.values().find_map(|i| i.task.clone()).unwrap();
            for instance in state.instances.values_mut().filter(|i| i.task.is_none()) {
                let id = instance.id.task(1);
                instance.task = Some(Task { id, ports: vec![], ..some.clone() });
            }
        });
    }
}

/// A node on which `/a` runs twice, and a new version of it on trial.
async fn on_trial(labels: Value) -> (Node, String) {
    let node = Node::start().await;
    node.edit(|all| {
        state::add_agent(all);
        state::add_app(all, "/a", 2);
        state::running(all, "/a", "1");
        state::running(all, "/a", "2");
    });
    let body = json!({ "cmd": "sleep 2", "labels": labels }).to_string();
    let put = node.ask("PUT", "/v2/apps/a", &body).await;
    assert_eq!(put.status, 200, "{}", put.text);
    let id = put.json()["deploymentId"].as_str().unwrap().to_string();
    (node, id)
}

async fn shown(node: &Node) -> Value {
    node.get("/v1/bramble/deployments").await.json()
}

async fn word(node: &Node, id: &str, word: &str) -> Answer {
    node.ask("POST", &format!("/v1/bramble/deployments/{id}/{word}"), "").await
}

#[tokio::test]
async fn a_canary_is_shown_and_promoted() {
    let labels = json!({ "BRAMBLE_CANARY": "1", "BRAMBLE_ROLLBACK_AFTER": "5m" });
    let (node, id) = on_trial(labels).await;
    let early = word(&node, &id, "promote").await;
    assert_eq!(early.status, 409, "{}", early.text);
    assert!(early.text.contains("not all new instances of [/a] are ready yet"), "{}", early.text);
    let starting = shown(&node).await;
    assert_eq!(starting[0]["apps"][0]["phase"], "canary");
    assert!(starting[0]["apps"][0]["deadline"].is_string(), "{starting}");
    settle(&node).await;
    let all = shown(&node).await;
    assert_eq!((&all[0]["id"], &all[0]["waiting"]), (&json!(id), &json!(true)), "{all}");
    let app = &all[0]["apps"][0];
    assert_eq!((&app["app"], &app["phase"]), (&json!("/a"), &json!("canary-waiting")));
    let set = |set: &Value| {
        let number = |key: &str| set[key].as_u64();
        (number("wanted"), number("instances"), number("ready"), set["live"].as_bool())
    };
    assert_eq!(set(&app["old"]), (Some(2), Some(2), Some(2), Some(true)));
    assert_eq!(set(&app["new"]), (Some(1), Some(1), Some(1), Some(true)));
    assert_eq!(app.get("deadline"), None, "{app}");
    // Marathon's own list has none of it.
    let plain = node.get("/v2/deployments").await.json();
    let mut keys: Vec<&String> = plain[0].as_object().unwrap().keys().collect();
    keys.sort();
    let known = [
        "affectedApps",
        "affectedPods",
        "currentActions",
        "currentStep",
        "id",
        "steps",
        "totalSteps",
        "version",
    ];
    assert_eq!(keys, known);
    let promoted = word(&node, &id, "promote").await;
    assert_eq!(promoted.status, 200, "{}", promoted.text);
    assert_eq!(promoted.json(), json!({ "version": all[0]["version"], "deploymentId": id }));
    assert_eq!(shown(&node).await[0]["apps"][0]["phase"], "promoted");
    settle(&node).await;
    assert_eq!(shown(&node).await, json!([]));
    assert_eq!(word(&node, &id, "promote").await.status, 404);
}

#[tokio::test]
async fn a_second_set_is_seen_once_it_is_promoted() {
    let (node, id) = on_trial(json!({ "BRAMBLE_BLUEGREEN": "true" })).await;
    settle(&node).await;
    let live = |all: &Value| {
        let app = &all[0]["apps"][0];
        (app["phase"].clone(), app["old"]["live"].clone(), app["new"]["live"].clone())
    };
    let waiting = shown(&node).await;
    assert_eq!(live(&waiting), (json!("green-waiting"), json!(true), json!(false)));
    assert_eq!(word(&node, &id, "promote").await.status, 200);
    let promoted = shown(&node).await;
    assert_eq!(live(&promoted), (json!("promoted"), json!(false), json!(true)));
}

#[tokio::test]
async fn what_is_withdrawn_is_told_with_its_reason() {
    let (node, id) = on_trial(json!({ "BRAMBLE_CANARY": "50%" })).await;
    settle(&node).await;
    let withdrawn = word(&node, &id, "withdraw").await;
    assert_eq!(withdrawn.status, 200, "{}", withdrawn.text);
    let back = withdrawn.json()["deploymentId"].as_str().unwrap().to_string();
    assert_ne!(back, id);
    let all = shown(&node).await;
    assert_eq!((&all[0]["id"], &all[0]["waiting"]), (&json!(back), &json!(false)));
    let reason = "The deployment was withdrawn";
    assert_eq!(all[0]["undoes"], json!({ "deploymentId": id, "reason": reason }));
    // The new deployment is no trial itself.
    let refused = word(&node, &back, "withdraw").await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(refused.text.contains("neither canary nor blue-green"), "{}", refused.text);
    let app = node.get("/v2/apps/a").await.json()["app"].clone();
    assert_eq!((&app["cmd"], &app["labels"]), (&json!("sleep 100"), &json!({})));
    // The tasks of the old version are of the present configuration again.
    settle(&node).await;
    let stats = node.get("/v2/apps/a?embed=app.taskStats").await.json();
    let running = &stats["app"]["taskStats"]["withLatestConfig"]["stats"]["counts"]["running"];
    assert_eq!(running, &json!(2), "{stats}");
    assert_eq!(word(&node, &id, "withdraw").await.status, 404);
}

#[tokio::test]
async fn labels_that_cannot_be_followed_are_refused_by_name() {
    let node = Node::start().await;
    let single = json!({ "MARATHON_SINGLE_INSTANCE_APP": "true", "BRAMBLE_BLUEGREEN": "true" });
    let rows = [
        (json!({ "BRAMBLE_ROLLBACK_AFTER": "soon" }), "/labels/BRAMBLE_ROLLBACK_AFTER", "60s"),
        (json!({ "BRAMBLE_CANARY": "0%" }), "/labels/BRAMBLE_CANARY", "10% or 2"),
        (json!({ "BRAMBLE_BLUEGREEN": "blue" }), "/labels/BRAMBLE_BLUEGREEN", "true or false"),
        (single, "/labels/BRAMBLE_BLUEGREEN", "second instance"),
    ];
    for (labels, path, message) in rows {
        let body = json!({ "id": "a", "cmd": "x y", "labels": labels,
            "upgradeStrategy": { "minimumHealthCapacity": 0, "maximumOverCapacity": 0 } });
        let answer = node.ask("POST", "/v2/apps", &body.to_string()).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text);
        let details = &answer.json()["details"];
        assert_eq!(
            (details[0]["path"].as_str(), details.as_array().unwrap().len()),
            (Some(path), 1)
        );
        assert!(details[0]["errors"].to_string().contains(message), "{details}");
    }
    let resident = json!({ "id": "r", "cmd": "x y", "labels": { "BRAMBLE_BLUEGREEN": "1" },
        "upgradeStrategy": { "minimumHealthCapacity": 0, "maximumOverCapacity": 0 },
        "container": { "type": "MESOS", "volumes": [
            { "containerPath": "data", "mode": "RW", "persistent": { "size": 10 } }] } });
    let answer = node.ask("POST", "/v2/apps", &resident.to_string()).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.text.contains("/labels/BRAMBLE_BLUEGREEN"), "{}", answer.text);
    assert!(answer.text.contains("persistent volumes"), "{}", answer.text);
}

#[tokio::test]
async fn a_trial_without_a_deadline_shows_none() {
    let (node, _) = on_trial(json!({ "BRAMBLE_CANARY": "1" })).await;
    assert_eq!(shown(&node).await[0]["apps"][0].get("deadline"), None);
    assert_eq!(node.store.read(deploy::next_deadline), None::<Time>);
}
