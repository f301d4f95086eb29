//! Pods: the verb `pods`, and what `apps`, `ps`, `deploy`, `scale` and `rm` do with them.

use super::deploy::{self, LOOK_EVERY_MS, NO_ROOM_S, SETTLE_MS, WaitArgs};
use super::{Common, encode, list as items, number, text};
use crate::client::{Client, ClientError};
use crate::output::{print, print_json};
use crate::table::Table;
use anyhow::{Result, bail};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Names the deployment that a request started.
const DEPLOYMENT_HEADER: &str = "Marathon-Deployment-Id";

/// A pod's id as a path of the API: `/v2/pods/a/b`.
fn pod_path(id: &str) -> String {
    format!("/v2/pods/{}", encode(id.trim_matches('/')))
}

/// `bramble pods`.
pub async fn list(client: &Client, common: &Common) -> Result<u8> {
    let statuses = client.get("/v2/pods/::status").await?;
    if common.json {
        print_json(&statuses)?;
        return Ok(0);
    }
    print(&table(&statuses).render())?;
    Ok(0)
}

/// The same table, for `apps`; `None` where there are no pods.
pub async fn beside_apps(client: &Client) -> Result<Option<String>> {
    let statuses = client.get("/v2/pods/::status").await?;
    let any = statuses.as_array().is_some_and(|all| !all.is_empty());
    Ok(any.then(|| table(&statuses).render()))
}

fn table(statuses: &Value) -> Table {
    let mut table = Table::new(&["POD", "STATUS", "INSTANCES", "STABLE", "CONTAINERS", "MESSAGE"]);
    for pod in statuses.as_array().into_iter().flatten() {
        let stable = items(pod, "instances").iter().filter(|i| text(i, "status") == "STABLE");
        let spec = pod.get("spec").cloned().unwrap_or_default();
        let names: Vec<&str> = items(&spec, "containers").iter().map(|c| text(c, "name")).collect();
        table.row(vec![
            text(pod, "id").into(),
            text(pod, "status").to_lowercase(),
            spec.get("scaling").map_or(0, |scaling| number(scaling, "instances")).to_string(),
            stable.count().to_string(),
            names.join(","),
            text(pod, "message").into(),
        ]);
    }
    table
}

/// One container, as `ps` shows it.
pub struct Container {
    pub id: String,
    pub pod: String,
    pub state: String,
    pub health: &'static str,
    pub host: String,
    pub ports: String,
    /// The API's timestamp of its state.
    pub since: String,
}

/// Every container of every pod.
pub async fn containers(client: &Client) -> Result<Vec<Container>> {
    let statuses = client.get("/v2/pods/::status").await?;
    let mut all = Vec::new();
    for pod in statuses.as_array().into_iter().flatten() {
        for instance in items(pod, "instances") {
            all.extend(items(instance, "containers").iter().map(|c| container(pod, instance, c)));
        }
    }
    Ok(all)
}

fn container(pod: &Value, instance: &Value, container: &Value) -> Container {
    let state = text(container, "status").trim_start_matches("TASK_").to_lowercase();
    let ports: Vec<String> = items(container, "endpoints")
        .iter()
        .filter_map(|endpoint| endpoint.get("allocatedHostPort"))
        .map(Value::to_string)
        .collect();
    Container {
        id: text(container, "containerId").into(),
        pod: text(pod, "id").into(),
        health: match items(container, "conditions").first().map(|c| text(c, "value")) {
            None => "-",
            Some("true") => "healthy",
            Some(_) => "unhealthy",
        },
        host: text(instance, "agentHostname").into(),
        ports: ports.join(","),
        since: if state == "running" { text(container, "statusSince").into() } else { "".into() },
        state,
    }
}

/// Whether a definition is a pod's.
pub fn is_pod(definition: &Value) -> bool {
    definition.get("containers").is_some()
}

/// Create a pod, or replace its definition.
pub async fn deploy(
    client: &Client,
    common: &Common,
    (id, body): (&str, &str),
    force: bool,
    wait: &WaitArgs,
) -> Result<u8> {
    let bytes = body.as_bytes();
    let created = client.exchange(Method::POST, "/v2/pods", bytes).await;
    let answer = match created {
        // An app may have the id, too: then this is refused in the same words.
        Err(error) if error.status() == Some(StatusCode::CONFLICT) => {
            let path = format!("{}?force={force}", pod_path(id));
            client.exchange(Method::PUT, &path, bytes).await?
        }
        other => other?,
    };
    report(client, common, answer, Some(id), wait).await
}

/// Remove a pod; `None`: there is none.
pub async fn remove(
    client: &Client,
    common: &Common,
    id: &str,
    wait: &WaitArgs,
) -> Result<Option<u8>> {
    let path = format!("{}?force=true", pod_path(id));
    match client.exchange(Method::DELETE, &path, &[]).await {
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
        answer => report(client, common, answer?, None, wait).await.map(Some),
    }
}

/// Give a pod another count; `None`: there is none.
pub async fn scale(
    client: &Client,
    common: &Common,
    (id, instances): (&str, u32),
    force: bool,
    wait: &WaitArgs,
) -> Result<Option<u8>> {
    let mut pod = match client.get(&pod_path(id)).await {
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => return Ok(None),
        pod => pod?,
    };
    pod["scaling"] = json!({ "kind": "fixed", "instances": instances });
    let path = format!("{}?force={force}", pod_path(id));
    let answer = client.exchange(Method::PUT, &path, pod.to_string().as_bytes()).await?;
    report(client, common, answer, Some(id), wait).await.map(Some)
}

/// Print what was started, and wait for it if asked to. `pod`: the one that shall stand then.
async fn report(
    client: &Client,
    common: &Common,
    (head, answer): (HeaderMap, Value),
    pod: Option<&str>,
    wait: &WaitArgs,
) -> Result<u8> {
    let id = head.get(DEPLOYMENT_HEADER).and_then(|id| id.to_str().ok()).unwrap_or_default();
    if wait.wait {
        until_done(client, id, pod, wait.timeout).await?;
    }
    if common.json {
        print_json(&answer)?;
    } else if wait.wait {
        print("done\n")?;
    } else {
        print(&format!("deployment {id}\n"))?;
    }
    Ok(0)
}

/// Follow a deployment to its end, and what it started through its first moments.
async fn until_done(
    client: &Client,
    deployment: &str,
    pod: Option<&str>,
    timeout_s: u64,
) -> Result<()> {
    let started = Instant::now();
    let mut no_room_since: Option<Instant> = None;
    let mut over_since: Option<Instant> = None;
    loop {
        let all = client.get("/v2/deployments").await?;
        let over = !all.as_array().into_iter().flatten().any(|d| text(d, "id") == deployment);
        over_since = over_since.or(over.then(Instant::now));
        let status = match pod {
            Some(id) => look(client, id).await?,
            None => None,
        };
        if let (Some(id), Some(status)) = (pod, &status)
            && !text(status, "message").is_empty()
        {
            bail!("{id}: {}", text(status, "message"));
        }
        let young = status.as_ref().is_some_and(is_unchecked);
        if over_since.is_some_and(|at| !young || at.elapsed().as_millis() >= SETTLE_MS) {
            return Ok(());
        }
        let refused = match pod {
            Some(id) if !over => deploy::refused(client, &[id]).await?,
            _ => Vec::new(),
        };
        no_room_since = refused.first().and(no_room_since.or(Some(Instant::now())));
        if no_room_since.is_some_and(|at| at.elapsed().as_secs() >= NO_ROOM_S) {
            bail!("{}", refused.join("; "));
        }
        if !over && started.elapsed().as_secs() >= timeout_s {
            let standing = status.as_ref().map_or("", |status| text(status, "status"));
            let message = format!("still deploying {}", standing.to_lowercase());
            return Err(ClientError::TimedOut { seconds: timeout_s, message }.into());
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
    }
}

/// A pod's status as it is now; `None` once it is gone.
async fn look(client: &Client, id: &str) -> Result<Option<Value>> {
    match client.get(&format!("{}::status", pod_path(id))).await {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether nothing but their own word says that a pod's containers work.
fn is_unchecked(status: &Value) -> bool {
    let containers = status.get("spec").map(|spec| items(spec, "containers")).unwrap_or_default();
    !containers.iter().any(|container| container.get("healthCheck").is_some())
        && !items(status, "instances").is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Value {
        json!({
            "id": "/pair", "status": "DEGRADED", "message": "container b: it failed",
            "spec": {
                "scaling": {"kind": "fixed", "instances": 2},
                "containers": [{"name": "a", "healthCheck": {}}, {"name": "b"}]
            },
            "instances": [
                {"status": "STABLE", "agentHostname": "pi", "containers": [
                    {"name": "a", "containerId": "pair.instance-1.a.1", "status": "TASK_RUNNING",
                     "statusSince": "2015-02-05T11:45:31.026Z",
                     "conditions": [{"name": "healthy", "value": "true"}],
                     "endpoints": [{"name": "x", "allocatedHostPort": 31000}, {"name": "y"}]},
                    {"name": "b", "containerId": "pair.instance-1.b.1", "status": "TASK_FAILED"}
                ]},
                {"status": "PENDING", "containers": []}
            ]
        })
    }

    #[test]
    fn pods_are_listed() {
        let text = table(&json!([status()])).render();
        let words: Vec<&str> =
            text.lines().nth(1).unwrap_or_default().split_whitespace().take(5).collect();
        assert_eq!(words, ["/pair", "degraded", "2", "1", "a,b"]);
        assert!(text.contains("container b: it failed"));
        assert!(!is_unchecked(&status()));
    }

    #[test]
    fn containers_are_listed_as_tasks() {
        let status = status();
        let instance = &items(&status, "instances")[0];
        let rows: Vec<Container> =
            items(instance, "containers").iter().map(|c| container(&status, instance, c)).collect();
        let a = &rows[0];
        assert_eq!((a.id.as_str(), a.pod.as_str()), ("pair.instance-1.a.1", "/pair"));
        assert_eq!((a.state.as_str(), a.health), ("running", "healthy"));
        assert_eq!((a.host.as_str(), a.ports.as_str()), ("pi", "31000"));
        assert_eq!((rows[1].state.as_str(), rows[1].health), ("failed", "-"));
        assert_eq!((rows[1].since.as_str(), a.since.is_empty()), ("", false));
    }
}
