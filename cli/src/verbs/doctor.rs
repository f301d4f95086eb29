//! `doctor`: what is wrong with the machines of the cluster, and what to do about it.

use super::Common;
use crate::client::Client;
use crate::output::{print, print_json};
use anyhow::{Context, Result};
use bramble_protocol::native::{AgentView, HardwareView};
use serde_json::{Value, json};

/// Degrees from which a machine is said to be hot: a Raspberry Pi slows down at 80.
const HOT_C: i32 = 75;
/// Percent of its life from which a card is said to be worn.
const WORN_PERCENT: u8 = 80;
/// Exit code when something was found.
const EXIT_FOUND: u8 = 1;

/// Something that is wrong.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    host: String,
    what: String,
    advice: &'static str,
}

pub async fn run(client: &Client, common: &Common) -> Result<u8> {
    let answer: Value = client.get("/v1/bramble/agents").await?;
    let agents: Vec<AgentView> = serde_json::from_value(answer).context("reading the answer")?;
    let found: Vec<Finding> = agents.iter().flat_map(examine).collect();
    if common.json {
        let finding = |f: &Finding| json!({ "host": f.host, "what": f.what, "advice": f.advice });
        print_json(&found.iter().map(finding).collect())?;
    } else {
        print(&told(&found, agents.len()))?;
    }
    Ok(if found.is_empty() { 0 } else { EXIT_FOUND })
}

fn told(found: &[Finding], agents: usize) -> String {
    if found.is_empty() {
        return format!("nothing is wrong with {agents} machines\n");
    }
    let line = |f: &Finding| format!("{}: {}\n  {}\n", f.host, f.what, f.advice);
    found.iter().map(line).collect()
}

/// All that is wrong with one machine.
fn examine(agent: &AgentView) -> Vec<Finding> {
    let finding =
        |(what, advice): (String, &'static str)| Finding { host: agent.name.clone(), what, advice };
    let found = match (&agent.hardware, agent.connected) {
        (Some(hardware), _) => of_hardware(hardware),
        (None, true) => Vec::new(),
        (None, false) => vec![("it is away".into(), "is it switched on, and in the network?")],
    };
    found.into_iter().map(finding).collect()
}

fn of_hardware(hardware: &HardwareView) -> Vec<(String, &'static str)> {
    let mut found: Vec<(String, &'static str)> = Vec::new();
    let when = |word: &Option<String>| match word.as_deref() {
        Some("now") => Some("now"),
        Some("earlier") => Some("at some time since it started"),
        _ => None,
    };
    if let Some(when) = when(&hardware.undervoltage) {
        let advice = "use a stronger power supply and a short, thick cable; files may be damaged";
        found.push((format!("its supply voltage was too low {when}"), advice));
    }
    if let Some(when) = when(&hardware.throttled) {
        let advice = "cool it better, or give it more power: it runs slower than it could";
        found.push((format!("it was slowed down {when}"), advice));
    }
    if let Some(degrees) = hardware.temperature.filter(|degrees| *degrees >= HOT_C) {
        found.push((format!("it is at {degrees} degrees Celsius"), "cool it better"));
    }
    if let Some(percent) = hardware.disk_wear.filter(|percent| *percent >= WORN_PERCENT) {
        let what = format!("{percent} % of its card's life is used, by the card's own estimate");
        found.push((what, "drain it and replace the card before it drops writes"));
    }
    if !hardware.memory_limits {
        let advice = "add cgroup_enable=memory cgroup_memory=1 to the kernel's command line \
                      (cmdline.txt on a Raspberry Pi) and restart it";
        found.push(("its kernel enforces no memory limits".into(), advice));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(hardware: HardwareView) -> Vec<String> {
        of_hardware(&hardware).into_iter().map(|(what, _)| what).collect()
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_else() {
        let well = HardwareView {
            temperature: Some(74),
            undervoltage: Some("never".into()),
            throttled: Some("never".into()),
            disk_wear: Some(79),
            page_size: 16384,
            memory_limits: true,
            ..HardwareView::default()
        };
        assert_eq!(words(well.clone()), Vec::<String>::new());
        let ill = HardwareView {
            temperature: Some(83),
            undervoltage: Some("now".into()),
            throttled: Some("earlier".into()),
            disk_wear: Some(90),
            memory_limits: false,
            ..well
        };
        assert_eq!(
            words(ill),
            [
                "its supply voltage was too low now",
                "it was slowed down at some time since it started",
                "it is at 83 degrees Celsius",
                "90 % of its card's life is used, by the card's own estimate",
                "its kernel enforces no memory limits",
            ]
        );
        let finding = Finding { host: "pi-1".into(), what: "hot".into(), advice: "cool it" };
        assert_eq!(told(&[finding], 2), "pi-1: hot\n  cool it\n");
        assert_eq!(told(&[], 2), "nothing is wrong with 2 machines\n");
    }
}
