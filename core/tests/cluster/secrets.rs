//! Apps with secrets: they wait for what is missing, and say so.

use crate::bench::{Bench, agent, app};
use bramble_core::command::{Command, Placed};
use bramble_core::event::{Event, RefusedAssignment};
use bramble_core::model::*;
use bramble_core::place::{Reason, outlook};
use bramble_core::taskenv;

fn sealed() -> Sealed {
    Sealed(vec![7; 40])
}

/// A cluster with a data key and an app that needs `db`, `tls/key` and `registry`.
fn bench() -> Bench {
    let mut bench = Bench::with(vec![agent("n1", 1000, 1024)]);
    let node_id = NodeId::new("n1");
    bench.must(Command::KeepDataKey { id: "k".into(), node_id, copy: sealed() });
    let mut web = app("/web", 1);
    web.secrets.insert("db".into(), "/db".into());
    web.secrets.insert("key".into(), "tls/key".into());
    web.secrets.insert("pull".into(), "registry".into());
    web.secrets.insert("unused".into(), "never/put".into());
    web.env.insert("DB".into(), EnvValue::Secret("db".into()));
    web.env.insert("AGAIN".into(), EnvValue::Secret("db".into()));
    web.container = Some(Container {
        kind: ContainerKind::Mesos,
        docker: Some(DockerImage {
            image: "i".into(),
            privileged: false,
            force_pull: false,
            parameters: vec![],
            pull_config_secret: Some("pull".into()),
        }),
        port_mappings: None,
        volumes: vec![Volume::Secret { container_path: "key.pem".into(), secret: "key".into() }],
        linux_info: None,
    });
    bench.create(web);
    bench.settle();
    bench
}

fn put(bench: &mut Bench, name: &str) {
    let (name, key_id) = (name.to_string(), "k".to_string());
    bench.must(Command::PutSecret { name, key_id, value: sealed() });
}

fn missing(names: &[&str]) -> Vec<Reason> {
    names.iter().map(|name| Reason::SecretMissing { name: name.to_string() }).collect()
}

#[test]
fn instances_wait_for_secrets_that_are_not_there() {
    let mut bench = bench();
    let refused = bench.place().refused;
    assert_eq!(refused[0].per_agent[0].1, missing(&["db", "registry", "tls/key"]));
    put(&mut bench, "db");
    put(&mut bench, "registry");
    let told = outlook(&bench.state, bench.offers(), &bench.stored("/web").app);
    assert_eq!(told.in_the_way[0].1, missing(&["tls/key"]));
    let waiting = bench.instances("/web")[0].id.clone();
    let placed = Placed {
        instance_id: waiting,
        agent_id: AgentId::new("n1"),
        ports: vec![31_000],
        devices: vec![],
    };
    let events = bench.must(Command::Assign { assignments: vec![placed] });
    let reason = RefusedAssignment::SecretMissing;
    assert!(matches!(&events[0], Event::AssignmentRefused { reason: r, .. } if *r == reason));
    put(&mut bench, "tls/key");
    assert_eq!(bench.place().decisions.len(), 1);
}

#[test]
fn a_task_is_told_where_it_finds_which_secret() {
    let mut bench = bench();
    for name in ["db", "registry", "tls/key"] {
        put(&mut bench, name);
    }
    bench.place();
    let instance = bench.instances("/web")[0];
    let told = taskenv::assignment(&bench.stored("/web").app, instance).expect("has a task");
    let secret = |source: &str, usage| TaskSecret { source: source.into(), usage, value: None };
    assert_eq!(
        told.spec.secrets,
        [
            secret("db", SecretUse::Env("AGAIN".into())),
            secret("db", SecretUse::Env("DB".into())),
            secret("tls/key", SecretUse::File("key.pem".into())),
            secret("registry", SecretUse::PullConfig),
        ]
    );
    assert!(!told.spec.env.iter().any(|(name, _)| name == "DB" || name == "AGAIN"));
    bench.must(Command::RemoveSecret { name: "db".into() });
    assert!(bench.instances("/web")[0].task.is_some(), "what runs keeps it");
}
