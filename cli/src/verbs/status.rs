//! `status`.

use super::agents::{state, used};
use super::{Common, rollouts};
use crate::client::Client;
use crate::output::{print, print_json};
use crate::table::{Table, age};
use anyhow::{Context, Result};
use bramble_protocol::native::Status;
use serde_json::Value;

pub async fn run(client: &Client, common: &Common) -> Result<u8> {
    let answer: Value = client.get("/v1/bramble/status").await?;
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let status: Status = serde_json::from_value(answer).context("reading the status")?;
    let head = format!(
        "cluster  {}\nnode     {} (bramble {}, up {})\nleader   {}\n\
         apps     {}, pods {}, tasks {}, deployments {}\n\n",
        status.cluster.as_deref().unwrap_or("not founded yet"),
        status.node,
        status.version,
        age(status.uptime_seconds),
        status.leader.as_deref().unwrap_or("none"),
        status.apps,
        status.pods,
        status.tasks,
        status.deployments
    );
    let mut table = Table::new(&["AGENT", "STATE", "CPUS", "MEM", "DISK", "TASKS"]);
    for agent in &status.agents {
        table.row(vec![
            agent.name.clone(),
            state(agent),
            used(agent.used.cpus, agent.total.cpus),
            used(agent.used.mem, agent.total.mem),
            used(agent.used.disk, agent.total.disk),
            agent.tasks.to_string(),
        ]);
    }
    let mut text = head + &table.render();
    if let Some(verdict) = &status.verdict {
        text.push_str(&format!("\n{verdict}\n"));
    }
    for clone in &status.clones {
        text.push_str(&format!(
            "\na second machine runs with the key of {} ({}): the one at {} is refused; give it a \
             new identity with `bramble reset-identity`\n",
            clone.name, clone.address, clone.refused
        ));
    }
    let waiting: Vec<String> =
        rollouts::under_way(client).await?.iter().flat_map(rollouts::told).collect();
    if !waiting.is_empty() {
        text.push_str(&format!("\nwaiting for you\n  {}\n", waiting.join("\n  ")));
    }
    print(&text)?;
    Ok(0)
}
