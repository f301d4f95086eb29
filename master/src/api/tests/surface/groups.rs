//! Section 2.3: `/v2/groups`.

use super::*;
use serde_json::json;

const EMPTY: &str = r#"{"apps":[]}"#;

#[tokio::test]
async fn get_v2_groups() {
    let shown = |name, query: &str, keys| {
        line(name, format!("GET /v2/groups/g{query}"), 200).keys("", keys).is("/id", "/g")
    };
    let all = "apps dependencies groups id pods version";
    table([
        line("the root", "GET /v2/groups", 200)
            .keys("", all)
            .is("/id", "/")
            .is("/apps/0/id", "/busy")
            .is("/groups/0/id", "/g")
            .is("/groups/0/groups/0/apps/0/id", "/g/h/idle"),
        line("a trailing slash", "GET /v2/groups/", 200).is("/id", "/"),
        line("double slashes", "GET /v2/groups//g//h/", 200).is("/id", "/g/h"),
        shown("all by default", "", all),
        shown("groups", "?embed=group.groups", "dependencies groups id version"),
        shown("apps", "?embed=group.apps", "apps dependencies id version"),
        shown("pods", "?embed=group.pods", "dependencies id pods version"),
        shown("unknown ones do not count", "?embed=x", all),
        shown(
            "of the apps",
            "?embed=group.apps&embed=group.apps.tasks",
            "apps dependencies id version",
        )
        .has("/apps/0/tasks/0"),
        line("AppInfo without tasks", "GET /v2/groups/g", 200)
            .is("/apps/0/tasksRunning", 1)
            .lacks("/apps/0/tasks"),
        line("unknown", "GET /v2/groups/nope", 404).message("Group '/nope' does not exist"),
        line("an app is no group", "GET /v2/groups/web", 404)
            .message("Group '/web' does not exist"),
    ])
    .await;
}

#[tokio::test]
async fn get_v2_groups_apps_and_versions() {
    table([
        line("apps of all", "GET /v2/groups/apps", 200).is("/0/id", "/busy").has("/3").lacks("/4"),
        line("apps below", "GET /v2/groups/g/apps", 200).is("/1/id", "/g/h/idle").lacks("/2"),
        line("apps, embed", "GET /v2/groups/g/apps?embed=apps.tasks", 200).has("/0/tasks/0"),
        line("apps of none", "GET /v2/groups/nope/apps", 404)
            .message("Group '/nope' does not exist"),
        line("versions", "GET /v2/groups/versions", 200).after("PUT /v2/groups/x", EMPTY).has("/0"),
        line("versions of one", "GET /v2/groups/g/versions", 200).has("/0"),
        line("versions of none", "GET /v2/groups/nope/versions", 404),
        line("an unknown version", "GET /v2/groups/g/versions/2015-01-01T00:00:00.000Z", 404)
            .part("Group '/g' does not exist in version 2015-01-01T00:00:00.000Z"),
        line("no time", "GET /v2/groups/versions/x", 422)
            .message("Invalid timestamp provided 'x'. Expecting ISO-8601 datetime string."),
    ])
    .await;
}

#[tokio::test]
async fn post_v2_groups() {
    let new = json!({ "id": "new", "apps": [{ "id": "a", "cmd": "sleep 5" }] });
    table([
        line("creates", "POST /v2/groups", 201)
            .body(&new)
            .deploys()
            .header("location", "http://localhost:8080/v2/groups/new"),
        line("below the path", "POST /v2/groups/g", 201)
            .body(&new)
            .header("location", "http://localhost:8080/v2/groups/g/new"),
        line("the path itself", "POST /v2/groups/x/y", 201)
            .body(EMPTY)
            .header("location", "http://localhost:8080/v2/groups/x/y"),
        line("exists", "POST /v2/groups", 409)
            .body(r#"{"id":"/g"}"#)
            .message("Group /g is already created. Use PUT to change this group."),
        line("where an app is", "POST /v2/groups", 409)
            .body(r#"{"id":"/web"}"#)
            .message("An app with the path /web already exists."),
        line("an absolute id elsewhere", "POST /v2/groups/g", 422)
            .body(json!({ "id": "n", "apps": [{ "id": "/other", "cmd": "sleep 5" }] }))
            .part(r#""path":"/apps(0)/id""#)
            .part("Identifier is not child of '/g/n'"),
        line("cyclic", "POST /v2/groups", 422)
            .body(json!({ "id": "n", "groups": [
                { "id": "a", "dependencies": ["../b"], "apps": [{ "id": "x", "cmd": "sleep 5" }] },
                { "id": "b", "dependencies": ["../a"], "apps": [{ "id": "x", "cmd": "sleep 5" }] }]}))
            .is("/details/0/errors/0", "Dependency graph has cyclic dependencies."),
    ])
    .await;
}

#[tokio::test]
async fn put_v2_groups() {
    let put = |name, path: &str, status| line(name, format!("PUT /v2/groups{path}"), status);
    let one = json!({ "apps": [{ "id": "one", "cmd": "sleep 5" }] });
    let alone = "not allowed in conjunction with other properties.";
    table([
        put("creates", "/new", 200).body(&one).deploys(),
        put("the root", "?force=True", 200).body(r#"{"groups":[]}"#).deploys(),
        put("replaces", "/g", 200).body(&one).deploys(),
        line("children left out are gone", "GET /v2/groups/g/apps", 200)
            .after("PUT /v2/groups/g", &one)
            .is("/0/id", "/g/h/idle")
            .is("/1/id", "/g/one")
            .lacks("/2"),
        line("an absent key keeps", "GET /v2/groups/g/apps", 200)
            .after("PUT /v2/groups/g", r#"{"groups":[]}"#)
            .is("/0/id", "/g/db")
            .lacks("/1"),
        put("scaleBy", "/g", 200).body(r#"{"scaleBy":2}"#).deploys(),
        line("scaled", "GET /v2/apps/g/db", 200)
            .after("PUT /v2/groups/g", r#"{"scaleBy":1.2}"#)
            .is("/app/instances", 3),
        put("scaleBy alone", "/g", 422).body(r#"{"scaleBy":2,"apps":[]}"#).part(alone),
        put("version alone", "/g", 422)
            .body(r#"{"version":"2015-01-01T00:00:00.000Z","apps":[]}"#)
            .part(alone),
        put("an unknown version", "/g", 404).body(r#"{"version":"2015-01-01T00:00:00.000Z"}"#),
        put("dryRun", "/new?dryRun=TRUE", 200)
            .body(&one)
            .keys("", "steps")
            .is("/steps/0/actions/0", json!({ "action": "StartApplication", "app": "/new/one" }))
            .header("marathon-deployment-id", ""),
        line("dryRun changes nothing", "GET /v2/groups/new", 404)
            .after("PUT /v2/groups/new?dryRun=true", &one),
        put("locked", "", 409)
            .body(r#"{"apps":[]}"#)
            .is("/deployments/0/id", HELD)
            .part("App is locked by one or more deployments."),
        put("locked, forced", "?force=true", 200).body(r#"{"apps":[]}"#).deploys(),
        put("no such route: part of an id", "/g/versions/2015-01-01T00:00:00.000Z", 422).body("{}"),
    ])
    .await;
}

#[tokio::test]
async fn patch_v2_groups_id() {
    table([
        line("enforceRole", "PATCH /v2/groups/g", 200)
            .body(r#"{"enforceRole":true}"#)
            .text("")
            .header("marathon-deployment-id", ""),
        line("is shown", "GET /v2/groups/g", 200)
            .after("PATCH /v2/groups/g", r#"{"enforceRole":true}"#)
            .is("/enforceRole", true),
        line("only at the top", "PATCH /v2/groups/g/h", 422).body(r#"{"enforceRole":true}"#),
        line("unknown", "PATCH /v2/groups/nope", 404).body(r#"{"enforceRole":true}"#),
        line("missing", "PATCH /v2/groups/g", 422).body("{}").part("error.path.missing"),
        line("no switch", "PATCH /v2/groups/g", 422)
            .body(r#"{"enforceRole":1}"#)
            .part("error.expected.jsboolean"),
    ])
    .await;
}

#[tokio::test]
async fn delete_v2_groups() {
    table([
        line("one", "DELETE /v2/groups/g", 200).deploys(),
        line("with what is in it", "GET /v2/apps/g/db", 404).after("DELETE /v2/groups/g", ""),
        line("the root, locked", "DELETE /v2/groups", 409).is("/deployments/0/id", HELD),
        line("the root, forced", "DELETE /v2/groups/?force=true", 200).deploys(),
        line("nothing is left", "GET /v2/apps", 200)
            .after("DELETE /v2/groups?force=true", "")
            .text(r#"{"apps":[]}"#),
        line("unknown", "DELETE /v2/groups/nope", 404).message("Group '/nope' does not exist"),
    ])
    .await;
}
