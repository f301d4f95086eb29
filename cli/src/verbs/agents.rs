//! `agents`: list them, and say what they are: attributes for constraints, roles for whom they
//! lend to.

use super::{Common, encode};
use crate::client::Client;
use crate::output::{print, print_json};
use crate::table::Table;
use anyhow::{Context, Result, bail};
use bramble_protocol::native::{AgentPatch, AgentView};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

#[derive(Args, Debug)]
pub struct AgentsArgs {
    #[command(subcommand)]
    verb: Option<AgentsVerb>,
}

#[derive(Subcommand, Debug)]
enum AgentsVerb {
    /// Set attributes and roles: `bramble agents set pi-1 rack=r1 --role gpu`
    ///
    /// They stand above what the agent was started with, and stay when it restarts. Tasks whose
    /// constraints do not hold any more move, one of each app at a time.
    Set(SetArgs),
    /// List the devices that apps can ask for by the label BRAMBLE_DEVICES, and who has them
    Devices(DevicesArgs),
    /// Take attributes away, also those that the agent was started with
    Unset(UnsetArgs),
}

#[derive(Args, Debug)]
struct SetArgs {
    /// Name of the agent, its id, or how its id begins
    #[arg(value_parser = super::name)]
    agent: String,
    /// NAME=VALUE
    #[arg(value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// Lend only to apps of this role, or that accept it; may be given several times. `*` lends
    /// to anybody
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
}

#[derive(Args, Debug)]
struct UnsetArgs {
    /// Name of the agent, its id, or how its id begins
    #[arg(value_parser = super::name)]
    agent: String,
    /// Names of attributes
    attributes: Vec<String>,
    /// Lend to anybody again
    #[arg(long)]
    roles: bool,
}

#[derive(Args, Debug)]
struct DevicesArgs {
    /// Name of the agent, its id, or how its id begins; default: all
    #[arg(value_parser = super::name)]
    agent: Option<String>,
}

fn attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("write NAME=VALUE".into()),
    }
}

pub async fn run(client: &Client, common: &Common, args: AgentsArgs) -> Result<u8> {
    let (agent, patch) = match args.verb {
        None => return list(client, common).await,
        Some(AgentsVerb::Devices(args)) => return devices(client, common, args.agent).await,
        Some(AgentsVerb::Set(args)) => {
            let attributes = args.attributes.into_iter().map(|(name, value)| (name, Some(value)));
            let roles = (!args.roles.is_empty()).then_some(args.roles);
            (args.agent, AgentPatch { attributes: attributes.collect(), roles })
        }
        Some(AgentsVerb::Unset(args)) => {
            let attributes = args.attributes.into_iter().map(|name| (name, None));
            let roles = args.roles.then(Vec::new);
            (args.agent, AgentPatch { attributes: attributes.collect(), roles })
        }
    };
    if patch == AgentPatch::default() {
        bail!("nothing to change: name attributes or roles");
    }
    let path = format!("/v1/bramble/agents/{}", encode(&agent));
    let body = serde_json::to_vec(&patch).context("writing the change")?;
    let answer = client.call(Method::PATCH, &path, Some(&body)).await?;
    show(common, Value::Array(vec![answer]))
}

async fn list(client: &Client, common: &Common) -> Result<u8> {
    show(common, client.get("/v1/bramble/agents").await?)
}

async fn devices(client: &Client, common: &Common, agent: Option<String>) -> Result<u8> {
    let answer = match agent {
        None => client.get("/v1/bramble/agents").await?,
        Some(agent) => {
            let path = format!("/v1/bramble/agents/{}", encode(&agent));
            Value::Array(vec![client.get(&path).await?])
        }
    };
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let agents: Vec<AgentView> = serde_json::from_value(answer).context("reading the answer")?;
    let mut table = Table::new(&["AGENT", "DEVICE", "ALSO", "TASKS"]);
    for (agent, device) in agents.iter().flat_map(|a| a.devices.iter().map(move |d| (a, d))) {
        let (first, also) =
            device.ids.split_first().map_or(("", &[][..]), |(f, a)| (f.as_str(), a));
        let tasks = if device.tasks.is_empty() { "-".into() } else { device.tasks.join(" ") };
        table.row(vec![agent.name.clone(), first.to_string(), also.join(" "), tasks]);
    }
    print(&table.render())?;
    Ok(0)
}

fn show(common: &Common, answer: Value) -> Result<u8> {
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let agents: Vec<AgentView> = serde_json::from_value(answer).context("reading the answer")?;
    print(&told(&agents))?;
    Ok(0)
}

fn told(agents: &[AgentView]) -> String {
    let head =
        ["AGENT", "ID", "STATE", "CPUS", "MEM", "DISK", "TASKS", "ROLES", "HEAT", "ATTRIBUTES"];
    let mut table = Table::new(&head);
    for agent in agents {
        let attributes: Vec<String> =
            agent.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        table.row(vec![
            agent.name.clone(),
            agent.id.chars().take(ID_CHARS).collect(),
            state(agent),
            used(agent.used.cpus, agent.total.cpus),
            used(agent.used.mem, agent.total.mem),
            used(agent.used.disk, agent.total.disk),
            agent.tasks.to_string(),
            agent.roles.join(","),
            heat(agent),
            attributes.join(" "),
        ]);
    }
    table.render()
}

fn heat(agent: &AgentView) -> String {
    let degrees = agent.hardware.as_ref().and_then(|hardware| hardware.temperature);
    degrees.map_or_else(|| "-".into(), |degrees| format!("{degrees}C"))
}

/// Whether an agent is here, and whether it is drained.
pub(super) fn state(agent: &AgentView) -> String {
    match (agent.connected, agent.drain.as_deref()) {
        (true, None) => "connected".into(),
        (true, Some(drain)) => drain.to_uppercase(),
        (false, None) => "away".into(),
        (false, Some(drain)) => format!("away,{}", drain.to_uppercase()),
    }
}

/// Characters of an id that are shown; enough to name it.
const ID_CHARS: usize = 12;

pub(super) fn used(used: f64, total: f64) -> String {
    format!("{}/{}", (used * 10.0).round() / 10.0, (total * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_protocol::native::{Amounts, HardwareView};

    #[test]
    fn attributes_are_read_and_shown() {
        assert_eq!(attribute("rack=r1=a"), Ok(("rack".into(), "r1=a".into())));
        assert_eq!(attribute("rack="), Ok(("rack".into(), String::new())));
        for bad in ["rack", "=r1", ""] {
            assert!(attribute(bad).is_err(), "{bad:?}");
        }
        let agent = AgentView {
            id: "0123456789abcdef".into(),
            name: "pi-1".into(),
            reachable: true,
            connected: true,
            total: Amounts { cpus: 4.0, mem: 1000.0, disk: 0.0, gpus: 0 },
            used: Amounts { cpus: 0.1, ..Amounts::default() },
            tasks: 1,
            ports: vec![],
            attributes: [("a", "1"), ("rack", "r1")].map(|(k, v)| (k.into(), v.into())).into(),
            roles: vec!["gpu".into()],
            drain: None,
            hardware: Some(HardwareView { temperature: Some(61), ..HardwareView::default() }),
            devices: vec![],
        };
        for (connected, drain, expected) in [
            (true, None, "connected"),
            (true, Some("draining"), "DRAINING"),
            (true, Some("drained"), "DRAINED"),
            (false, None, "away"),
            (false, Some("drained"), "away,DRAINED"),
        ] {
            let drain = drain.map(str::to_string);
            assert_eq!(state(&AgentView { connected, drain, ..agent.clone() }), expected);
        }
        let text = told(&[agent]);
        let row = text.lines().nth(1).expect("a row");
        let cells: Vec<&str> = row.split_whitespace().collect();
        let rest = ["0.1/4", "0/1000", "0/0", "1", "gpu", "61C", "a=1", "rack=r1"];
        assert_eq!(cells[..3], ["pi-1", "0123456789ab", "connected"]);
        assert_eq!(cells[3..], rest);
    }
}
