//! Section 2.1: `/v2/apps` and what lies below an app.

use super::*;
use serde_json::json;

/// Keys of the canonical form of `/web`, with what an AppInfo always adds.
const INFO: &str = "backoffFactor backoffSeconds cmd cpus disk env executor \
    gpus id instances killSelection labels maxLaunchDelaySeconds mem networks portDefinitions \
    requirePorts unreachableStrategy upgradeStrategy version versionInfo deployments tasksHealthy \
    tasksRunning tasksStaged tasksUnhealthy";
const CMD: &str = r#"{"cmd":"sleep 5"}"#;

fn unknown(ask: &str) -> Line {
    line("an unknown app", ask, 404).message("App '/nope' does not exist")
}

fn list(name: &'static str, query: &str, ids: &[&str]) -> Line {
    let found = line(name, format!("GET /v2/apps{query}"), 200);
    let pointers = ["/apps/0/id", "/apps/1/id", "/apps/2/id", "/apps/3/id", "/apps/4/id"];
    let found = ids.iter().zip(pointers).fold(found, |line, (id, at)| line.is(at, *id));
    found.lacks(pointers[ids.len()])
}

#[tokio::test]
async fn get_v2_apps_filters() {
    let all = ["/busy", "/g/db", "/g/h/idle", "/web"];
    table([
        list("all", "", &all),
        list("a trailing slash", "/", &all),
        list("cmd is a substring in any case", "?cmd=serve%20--all", &["/web"]),
        list("cmd nobody has", "?cmd=nothing", &[]),
        list("id is a substring in any case", "?id=DB", &["/g/db"]),
        list("id and cmd both", "?id=web&cmd=sleep", &[]),
        list("an empty filter is none", "?id=&cmd=&label=", &all),
        list("an unknown parameter", "?whatever=1", &all),
        list("label: key", "?label=tier", &["/web"]),
        list("label: ==", "?label=tier%3D%3Dfront", &["/web"]),
        list("label: == another", "?label=tier%3D%3Dback", &[]),
        list("label: !=", "?label=tier!%3Dback", &["/web"]),
        list("label: != needs the key", "?label=none!%3Dback", &[]),
        list("label: in", "?label=tier+in+(back,front)", &["/web"]),
        list("label: in, without", "?label=tier%20in%20(back)", &[]),
        list("label: notin", "?label=tier%20notin%20(back,%20side)", &["/web"]),
        list("label: notin needs the key", "?label=none%20notin%20(back)", &[]),
        list("label: all must hold", "?label=tier,env%3D%3Dprod", &["/web"]),
        list("label: one does not", "?label=tier,env%3D%3Ddev", &[]),
        list("label: escaped", "?label=x.y%3D%3Da%5C%20b", &["/web"]),
        line("label: no selector", "GET /v2/apps?label=a%3Db", 422).part("label selector"),
        line("label: nothing after in", "GET /v2/apps?label=a+in+()", 422).part("label selector"),
    ])
    .await;
}

#[tokio::test]
async fn get_v2_apps_embed() {
    let web = |name, query: &str| line(name, format!("GET /v2/apps?id=web{query}"), 200);
    let plain = |line: Line| line.keys("/apps/0", INFO);
    let tasks = |line: Line| {
        line.is("/apps/0/tasks/0/id", WEB_ONE)
            .is("/apps/0/tasks/1/id", WEB_TWO)
            .is("/apps/0/tasks/0/servicePorts", json!([10_001]))
            .lacks("/apps/0/lastTaskFailure")
    };
    let stats = "/apps/0/taskStats/totalSummary/stats/counts";
    let mut lines = vec![
        plain(web("none", "")),
        plain(web("counts are there anyway", "&embed=apps.counts")),
        plain(web("deployments are there anyway", "&embed=apps.deployments")),
        plain(web("count is no value", "&embed=apps.count")),
        plain(web("unknown values do not count", "&embed=nonsense&embed=apps.x")),
        web("lastTaskFailure", "&embed=apps.lastTaskFailure")
            .keys(
                "/apps/0/lastTaskFailure",
                "appId host message slaveId state taskId timestamp version",
            )
            .is("/apps/0/lastTaskFailure/state", "TASK_FAILED")
            .is("/apps/0/lastTaskFailure/timestamp", "1970-01-01T00:00:00.005Z")
            .lacks("/apps/0/tasks"),
        web("failures: tasks too", "&embed=apps.failures")
            .has("/apps/0/lastTaskFailure")
            .has("/apps/0/tasks/1"),
        web("readiness", "&embed=apps.readiness").is("/apps/0/readinessCheckResults", json!([])),
        web("taskStats", "&embed=apps.taskStats")
            .keys("/apps/0/taskStats", "startedAfterLastScaling totalSummary withLatestConfig")
            .is(stats, json!({ "staged": 0, "running": 2, "healthy": 0, "unhealthy": 0 }))
            .keys(
                "/apps/0/taskStats/withLatestConfig/stats/lifeTime",
                "averageSeconds medianSeconds",
            )
            .lacks("/apps/0/tasksStats"),
        web("several", "&embed=apps.tasks&embed=apps.readiness&embed=apps.taskStats")
            .has("/apps/0/tasks/0")
            .has("/apps/0/readinessCheckResults")
            .has("/apps/0/taskStats"),
        line("deployments of a busy app", "GET /v2/apps?id=busy", 200)
            .is("/apps/0/deployments", json!([{ "id": HELD }])),
        line("taskStats without tasks", "GET /v2/apps?id=idle&embed=apps.taskStats", 200)
            .is("/apps/0/taskStats", json!({})),
        line("tasks without tasks", "GET /v2/apps?id=idle&embed=apps.tasks", 200)
            .is("/apps/0/tasks", json!([])),
    ];
    for prefix in ["", "apps.", "app.", "group.apps."] {
        lines.push(tasks(web("tasks by every prefix", &format!("&embed={prefix}tasks"))));
    }
    table(lines).await;
}

#[tokio::test]
async fn post_v2_apps() {
    let post = |name, status| line(name, "POST /v2/apps", status);
    let new = json!({ "id": "new", "cmd": "sleep 5", "labels": {} });
    table([
        post("an AppInfo with nothing running yet", 201)
            .body(&new)
            .is("/id", "/new")
            .is("/tasks", json!([]))
            .is("/tasksStaged", 0)
            .is("/tasksRunning", 0)
            .is("/tasksHealthy", 0)
            .is("/tasksUnhealthy", 0)
            .is("/labels", json!({}))
            .has("/deployments/0/id")
            .has("/version")
            .lacks("/versionInfo")
            .header("location", "http://localhost:8080/v2/apps/new")
            .header("marathon-deployment-id", UUID),
        post("in a group that is not there", 201)
            .body(json!({ "id": "/x/y/z", "cmd": "sleep 5", "labels": {} }))
            .is("/id", "/x/y/z"),
        post("unknown keys do not count", 201)
            .body(json!({ "id": "new", "cmd": "sleep 5", "taskRateLimit": 1, "zzz": { "a": [] } }))
            .lacks("/zzz"),
        post("the version given is ignored", 201)
            .body(json!({ "id": "n", "cmd": "sleep 5", "version": "2015-01-01T00:00:00.000Z", "labels": {} }))
            .is("/id", "/n"),
        post("exists", 409)
            .body(json!({ "id": "/web", "cmd": "sleep 5" }))
            .message("An app with id [/web] already exists."),
        post("exists, forced all the same", 409)
            .body(json!({ "id": "/busy", "cmd": "sleep 5" }))
            .message("An app with id [/busy] already exists."),
        post("below an app", 409)
            .body(json!({ "id": "/web/x", "cmd": "sleep 5" }))
            .message("An app with the path /web/x already exists."),
        post("where a group is", 409).body(json!({ "id": "/g", "cmd": "sleep 5" })),
        post("no id", 422).body(CMD).text(
            r#"{"message":"Invalid JSON","details":[{"path":"/id","errors":["error.path.missing"]}]}"#,
        ),
        post("two mistakes of type in one answer", 422)
            .body(json!({ "id": 7, "cmd": "sleep 5", "cpus": "x" }))
            .part(r#"{"path":"/id","errors":["error.expected.jsstring""#)
            .part(r#"{"path":"/cpus","errors":["error.expected.jsnumber""#),
        post("no id and a mistake", 422)
            .body(r#"{"cmd":7}"#)
            .part(r#"{"path":"/cmd","errors":["error.expected.jsstring""#)
            .part(r#"{"path":"/id","errors":["error.path.missing""#),
        post("two mistakes of meaning in one answer", 422)
            .body(json!({ "id": "/B", "cmd": "sleep 5", "upgradeStrategy": { "minimumHealthCapacity": 2 } }))
            .is("/message", "Object is not valid")
            .part(r#""path":"/id""#)
            .part(r#""path":"/upgradeStrategy/minimumHealthCapacity""#),
        post("an array", 422)
            .body("[]")
            .is("/message", "Invalid JSON")
            .part("error.expected.jsobject"),
    ])
    .await;
}

#[tokio::test]
async fn put_and_patch_v2_apps() {
    let both = json!([{ "id": "/web", "instances": 3 }, { "id": "x/new", "cmd": "sleep 5" }]);
    let unknown = json!([{ "id": "/web", "instances": 3 }, { "id": "/nope", "instances": 1 }]);
    let busy = json!([{ "id": "/busy", "instances": 3 }]);
    let scale = r#"[{"id":"/web","instances":3}]"#;
    table([
        line("creates and updates in one", "PUT /v2/apps", 200).body(&both).deploys(),
        line("what was kept", "GET /v2/apps/web", 200)
            .after("PUT /v2/apps", &both)
            .is("/app/instances", 3)
            .is("/app/env", json!({ "A": "1" })),
        line("partialUpdate=False replaces", "GET /v2/apps/web", 200)
            .after("PUT /v2/apps?partialUpdate=False", r#"[{"id":"/web","cmd":"sleep 5"}]"#)
            .is("/app/instances", 1)
            .lacks("/app/env/A"),
        line("no id", "PUT /v2/apps", 422)
            .body(format!("[{CMD}]"))
            .message("App Update must have app id set"),
        line("an invalid one is named by its index", "PUT /v2/apps", 422)
            .body(r#"[{"id":"/web"},{"id":"/X"}]"#)
            .part(r#""path":"/(1)/id""#),
        line("all invalid ones are named", "PUT /v2/apps", 422)
            .body(r#"[{"id":"/X"},{"id":"/n"},{"id":"/web","labels":{"MARATHON_SINGLE_INSTANCE_APP":"true"}}]"#)
            .part(r#""path":"/(0)/id""#)
            .part(r#""path":"/(1)""#)
            .part(r#""path":"/(2)/"#),
        line("no array", "PUT /v2/apps", 422).body("{}").part("error.expected.jsarray"),
        line("a locked one", "PUT /v2/apps", 409).body(&busy).is("/deployments/0/id", HELD),
        line("a locked one, forced", "PUT /v2/apps?force=true", 200).body(&busy).deploys(),
        line("PATCH changes", "PATCH /v2/apps", 200).body(scale).deploys(),
        line("PATCH never creates", "PATCH /v2/apps", 404)
            .body(unknown)
            .message("App '/nope' does not exist"),
        line("PATCH, locked", "PATCH /v2/apps", 409).body(&busy).has("/deployments/0/id"),
        line("PATCH, forced", "PATCH /v2/apps?force=TRUE", 200).body(&busy).deploys(),
    ])
    .await;
}

#[tokio::test]
async fn get_v2_apps_id() {
    let web = |line: Line| line.is("/app/id", "/web").has("/app/tasks/1");
    let paths = ["web", "/web", "web/", "%2Fweb", "//web//"];
    let mut lines: Vec<Line> = paths
        .iter()
        .map(|path| web(line("every way to write it", format!("GET /v2/apps/{path}"), 200)))
        .collect();
    lines.extend([
        line("always with counts, tasks, failure, deployments", "GET /v2/apps/web", 200)
            .is("/app/tasksRunning", 2)
            .is("/app/lastTaskFailure/message", "exit 1")
            .is("/app/deployments", json!([]))
            .lacks("/app/taskStats"),
        line("embed", "GET /v2/apps/web?embed=app.taskStats&embed=readiness", 200)
            .has("/app/taskStats/totalSummary")
            .has("/app/readinessCheckResults"),
        line("a task", "GET /v2/apps/web", 200).keys(
            "/app/tasks/0",
            "appId host id ipAddresses ports servicePorts slaveId stagedAt startedAt state version",
        ),
        line("no failure, no key", "GET /v2/apps/g/db", 200).lacks("/app/lastTaskFailure"),
        line("slashes encoded", "GET /v2/apps/g%2Fdb", 200).is("/app/id", "/g/db"),
        line("a group is no app", "GET /v2/apps/g", 404).message("App '/g' does not exist"),
        unknown("GET /v2/apps/nope"),
    ]);
    table(lines).await;
}

#[tokio::test]
async fn put_v2_apps_id() {
    let put = |name, status| line(name, "PUT /v2/apps/web", status);
    let after = |name, ask: &str, body: &str| {
        line(name, "GET /v2/apps/web", 200).after(ask, body).is("/app/id", "/web")
    };
    let locked = "App is locked by one or more deployments. Override with the option \
        '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.";
    let early = r#"{"version":"2015-02-05T11:45:31.026Z"}"#;
    table([
        put("updates", 200).body(r#"{"instances":3}"#).deploys(),
        line("creates", "PUT /v2/apps/x/new", 201).body(CMD).deploys(),
        line("a double slash creates the same", "PUT /v2/apps//x/new/", 201).body(CMD).deploys(),
        after("the path says which app", "PUT /v2/apps/web", r#"{"id":"/other","instances":3}"#)
            .is("/app/instances", 3),
        after("absent keys are kept", "PUT /v2/apps/web", r#"{"instances":3}"#)
            .is("/app/cmd", "Serve --All")
            .is("/app/env/A", "1"),
        after("objects are replaced whole", "PUT /v2/apps/web", r#"{"env":{"B":"2"},"labels":{}}"#)
            .is("/app/env", json!({ "B": "2" }))
            .is("/app/labels", json!({})),
        after("partialUpdate=false", "PUT /v2/apps/web?partialUpdate=false", CMD)
            .is("/app/instances", 1)
            .is("/app/labels", json!({})),
        after("partialUpdate=TRUE", "PUT /v2/apps/web?partialUpdate=TRUE", CMD)
            .is("/app/instances", 2),
        line("locked", "PUT /v2/apps/busy", 409)
            .body(CMD)
            .keys("", "deployments message")
            .is("/message", locked)
            .is("/deployments", json!([{ "id": HELD }])),
        line("locked, forced", "PUT /v2/apps/busy?force=True", 200).body(CMD).deploys(),
        put("to an unknown version", 404)
            .body(early)
            .message("App '/web' does not exist in version 2015-02-05T11:45:31.026Z"),
        line("an unknown app to a version", "PUT /v2/apps/nope", 404).body(early),
        line("back to a version", "PUT /v2/apps/web?force=true", 200)
            .after("PUT /v2/apps/web", r#"{"instances":5}"#)
            .body(r#"{"version":"1970-01-01T00:00:01.000Z","id":"/web"}"#)
            .deploys(),
        after("as it was", "PUT /v2/apps/web", r#"{"version":"1970-01-01T00:00:01.000Z"}"#)
            .is("/app/instances", 2),
        put("a version beside other keys", 422)
            .body(r#"{"version":"2015-02-05T11:45:31.026Z","instances":1}"#)
            .part(r#""path":"/version""#),
        put("a version that is none", 422).body(r#"{"version":"x"}"#),
        line("an id that is none", "PUT /v2/apps/X_y", 422)
            .body(CMD)
            .part("must fully match regular expression"),
        line("reserved at the end", "PUT /v2/apps/x/versions", 405).body(CMD),
    ])
    .await;
}

#[tokio::test]
async fn patch_v2_apps_id() {
    table([
        line("changes", "PATCH /v2/apps/web", 200).body(r#"{"cpus":2}"#).deploys(),
        line("keeps what is not named", "GET /v2/apps/web", 200)
            .after("PATCH /v2/apps/web", r#"{"cpus":2}"#)
            .is("/app/cpus", 2.0)
            .is("/app/env/A", "1"),
        line("locked", "PATCH /v2/apps/busy", 409).body("{\"cpus\":2}").has("/deployments/0/id"),
        line("locked, forced", "PATCH /v2/apps/busy?force=true", 200).body(CMD).deploys(),
        unknown("PATCH /v2/apps/nope").body(CMD),
    ])
    .await;
}

#[tokio::test]
async fn delete_v2_apps_id() {
    table([
        line("deletes", "DELETE /v2/apps/web", 200).deploys(),
        line("force is the default", "DELETE /v2/apps/busy", 200).deploys(),
        line("force denied", "DELETE /v2/apps/busy?force=False", 409).is("/deployments/0/id", HELD),
        line("gone", "GET /v2/apps/web", 404).after("DELETE /v2/apps/web", ""),
        line("empty groups stay", "GET /v2/groups/g/h", 200)
            .after("DELETE /v2/apps/g/h/idle", "")
            .is("/apps", json!([])),
        line("restart at the end is part of an id", "DELETE /v2/apps/web/restart", 404)
            .message("App '/web/restart' does not exist"),
        unknown("DELETE /v2/apps/nope"),
    ])
    .await;
}

#[tokio::test]
async fn post_v2_apps_id_restart() {
    table([
        line("restarts", "POST /v2/apps/web/restart", 200).deploys(),
        line("as a deployment", "GET /v2/deployments", 200)
            .after("POST /v2/apps/g/db/restart", "")
            .is("/0/affectedApps", json!(["/busy"]))
            .part("RestartApplication"),
        line("locked", "POST /v2/apps/busy/restart", 409).has("/deployments/0/id"),
        line("forced", "POST /v2/apps/busy/restart?force=true", 200).deploys(),
        line("reading it", "GET /v2/apps/web/restart", 404)
            .message("App '/web/restart' does not exist"),
        unknown("POST /v2/apps/nope/restart"),
    ])
    .await;
}

#[tokio::test]
async fn get_v2_apps_id_versions() {
    let old = "1970-01-01T00:00:01.000Z";
    table([
        line("one", "GET /v2/apps/web/versions", 200).is("/versions", json!([old])),
        line("the newest comes first", "GET /v2/apps/web/versions", 200)
            .after("PUT /v2/apps/web", r#"{"instances":3}"#)
            .keys("", "versions")
            .is("/versions/1", old)
            .lacks("/versions/2"),
        line("a bare app", format!("GET /v2/apps/web/versions/{old}"), 200)
            .after("PUT /v2/apps/web", r#"{"instances":3}"#)
            .is("/id", "/web")
            .is("/instances", 2)
            .is("/version", old)
            .lacks("/tasksRunning")
            .lacks("/app"),
        line("with an offset", "GET /v2/apps/web/versions/1970-01-01T01:00:01%2B01:00", 200)
            .is("/version", old),
        line("an unknown one", "GET /v2/apps/web/versions/2015-01-01T00:00:00.000Z", 404)
            .message("App '/web' does not exist in version 2015-01-01T00:00:00.000Z"),
        line("no time", "GET /v2/apps/web/versions/soon", 422)
            .message("Invalid timestamp provided 'soon'. Expecting ISO-8601 datetime string."),
        unknown("GET /v2/apps/nope/versions"),
        unknown("GET /v2/apps/nope/versions/2015-01-01T00:00:00.000Z"),
    ])
    .await;
}

#[tokio::test]
async fn get_v2_apps_group_wildcard() {
    let ids = |line: Line, ids: [&'static str; 2]| line.is("/*/0/id", ids[0]).is("/*/1/id", ids[1]);
    table([
        ids(line("a group", "GET /v2/apps/g/*", 200), ["/g/db", "/g/h/idle"]).lacks("/*/2"),
        ids(line("the root", "GET /v2/apps/*", 200), ["/busy", "/g/db"]).has("/*/3"),
        line("a group below", "GET /v2/apps//g/h/*", 200).is("/*/0/id", "/g/h/idle"),
        line("embed", "GET /v2/apps/g/*?embed=apps.tasks", 200).has("/*/0/tasks/0"),
        line("an unknown group", "GET /v2/apps/nope/*", 404)
            .message("Group '/nope' does not exist"),
        line("tasks", "GET /v2/apps/g/*/tasks", 200)
            .is("/tasks/0/appId", "/g/db")
            .lacks("/tasks/1"),
        line("all tasks", "GET /v2/apps/*/tasks", 200).has("/tasks/2").lacks("/tasks/3"),
    ])
    .await;
}
