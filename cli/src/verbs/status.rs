//! `status` and `token`.

use super::{Common, print_json};
use crate::client::Client;
use crate::table::{Table, age};
use anyhow::{Context, Result};
use bramble_protocol::native::{AgentView, Status, Token};
use serde_json::Value;

pub async fn run(client: &Client, common: &Common) -> Result<u8> {
    let answer: Value = client.get("/v1/bramble/status").await?;
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let status: Status = serde_json::from_value(answer).context("reading the status")?;
    println!("cluster  {}", status.cluster.as_deref().unwrap_or("not founded yet"));
    println!(
        "node     {} (bramble {}, up {})",
        status.node,
        status.version,
        age(status.uptime_seconds)
    );
    println!("leader   {}", status.leader.as_deref().unwrap_or("none"));
    println!(
        "apps     {}, tasks {}, deployments {}",
        status.apps, status.tasks, status.deployments
    );
    println!();
    let mut table = Table::new(&["AGENT", "STATE", "CPUS", "MEM", "DISK", "TASKS"]);
    for agent in &status.agents {
        table.row(vec![
            agent.name.clone(),
            state(agent).into(),
            used(agent.used.cpus, agent.total.cpus),
            used(agent.used.mem, agent.total.mem),
            used(agent.used.disk, agent.total.disk),
            agent.tasks.to_string(),
        ]);
    }
    print!("{}", table.render());
    Ok(0)
}

fn state(agent: &AgentView) -> &'static str {
    if agent.connected { "connected" } else { "away" }
}

fn used(used: f64, total: f64) -> String {
    format!("{}/{}", (used * 10.0).round() / 10.0, (total * 10.0).round() / 10.0)
}

pub async fn token(client: &Client, common: &Common) -> Result<u8> {
    let answer: Value = client.get("/v1/bramble/token").await?;
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let token: Token = serde_json::from_value(answer).context("reading the token")?;
    println!("{}", token.token);
    Ok(0)
}
