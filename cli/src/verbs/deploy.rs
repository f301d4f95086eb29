//! `deploy`: create or change apps, and wait until they stand or cannot.

use super::{Common, app_path, list, number, print_json, text};
use crate::client::{Client, ClientError};
use anyhow::{Context, Result, bail};
use bramble_protocol::timestamp;
use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;
use std::io::Read;
use std::time::{Duration, Instant};

/// Milliseconds between two looks at a deployment under way.
const LOOK_EVERY_MS: u64 = 200;
/// Seconds something may fit no machine before `--wait` gives that as its answer: offers need a
/// moment to arrive after a change.
const NO_ROOM_S: u64 = 5;

#[derive(Args, Debug)]
pub struct DeployArgs {
    /// File with an app (or an array of apps) in Marathon's JSON; `-` = standard input
    file: String,
    /// Override a deployment that holds the app
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Args, Debug)]
pub struct WaitArgs {
    /// Wait until the deployment is done (tasks running, and healthy where they have checks)
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
}

pub async fn run(client: &Client, common: &Common, args: DeployArgs) -> Result<u8> {
    let body = read(&args.file)?;
    let value: Value = serde_json::from_str(&body)
        .with_context(|| format!("{} is not JSON", shown(&args.file)))?;
    let force = args.force;
    match &value {
        Value::Array(_) => {
            let path = format!("/v2/apps?force={force}");
            let answer = client.call(Method::PUT, &path, Some(body.as_bytes())).await?;
            report(client, common, &answer, None, &args.wait).await
        }
        Value::Object(app) => {
            let Some(id) = app.get("id").and_then(Value::as_str) else {
                bail!("{} has no \"id\"; give the app one", shown(&args.file));
            };
            let answer = put_or_create(client, id, &body, force).await?;
            report(client, common, &answer, Some(id), &args.wait).await
        }
        _ => bail!("{} is neither an app nor an array of apps", shown(&args.file)),
    }
}

fn shown(file: &str) -> &str {
    if file == "-" { "standard input" } else { file }
}

fn read(file: &str) -> Result<String> {
    if file != "-" {
        return std::fs::read_to_string(file).with_context(|| format!("reading {file}"));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
    Ok(text)
}

/// POST first: only it tells a creation from a change without a race.
async fn put_or_create(
    client: &Client,
    id: &str,
    body: &str,
    force: bool,
) -> Result<Value, ClientError> {
    let created = client.call(Method::POST, "/v2/apps", Some(body.as_bytes())).await;
    match created {
        Err(error) if error.status() == Some(StatusCode::CONFLICT) => {
            let path = format!("{}?force={force}", app_path(id));
            client.call(Method::PUT, &path, Some(body.as_bytes())).await
        }
        other => other,
    }
}

/// Print what was started, and wait for it if asked to.
pub async fn report(
    client: &Client,
    common: &Common,
    answer: &Value,
    app: Option<&str>,
    wait: &WaitArgs,
) -> Result<u8> {
    let mut deployment = deployment_of(answer);
    if deployment.is_empty() && wait.wait {
        // The 2015 form of the answer has no deployment id in its body.
        deployment = running_deployment(client, app).await?;
    }
    if wait.wait {
        until_done(client, &deployment, text(answer, "version"), app, wait.timeout).await?;
    }
    if common.json {
        print_json(answer)?;
    } else if wait.wait {
        println!("done");
    } else if deployment.is_empty() {
        println!("accepted");
    } else {
        println!("deployment {deployment}");
    }
    Ok(0)
}

fn deployment_of(answer: &Value) -> String {
    let direct = text(answer, "deploymentId");
    if !direct.is_empty() {
        return direct.into();
    }
    list(answer, "deployments").first().map(|d| text(d, "id").to_string()).unwrap_or_default()
}

async fn running_deployment(client: &Client, app: Option<&str>) -> Result<String> {
    let Some(app) = app else { return Ok(String::new()) };
    let answer = client.get(&app_path(app)).await?;
    Ok(answer.get("app").map(deployment_of).unwrap_or_default())
}

/// Follow a deployment to its end.
///
/// # Errors
/// A task of the new version failed, nothing fits it, or time is up: each with its reason.
async fn until_done(
    client: &Client,
    deployment: &str,
    version: &str,
    app: Option<&str>,
    timeout_s: u64,
) -> Result<(), anyhow::Error> {
    let started = Instant::now();
    let mut no_room_since: Option<Instant> = None;
    loop {
        let deployments = client.get("/v2/deployments").await?;
        let all = deployments.as_array().map(Vec::as_slice).unwrap_or_default();
        if deployment.is_empty() || !all.iter().any(|d| text(d, "id") == deployment) {
            return Ok(());
        }
        let mut reason = String::from("still deploying");
        if let Some(app) = app {
            if let Some(failure) = failed(client, app, version).await? {
                bail!("{failure}");
            }
            let refused = refused(client, app).await?;
            no_room_since = refused.as_ref().and(no_room_since.or(Some(Instant::now())));
            if let Some(refused) = refused {
                if no_room_since.is_some_and(|at| at.elapsed().as_secs() >= NO_ROOM_S) {
                    bail!("{refused}");
                }
                reason = refused;
            }
        }
        if started.elapsed().as_secs() >= timeout_s {
            return Err(ClientError::TimedOut { seconds: timeout_s, message: reason }.into());
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
    }
}

/// The reason why a task of this version failed, if one did.
async fn failed(client: &Client, app: &str, version: &str) -> Result<Option<String>> {
    let answer = match client.get(&format!("{}?embed=app.lastTaskFailure", app_path(app))).await {
        Ok(answer) => answer,
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(failure) = answer.get("app").and_then(|app| app.get("lastTaskFailure")) else {
        return Ok(None);
    };
    let at = timestamp::parse(text(failure, "version"));
    if at.is_none() || at < timestamp::parse(version) {
        return Ok(None);
    }
    let state = text(failure, "state");
    Ok(Some(format!("{app}: {state} on {}: {}", text(failure, "host"), text(failure, "message"))))
}

/// Why nothing fits the app, if it waits for room.
async fn refused(client: &Client, app: &str) -> Result<Option<String>> {
    let queue = client.get("/v2/queue?embed=lastUnusedOffers").await?;
    let wanted = format!("/{}", app.trim_matches('/'));
    for item in list(&queue, "queue") {
        if item.get("app").map(|app| text(app, "id")) != Some(&wanted) {
            continue;
        }
        let mut reasons: Vec<String> = Vec::new();
        for offer in list(item, "lastUnusedOffers") {
            let host = offer.get("offer").map(|o| text(o, "hostname")).unwrap_or_default();
            let said: Vec<&str> = list(offer, "reason").iter().filter_map(Value::as_str).collect();
            reasons.push(format!("{host}: {}", said.join(", ")));
        }
        if reasons.is_empty() {
            return Ok(None);
        }
        let count = number(item, "count");
        return Ok(Some(format!("{wanted}: {count} waiting for room ({})", reasons.join("; "))));
    }
    Ok(None)
}
