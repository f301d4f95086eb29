//! Lists of tasks, kills, and the queue.

use crate::api::testing::Node;
use crate::api::testing::state;
use bramble_core::command::Command;
use bramble_core::model::*;
use bramble_core::place::{Reason, Refused};
use serde_json::json;

async fn two_apps() -> Node {
    let node = Node::start().await;
    node.edit(|all| {
        state::add_agent(all);
        state::add_app(all, "/g/web", 3);
        state::add_app(all, "/idle", 0);
        let web = all.apps.get_mut(&AppId::new("/g/web")).unwrap();
        web.app.port_definitions = [10_001, 10_002]
            .map(|port| PortDefinition {
                port,
                protocol: Protocol::Tcp,
                name: None,
                labels: <_>::default(),
            })
            .to_vec();
        state::running(all, "/g/web", "1");
        state::running(all, "/g/web", "2");
        let third = state::running(all, "/g/web", "3").instance().unwrap();
        let third = all.instances.get_mut(&third).unwrap().task.as_mut().unwrap();
        (third.state, third.started_at) = (TaskState::Staging, None);
    });
    node
}

const ONE: &str = "g_web.instance-1._app.1";
const TWO: &str = "g_web.instance-2._app.1";

fn ids(list: &serde_json::Value) -> Vec<String> {
    let tasks = list["tasks"].as_array().unwrap_or_else(|| panic!("{list}"));
    tasks.iter().map(|task| task["id"].as_str().unwrap().to_string()).collect()
}

#[tokio::test]
async fn lists_in_json_and_text() {
    let node = two_apps().await;
    let rows = [
        ("/v2/tasks", 3),
        ("/v2/tasks?status=running", 2),
        ("/v2/tasks?status%5B%5D=Staging", 1),
        ("/v2/tasks?status=running&status=staging", 3),
        ("/v2/tasks?status=nonsense", 3),
        ("/v2/apps/g/web/tasks", 3),
        ("/v2/apps//g/web/tasks/", 3),
        ("/v2/apps/idle/tasks", 0),
        ("/v2/apps/g/*/tasks", 3),
    ];
    for (path, count) in rows {
        assert_eq!(ids(&node.get(path).await.json()).len(), count, "{path}");
    }
    let all = node.get("/v2/tasks").await.json();
    assert_eq!(all["tasks"][0]["servicePorts"], json!([10_001, 10_002]));
    let own = node.get("/v2/apps/g/web/tasks").await.json();
    assert_eq!(own["tasks"][0].get("servicePorts"), None);
    assert_eq!(node.get("/v2/apps/nope/tasks").await.status, 404);

    let web = "g_web\t10001\tnode1:31000\tnode1:31000\t\ng_web\t10002\tnode1:0\tnode1:0\t\n";
    for (path, want) in
        [("/v2/tasks", format!("{web}idle\t \t\n")), ("/v2/apps/g/web/tasks", web.to_string())]
    {
        let text = node.tcp().await.ask("GET", path, &[("Accept", "text/plain")], "").await;
        assert_eq!((text.status, text.header("content-type")), (200, "text/plain"));
        assert_eq!(text.text, want, "{path}");
    }
}

#[tokio::test]
async fn kills_without_scale_leave_the_count() {
    let node = two_apps().await;
    let one = node.ask("DELETE", &format!("/v2/apps/g/web/tasks/{ONE}"), "").await;
    assert_eq!((one.status, &one.json()["task"]["id"]), (200, &json!(ONE)));
    let body = format!(r#"{{"ids":["{TWO}","g_web.instance-unknown._app.1"]}}"#);
    let some = node.ask("POST", "/v2/tasks/delete", &body).await;
    assert_eq!((some.status, ids(&some.json())), (200, vec![TWO.to_string()]));
    node.store.read(|state| {
        let goals: Vec<Goal> = state.instances.values().map(|i| i.goal).collect();
        assert_eq!(goals, [Goal::Decommissioned, Goal::Decommissioned, Goal::Running]);
        assert_eq!(state.apps[&AppId::new("/g/web")].app.instances, 3);
    });
    let elsewhere = node.ask("DELETE", "/v2/apps/g/web/tasks?host=other", "").await;
    assert_eq!((elsewhere.status, elsewhere.text.as_str()), (200, r#"{"tasks":[]}"#));
    let all = node.ask("DELETE", "/v2/apps/g/web/tasks?host=*", "").await;
    assert_eq!(ids(&all.json()).len(), 3);
}

#[tokio::test]
async fn kills_with_scale_take_exactly_these_off_the_count() {
    let node = two_apps().await;
    let answer = node.ask("DELETE", &format!("/v2/apps/g/web/tasks/{ONE}?scale=True"), "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["deploymentId"], answer.header("marathon-deployment-id"));
    node.store.read(|state| {
        assert_eq!(state.apps[&AppId::new("/g/web")].app.instances, 2);
        assert_eq!(state.task(&TaskId::new(ONE)).map(|(i, _)| i.goal), Some(Goal::Decommissioned));
    });
    // The deployment of the first kill holds the app: the second kills nothing.
    let body = format!(r#"{{"ids":["{TWO}"]}}"#);
    let locked = node.ask("POST", "/v2/tasks/delete?scale=true", &body).await;
    assert_eq!(locked.status, 409);
    let goal =
        |node: &Node| node.store.read(|state| state.task(&TaskId::new(TWO)).map(|(i, _)| i.goal));
    assert_eq!(goal(&node), Some(Goal::Running));
    let forced = node.ask("POST", "/v2/tasks/delete?scale=true&force=true", &body).await;
    assert_eq!(forced.status, 200, "{}", forced.text);
    assert_eq!(goal(&node), Some(Goal::Decommissioned));
    node.store.read(|state| assert_eq!(state.apps[&AppId::new("/g/web")].app.instances, 1));
}

#[tokio::test]
async fn kills_that_make_no_sense() {
    let node = two_apps().await;
    let rows = [
        (
            "DELETE",
            "/v2/apps/g/web/tasks?scale=true&wipe=true",
            "",
            400,
            "You cannot use scale and wipe at the same time.",
        ),
        ("DELETE", "/v2/apps/nope/tasks", "", 404, "App '/nope' does not exist"),
        ("DELETE", "/v2/apps/g/web/tasks/t.1", "", 404, "Task 't.1' does not exist"),
        (
            "DELETE",
            "/v2/apps/idle/tasks/g_web.instance-1._app.1",
            "",
            404,
            "Task 'g_web.instance-1._app.1' does not exist",
        ),
        ("POST", "/v2/tasks/delete", "{", 400, "Invalid JSON"),
        ("POST", "/v2/tasks/delete", r#"{"ids":["x"]}"#, 400, "Invalid task id 'x'."),
    ];
    for (method, path, body, status, message) in rows {
        let answer = node.ask(method, path, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        let text = answer.json()["message"].as_str().unwrap().to_string();
        assert!(text.starts_with(message), "{path}: {text}");
    }
    assert!(node.memory.commands.lock().unwrap().is_empty());
}

fn offer() -> Offer {
    Offer {
        id: "o1".into(),
        agent_id: AgentId::new(state::AGENT),
        hostname: "node1".into(),
        free: Resources { cpus_milli: 500, mem_bytes: 100 * BYTES_PER_MIB, ..<_>::default() },
        ports: vec![PortRange { begin: 31000, end: 31009 }],
        attributes: [("rack".to_string(), "r1".to_string())].into(),
        roles: <_>::default(),
        generation: 1,
        devices: <_>::default(),
        vitals: <_>::default(),
    }
}

#[tokio::test]
async fn the_queue_says_what_is_missing_and_by_how_much() {
    let node = Node::start().await;
    assert_eq!(node.get("/v2/queue").await.text, r#"{"queue":[]}"#);
    node.edit(|all| {
        state::add_app(all, "/big", 2);
        let one = state::waiting(all, "/big", "1");
        state::waiting(all, "/big", "2");
        let refused = Refused {
            instance_id: one,
            app_id: AppId::new("/big"),
            per_agent: vec![(
                AgentId::new(state::AGENT),
                vec![Reason::InsufficientMemory {
                    need_bytes: 256 * BYTES_PER_MIB,
                    free_bytes: 100 * BYTES_PER_MIB,
                }],
            )],
        };
        let mut entries = node.refusals.0.lock().unwrap();
        let entry = entries.entry(AppId::new("/big")).or_default();
        entry.refuse(&refused, &[offer()], Time(7000));
    });
    let item = node.get("/v2/queue").await.json()["queue"][0].clone();
    assert_eq!((&item["app"]["id"], &item["count"]), (&json!("/big"), &json!(2)));
    assert_eq!(item["since"], "1970-01-01T00:00:02.000Z");
    assert_eq!(item["delay"], json!({ "timeLeftSeconds": 0, "overdue": true }));
    let summary = &item["processedOffersSummary"];
    assert_eq!(
        (&summary["processedOffersCount"], &summary["unusedOffersCount"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        summary["rejectSummaryLastOffers"][5],
        json!({ "reason": "InsufficientMemory", "declined": 1, "processed": 1 })
    );
    let unused = &item["lastUnusedOffers"][0];
    assert_eq!(
        unused["reason"],
        json!(["InsufficientMemory", "memory: needs 256 MiB, 100 MiB free, 156 MiB short"])
    );
    assert_eq!(
        unused["offer"]["resources"][1],
        json!({ "name": "mem", "role": "*", "scalar": 100.0 })
    );
    assert_eq!(
        unused["offer"]["resources"][4]["ranges"],
        json!([{ "begin": 31000, "end": 31009 }])
    );
}

#[tokio::test]
async fn a_delay_is_shown_and_reset() {
    let node = Node::start().await;
    node.edit(|all| {
        state::add_app(all, "/g/a", 1);
        state::waiting(all, "/g/a", "1");
        state::add_app(all, "/b", 1);
        all.now = Time(u64::MAX / 2);
        let until = all.now.plus_ms(4200);
        all.apps.get_mut(&AppId::new("/g/a")).unwrap().delay =
            LaunchDelay { delay_ms: 5000, until };
    });
    let delay = node.get("/v2/queue").await.json()["queue"][0]["delay"].clone();
    assert_eq!(delay, json!({ "timeLeftSeconds": 5, "overdue": false }));
    let reset = node.ask("DELETE", "/v2/queue//g/a/delay", "").await;
    assert_eq!((reset.status, reset.text.as_str()), (204, ""));
    let last = node.memory.commands.lock().unwrap().last().cloned();
    assert_eq!(last, Some(Command::ResetDelay { app_id: AppId::new("/g/a") }));
    let none = node.ask("DELETE", "/v2/queue/b/delay", "").await;
    let text = r#"{"message":"Application /b not found in tasks queue."}"#;
    assert_eq!((none.status, none.text.as_str()), (404, text));
}
