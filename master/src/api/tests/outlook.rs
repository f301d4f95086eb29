//! Dry runs and `why`: answers that change nothing.

use crate::api::testing::Node;
use crate::api::testing::state::{self, AGENT};
use bramble_core::model::*;
use serde_json::{Value, json};

/// A node with one connected agent that has half a core free, and an app that wants more.
async fn node() -> Node {
    let node = Node::start().await;
    node.edit(|all| {
        state::add_agent(all);
        state::add_app(all, "/big", 2);
        state::running(all, "/big", "1");
        state::waiting(all, "/big", "2");
    });
    let agent_id = AgentId::new(AGENT);
    node.offers.open(&agent_id, 0);
    node.offers.put(Offer {
        id: "o".into(),
        agent_id,
        hostname: "node1".into(),
        free: Resources { cpus_milli: 500, mem_bytes: 512 * BYTES_PER_MIB, ..<_>::default() },
        ports: vec![],
        attributes: <_>::default(),
        roles: <_>::default(),
        generation: 1,
        devices: <_>::default(),
        vitals: <_>::default(),
    });
    node
}

fn reason() -> Value {
    json!({
        "reason": "InsufficientCpus",
        "missing": "cpus: needs 1, 0.5 free, 0.5 short",
        "change": "set cpus to 0.5 or less, or free 0.5",
    })
}

#[tokio::test]
async fn why_says_what_is_missing() {
    let node = node().await;
    let why = node.get("/v1/bramble/why/big").await.json();
    assert_eq!(
        (&why["instances"], &why["running"], &why["waiting"]),
        (&2.into(), &1.into(), &1.into())
    );
    let agent = json!({ "agentId": AGENT, "host": "node1", "offers": true, "reasons": [reason()] });
    assert_eq!(why["outlook"]["agents"], json!([agent]));
    assert_eq!(node.get("/v1/bramble/why/absent").await.status, 404);
}

#[tokio::test]
async fn a_dry_run_proposes_nothing() {
    let node = node().await;
    let fits = json!({ "id": "new", "cmd": "true", "cpus": 0.25, "mem": 1, "instances": 2, "portDefinitions": [] });
    let answer = node.ask("POST", "/v2/apps?dryRun=true", &fits.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let placed = json!([{ "agentId": AGENT, "host": "node1", "instances": 2 }]);
    assert_eq!((&answer.json()["placements"], &answer.json()["unplaced"]), (&placed, &0.into()));
    let more = node.ask("PUT", "/v2/apps/big?dryRun=true", r#"{"instances":3}"#).await.json();
    assert_eq!((&more["wanted"], &more["unplaced"]), (&2.into(), &2.into()));
    assert_eq!(more["agents"][0]["reasons"], json!([reason()]));
    let taken = json!({ "id": "big", "cmd": "true" }).to_string();
    assert_eq!(node.ask("POST", "/v2/apps?dryRun=true", &taken).await.status, 409);
    assert_eq!(node.ask("POST", "/v2/apps?dryRun=true", "{}").await.status, 422);
    assert!(node.memory.commands.lock().unwrap().is_empty());
    assert_eq!(node.get("/v2/apps/new").await.status, 404);
}
