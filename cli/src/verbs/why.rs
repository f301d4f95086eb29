//! `why` and `rollback`: what is wrong with an app, and the way back.

use super::deploy::{self, WaitArgs};
use super::{Common, app_path, encode, list as items};
use crate::client::Client;
use crate::output::{print, print_json};
use anyhow::{Context, Result, bail};
use bramble_protocol::native::{ObstacleView, OutlookView, Why};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

#[derive(Args, Debug)]
pub struct WhyArgs {
    /// App id, with or without its leading slash
    app: String,
}

#[derive(Args, Debug)]
pub struct RollbackArgs {
    /// App id, with or without its leading slash
    app: String,
    /// Version to go back to; default: the one before the current
    version: Option<String>,
    /// Override a deployment that holds the app
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn run(client: &Client, common: &Common, args: WhyArgs) -> Result<u8> {
    let path = format!("/v1/bramble/why/{}", encode(args.app.trim_matches('/')));
    let answer: Value = client.get(&path).await?;
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let why: Why = serde_json::from_value(answer).context("reading the answer")?;
    print(&told(&why))?;
    Ok(0)
}

/// The answer in words, a fact per line.
fn told(why: &Why) -> String {
    let mut lines = vec![format!(
        "{}: {} of {} instances run, {} start, {} wait",
        why.app, why.running, why.instances, why.staging, why.waiting
    )];
    let ready = why.running.saturating_sub(why.not_ready);
    if why.waiting == 0 && why.staging == 0 && ready >= why.instances {
        lines.push("nothing is wrong".into());
    }
    lines.extend(why.progress.iter().map(|(task, message)| format!("task {task}: {message}")));
    if why.delay_seconds > 0 {
        lines.push(format!("after failures, the next launch waits {} s", why.delay_seconds));
    }
    if let Some(failure) = &why.last_failure {
        lines.push(format!("last failure: {failure}"));
    }
    if !why.deployments.is_empty() {
        lines.push(format!("in deployment {}", why.deployments.join(", ")));
    }
    lines.extend(outlook(&why.outlook));
    lines.push(String::new());
    lines.join("\n")
}

fn outlook(outlook: &OutlookView) -> Vec<String> {
    let mut lines = Vec::new();
    for placement in &outlook.placements {
        lines.push(format!("{}: takes {}", placement.host, placement.instances));
    }
    if outlook.unplaced == 0 {
        return lines;
    }
    lines.push(format!("no room for {} more:", outlook.unplaced));
    if outlook.agents.is_empty() {
        lines.push("  the cluster has no agents".into());
    }
    lines.extend(outlook.agents.iter().flat_map(obstacle));
    lines
}

fn obstacle(agent: &ObstacleView) -> Vec<String> {
    if !agent.offers {
        return vec![format!("  {}: offers nothing now; is it switched on?", agent.host)];
    }
    let line = |reason: &bramble_protocol::native::ReasonView| {
        format!("  {}: {} ({})", agent.host, reason.missing, reason.change)
    };
    agent.reasons.iter().map(line).collect()
}

pub async fn rollback(client: &Client, common: &Common, args: RollbackArgs) -> Result<u8> {
    let version = match args.version {
        Some(version) => version,
        None => previous(client, &args.app).await?,
    };
    let path = format!("{}?force={}", app_path(&args.app), args.force);
    let body = json!({ "version": version }).to_string();
    let answer = client.call(Method::PUT, &path, Some(body.as_bytes())).await?;
    deploy::report(client, common, &answer, &[&args.app], &args.wait).await
}

/// The version before the current one.
async fn previous(client: &Client, app: &str) -> Result<String> {
    let answer: Value = client.get(&format!("{}/versions", app_path(app))).await?;
    match items(&answer, "versions").get(1).and_then(Value::as_str) {
        Some(version) => Ok(version.to_string()),
        None => bail!("{app} has no earlier version"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_protocol::native::{PlacementView, ReasonView};

    #[test]
    fn the_answer_names_what_is_missing_and_the_way_out() {
        let reason = ReasonView {
            reason: "InsufficientCpus".into(),
            missing: "cpus: needs 2, 0.5 free, 1.5 short".into(),
            change: "set cpus to 0.5 or less, or free 1.5".into(),
        };
        let agent = |host: &str, offers, reasons| ObstacleView {
            agent_id: host.into(),
            host: host.into(),
            offers,
            reasons,
        };
        let placement = PlacementView { agent_id: "a".into(), host: "a".into(), instances: 1 };
        let why = Why {
            app: "/web".into(),
            instances: 3,
            running: 1,
            waiting: 2,
            delay_seconds: 4,
            outlook: OutlookView {
                app: "/web".into(),
                wanted: 2,
                considered: 2,
                placements: vec![placement],
                unplaced: 1,
                agents: vec![agent("a", true, vec![reason]), agent("b", false, vec![])],
            },
            ..Why::default()
        };
        let text = told(&why);
        for line in [
            "/web: 1 of 3 instances run, 0 start, 2 wait",
            "after failures, the next launch waits 4 s",
            "a: takes 1",
            "no room for 1 more:",
            "  a: cpus: needs 2, 0.5 free, 1.5 short (set cpus to 0.5 or less, or free 1.5)",
            "  b: offers nothing now; is it switched on?",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} in {text}");
        }
        let fine = Why { app: "/web".into(), instances: 1, running: 1, ..Why::default() };
        assert!(told(&fine).contains("nothing is wrong"));
    }
}
