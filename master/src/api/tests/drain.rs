//! Draining an agent: told twice, shown in all places, taken back.

use crate::api::testing::Node;
use crate::api::testing::agent::Agents;
use crate::api::testing::state::{self, AGENT};
use bramble_core::model::*;
use serde_json::{Value, json};

const PATH: &str = "/v1/bramble/agents/node1/drain";

async fn node() -> Node {
    let node = Node::start_with(Agents::one().await).await;
    node.edit(|all| {
        state::add_agent(all);
        state::add_app(all, "/a", 1);
        state::running(all, "/a", "1");
        state::add_pod(all, "/p", 1, &["c"]);
        state::pod_running(all, "/p", "1");
    });
    node
}

fn other() -> Agent {
    Agent {
        id: AgentId::new("agent-2"),
        name: "node2".into(),
        total: Resources { cpus_milli: 50, mem_bytes: 1024 * BYTES_PER_MIB, ..<_>::default() },
        ports: vec![],
        attributes: <_>::default(),
        reachable: true,
    }
}

fn messages(view: &Value) -> Vec<(bool, &str)> {
    let tasks = view["tasks"].as_array().expect("tasks");
    tasks.iter().map(|t| (t["goes"] == true, t["message"].as_str().unwrap_or_default())).collect()
}

#[tokio::test]
async fn an_agent_is_drained_and_opened_again() {
    let node = node().await;
    let before = node.get(PATH).await.json();
    assert_eq!((&before["state"], &before["since"]), (&json!("open"), &Value::Null));
    for _ in 0..2 {
        let answer = node.ask("POST", PATH, "").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let view = answer.json();
        assert_eq!((&view["agentId"], &view["host"]), (&json!(AGENT), &json!("node1")));
        assert_eq!(view["state"], "draining");
        assert!(view["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{view}");
        let alone = (false, "stays, because there is no other agent");
        assert_eq!(messages(&view), [alone, alone]);
        assert_eq!(view["tasks"][1]["app"], "/p");
    }
    assert_eq!(node.get("/v1/bramble/agents/node1").await.json()["drain"], "draining");
    assert_eq!(node.get("/v1/bramble/status").await.json()["agents"][0]["drain"], "draining");
    let why = node.get("/v1/bramble/why/a").await.json();
    let words = "moves when it finds another place: its agent is drained";
    assert_eq!(why["progress"][0][1], words);

    node.edit(|all| {
        all.agents.insert(AgentId::new("agent-2"), other());
    });
    let view = node.get(PATH).await.json();
    let said = messages(&view)[1];
    let short = "stays, because no other agent takes it: node2: cpus: needs 1, 0.05 free";
    assert!(!said.0 && said.1.starts_with(short), "{said:?}");
    node.edit(|all| {
        let big = Resources { cpus_milli: 4000, ..other().total };
        let ports = vec![PortRange { begin: 31000, end: 32000 }];
        all.agents.insert(AgentId::new("agent-2"), Agent { total: big, ports, ..other() });
    });
    let goes = (true, "goes as soon as its app can spare it");
    assert_eq!(messages(&node.get(PATH).await.json()), [goes, goes]);
    // What an app that is being changed waits for is named.
    let change = json!({ "cmd": "sleep 200" }).to_string();
    let answer = node.ask("PUT", "/v2/apps/a", &change).await.json();
    let deployment = answer["deploymentId"].as_str().expect("an id").to_string();
    let held = format!("goes once deployment {deployment} has ended");
    assert_eq!(messages(&node.get(PATH).await.json()), [(false, held.as_str()), goes]);

    node.edit(|all| all.instances.clear());
    assert_eq!(node.get(PATH).await.json()["state"], "drained");
    assert_eq!(node.get("/v1/bramble/agents/node1").await.json()["drain"], "drained");
    for _ in 0..2 {
        let answer = node.ask("DELETE", PATH, "").await;
        assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("open")));
    }
    let agent = node.get("/v1/bramble/agents/node1").await.json();
    assert_eq!(agent.get("drain"), None);
}

#[tokio::test]
async fn what_cannot_be_drained_is_refused() {
    let node = node().await;
    for (method, path, status) in [
        ("POST", "/v1/bramble/agents/nobody/drain", 404),
        ("DELETE", "/v1/bramble/agents/nobody/drain", 404),
        ("GET", "/v1/bramble/agents/nobody/drain", 404),
        ("PUT", PATH, 405),
    ] {
        let answer = node.ask(method, path, "").await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
    }
    assert!(node.memory.commands.lock().unwrap().is_empty());
    // Nobody is drained by the start of an id that two agents share.
    node.edit(|all| {
        all.agents.insert(AgentId::new("agent-2"), other());
    });
    assert_eq!(node.ask("POST", "/v1/bramble/agents/agent-/drain", "").await.status, 409);
}

#[tokio::test]
async fn data_stays_and_says_so() {
    let node = node().await;
    node.edit(|all| {
        let record = all.apps.get_mut(&AppId::new("/p")).expect("the pod");
        let pod = record.app.pod.as_mut().expect("a pod");
        let source = VolumeSource::Persistent {
            kind: "root".into(),
            size_mib: 1,
            max_size_mib: None,
            profile_name: None,
            constraints: vec![],
        };
        pod.volumes.push(PodVolume { name: "data".into(), source });
        all.agents.insert(AgentId::new("agent-2"), other());
    });
    let view = node.ask("POST", PATH, "").await.json();
    let said = messages(&view)[1];
    assert_eq!(said, (false, "stays, because its data is there: its app has a persistent volume"));
    let why = node.get("/v1/bramble/why/p").await.json();
    let words = "stays, because its data is there, although its agent is drained";
    assert_eq!(why["progress"][0][1], words);
}
