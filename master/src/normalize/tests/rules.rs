//! Defaults, legacy keys, mixtures and merging, one by one.

use super::*;

#[test]
fn defaults_are_marathons() {
    let app = create(&json!({"id": "a", "cmd": "sleep 1"})).unwrap();
    let written = serde_json::to_string(&canonical(&app)).unwrap();
    let time = timestamp::format(NOW);
    assert_eq!(
        written,
        format!(
            r#"{{"id":"/a","backoffFactor":1.15,"backoffSeconds":1,"cmd":"sleep 1","cpus":1,"disk":0,"executor":"","instances":1,"labels":{{}},"maxLaunchDelaySeconds":300,"mem":128,"gpus":0,"networks":[{{"mode":"host"}}],"portDefinitions":[{{"name":"default","port":0,"protocol":"tcp"}}],"requirePorts":false,"upgradeStrategy":{{"maximumOverCapacity":1,"minimumHealthCapacity":1}},"version":"{time}","versionInfo":{{"lastScalingAt":"{time}","lastConfigChangeAt":"{time}"}},"killSelection":"YOUNGEST_FIRST","unreachableStrategy":{{"inactiveAfterSeconds":0,"expungeAfterSeconds":0}}}}"#
        )
    );
    let resident = create(&json!({"id": "a", "cmd": "sleep 1", "container": {"type": "MESOS",
        "volumes": [{"containerPath": "d", "mode": "RW", "persistent": {"size": 1}}]}}))
    .unwrap();
    assert_eq!(resident.unreachable, UnreachableStrategy::Disabled);
    assert_eq!(resident.upgrade, UpgradeStrategy { min_health_ppm: 500_000, max_over_ppm: 0 });
    assert!(resident.residency.is_some());
    assert_eq!(validate::validate(&resident), []);
    let single = create(&json!({"id": "a", "cmd": "sleep 1",
        "labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"}}))
    .unwrap();
    assert_eq!(single.upgrade, UpgradeStrategy { min_health_ppm: 0, max_over_ppm: 0 });
    assert_eq!(validate::validate(&single), []);
}

#[test]
fn legacy_keys_become_canonical() {
    let docker = |extra: Value| {
        let mut docker = json!({"image": "i"});
        docker.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"type": "DOCKER", "docker": docker})
    };
    // (request, networks, port definitions, mappings as container/host/service)
    type Ports = Vec<u16>;
    type Mappings = Option<Vec<(u16, Option<u16>, u16)>>;
    let net =
        |name: &str| Network::Container { name: Some(name.into()), labels: Default::default() };
    let cases: Vec<(Value, Vec<Network>, Ports, Mappings)> = vec![
        (json!({"ports": [8080, 0]}), vec![Network::Host], vec![8080, 0], None),
        (json!({"ports": []}), vec![Network::Host], vec![], None),
        (json!({}), vec![Network::Host], vec![0], None),
        (
            json!({"ports": [1], "portDefinitions": [{"port": 1}]}),
            vec![Network::Host],
            vec![1],
            None,
        ),
        (
            json!({"container": docker(json!({"network": "BRIDGE"}))}),
            vec![Network::Bridge],
            vec![],
            Some(vec![(0, Some(0), 0)]),
        ),
        (
            json!({"container": docker(json!({"network": "BRIDGE", "portMappings": []}))}),
            vec![Network::Bridge],
            vec![],
            Some(vec![]),
        ),
        (
            json!({"ports": [9000, 0], "container": docker(json!({"network": "BRIDGE",
                "portMappings": [{"containerPort": 80}]}))}),
            vec![Network::Bridge],
            vec![],
            Some(vec![(80, Some(0), 0), (0, Some(0), 0)]),
        ),
        (
            json!({"container": docker(json!({"network": "HOST",
                "portMappings": [{"containerPort": 80}]}))}),
            vec![Network::Host],
            vec![0],
            None,
        ),
        (
            json!({"container": docker(json!({"network": "USER"})), "ipAddress": {"networkName": "n"}}),
            vec![net("n")],
            vec![],
            Some(vec![(0, None, 0)]),
        ),
        (
            json!({"ipAddress": {"networkName": "mesos-bridge"}}),
            vec![Network::Bridge],
            vec![],
            Some(vec![(0, Some(0), 0)]),
        ),
        (
            json!({"ipAddress": {"networkName": "n", "discovery": {"ports":
                [{"number": 80, "name": "http", "protocol": "tcp"}]}}}),
            vec![net("n")],
            vec![],
            Some(vec![(80, None, 0)]),
        ),
        (
            json!({"networks": [{"name": "n"}], "container": {"type": "MESOS",
                "portMappings": [{"containerPort": 80, "hostPort": 81, "servicePort": 82}]}}),
            vec![net("n")],
            vec![],
            Some(vec![(80, Some(81), 82)]),
        ),
    ];
    for (mut body, networks, ports, mappings) in cases {
        body["id"] = json!("a");
        body["cmd"] = json!("sleep 1");
        let app = create(&body).unwrap_or_else(|e| panic!("{body}: {e:?}"));
        assert_eq!(validate::validate(&app), [], "{body}");
        assert_eq!(app.networks, networks, "{body}");
        let found: Ports = app.port_definitions.iter().map(|d| d.port).collect();
        assert_eq!(found, ports, "{body}");
        let found = app.container.as_ref().and_then(|c| c.port_mappings.as_ref()).map(|m| {
            m.iter().map(|m| (m.container_port, m.host_port, m.service_port)).collect::<Vec<_>>()
        });
        assert_eq!(found, mappings, "{body}");
    }
}

#[test]
fn mixtures_are_refused_by_path() {
    let bridge = json!({"docker": {"image": "i", "network": "BRIDGE"}});
    let cases = [
        (
            json!({"container": bridge, "networks": [{"mode": "host"}]}),
            "/",
            "must not specify both container.docker.network and networks",
        ),
        (
            json!({"ipAddress": {}, "networks": [{"mode": "host"}]}),
            "/",
            "cannot mix deprecated and canonical network APIs",
        ),
        (json!({"ipAddress": {}, "ports": [0]}), "/", "cannot specify both an IP address and port"),
        (
            json!({"ports": [1], "portDefinitions": [{"port": 2}]}),
            "/",
            "cannot specify both ports and port definitions",
        ),
        (json!({"ports": [80, 0, 0, 80]}), "/ports", "ports must be unique"),
        (
            json!({"uris": ["http://a"], "fetch": [{"uri": "http://b"}]}),
            "/uris",
            "may not be set in conjunction with fetch",
        ),
        (
            json!({"container": {"docker": {"image": "i", "network": "BRIDGE",
            "portMappings": [{}]}, "portMappings": [{}]}}),
            "/container",
            "cannot specify both portMappings and docker.portMappings",
        ),
        (
            json!({"container": {"docker": {"image": "i", "network": "NONE"}}}),
            "/container/docker/network",
            "network mode NONE is not supported: use BRIDGE, HOST or USER",
        ),
        (
            json!({"container": {"type": "MESOS", "docker": {"image": "i", "network": "HOST"}}}),
            "/container/docker/network",
            "must be empty",
        ),
        (
            json!({"container": {"docker": {"image": "i", "credential": {"principal": "p"}}}}),
            "/container/docker/credential",
            "must be empty",
        ),
        (
            json!({"networks": [{"mode": "container/bridge"}], "portDefinitions": [{"port": 0}]}),
            "/portDefinitions",
            "portDefinitions are only allowed with host-networking",
        ),
        (
            json!({"networks": [{"mode": "host", "name": "x"}]}),
            "/networks(0)",
            "Host networks may not have names or labels",
        ),
        (
            json!({"networks": [{"mode": "container/bridge", "name": "x"}]}),
            "/networks(0)",
            "Bridge networks may not have names",
        ),
        (json!({"dependencies": ["/ok", "Not_Ok"]}), "/dependencies(1)", "must fully match"),
    ];
    for (mut body, path, message) in cases {
        body["id"] = json!("a");
        body["cmd"] = json!("sleep 1");
        let errors = create(&body).unwrap_err();
        assert_eq!(errors.len(), 1, "{body}: {errors:?}");
        assert_eq!(errors[0].path, path, "{body}");
        assert!(errors[0].errors[0].starts_with(message), "{body}: {errors:?}");
    }
    let mapped = json!({"id": "a", "cmd": "sleep 1", "networks": [{"mode": "host"}],
        "container": {"type": "MESOS", "portMappings": [{"containerPort": 80}]}});
    let violations = validate::validate(&create(&mapped).unwrap());
    assert_eq!(violations[0].message, "portMappings are not allowed with host-networking");
}

#[test]
fn updates_merge_what_is_given() {
    let base = create(&json!({"id": "a", "cmd": "sleep 1", "env": {"A": "1", "B": "2"},
        "cpus": 0.5, "user": "root", "ports": [8080], "uris": ["http://x/a.tgz"],
        "labels": {"k": "v"}}))
    .unwrap();
    let scaled = change(&base, &json!({"instances": 3})).unwrap();
    assert_eq!((scaled.instances, scaled.config()), (3, base.config()));
    assert!(scaled.version > base.version);
    let env = change(&base, &json!({"env": {"C": "3"}})).unwrap();
    assert_eq!(env.env.keys().collect::<Vec<_>>(), ["C"]);
    assert_eq!((env.cmd.as_deref(), env.labels.len()), (Some("sleep 1"), 1));
    let cleared = change(
        &base,
        &json!({"cmd": null, "args": ["sleep", "1"], "user": null,
        "cpus": null, "labels": null}),
    )
    .unwrap();
    assert_eq!((cleared.cmd.as_ref(), cleared.user.as_ref()), (None, None));
    assert_eq!((cleared.resources.cpus_milli, cleared.labels.len()), (500, 1));
    let bridged = change(
        &base,
        &json!({"container":
        {"docker": {"image": "i", "network": "BRIDGE"}}}),
    )
    .unwrap();
    assert_eq!(
        (bridged.networks.as_slice(), bridged.port_definitions.len()),
        ([Network::Bridge].as_slice(), 0)
    );
    let same = change(&bridged, &json!({"container": {"docker": {"image": "j"}}})).unwrap();
    assert_eq!(
        (same.networks, same.container.unwrap().port_mappings.unwrap().len()),
        (vec![Network::Bridge], 1)
    );
    let back = change(&bridged, &json!({"networks": [{"mode": "host"}]})).unwrap();
    assert_eq!((back.port_mappings().len(), back.port_definitions.len()), (0, 1));
    assert_eq!(validate::validate(&back), []);
    let fetch = change(&base, &json!({"fetch": []})).unwrap();
    assert_eq!((base.fetch[0].extract, fetch.fetch.len()), (true, 0));
    let error = change(&base, &json!({"version": "2015-01-01T00:00:00Z", "cpus": 1})).unwrap_err();
    assert_eq!(error[0].path, "/version");
}

#[test]
fn rollbacks_are_recognised() {
    let at = |body: Value| app_update(&body).unwrap().rollback();
    let time = timestamp::parse("2015-01-01T00:00:00Z");
    assert_eq!(at(json!({"version": "2015-01-01T00:00:00Z", "id": "a"})), time);
    assert_eq!(at(json!({"version": "2015-01-01T00:00:00Z", "cpus": 1})), None);
    assert_eq!(at(json!({"cpus": 1})), None);
}

#[test]
fn arrays_of_apps_name_each_mistake() {
    let errors = app_updates(&json!([{"id": "a"}, {"id": 1, "cpus": "x"}])).unwrap_err();
    let paths: Vec<&str> = errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, ["/(1)/id", "/(1)/cpus"]);
}

#[test]
fn health_checks_get_a_port() {
    let body = json!({"id": "a", "cmd": "sleep 1", "healthChecks":
        [{}, {"protocol": "COMMAND", "command": {"value": "true"}}, {"port": 80}]});
    let checks = create(&body).unwrap().health_checks;
    let indices: Vec<Option<u32>> = checks.iter().map(|c| c.port_index).collect();
    assert_eq!(indices, [Some(0), None, None]);
}
