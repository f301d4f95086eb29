//! Apps with persistent volumes over the API: what may change, what a kill keeps, what a wipe
//! does not.

use crate::api::testing::Node;
use crate::api::testing::agent::Agents;
use crate::api::testing::state;
use bramble_core::model::*;
use serde_json::{Value, json};

const DB: &str = r#"{"id":"/db","cmd":"sleep 1000","instances":2,"cpus":0.1,"mem":16,"container":
    {"type":"MESOS","volumes":[{"containerPath":"data","mode":"RW","persistent":{"size":10}}]}}"#;

/// The app with one instance that runs and one that rests.
async fn node() -> Node {
    node_with(Agents::default()).await
}

async fn node_with(agents: Agents) -> Node {
    let node = Node::start_with(agents).await;
    let created = node.ask("POST", "/v2/apps", DB).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let app = created.json();
    assert_eq!(app["upgradeStrategy"]["minimumHealthCapacity"], 0.5);
    assert_eq!(app["upgradeStrategy"]["maximumOverCapacity"], 0.0);
    assert_eq!(app["unreachableStrategy"], "disabled");
    node.edit(|all| {
        all.deployments.clear();
        state::add_agent(all);
        state::running(all, "/db", "1");
        state::waiting(all, "/db", "2");
        let (app, agent) = (all.apps[&AppId::new("/db")].app.clone(), all.agents.clone());
        let agent = &agent[&AgentId::new(state::AGENT)];
        for instance in all.instances.values_mut() {
            instance.reservation = Reservation::of(&app, &instance.id, agent);
            if instance.task.is_none() {
                instance.goal = Goal::Stopped;
            }
        }
    });
    node
}

fn goals(node: &Node) -> Vec<Goal> {
    node.store.read(|state| state.instances.values().map(|i| i.goal).collect())
}

fn given_up(node: &Node) -> usize {
    node.store.read(|state| state.given_up.values().map(|volumes| volumes.len()).sum())
}

#[tokio::test]
async fn tasks_name_their_volumes() {
    let node = node().await;
    let volume = json!([{"runSpecId": "/db", "containerPath": "data", "uuid": "1",
        "persistenceId": "db#data#1"}]);
    for path in ["/v2/tasks", "/v2/apps/db/tasks"] {
        assert_eq!(node.get(path).await.json()["tasks"][0]["localVolumes"], volume, "{path}");
    }
    assert_eq!(node.get("/v2/apps/db").await.json()["app"]["tasks"][0]["localVolumes"], volume);
}

#[tokio::test]
async fn a_kill_keeps_the_volumes_and_a_wipe_does_not() {
    let node = node().await;
    let killed = node.ask("DELETE", "/v2/apps/db/tasks", "").await;
    assert_eq!(killed.status, 200);
    assert_eq!(goals(&node), [Goal::Stopped, Goal::Stopped]);
    let elsewhere = node.ask("DELETE", "/v2/apps/db/tasks?wipe=true&host=other", "").await;
    assert_eq!((elsewhere.status, goals(&node).len()), (200, 2));
    assert_eq!(given_up(&node), 0);
    let wiped = node.ask("DELETE", "/v2/apps/db/tasks?wipe=true", "").await;
    assert_eq!(wiped.json()["tasks"].as_array().map(Vec::len), Some(1));
    // The one that runs goes when its task has ended.
    assert_eq!((goals(&node), given_up(&node)), (vec![Goal::Decommissioned], 1));
    let both = node.ask("DELETE", "/v2/apps/db/tasks?wipe=true&scale=true", "").await;
    assert_eq!(both.status, 400);
}

#[tokio::test]
async fn one_task_is_wiped_by_its_id() {
    for by_path in [true, false] {
        let node = node().await;
        let id = "db.instance-1._app.1";
        let wiped = match by_path {
            true => node.ask("DELETE", &format!("/v2/apps/db/tasks/{id}?wipe=true"), "").await,
            false => {
                let body = format!(r#"{{"ids":["{id}"]}}"#);
                node.ask("POST", "/v2/tasks/delete?wipe=true", &body).await
            }
        };
        assert_eq!(wiped.status, 200, "{}", wiped.text);
        assert_eq!(goals(&node), [Goal::Decommissioned, Goal::Stopped]);
    }
}

#[tokio::test]
async fn what_is_reserved_may_not_change() {
    let node = node().await;
    let volumes = |size: u32| {
        json!({"container": {"type": "MESOS", "volumes":
            [{"containerPath": "data", "mode": "RW", "persistent": {"size": size}}]}})
    };
    let rows = [
        (json!({"cpus": 0.2}), "/", "may not change resource requirements"),
        (json!({"mem": 32}), "/", "may not change resource requirements"),
        (volumes(20), "/container/volumes", "Persistent volumes can not be changed!"),
        (json!({"container": null}), "/container/volumes", "can not be changed!"),
    ];
    for (change, path, message) in rows {
        let mut listed = change.clone();
        listed["id"] = "/db".into();
        let group = json!({"apps": [whole(&listed)]}).to_string();
        let list = json!([listed]).to_string();
        let requests = [
            ("PUT", "/v2/apps/db?force=true", change.to_string(), path.to_string()),
            ("PATCH", "/v2/apps/db?force=true", change.to_string(), path.to_string()),
            ("PUT", "/v2/apps?force=true", list.clone(), below("/(0)", path)),
            ("PATCH", "/v2/apps?force=true", list, below("/(0)", path)),
            ("PUT", "/v2/groups?force=true", group, below("/apps(0)", path)),
        ];
        for (method, target, body, path) in requests {
            let answer = node.ask(method, target, &body).await;
            assert_eq!(answer.status, 422, "{method} {target} {body}: {}", answer.text);
            let details = answer.json()["details"].clone();
            let named = details.as_array().into_iter().flatten().find(|d| d["path"] == *path);
            let named = named.unwrap_or_else(|| panic!("{method} {target} {path}: {details}"));
            assert!(named["errors"][0].as_str().unwrap_or("").contains(message), "{named}");
        }
    }
    // All else may.
    let fine = node.ask("PUT", "/v2/apps/db?force=true", r#"{"cmd":"sleep 2"}"#).await;
    assert_eq!(fine.status, 200, "{}", fine.text);
}

/// The change as a whole definition, which a group's members are.
fn whole(change: &Value) -> Value {
    let mut app: Value = serde_json::from_str(DB).unwrap();
    for (key, value) in change.as_object().unwrap() {
        app[key] = value.clone();
    }
    app
}

fn below(prefix: &str, path: &str) -> String {
    if path == "/" { prefix.into() } else { format!("{prefix}{path}") }
}

#[tokio::test]
async fn going_back_to_before_the_volumes_is_refused() {
    let node = Node::start().await;
    let plain = node.ask("POST", "/v2/apps", r#"{"id":"/db","cmd":"sleep 1"}"#).await.json();
    let with = node.ask("PUT", "/v2/apps/db?force=true", &DB.replace("\"cpus\":0.1,", "")).await;
    assert_eq!(with.status, 200, "{}", with.text);
    let back = json!({"version": plain["version"]}).to_string();
    let refused = node.ask("PUT", "/v2/apps/db?force=true", &back).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert_eq!(refused.json()["details"][0]["path"], "/container/volumes");
}

#[tokio::test]
async fn other_volumes_are_refused_by_name() {
    let node = Node::start().await;
    let rows = [
        (json!({"external": {"name": "v", "provider": "dvdi", "options": {}}}), "/external"),
        (json!({"persistent": {"size": 1, "type": "path"}}), "/persistent/type"),
        (json!({"persistent": {"size": 1, "type": "mount"}}), "/persistent/type"),
        (json!({"persistent": {"size": 1, "profileName": "x"}}), "/persistent/profileName"),
    ];
    for (volume, path) in rows {
        let mut app: Value = serde_json::from_str(DB).unwrap();
        let mut volume = volume;
        volume["containerPath"] = "data".into();
        volume["mode"] = "RW".into();
        app["container"]["volumes"] = json!([volume]);
        let answer = node.ask("POST", "/v2/apps", &app.to_string()).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        let path = format!("/container/volumes(0){path}");
        assert_eq!(answer.json()["details"][0]["path"], path.as_str(), "{}", answer.text);
    }
}

#[tokio::test]
async fn volumes_are_listed_and_given_up_by_name() {
    let node = node_with(Agents::one().await).await;
    let rows = async |node: &Node| -> Vec<String> {
        let list = node.get("/v1/bramble/volumes").await.json();
        let row = |v: &Value| {
            let (id, host, state) = (&v["id"], &v["host"], &v["state"]);
            let text = |v: &Value| v.as_str().unwrap_or("-").to_string();
            let amounts = format!("{} {}", v["reservedBytes"], v["usedBytes"]);
            [text(id), text(&v["app"]), text(host), text(state), amounts].join(" ")
        };
        list.as_array().unwrap().iter().map(row).collect()
    };
    let (one, two) = ("db#data#1 /db node1 used 10485760 5", "db#data#2 /db node1 kept 10485760 0");
    assert_eq!(rows(&node).await, [one, two, "old#data#9 - node1 leftOver 0 7"]);
    for (id, status) in [("db%23data%231", 409), ("db%23data%232", 200), ("old%23data%239", 200)] {
        let answer = node.ask("DELETE", &format!("/v1/bramble/volumes/{id}"), "").await;
        assert_eq!(answer.status, status, "{id}: {}", answer.text);
    }
    let unknown = node.ask("DELETE", "/v1/bramble/volumes/x", "").await;
    assert_eq!((unknown.status, unknown.text.contains("there is no volume 'x'")), (404, true));
    let gone = ["db#data#2 - node1 givenUp 10485760 0", "old#data#9 - node1 givenUp 0 7"];
    assert_eq!(rows(&node).await, [one, gone[0], gone[1]]);
    assert_eq!((goals(&node), given_up(&node)), (vec![Goal::Running], 2));

    // Without its agent a volume is known, and what it takes is not.
    let alone = self::node().await;
    let unknown = rows(&alone).await;
    assert_eq!(unknown[0], "db#data#1 /db node1 used 10485760 null");
}
