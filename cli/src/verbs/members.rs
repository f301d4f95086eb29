//! `masters`, `rm-node`, `token`: who belongs to the cluster, and who may join.

use super::{Common, encode};
use crate::client::Client;
use crate::output::{print, print_json};
use crate::table::{Table, age};
use anyhow::{Context, Result, bail};
use bramble_protocol::native::{MasterView, RemovedNode, Token};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;
use std::io::{IsTerminal, Write};

/// Characters of an id that are shown; enough to name it.
const ID_CHARS: usize = 12;

#[derive(Args, Debug)]
pub struct RemoveArgs {
    /// The node's name, its id, or the start of its id
    #[arg(value_parser = super::name)]
    node: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Args, Debug)]
pub struct TokenArgs {
    #[command(subcommand)]
    verb: Option<TokenVerb>,
}

#[derive(Subcommand, Debug)]
enum TokenVerb {
    /// Make a new token; the old one admits nobody any more
    Rotate,
}

pub async fn masters(client: &Client, common: &Common) -> Result<u8> {
    let answer: Value = client.get("/v1/bramble/masters").await?;
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let masters: Vec<MasterView> = serde_json::from_value(answer).context("reading the masters")?;
    print(&told(&masters))?;
    Ok(0)
}

fn told(masters: &[MasterView]) -> String {
    let head = ["MASTER", "ID", "STANDING", "LEADER", "HEARD", "BEHIND", "SEEN AT"];
    let mut table = Table::new(&head);
    for master in masters {
        let heard = match (master.answers, master.heard_seconds_ago) {
            (true, _) => "here".into(),
            (false, Some(seconds)) => format!("{} ago", age(seconds)),
            (false, None) => "never".into(),
        };
        table.row(vec![
            master.name.clone(),
            master.id.chars().take(ID_CHARS).collect(),
            master.standing.clone(),
            if master.leader { "leads" } else { "-" }.into(),
            heard,
            master.lag.map_or_else(|| "-".into(), |entries| entries.to_string()),
            master.addresses.join(" "),
        ]);
    }
    let mut text = table.render();
    for master in masters.iter().filter(|master| !master.same_name.is_empty()) {
        let own: String = master.id.chars().take(ID_CHARS).collect();
        text.push_str(&format!(
            "\n{own}: another node is named {} too; one that was set up anew leaves its old self \
             behind: `bramble rm-node` removes it by its id\n",
            master.name
        ));
    }
    text
}

pub async fn remove(client: &Client, common: &Common, args: RemoveArgs) -> Result<u8> {
    if !args.yes && !agreed(&args.node)? {
        bail!("nothing was removed; --yes says so without a question");
    }
    let path = format!("/v1/bramble/nodes/{}", encode(&args.node));
    let answer = client.call(Method::DELETE, &path, None).await?;
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let removed: RemovedNode = serde_json::from_value(answer).context("reading the answer")?;
    print(&said(&removed))?;
    Ok(0)
}

fn said(removed: &RemovedNode) -> String {
    let id: String = removed.id.chars().take(ID_CHARS).collect();
    let mut text = format!("{} ({id}) is removed", removed.name);
    match removed.tasks {
        0 => {}
        1 => text.push_str("; its task is replaced on another node"),
        more => text.push_str(&format!("; its {more} tasks are replaced on other nodes")),
    }
    text.push_str("\nthe join token is another one now: `bramble token` prints it\n");
    if removed.master {
        text.push_str("it was a master: the CA and the data key are being replaced\n");
    }
    text
}

/// Ask the person at the terminal; there is nobody to ask elsewhere.
fn agreed(node: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("removing {node} stops its tasks and gives up its volumes: say --yes");
    }
    let mut out = std::io::stdout();
    write!(out, "remove {node}, stop its tasks, give up its volumes? [y/N] ")?;
    out.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

pub async fn token(client: &Client, common: &Common, args: TokenArgs) -> Result<u8> {
    let answer: Value = match args.verb {
        None => client.get("/v1/bramble/token").await?,
        Some(TokenVerb::Rotate) => {
            client.call(Method::POST, "/v1/bramble/token/rotate", None).await?
        }
    };
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let token: Token = serde_json::from_value(answer).context("reading the token")?;
    print(&format!("{}\n", token.token))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_and_removals_are_told() {
        let view = |id: &str, answers| MasterView {
            id: id.into(),
            name: "pi-1".into(),
            standing: "voter".into(),
            leader: answers,
            answers,
            heard_seconds_ago: (!answers).then_some(3),
            lag: Some(0),
            addresses: vec!["10.0.0.1:7443".into()],
            same_name: if answers { vec![] } else { vec!["other".into()] },
        };
        let text = told(&[view("0123456789abcdef", true), view("fedcba9876543210", false)]);
        let row = |n: usize| text.lines().nth(n).expect("a row").split_whitespace();
        let first: Vec<&str> = row(1).collect();
        assert_eq!(first, ["pi-1", "0123456789ab", "voter", "leads", "here", "0", "10.0.0.1:7443"]);
        assert_eq!(row(2).nth(3), Some("-"));
        assert!(text.contains("fedcba987654: another node is named pi-1 too"), "{text}");

        let removed =
            |master, tasks| RemovedNode { id: "x".into(), name: "a".into(), master, tasks };
        assert!(said(&removed(true, 2)).contains("its 2 tasks"));
        assert!(said(&removed(true, 0)).contains("data key"));
        assert!(!said(&removed(false, 0)).contains("data key"));
    }
}
