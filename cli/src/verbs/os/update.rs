//! A new image for every node, one after the other.

use super::file::UpdateFile;
use super::node::Node;
use crate::client::{Client, Target};
use crate::output::{print, print_json};
use crate::verbs::Common;
use anyhow::{Context, Result, bail};
use bramble_protocol::native::{OsView, Status};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
pub struct UpdateArgs {
    /// The `.update` files that `bramble-image build` wrote, one for each kind of board
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Update only this node; may be given several times
    #[arg(long = "node", value_name = "NAME")]
    nodes: Vec<String>,
    /// Seconds a node has to come back
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Seconds a node has to become empty
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    drain_timeout: u64,
}

/// What becomes of a node.
#[derive(Debug, PartialEq, Eq)]
enum Plan<'a> {
    Update(&'a UpdateFile),
    /// And why.
    Leave(String),
}

pub async fn run(client: &Client, common: &Common, args: UpdateArgs) -> Result<u8> {
    let mut files = Vec::new();
    for path in &args.files {
        files.push(UpdateFile::open(path).await?);
    }
    let status: Status = read(client, "/v1/bramble/status").await?;
    let views: Vec<OsView> = read(client, "/v1/bramble/os").await?;
    let own = own_name(client);
    let leader = status.leader.as_deref().and_then(|leader| leader.rsplit_once(':'));
    let order = ordered(views, leader.map(|(host, _)| host), own.as_deref());
    if let Some(missing) = args.nodes.iter().find(|name| !order.iter().any(|v| is(v, name))) {
        bail!("there is no node '{missing}'; `bramble os status` lists them");
    }
    let chosen = |view: &OsView| args.nodes.is_empty() || args.nodes.iter().any(|n| is(view, n));
    let mut updated = Vec::new();
    for view in order.into_iter().filter(chosen) {
        let file = match plan(&view, &files) {
            Plan::Update(file) => file,
            Plan::Leave(why) => {
                if !common.json {
                    print(&format!("{}: left as it is: {why}\n", view.host))?;
                }
                continue;
            }
        };
        let node = Node {
            client,
            id: view.agent_id.clone(),
            own: own.as_ref() == Some(&view.host),
            host: view.host.clone(),
            slots: view.slots.unwrap_or_default(),
            file,
            drain: Duration::from_secs(args.drain_timeout),
            back: Duration::from_secs(args.timeout),
            quiet: common.json,
        };
        node.update().await.with_context(|| {
            format!("the update ends at {}; nodes after it are as they were", view.host)
        })?;
        updated.push(view.host);
    }
    if common.json {
        print_json(&serde_json::json!({ "updated": updated }))?;
    }
    Ok(0)
}

async fn read<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T> {
    serde_json::from_value(client.get(path).await?).context("reading the answer")
}

fn is(view: &OsView, name: &str) -> bool {
    view.host == name || view.agent_id == name
}

/// Name of the node this program runs on, if that is the one it speaks to.
fn own_name(client: &Client) -> Option<String> {
    let here = match client.target() {
        Target::Socket(_) => true,
        Target::Tcp(address) => {
            let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
            host == "localhost" || host.starts_with("127.") || host == "[::1]"
        }
    };
    let name = nix::unistd::gethostname().ok().filter(|_| here)?;
    name.into_string().ok()
}

/// The leader late, since its restart costs an election; the node this program runs on last, since
/// its restart ends the program.
fn ordered(mut views: Vec<OsView>, leader: Option<&str>, own: Option<&str>) -> Vec<OsView> {
    views.sort_by_key(|view| {
        let host = Some(view.host.as_str());
        (host == own, host == leader, view.host.clone())
    });
    views
}

fn plan<'a>(view: &OsView, files: &'a [UpdateFile]) -> Plan<'a> {
    let Some(slots) = &view.slots else {
        return Plan::Leave(view.message.clone().unwrap_or_else(|| "it does not answer".into()));
    };
    let Some(file) = files.iter().find(|file| file.board == slots.board) else {
        return Plan::Leave(format!("no file is for its board, {}", slots.board));
    };
    if slots.trial_seconds_left.is_some() {
        return Plan::Leave("it runs an image on trial; wait until that is decided".into());
    }
    if slots.version == file.version {
        return Plan::Leave(format!("it runs {} already", file.version));
    }
    Plan::Update(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_protocol::message::OsSlots;

    fn view(host: &str, board: &str, version: &str) -> OsView {
        let slots = OsSlots {
            board: board.into(),
            version: version.into(),
            slot: "a".into(),
            ..OsSlots::default()
        };
        OsView { host: host.into(), slots: Some(slots), ..OsView::default() }
    }

    #[test]
    fn the_node_we_speak_to_is_last() {
        let views = ["a", "b", "c"].map(|host| view(host, "pi", "1")).to_vec();
        let hosts = |leader, own| -> Vec<String> {
            ordered(views.clone(), leader, own).into_iter().map(|view| view.host).collect()
        };
        assert_eq!(hosts(None, None), ["a", "b", "c"]);
        assert_eq!(hosts(Some("a"), None), ["b", "c", "a"]);
        assert_eq!(hosts(Some("a"), Some("b")), ["c", "a", "b"]);
        assert_eq!(hosts(Some("a"), Some("a")), ["b", "c", "a"]);
    }

    #[test]
    fn nodes_that_need_nothing_are_left() {
        let file = |board: &str| UpdateFile {
            path: "x".into(),
            version: "2".into(),
            board: board.into(),
            bytes: 1,
        };
        let files = [file("x86"), file("pi")];
        assert_eq!(plan(&view("a", "pi", "1"), &files), Plan::Update(&files[1]));
        let mut trial = view("a", "pi", "1");
        if let Some(slots) = &mut trial.slots {
            slots.trial_seconds_left = Some(1);
        }
        let away = OsView { message: Some("not connected".into()), ..OsView::default() };
        for (view, why) in [
            (view("a", "pi", "2"), "it runs 2 already"),
            (view("a", "arm64-uefi", "1"), "no file is for its board, arm64-uefi"),
            (trial, "it runs an image on trial; wait until that is decided"),
            (away, "not connected"),
        ] {
            assert_eq!(plan(&view, &files), Plan::Leave(why.into()));
        }
    }
}
