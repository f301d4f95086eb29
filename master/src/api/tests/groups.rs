//! `/v2/groups`, row by row.

use crate::api::testing::Node;
use crate::api::testing::client::Answer;
use bramble_core::command::Command;
use serde_json::{Value, json};

async fn put(node: &Node, path: &str, body: Value) -> Answer {
    node.ask("PUT", path, &body.to_string()).await
}

async fn post(node: &Node, path: &str, body: Value) -> Answer {
    node.ask("POST", path, &body.to_string()).await
}

fn app(id: &str) -> Value {
    json!({ "id": id, "cmd": "sleep 1", "instances": 2 })
}

async fn app_ids(node: &Node) -> Vec<String> {
    let all = node.get("/v2/apps").await.json();
    all["apps"].as_array().unwrap().iter().map(|a| a["id"].as_str().unwrap().into()).collect()
}

/// Deployments would lock what the next request changes; no loop ends them here.
fn settle(node: &Node) {
    node.edit(|state| state.deployments.clear());
}

async fn node_with(body: Value) -> Node {
    let node = Node::start().await;
    let made = put(&node, "/v2/groups", body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    settle(&node);
    node
}

#[tokio::test]
async fn a_group_lives() {
    let node = Node::start().await;
    let root = node.get("/v2/groups/").await.json();
    assert_eq!(
        (&root["id"], &root["apps"], &root["groups"]),
        (&json!("/"), &json!([]), &json!([]))
    );
    let body = json!({ "id": "g", "dependencies": ["../x"], "apps": [app("a"), app("./h/b")],
        "groups": [{ "id": "/g/i", "apps": [app("/g/i/c")] }] });
    let made = post(&node, "/v2/groups", body.clone()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.header("location"), "http://localhost:8080/v2/groups/g");
    assert_eq!(made.json()["deploymentId"], made.header("marathon-deployment-id"));
    let first = made.json()["version"].as_str().unwrap().to_string();
    let group = node.get("/v2/groups/g").await.json();
    assert_eq!(group["version"], first.as_str());
    assert_eq!((&group["id"], &group["dependencies"]), (&json!("/g"), &json!(["/x"])));
    assert_eq!(group["pods"], json!([]));
    assert_eq!(group["apps"][0]["id"], "/g/a");
    assert_eq!(group["apps"][0]["deployments"][0]["id"], made.json()["deploymentId"]);
    assert_eq!(group["groups"][0]["apps"][0]["id"], "/g/h/b");
    assert_eq!(group["groups"][1]["id"], "/g/i");
    assert_eq!(group.get("enforceRole"), None);
    let list = node.get("/v2/groups//g/apps/").await.json();
    let ids: Vec<&str> = list.as_array().unwrap().iter().filter_map(|a| a["id"].as_str()).collect();
    assert_eq!(ids, ["/g/a", "/g/h/b", "/g/i/c"]);

    let same = put(&node, "/v2/groups/g", body).await;
    assert_eq!(same.status, 200, "what changes nothing is not locked: {}", same.text);
    assert_eq!(node.get("/v2/groups/g").await.json()["version"], first.as_str());
    let again = post(&node, "/v2/groups", json!({ "id": "/g" })).await;
    assert_eq!(again.status, 409);
    let message = "Group /g is already created. Use PUT to change this group.";
    assert_eq!(again.json()["message"], message);
    let onto_app = post(&node, "/v2/groups/g", json!({ "id": "a" })).await;
    assert_eq!(onto_app.status, 409);
    assert_eq!(onto_app.json()["message"], "An app with the path /g/a already exists.");

    let locked = put(&node, "/v2/groups/g", json!({ "scaleBy": 2 })).await;
    assert_eq!(locked.status, 409);
    assert_eq!(locked.json()["deployments"][0]["id"], made.json()["deploymentId"]);
    let forced = put(&node, "/v2/groups/g?force=True", json!({ "scaleBy": 1.3 })).await;
    assert_eq!(forced.status, 200, "{}", forced.text);
    let scaled = node.get("/v2/apps/g/a").await.json()["app"]["instances"].clone();
    assert_eq!(scaled, 3, "2 x 1.3 is rounded up");
    settle(&node);

    let versions = node.get("/v2/groups/g/versions").await.json();
    assert_eq!(versions, json!([forced.json()["version"], first]));
    let old = node.get(&format!("/v2/groups/g/versions/{first}")).await.json();
    assert_eq!(old["apps"][0]["instances"], 2);
    let gone = node.ask("DELETE", "/v2/apps/g/i/c", "").await;
    assert_eq!(gone.status, 200);
    assert_eq!(node.get("/v2/groups/g/i").await.status, 200, "empty groups stay");
    settle(&node);
    let back = put(&node, "/v2/groups/g", json!({ "version": first })).await;
    assert_eq!(back.status, 200, "{}", back.text);
    assert_eq!(app_ids(&node).await, ["/g/a", "/g/h/b", "/g/i/c"]);
    assert_eq!(node.get("/v2/apps/g/a").await.json()["app"]["instances"], 2);

    let deleted = node.ask("DELETE", "/v2/groups/g", "").await;
    assert_eq!(deleted.status, 409, "unlike apps, groups are not deleted by force");
    let deleted = node.ask("DELETE", "/v2/groups/g/?force=true", "").await;
    assert_eq!(deleted.json()["deploymentId"], deleted.header("marathon-deployment-id"));
    assert_eq!(node.get("/v2/groups/g").await.status, 404);
    assert!(app_ids(&node).await.is_empty());
}

#[tokio::test]
async fn given_lists_replace_and_absent_ones_keep() {
    let node = node_with(json!({ "id": "/g", "dependencies": ["/x"], "apps": [app("a"), app("b")],
        "groups": [{ "id": "h", "apps": [app("c")] }, { "id": "i", "apps": [app("d")] }] }))
    .await;
    let rows: Vec<(Value, &[&str], Value)> = vec![
        (json!({}), &["/g/a", "/g/b", "/g/h/c", "/g/i/d"], json!(["/x"])),
        (json!({ "apps": [app("b")] }), &["/g/b", "/g/h/c", "/g/i/d"], json!(["/x"])),
        (json!({ "dependencies": [] }), &["/g/b", "/g/h/c", "/g/i/d"], json!([])),
        (json!({ "groups": [{ "id": "h" }] }), &["/g/b", "/g/h/c"], json!([])),
        (
            json!({ "apps": [], "groups": [{ "id": "h", "apps": [app("e")] }] }),
            &["/g/h/e"],
            json!([]),
        ),
        (json!({ "groups": [] }), &[], json!([])),
    ];
    for (body, apps, dependencies) in rows {
        let answer = put(&node, "/v2/groups/g", body.clone()).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text);
        assert_eq!(app_ids(&node).await, apps, "{body}");
        assert_eq!(node.get("/v2/groups/g").await.json()["dependencies"], dependencies, "{body}");
        settle(&node);
    }
    let all = node.ask("DELETE", "/v2/groups", "").await;
    assert_eq!(all.status, 200, "{}", all.text);
    assert_eq!(node.get("/v2/groups").await.json()["groups"], json!([]));
}

#[tokio::test]
async fn every_mistake_is_named_at_its_place() {
    let node = node_with(json!({ "id": "/g", "apps": [app("a")] })).await;
    let child = "Identifier is not child of '/g'";
    let cyclic = "Dependency graph has cyclic dependencies.";
    let alone = "not allowed in conjunction with other properties.";
    let rows: Vec<(Value, &str, &str)> = vec![
        (json!({ "apps": [app("/other/x")] }), "/apps(0)/id", child),
        (json!({ "apps": [app("/g/h/deep")] }), "/apps(0)/id", child),
        (json!({ "apps": [app("a"), app("../x")] }), "/apps(1)/id", child),
        (json!({ "groups": [{ "id": "/h" }] }), "/groups(0)/id", child),
        (json!({ "apps": [app("B")] }), "/apps(0)/id", "must fully match"),
        (json!({ "apps": [{ "cmd": "x y" }] }), "/apps(0)/id", "error.path.missing"),
        (json!({ "apps": [app("a"), app("/g/a")] }), "/apps(1)/id", "/g/a is defined twice"),
        (json!({ "groups": [{ "id": "h" }, { "id": "h" }] }), "/groups(1)/id", "twice"),
        (
            json!({ "apps": [app("h")], "groups": [{ "id": "h" }] }),
            "/groups(0)/id",
            "same identifier",
        ),
        (
            json!({ "groups": [{ "id": "h", "apps": [app("b"), { "id": "c", "cmd": "x", "args": ["y"] }] }] }),
            "/groups(0)/apps(1)",
            "must not",
        ),
        (
            json!({ "groups": [{ "id": "h", "apps": [{ "id": "b", "cmd": 7 }] }] }),
            "/groups(0)/apps(0)/cmd",
            "error.expected.jsstring",
        ),
        (json!({ "dependencies": ["X"] }), "/dependencies(0)", "must fully match"),
        (
            json!({ "apps": [{ "id": "b", "cmd": "x y", "dependencies": ["./Y"] }] }),
            "/apps(0)/dependencies(0)",
            "must fully match",
        ),
        (json!({ "pods": [{ "id": "p" }] }), "/pods(0)/containers", "error.path.missing"),
        (json!({ "dependencies": ["/g"] }), "/", cyclic),
        (json!({ "dependencies": ["/g/a"] }), "/", cyclic),
        (
            json!({ "apps": [{ "id": "a", "cmd": "x y", "dependencies": ["b"] }, { "id": "b", "cmd": "x y", "dependencies": ["./a"] }] }),
            "/",
            cyclic,
        ),
        (json!({ "scaleBy": 2, "apps": [] }), "/scaleBy", alone),
        (json!({ "version": "2016-01-02T03:04:05.678Z", "groups": [] }), "/version", alone),
        (json!({ "scaleBy": "x" }), "/scaleBy", "error.expected.jsnumber"),
        (json!({ "groups": [{ "id": "h", "scaleBy": 2 }] }), "/groups(0)/scaleBy", "can be scaled"),
    ];
    let before = node.memory.commands.lock().unwrap().len();
    for (body, path, message) in rows {
        let answer = put(&node, "/v2/groups/g", body.clone()).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text);
        let details = answer.json()["details"].clone();
        let named = details.as_array().unwrap().iter().any(|d| {
            d["path"].as_str().is_some_and(|p| p.starts_with(path))
                && d["errors"].to_string().contains(message)
        });
        assert!(named, "{body}: {details}");
    }
    // Only cycles are found where the change is applied.
    assert_eq!(node.memory.commands.lock().unwrap().len(), before + 3);
    assert_eq!(app_ids(&node).await, ["/g/a"], "nothing of them was done");
}

#[tokio::test]
async fn unknown_and_odd_requests() {
    let node = node_with(json!({ "id": "/g", "apps": [app("a")] })).await;
    let early = "2016-01-02T03:04:05.678Z";
    let rows = [
        ("GET", "/v2/groups/no", "", 404, "Group '/no' does not exist"),
        ("GET", "/v2/groups/no/apps", "", 404, "Group '/no' does not exist"),
        ("GET", "/v2/groups/no/versions", "", 404, "Group '/no' does not exist"),
        ("GET", "/v2/groups/versions/2016-01-02T03:04:05.678Z", "", 404, "in version 2016-01-02"),
        ("GET", "/v2/groups/g/versions/x", "", 422, "Invalid timestamp provided 'x'"),
        ("GET", "/v2/apps/no/*", "", 404, "Group '/no' does not exist"),
        ("DELETE", "/v2/groups/no", "", 404, "Group '/no' does not exist"),
        ("PUT", "/v2/groups/no", r#"{"scaleBy":2}"#, 404, "Group '/no' does not exist"),
        ("PUT", "/v2/groups/g", r#"{"version":"2016-01-02T03:04:05.678Z"}"#, 404, early),
        ("PUT", "/v2/groups/g/versions/2016-01-02T03:04:05.678Z", "{}", 422, "must fully match"),
        ("PUT", "/v2/groups/g", "[]", 422, "error.expected.jsobject"),
        ("PUT", "/v2/groups/g", "{", 400, "Invalid JSON"),
        ("PUT", "/v2/groups/g/a", "{}", 409, "An app with the path /g/a already exists."),
        ("POST", "/v2/groups", "{}", 409, "Group / is already created."),
        ("POST", "/v2/groups", r#"{"id":"X"}"#, 422, "must fully match"),
        ("PATCH", "/v2/groups/no", r#"{"enforceRole":true}"#, 404, "Group '/no' does not exist"),
        ("PATCH", "/v2/groups", r#"{"enforceRole":true}"#, 422, "directly below the root"),
        ("PATCH", "/v2/groups/g", "{}", 422, "error.path.missing"),
        ("PATCH", "/v2/groups/apps", "", 400, "Please specify data in JSON format"),
        ("DELETE", "/v2/groups/g/apps", "", 404, "Group '/g/apps' does not exist"),
    ];
    for (method, path, body, status, text) in rows {
        let answer = node.ask(method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text);
        assert!(answer.text.contains(text), "{method} {path} {body}: {}", answer.text);
    }
    let switched = node.ask("PATCH", "/v2/groups/g", r#"{"enforceRole":true}"#).await;
    assert_eq!((switched.status, switched.text.as_str()), (200, ""));
    assert_eq!(switched.header("marathon-deployment-id"), "");
    assert_eq!(node.get("/v2/groups/g").await.json()["enforceRole"], true);
}

#[tokio::test]
async fn embeds_choose_what_a_group_shows() {
    let node = node_with(json!({ "id": "/g", "apps": [app("a")] })).await;
    let keys = |query: &'static str| {
        let node = &node;
        async move {
            let group = node.get(&format!("/v2/groups/g?{query}")).await.json();
            let has = |key| group.get(key).is_some();
            let tasks = group["apps"][0].get("tasks").is_some();
            (has("apps"), has("groups"), has("pods"), tasks)
        }
    };
    assert_eq!(keys("").await, (true, true, true, false));
    assert_eq!(keys("embed=group.groups").await, (false, true, false, false));
    assert_eq!(keys("embed=group.apps&embed=group.pods").await, (true, false, true, false));
    assert_eq!(keys("embed=group.apps&embed=group.apps.tasks").await, (true, false, false, true));
}

#[tokio::test]
async fn a_trial_changes_nothing() {
    let node = Node::start().await;
    let body = json!({ "id": "/g", "groups": [
        { "id": "db", "apps": [app("one")] },
        { "id": "web", "dependencies": ["../db"], "apps": [app("a"), app("b")] } ] });
    let trial = put(&node, "/v2/groups/g?dryRun=true", body.clone()).await;
    assert_eq!(trial.status, 200, "{}", trial.text);
    let action = |action: &str, app: &str| json!({ "action": action, "app": app });
    let all = ["/g/db/one", "/g/web/a", "/g/web/b"];
    let web = ["/g/web/a", "/g/web/b"];
    let steps = json!({ "steps": [
        { "actions": all.map(|id| action("StartApplication", id)) },
        { "actions": [action("ScaleApplication", "/g/db/one")] },
        { "actions": web.map(|id| action("ScaleApplication", id)) },
    ] });
    assert_eq!(trial.json(), steps);
    assert!(node.memory.commands.lock().unwrap().is_empty());
    assert_eq!(trial.header("marathon-deployment-id"), "");
    let done = put(&node, "/v2/groups/g", body).await;
    assert_eq!(done.status, 200, "{}", done.text);
    let deployments = node.get("/v2/deployments").await.json();
    assert_eq!(deployments.as_array().map(Vec::len), Some(1), "one request, one deployment");
    assert_eq!(deployments[0]["steps"], steps["steps"]);
    let cyclic = json!({ "groups": [{ "id": "db", "dependencies": ["../web"] }, { "id": "web" }] });
    let refused = put(&node, "/v2/groups/g?dryRun=true", cyclic).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
}

#[tokio::test]
async fn a_deployment_taken_back_takes_its_groups_along() {
    let node = node_with(json!({ "id": "/g", "dependencies": ["/x"], "apps": [app("a")] })).await;
    let body = json!({ "id": "/g", "dependencies": ["/y"], "apps": [],
        "groups": [{ "id": "h", "apps": [app("b")], "groups": [{ "id": "i" }] }] });
    let made = put(&node, "/v2/groups/g", body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let id = made.json()["deploymentId"].as_str().unwrap().to_string();
    let back = node.ask("DELETE", &format!("/v2/deployments/{id}"), "").await;
    assert_eq!(back.status, 200, "{}", back.text);
    assert_eq!(app_ids(&node).await, ["/g/a"]);
    let group = node.get("/v2/groups/g").await.json();
    assert_eq!((&group["dependencies"], &group["groups"]), (&json!(["/x"]), &json!([])));
    let running = node.get("/v2/deployments").await.json();
    assert!(running.as_array().unwrap().iter().all(|d| d["id"] != id.as_str()), "{running}");
    // What came into the group since stays, and the group with it.
    settle(&node);
    let first = put(&node, "/v2/groups/n", json!({ "apps": [app("one")] })).await;
    let second = node.ask("PUT", "/v2/apps/n/two", r#"{"cmd":"sleep 1"}"#).await;
    assert_eq!(second.status, 201, "{}", second.text);
    let id = first.json()["deploymentId"].as_str().unwrap().to_string();
    let back = node.ask("DELETE", &format!("/v2/deployments/{id}"), "").await;
    assert_eq!(back.status, 200, "{}", back.text);
    assert_eq!(app_ids(&node).await, ["/g/a", "/n/two"]);
}

#[tokio::test]
async fn definitions_of_others_deploy() {
    let group_08 = include_str!("../../normalize/fixtures/samples/old-group-0.8.json");
    let sleep_group = include_str!("../../normalize/fixtures/samples/sys-sleep-group.json");
    let apps = include_str!("../../normalize/fixtures/samples/raml-apps-create.json");
    let rows = [
        (
            "POST",
            "/v2/groups",
            group_08,
            201,
            &[
                "/department-a/product-a/service-a",
                "/department-a/product-a/service-b",
                "/department-a/service-common",
            ][..],
        ),
        (
            "POST",
            "/v2/groups",
            sleep_group,
            201,
            &["/sleep-group/sleep/goodnight-1", "/sleep-group/sleep/goodnight-2"],
        ),
        (
            "PUT",
            "/v2/groups",
            sleep_group,
            200,
            &["/sleep-group/sleep/goodnight-1", "/sleep-group/sleep/goodnight-2"],
        ),
        ("PUT", "/v2/apps", apps, 200, &["/test/sleep120", "/test/sleep60"]),
    ];
    for (method, path, body, status, ids) in rows {
        let node = Node::start().await;
        let answer = node.ask(method, path, body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(app_ids(&node).await, ids);
        // Sent again as it is, it changes nothing, so the deployment under way does not matter.
        let repeat = if method == "POST" { "PUT" } else { method };
        let again = node.ask(repeat, path, body).await;
        assert_eq!(again.status, 200, "{}", again.text);
        assert_eq!(node.get("/v2/deployments").await.json().as_array().map(Vec::len), Some(1));
    }
}

#[tokio::test]
async fn a_thousand_apps_are_one_command() {
    let node = Node::start().await;
    let apps: Vec<Value> = (0..1000).map(|n| app(&format!("a{n}"))).collect();
    let body = json!({ "id": "/many", "apps": apps });
    let made = put(&node, "/v2/groups", body.clone()).await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert_eq!(app_ids(&node).await.len(), 1000);
    {
        let commands = node.memory.commands.lock().unwrap();
        assert!(matches!(&commands[..], [Command::ChangeGroup { apps, .. }] if apps.len() == 1000));
    }
    let ports: std::collections::BTreeSet<u16> = node
        .store
        .read(|state| state.apps.values().flat_map(|record| record.app.service_ports()).collect());
    assert_eq!(ports.len(), 1000, "each has a service port of its own");
}
