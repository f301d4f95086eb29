//! `apps`, `ps`, `scale`, `restart`, `rm`: each knows pods too, where [`pods`] can say what is meant.

use super::deploy::{self, WaitArgs};
use super::{Common, app_path, list as items, number, pods, stale, text};
use crate::client::Client;
use crate::output::{print, print_json};
use crate::table::{Table, age};
use anyhow::{Result, bail};
use bramble_protocol::timestamp;
use clap::Args;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Args, Debug)]
pub struct AppArgs {
    /// App id, with or without its leading slash
    #[arg(value_parser = super::name)]
    app: String,
    /// Override a deployment that holds the app
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Args, Debug)]
pub struct ScaleArgs {
    /// APP=N
    #[arg(value_parser = parse_scale)]
    app: Scale,
    /// Override a deployment that holds the app
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Scale {
    app: String,
    instances: u32,
}

fn parse_scale(text: &str) -> Result<Scale, String> {
    let (app, count) = text.rsplit_once('=').ok_or("write APP=N, for example web=3")?;
    let instances = count.parse().map_err(|_| format!("{count:?} is no number of instances"))?;
    if app.is_empty() {
        return Err("write APP=N, for example web=3".into());
    }
    Ok(Scale { app: app.into(), instances })
}

pub async fn list(client: &Client, common: &Common) -> Result<u8> {
    let answer = client.get("/v2/apps").await?;
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let mut table =
        Table::new(&["ID", "INSTANCES", "RUNNING", "HEALTHY", "CPUS", "MEM", "DEPLOYING"]);
    for app in items(&answer, "apps") {
        let checks = !items(app, "healthChecks").is_empty();
        let healthy = if checks { number(app, "tasksHealthy").to_string() } else { "-".into() };
        let deploying = if items(app, "deployments").is_empty() { "" } else { "yes" };
        table.row(vec![
            text(app, "id").into(),
            number(app, "instances").to_string(),
            number(app, "tasksRunning").to_string(),
            healthy,
            app.get("cpus").map(Value::to_string).unwrap_or_default(),
            app.get("mem").map(Value::to_string).unwrap_or_default(),
            deploying.into(),
        ]);
    }
    let mut text = table.render();
    if let Some(pods) = pods::beside_apps(client).await? {
        text.push_str(&format!("\n{pods}"));
    }
    print(&text)?;
    Ok(0)
}

pub async fn ps(client: &Client, common: &Common) -> Result<u8> {
    let (headers, answer) = client.exchange(Method::GET, "/v2/tasks", b"").await?;
    let stale = stale::reason(&headers);
    if let Some(reason) = &stale {
        stale::warn(reason);
    }
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let mut table = Table::new(&["TASK", "APP", "STATE", "HEALTH", "HOST", "PORTS", "UP"]);
    for task in items(&answer, "tasks") {
        let ports: Vec<String> = items(task, "ports").iter().map(Value::to_string).collect();
        table.row(vec![
            text(task, "id").into(),
            text(task, "appId").into(),
            text(task, "state").trim_start_matches("TASK_").to_lowercase(),
            health(task).into(),
            text(task, "host").into(),
            ports.join(","),
            since(text(task, "startedAt")),
        ]);
    }
    let containers = match pods::containers(client).await {
        // A node without a master knows of its tasks only, not how they make up pods.
        Err(error) if stale.is_some() => {
            stale::warn(&format!("containers of pods are not shown: {error}"));
            Vec::new()
        }
        known => known?,
    };
    for container in containers {
        let up = since(&container.since);
        let pods::Container { id, pod, state, health, host, ports, .. } = container;
        table.row(vec![id, pod, state, health.into(), host, ports, up]);
    }
    print(&table.render())?;
    Ok(0)
}

fn health(task: &Value) -> &'static str {
    let results = items(task, "healthCheckResults");
    if results.is_empty() {
        return "-";
    }
    let alive = |result: &Value| result.get("alive").and_then(Value::as_bool) == Some(true);
    if results.iter().all(alive) { "healthy" } else { "unhealthy" }
}

/// How long ago an API timestamp was.
fn since(started: &str) -> String {
    let Some(started) = timestamp::parse(started) else { return "-".into() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    age(now.as_secs().saturating_sub(started.0 / 1_000))
}

pub async fn scale(client: &Client, common: &Common, args: ScaleArgs) -> Result<u8> {
    let body = json!({ "instances": args.app.instances }).to_string();
    let app = match client.get(&app_path(&args.app.app)).await {
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
            let pod = (args.app.app.as_str(), args.app.instances);
            let scaled = pods::scale(client, common, pod, args.force, &args.wait).await?;
            return scaled.ok_or(error.into());
        }
        app => app?,
    };
    if app.get("app").is_none() {
        bail!("{} is no app", args.app.app);
    }
    let path = with_force(app_path(&args.app.app), args.force);
    let answer = client.call(Method::PUT, &path, Some(body.as_bytes())).await?;
    deploy::report(client, common, &answer, &[&args.app.app], &args.wait).await
}

pub async fn restart(client: &Client, common: &Common, args: AppArgs) -> Result<u8> {
    let path = with_force(format!("{}/restart", app_path(&args.app)), args.force);
    let answer = client.call(Method::POST, &path, None).await?;
    deploy::report(client, common, &answer, &[&args.app], &args.wait).await
}

pub async fn remove(client: &Client, common: &Common, args: AppArgs) -> Result<u8> {
    // Marathon's own default: an app whose deployment hangs is what one wants to remove.
    let path = with_force(app_path(&args.app), true);
    let answer = match client.call(Method::DELETE, &path, None).await {
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
            let removed = pods::remove(client, common, &args.app, &args.wait).await?;
            return removed.ok_or(error.into());
        }
        answer => answer?,
    };
    deploy::report(client, common, &answer, &[], &args.wait).await
}

fn with_force(path: String, force: bool) -> String {
    format!("{path}?force={force}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_arguments() {
        let ok = parse_scale("/a/b=3").expect("parses");
        assert_eq!(ok, Scale { app: "/a/b".into(), instances: 3 });
        for bad in ["web", "=3", "web=-1", "web=", "web=x"] {
            assert!(parse_scale(bad).is_err(), "{bad}");
        }
    }
}
