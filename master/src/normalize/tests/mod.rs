//! Fixtures of others and of 2015, and the ids of apps.

mod rules;

use super::*;
use bramble_protocol::rest::app::canonical;
use bramble_protocol::rest::classic::{classic, is_classic};
use bramble_protocol::rest::parse::{app_update, app_updates};
use bramble_protocol::timestamp;
use serde_json::{Value, json};
use std::path::PathBuf;

const NOW: Time = Time(1_423_136_731_026);

fn fixtures(kind: &str) -> Vec<(String, String)> {
    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/normalize/fixtures").join(kind);
    let mut found: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.file_stem().unwrap().to_str().unwrap().to_string(), text)
        })
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn create(body: &Value) -> Result<App, Vec<FieldError>> {
    let update = app_update(body)?;
    let id = resolve_id(update.id.given().expect("an id"), "/").map_err(|e| vec![e])?;
    normalize(&update, id, None, NOW)
}

fn change(base: &App, body: &Value) -> Result<App, Vec<FieldError>> {
    normalize(&app_update(body)?, base.id.clone(), Some(base), NOW.plus_ms(5))
}

/// Every app of a sample, also those inside groups and arrays, with its id resolved.
fn apps_of(value: &Value, group: &str) -> Vec<(String, Value)> {
    if let Some(list) = value.as_array() {
        return list.iter().flat_map(|v| apps_of(v, group)).collect();
    }
    let id = value["id"].as_str().unwrap();
    let is_group = value.get("apps").is_some() || value.get("groups").is_some();
    if !is_group {
        return vec![(resolve_id(id, group).unwrap().0, value.clone())];
    }
    let path = resolve_id(id, group).unwrap().0;
    let members = ["apps", "groups"].into_iter().filter_map(|key| value[key].as_array());
    members.flatten().flat_map(|v| apps_of(v, &path)).collect()
}

#[test]
fn samples_mean_something_and_survive_a_round_trip() {
    let mut seen = 0;
    for (name, text) in fixtures("samples") {
        let sample: Value = serde_json::from_str(&text).unwrap();
        if name == "raml-app-full" {
            assert!(create(&sample).is_err(), "{name} mixes what excludes each other");
            continue;
        }
        for (id, body) in apps_of(&sample, "/") {
            let update = app_update(&body).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            let app = normalize(&update, AppId(id), None, NOW)
                .unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert_eq!(validate::validate(&app), [], "{name}");
            let written = serde_json::to_value(canonical(&app)).unwrap();
            assert_eq!(create(&written).unwrap(), app, "{name}: {written}");
            assert_eq!(change(&app, &json!({})).unwrap().config(), app.config(), "{name}");
            assert_eq!(change(&app, &written_back(&written)).unwrap().config(), app.config());
            seen += 1;
        }
    }
    assert_eq!(seen, 26);
}

/// What a client sends that reads, changes and writes: all but what the server sets.
fn written_back(written: &Value) -> Value {
    let mut body = written.clone();
    for key in ["version", "versionInfo"] {
        body.as_object_mut().unwrap().remove(key);
    }
    body
}

#[test]
fn the_full_example_names_all_it_mixes() {
    let (_, text) =
        fixtures("samples").into_iter().find(|(name, _)| name == "raml-app-full").unwrap();
    let errors = create(&serde_json::from_str(&text).unwrap()).unwrap_err();
    let found: Vec<(&str, &str)> =
        errors.iter().map(|e| (e.path.as_str(), e.errors[0].as_str())).collect();
    assert_eq!(
        found,
        [
            ("/", "cannot specify both an IP address and port"),
            ("/ipAddress", "ipAddress/discovery is not allowed for Docker containers"),
        ]
    );
}

#[test]
fn old_and_new_forms_mean_the_same() {
    let read = |name: &str| {
        let (_, text) = fixtures("samples").into_iter().find(|(n, _)| n == name).unwrap();
        create(&serde_json::from_str(&text).unwrap()).unwrap()
    };
    let (old, new) = (read("mlb-nginx-old"), read("mlb-nginx-15"));
    assert_eq!(old.networks, [Network::Bridge]);
    assert_eq!(old.networks, new.networks);
    assert_eq!(old.container, new.container);
    assert_eq!(old.port_definitions, new.port_definitions);
}

#[test]
fn classic_requests_get_the_old_form_byte_for_byte() {
    let mut seen = 0;
    for (name, text) in fixtures("classic") {
        let request: Value = serde_json::from_str(&text).unwrap();
        assert!(is_classic(&request), "{name}");
        let app = create(&request).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(validate::validate(&app), [], "{name}");
        let folder =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/normalize/fixtures/classic");
        let reply = std::fs::read_to_string(folder.join(format!("{name}.reply"))).unwrap();
        assert_eq!(classic(&app, &request), reply, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 22);
}

#[test]
fn ids_resolve_as_paths() {
    let good = [
        ("web", "/", "/web"),
        ("/web", "/prod", "/web"),
        ("web", "/prod", "/prod/web"),
        ("./web", "/prod", "/prod/web"),
        ("../web", "/prod/eu", "/prod/web"),
        ("//a//b/", "/", "/a/b"),
        ("a.b-c.1", "/", "/a.b-c.1"),
    ];
    for (text, base, expected) in good {
        assert_eq!(resolve_id(text, base).unwrap().0, expected);
    }
    let pattern = "must fully match regular expression \
        '^(([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])\\.)*([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])|(\\.|\\.\\.)$'";
    let long = "a".repeat(10_000);
    let bad = [
        ("Web", pattern),
        ("a_b", pattern),
        ("-a", pattern),
        ("a-", pattern),
        ("a..b", pattern),
        ("a b", pattern),
        ("", "must not be root"),
        ("/", "must not be root"),
        ("a/../..", "must not be root"),
        ("a/restart", "must not end with any of: restart, tasks, versions"),
        ("versions", "must not end with any of: restart, tasks, versions"),
        (&long, "must be at most 180 characters long, but has 10000"),
    ];
    for (text, message) in bad {
        let error = resolve_id(text, "/").unwrap_err();
        assert_eq!((error.path.as_str(), error.errors[0].as_str()), ("/id", message), "{text:.20}");
    }
}
