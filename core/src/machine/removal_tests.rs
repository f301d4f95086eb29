use super::*;
use crate::model::{
    Agent, AgentId, AgentSettings, AppId, Cluster, DataKey, Instance, Node, Resources, Sealed,
    SecretRecord, Time,
};
use std::collections::BTreeMap;

fn sealed(byte: u8) -> Sealed {
    Sealed(vec![byte; 3])
}

fn node(id: &str, role: NodeRole) -> Node {
    let (id, name) = (NodeId::new(id), format!("pi-{id}"));
    Node { id, name, role, public_key: vec![1], admitted_at: Time(1) }
}

/// Two masters and an agent; secret `s` sealed with data key `k`.
fn three() -> State {
    let mut state = State { now: Time(5), ..State::default() };
    for node in [node("a", NodeRole::Full), node("b", NodeRole::Master), node("c", NodeRole::Agent)]
    {
        state.nodes.insert(node.id.clone(), node);
    }
    state.cluster = Some(Cluster {
        id: "id".into(),
        ca_certificate: vec![1],
        join_secret_sha256: "old".into(),
        founded_at: Time(0),
        authority: Some(sealed(1)),
        join_token: Some(sealed(2)),
        previous: Vec::new(),
        rotation_due: false,
    });
    let copies = ["a", "b"].map(|id| (NodeId::new(id), sealed(3))).into();
    state.data_key = Some(DataKey { id: "k".into(), copies });
    let record =
        SecretRecord { value: sealed(4), version: 7, created_at: Time(1), changed_at: Time(2) };
    state.secrets.insert("s".into(), record);
    state
}

fn token(key_id: &str) -> SealedToken {
    SealedToken { key_id: key_id.into(), token: sealed(9) }
}

fn remove(state: &mut State, id: &str) -> Result<Vec<Event>, Rejection> {
    remove_node(state, &NodeId::new(id), "new", Some(&token("k")))
}

#[test]
fn a_removed_node_is_no_member_and_the_token_is_another() {
    for (id, due) in [("c", false), ("b", true)] {
        let mut state = three();
        let events = remove(&mut state, id).expect("removed");
        let removed = Event::NodeRemoved { node_id: NodeId::new(id), name: format!("pi-{id}") };
        assert_eq!(events, [Event::TokenRotated, removed]);
        assert!(!state.nodes.contains_key(&NodeId::new(id)));
        let known = Removed { name: format!("pi-{id}"), master: due, at: Time(5) };
        assert_eq!(state.removed, [(NodeId::new(id), known)].into());
        let cluster = state.cluster.as_ref().expect("founded");
        assert_eq!(cluster.rotation_due, due, "{id}");
        assert_eq!(cluster.join_secret_sha256, "new");
        assert_eq!(cluster.join_token, Some(sealed(9)));
        let copies = &state.data_key.as_ref().expect("a key").copies;
        assert!(!copies.contains_key(&NodeId::new(id)));
    }
}

#[test]
fn what_cannot_be_removed_changes_nothing() {
    let mut state = three();
    remove(&mut state, "b").expect("one master is left");
    let rows = [
        ("a", "k", Rejection::LastMaster(NodeId::new("a"))),
        ("b", "k", Rejection::NodeUnknown(NodeId::new("b"))),
        ("c", "other", Rejection::OtherDataKey),
    ];
    for (id, key, rejection) in rows {
        let before = state.clone();
        let refused = remove_node(&mut state, &NodeId::new(id), "x", Some(&token(key)));
        assert_eq!(refused, Err(rejection));
        assert_eq!(state, before);
    }
}

#[test]
fn everything_of_its_agent_goes_with_it() {
    let mut state = three();
    let agent_id = AgentId::new("c");
    let agent = Agent {
        id: agent_id.clone(),
        name: "pi-c".into(),
        total: Resources::default(),
        ports: vec![],
        attributes: BTreeMap::new(),
        reachable: false,
    };
    state.agents.insert(agent_id.clone(), agent);
    state.away.insert(agent_id.clone(), Time(1));
    state.agent_settings.insert(agent_id.clone(), AgentSettings::default());
    state.given_up.entry(agent_id.clone()).or_default();
    let app_id = AppId::new("/x");
    for (id, on) in [("here", "c"), ("there", "a")] {
        let id = InstanceId::new(id);
        let mut instance = Instance::waiting(id.clone(), app_id.clone(), Time(1), Time(1));
        instance.reservation = Some(crate::model::Reservation {
            agent_id: AgentId::new(on),
            host: on.into(),
            volumes: vec![],
        });
        state.instances.insert(id, instance);
    }
    let events = remove(&mut state, "c").expect("removed");
    let gone = Event::InstanceRemoved { instance_id: InstanceId::new("here"), app_id };
    assert_eq!(events.last(), Some(&gone));
    assert_eq!(state.instances.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["there"]);
    assert!(state.agents.is_empty() && state.away.is_empty());
    assert!(state.agent_settings.is_empty() && state.given_up.is_empty());
}

#[test]
fn the_removed_are_forgotten_oldest_first() {
    let mut state = three();
    for n in 0..REMOVED_MAX {
        let removed = Removed { name: "x".into(), master: false, at: Time(u64::from(n) + 1) };
        state.removed.insert(NodeId::new(format!("n{n}")), removed);
    }
    state.now = Time(1 << 40);
    remove(&mut state, "c").expect("removed");
    assert_eq!(state.removed.len(), REMOVED_MAX as usize);
    assert!(!state.removed.contains_key(&NodeId::new("n0")));
    assert!(state.removed.contains_key(&NodeId::new("c")));
}

fn keys(replaces: &str, version: u64) -> NewKeys {
    let copies = ["a", "gone"].map(|id| (NodeId::new(id), sealed(6))).into();
    NewKeys {
        replaces: replaces.into(),
        data_key: DataKey { id: "l".into(), copies },
        secrets: [("s".to_string(), (version, sealed(5)))].into(),
        ca_certificate: vec![2],
        authority: sealed(7),
        join_secret_sha256: "newest".into(),
        join_token: sealed(8),
    }
}

#[test]
fn keys_are_replaced_all_at_once_or_not_at_all() {
    let mut state = three();
    remove(&mut state, "b").expect("removed");
    let before = state.clone();
    assert_eq!(replace_keys(&mut state, &keys("l", 7)), Err(Rejection::OtherDataKey));
    assert_eq!(replace_keys(&mut state, &keys("k", 6)), Err(Rejection::SecretsChanged));
    let more = NewKeys { secrets: BTreeMap::new(), ..keys("k", 7) };
    assert_eq!(replace_keys(&mut state, &more), Err(Rejection::SecretsChanged));
    assert_eq!(state, before);

    replace_keys(&mut state, &keys("k", 7)).expect("replaced");
    let cluster = state.cluster.as_ref().expect("founded");
    assert_eq!((cluster.ca_certificate.as_slice(), &cluster.previous), (&[2][..], &vec![vec![1]]));
    assert_eq!(cluster.authority, Some(sealed(7)));
    assert!(!cluster.rotation_due);
    let key = state.data_key.as_ref().expect("a key");
    assert_eq!((key.id.as_str(), key.copies.len()), ("l", 1), "only members have a copy");
    let record = &state.secrets["s"];
    assert_eq!((&record.value, record.version, record.changed_at), (&sealed(5), 7, Time(2)));
}

#[test]
fn earlier_authorities_are_bounded() {
    let mut state = three();
    for turn in 0..PREVIOUS_MAX + 2 {
        let id = state.data_key.as_ref().expect("a key").id.clone();
        let mut keys = keys(&id, 7);
        keys.data_key.id = turn.to_string();
        replace_keys(&mut state, &keys).expect("replaced");
    }
    let previous = state.cluster.expect("founded").previous;
    assert_eq!(previous.len(), PREVIOUS_MAX as usize);
}
