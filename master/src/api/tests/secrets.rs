//! Secrets over the API: what is taken, what is answered, and what never comes back.

use crate::api::testing::{Node, state};
use crate::propose::ProposeError;
use crate::queue_view::QueueEntry;
use bramble_core::model::*;
use bramble_core::place::{Reason, Refused};
use bramble_protocol::codec;
use bramble_protocol::secret::SECRET_BYTES_MAX;
use serde_json::json;

const VALUE: &str = "hush-93f1";

async fn put(node: &Node, name: &str, kind: &str, body: impl Into<Vec<u8>>) -> (u16, String) {
    let headers: &[(&str, &str)] = if kind.is_empty() { &[] } else { &[("Content-Type", kind)] };
    let path = format!("/v1/bramble/secrets/{name}");
    let answer = node.tcp().await.ask("PUT", &path, headers, body.into()).await;
    assert!(!answer.text.contains(VALUE), "{}", answer.text);
    (answer.status, answer.text)
}

/// What the log and a snapshot would hold.
fn stored(node: &Node) -> Vec<u8> {
    let commands = node.memory.commands.lock().unwrap().clone();
    let mut bytes = codec::to_bytes(&commands).unwrap();
    bytes.extend(node.store.read(|state| codec::to_bytes(state).unwrap()));
    bytes.extend(format!("{commands:?}").into_bytes());
    bytes.extend(node.store.read(|state| format!("{state:?}").into_bytes()));
    bytes
}

#[tokio::test]
async fn a_secret_is_put_listed_and_removed_and_never_given_back() {
    let node = Node::start().await;
    node.edit(|all| {
        state::add_app(all, "/web", 1);
        let app = &mut all.apps.get_mut(&AppId::new("/web")).unwrap().app;
        app.secrets.insert("pw".into(), "/prod/db".into());
        app.env.insert("PW".into(), EnvValue::Secret("pw".into()));
    });
    let (status, text) = put(&node, "prod/db", "", VALUE).await;
    assert_eq!(status, 201, "{text}");
    let (status, text) =
        put(&node, "prod%2Fdb", "application/json", json!({ "value": VALUE }).to_string()).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(put(&node, "other", "application/octet-stream", [0, 255]).await.0, 201);
    let listed = node.get("/v1/bramble/secrets").await.json();
    let row = |at: usize, key: &str| listed["secrets"][at][key].clone();
    assert_eq!((row(0, "name"), row(0, "version")), (json!("other"), json!(1)));
    assert_eq!((row(1, "name"), row(1, "version")), (json!("prod/db"), json!(2)));
    assert_eq!(row(1, "apps"), json!(["/web"]));
    assert!(row(1, "changedAt").as_str().is_some_and(|at| at.ends_with('Z')));
    let bytes = stored(&node);
    assert!(!bytes.windows(VALUE.len()).any(|part| part == VALUE.as_bytes()));
    assert_eq!(node.get("/v1/bramble/secrets/prod/db").await.status, 405);
    let removed = node.ask("DELETE", "/v1/bramble/secrets/prod/db", "").await;
    assert_eq!((removed.status, removed.json()["apps"].clone()), (200, json!(["/web"])));
    assert_eq!(node.ask("DELETE", "/v1/bramble/secrets/prod/db", "").await.status, 404);
}

#[tokio::test]
async fn what_is_no_secret_is_refused_without_repeating_it() {
    let node = Node::start().await;
    let rows: [(&str, &str, Vec<u8>, u16, &str); 8] = [
        ("a", "", vec![], 422, "empty"),
        ("a", "application/json", format!("\"{VALUE}\"").into(), 422, "send {"),
        ("a", "application/json", format!("{{\"value\":\"{VALUE}\"").into(), 422, "send {"),
        (
            "a",
            "application/json",
            json!({ "value": VALUE, "x": 1 }).to_string().into(),
            422,
            "send",
        ),
        ("a", "application/json", json!({ "value": [VALUE] }).to_string().into(), 422, "send {"),
        ("a", "", vec![b'x'; SECRET_BYTES_MAX + 1], 413, "65536 bytes"),
        ("a%20b", "", VALUE.into(), 422, "letters, digits"),
        ("..", "", VALUE.into(), 422, "letters, digits"),
    ];
    for (name, kind, body, status, words) in rows {
        let told = put(&node, name, kind, body).await;
        assert_eq!(told.0, status, "{name} {kind}: {}", told.1);
        assert!(told.1.contains(words), "{name} {kind}: {}", told.1);
    }
    assert!(node.store.read(|state| state.secrets.is_empty()));
    let largest = put(&node, "a", "", vec![b'x'; SECRET_BYTES_MAX]).await;
    assert_eq!(largest.0, 201, "{}", largest.1);
    *node.memory.fail_next.lock().unwrap() = Some(ProposeError::Unavailable(String::new()));
    assert_eq!(put(&node, "b", "", VALUE).await.0, 503);
}

#[tokio::test]
async fn requests_at_once_make_one_data_key() {
    let node = Node::start().await;
    let puts = ["a", "b", "c", "d"].map(|name| put(&node, name, "", VALUE));
    for (status, text) in futures_util::future::join_all(puts).await {
        assert_eq!(status, 201, "{text}");
    }
    let commands = node.memory.commands.lock().unwrap();
    let keys = commands.iter().filter(|c| format!("{c:?}").starts_with("KeepDataKey"));
    assert_eq!((keys.count(), commands.len()), (1, 5));
}

#[tokio::test]
async fn why_and_the_queue_name_a_missing_secret() {
    let node = Node::start().await;
    node.edit(|all| {
        state::add_agent(all);
        state::add_app(all, "/web", 1);
        state::waiting(all, "/web", "1");
        let app = &mut all.apps.get_mut(&AppId::new("/web")).unwrap().app;
        app.secrets.insert("pw".into(), "prod/db".into());
        app.env.insert("PW".into(), EnvValue::Secret("pw".into()));
    });
    let agent_id = AgentId::new(state::AGENT);
    let offer = Offer {
        id: "o".into(),
        agent_id: agent_id.clone(),
        hostname: "node1".into(),
        free: Resources { cpus_milli: 5000, mem_bytes: 1 << 40, disk_bytes: 1 << 40, gpus: 0 },
        ports: vec![PortRange { begin: 31_000, end: 31_099 }],
        attributes: <_>::default(),
        roles: <_>::default(),
        generation: 1,
        devices: <_>::default(),
        vitals: <_>::default(),
    };
    node.offers.open(&agent_id, 0);
    node.offers.put(offer.clone());
    let why = node.get("/v1/bramble/why/web").await.json();
    let reason = why["outlook"]["agents"][0]["reasons"][0].clone();
    assert_eq!(reason["missing"], "secret 'prod/db' does not exist");
    assert_eq!(reason["change"], "bramble secret put prod/db");
    let mut entry = QueueEntry::default();
    let refused = Refused {
        instance_id: InstanceId::new("i"),
        app_id: AppId::new("/web"),
        per_agent: vec![(agent_id, vec![Reason::SecretMissing { name: "prod/db".into() }])],
    };
    entry.refuse(&refused, &[offer], Time(1));
    node.refusals.0.lock().unwrap().insert(AppId::new("/web"), entry);
    let queue = node.get("/v2/queue").await.json();
    let reasons = queue["queue"][0]["lastUnusedOffers"][0]["reason"].clone();
    assert_eq!(reasons, json!(["UnfulfilledConstraint", "secret 'prod/db' does not exist"]));
    assert_eq!(put(&node, "prod/db", "", VALUE).await.0, 201);
    let why = node.get("/v1/bramble/why/web").await.json();
    assert_eq!(why["outlook"]["unplaced"], 0, "{why}");
    let app = node.get("/v2/apps/web").await.json();
    assert_eq!(app["app"]["env"], json!({ "PW": { "secret": "pw" } }));
}
