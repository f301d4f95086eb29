//! `os`: the images that nodes were flashed with. What each runs, and a new one, node by node.

mod file;
mod node;
mod update;

use super::Common;
use crate::client::Client;
use crate::output::{print, print_json};
use crate::table::Table;
use anyhow::{Context, Result};
use bramble_protocol::native::OsView;
use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub struct OsArgs {
    #[command(subcommand)]
    verb: OsVerb,
}

#[derive(Subcommand, Debug)]
enum OsVerb {
    /// Show which image each node runs, and from which slot
    Status,
    /// Put a new image onto every node, one after the other
    ///
    /// Each node gets it in the slot it does not run from, is drained, and restarts into it. It is
    /// confirmed and opened once the cluster sees the node healthy again, and only then comes the
    /// next. A node that does not come back goes back to its old image by itself, and the update
    /// ends there; given again, it goes on where it ended.
    Update(update::UpdateArgs),
}

pub async fn run(client: &Client, common: &Common, args: OsArgs) -> Result<u8> {
    match args.verb {
        OsVerb::Status => status(client, common).await,
        OsVerb::Update(args) => update::run(client, common, args).await,
    }
}

async fn status(client: &Client, common: &Common) -> Result<u8> {
    let answer = client.get("/v1/bramble/os").await?;
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let views: Vec<OsView> = serde_json::from_value(answer).context("reading the answer")?;
    print(&table(&views))?;
    Ok(0)
}

fn table(views: &[OsView]) -> String {
    let mut table = Table::new(&["NODE", "BOARD", "IMAGE", "SLOT", "SPARE", ""]);
    for view in views {
        let row = match &view.slots {
            None => {
                let message = view.message.clone().unwrap_or_default();
                let none = || "-".to_string();
                vec![view.host.clone(), none(), none(), none(), none(), message]
            }
            Some(slots) => {
                let trial = slots
                    .trial_seconds_left
                    .map(|left| format!("on trial; back to slot {} in {left} s", slots.lasting));
                vec![
                    view.host.clone(),
                    slots.board.clone(),
                    slots.version.clone(),
                    slots.slot.clone(),
                    slots.spare_version.clone().unwrap_or_else(|| "empty".into()),
                    trial.unwrap_or_default(),
                ]
            }
        };
        table.row(row);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_protocol::message::OsSlots;

    #[test]
    fn every_node_has_a_line() {
        let slots = OsSlots {
            board: "pi".into(),
            version: "2".into(),
            slot: "b".into(),
            lasting: "a".into(),
            spare_version: Some("1".into()),
            trial_seconds_left: Some(90),
        };
        let view = |host: &str| OsView { host: host.into(), ..OsView::default() };
        let text = table(&[
            OsView { slots: Some(slots), ..view("pi-1") },
            OsView { message: Some("agent x is not connected".into()), ..view("pi-2") },
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>()[..5],
            ["pi-1", "pi", "2", "b", "1"]
        );
        assert!(lines[1].ends_with("on trial; back to slot a in 90 s"), "{text}");
        assert!(lines[2].ends_with("agent x is not connected"), "{text}");
    }
}
