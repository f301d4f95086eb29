//! `deploy`: create or change apps, and wait until they stand or cannot.

use super::{Common, app_path, list, number, rollouts, text};
use crate::client::{Client, ClientError};
use crate::output::{print, print_json};
use anyhow::{Context, Result, bail};
use bramble_protocol::native::UndoView;
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
/// Milliseconds that new tasks without health checks are watched once their deployment is done:
/// most commands that cannot work say so in the first one.
const SETTLE_MS: u128 = 1_000;

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
    /// Wait until the deployment is done (tasks running, and healthy where they have checks); a
    /// canary or a second set that works and waits for `promote` or `withdraw` ends it with 5
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
            let ids = apps_of(&value);
            report(client, common, &answer, &ids, &args.wait).await
        }
        Value::Object(app) => {
            let Some(id) = app.get("id").and_then(Value::as_str) else {
                bail!("{} has no \"id\"; give the app one", shown(&args.file));
            };
            let answer = put_or_create(client, id, &body, force).await?;
            report(client, common, &answer, &[id], &args.wait).await
        }
        _ => bail!("{} is neither an app nor an array of apps", shown(&args.file)),
    }
}

/// The ids in an array of apps.
fn apps_of(array: &Value) -> Vec<&str> {
    array.as_array().into_iter().flatten().map(|app| text(app, "id")).collect()
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
    apps: &[&str],
    wait: &WaitArgs,
) -> Result<u8> {
    let mut deployment = deployment_of(answer);
    if deployment.is_empty() && wait.wait {
        // The 2015 form of the answer has no deployment id in its body.
        deployment = running_deployment(client, apps).await?;
    }
    if wait.wait {
        until_done(client, &deployment, text(answer, "version"), apps, wait.timeout).await?;
    }
    if common.json {
        print_json(answer)?;
    } else if wait.wait {
        print("done\n")?;
    } else if deployment.is_empty() {
        print("accepted\n")?;
    } else {
        print(&format!("deployment {deployment}\n"))?;
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

async fn running_deployment(client: &Client, apps: &[&str]) -> Result<String> {
    let Some(app) = apps.first() else { return Ok(String::new()) };
    let answer = client.get(&app_path(app)).await?;
    Ok(answer.get("app").map(deployment_of).unwrap_or_default())
}

/// Follow a deployment to its end, and what it started through its first moments.
///
/// # Errors
/// A task of the new version failed, nothing fits it, or time is up: each with its reason.
async fn until_done(
    client: &Client,
    deployment: &str,
    version: &str,
    apps: &[&str],
    timeout_s: u64,
) -> Result<(), anyhow::Error> {
    let started = Instant::now();
    let undone = |undo: &&UndoView| undo.deployment_id == deployment;
    let mut no_room_since: Option<Instant> = None;
    let mut over_since: Option<Instant> = None;
    loop {
        let all = rollouts::under_way(client).await?;
        let own = all.iter().find(|d| d.id == deployment);
        let waiting = own.map(rollouts::told).unwrap_or_default();
        if !waiting.is_empty() {
            return Err(ClientError::Waits(waiting.join("\n")).into());
        }
        if let Some(back) = all.iter().find_map(|d| d.undoes.as_ref().filter(undone)) {
            bail!("{}; it is being rolled back", back.reason);
        }
        let over = deployment.is_empty() || own.is_none();
        let just_over = over && over_since.is_none();
        over_since = over_since.or(over.then(Instant::now));
        let mut young = false;
        let mut reasons = Vec::new();
        for app in apps {
            let Some(seen) = look(client, app).await? else { continue };
            if let Some(failure) = failed(&seen, app, version) {
                bail!("{failure}");
            }
            if just_over && is_later(&seen, version) {
                bail!("{app}: the deployment was taken back or replaced by another one");
            }
            young |= is_young(&seen, version);
            reasons.extend(missing(&seen, app));
        }
        if over_since.is_some_and(|at| !young || at.elapsed().as_millis() >= SETTLE_MS) {
            return Ok(());
        }
        let refused = if over { vec![] } else { refused(client, apps).await? };
        no_room_since = refused.first().and(no_room_since.or(Some(Instant::now())));
        if no_room_since.is_some_and(|at| at.elapsed().as_secs() >= NO_ROOM_S) {
            bail!("{}", refused.join("; "));
        }
        if !over && started.elapsed().as_secs() >= timeout_s {
            let reasons = if refused.is_empty() { reasons } else { refused };
            let message = match reasons.is_empty() {
                true => "still deploying".into(),
                false => reasons.join("; "),
            };
            return Err(ClientError::TimedOut { seconds: timeout_s, message }.into());
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
    }
}

/// Whether an app has a later version than the one that was to be deployed.
fn is_later(app: &Value, version: &str) -> bool {
    let wanted = timestamp::parse(version);
    wanted.is_some() && timestamp::parse(text(app, "version")) > wanted
}

/// An app as it is now; `None` once it is gone.
async fn look(client: &Client, app: &str) -> Result<Option<Value>> {
    match client.get(&app_path(app)).await {
        Ok(mut answer) => Ok(answer.get_mut("app").map(Value::take)),
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether tasks of this version run on nothing but their own word: a deployment without health
/// checks is done as soon as they have started, though they may fail in the next moment.
fn is_young(app: &Value, version: &str) -> bool {
    let version = timestamp::parse(version);
    let new = |task: &Value| timestamp::parse(text(task, "version")) >= version;
    let tasks = list(app, "tasks");
    list(app, "healthChecks").is_empty()
        && (tasks.is_empty() || tasks.iter().any(new))
        && number(app, "instances") > 0
}

/// How far an app is from what it should be, if it is.
fn missing(app: &Value, id: &str) -> Option<String> {
    let (wanted, running) = (number(app, "instances"), number(app, "tasksRunning"));
    if running < wanted {
        return Some(format!("{id}: {running} of {wanted} running"));
    }
    let healthy = number(app, "tasksHealthy");
    if list(app, "healthChecks").is_empty() || healthy >= wanted {
        return None;
    }
    Some(format!("{id}: {running} of {wanted} running, {healthy} healthy"))
}

/// The reason why a task of this version failed, if one did.
fn failed(app: &Value, id: &str, version: &str) -> Option<String> {
    let failure = app.get("lastTaskFailure")?;
    let at = timestamp::parse(text(failure, "version"));
    if at.is_none() || at < timestamp::parse(version) {
        return None;
    }
    let (state, host) = (text(failure, "state"), text(failure, "host"));
    Some(format!("{id}: {state} on {host}: {}", text(failure, "message")))
}

/// Why nothing fits the apps that wait for room.
async fn refused(client: &Client, apps: &[&str]) -> Result<Vec<String>> {
    let queue = client.get("/v2/queue?embed=lastUnusedOffers").await?;
    let mut all = Vec::new();
    for item in list(&queue, "queue") {
        let id = item.get("app").map(|app| text(app, "id")).unwrap_or_default();
        if !apps.iter().any(|app| app.trim_matches('/') == id.trim_matches('/')) {
            continue;
        }
        let mut reasons: Vec<String> = Vec::new();
        for offer in list(item, "lastUnusedOffers") {
            let host = offer.get("offer").map(|o| text(o, "hostname")).unwrap_or_default();
            let said: Vec<&str> = list(offer, "reason").iter().filter_map(Value::as_str).collect();
            reasons.push(format!("{host}: {}", said.join(", ")));
        }
        if !reasons.is_empty() {
            let count = number(item, "count");
            all.push(format!("{id}: {count} waiting for room ({})", reasons.join("; ")));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OLD: &str = "2015-02-05T11:45:31.026Z";
    const NEW: &str = "2015-02-05T11:45:31.027Z";

    #[test]
    fn tasks_that_have_just_started_are_watched() {
        let app = |checks: Value, instances: u32, tasks: Value| json!({"instances": instances, "healthChecks": checks, "tasks": tasks});
        let (old, new) = (json!([{"version": OLD}]), json!([{"version": OLD}, {"version": NEW}]));
        for (app, young) in [
            (app(json!([]), 1, new.clone()), true),
            // It has failed already, and its successor is not there yet.
            (app(json!([]), 1, json!([])), true),
            (app(json!([]), 1, old), false),
            (app(json!([]), 0, json!([])), false),
            (app(json!([{}]), 1, new), false),
        ] {
            assert_eq!(is_young(&app, NEW), young, "{app}");
        }
    }

    #[test]
    fn what_is_missing_is_counted() {
        let app = |checks: Value, running: u32, healthy: u32| {
            json!({"instances": 2, "healthChecks": checks, "tasksRunning": running,
                "tasksHealthy": healthy})
        };
        for (app, missing_of_it) in [
            (app(json!([]), 1, 0), Some("a: 1 of 2 running")),
            (app(json!([]), 2, 0), None),
            (app(json!([{}]), 2, 1), Some("a: 2 of 2 running, 1 healthy")),
            (app(json!([{}]), 2, 2), None),
        ] {
            assert_eq!(missing(&app, "a").as_deref(), missing_of_it, "{app}");
        }
    }

    #[test]
    fn a_later_version_is_another_deployment() {
        for (now, wanted, later) in [(OLD, NEW, false), (NEW, NEW, false), (NEW, OLD, true)] {
            assert_eq!(is_later(&json!({ "version": now }), wanted), later, "{now} {wanted}");
        }
        assert!(!is_later(&json!({ "version": NEW }), ""), "nothing was to be deployed");
    }

    #[test]
    fn only_failures_of_this_version_count() {
        let app = |version: &str| {
            json!({"lastTaskFailure": {"version": version, "state": "TASK_FAILED", "host": "pi",
                "message": "Command exited with status 3"}})
        };
        assert_eq!(failed(&app(OLD), "a", NEW), None);
        let said = failed(&app(NEW), "a", NEW);
        assert_eq!(said.as_deref(), Some("a: TASK_FAILED on pi: Command exited with status 3"));
    }
}
