//! `volume`: list persistent volumes, and give one up.

use super::{Common, encode};
use crate::client::Client;
use crate::output::{print, print_json};
use crate::table::{Table, size};
use anyhow::{Context, Result};
use bramble_protocol::native::{VolumeState, VolumeView};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

#[derive(Args, Debug)]
pub struct VolumeArgs {
    #[command(subcommand)]
    verb: VolumeVerb,
}

#[derive(Subcommand, Debug)]
enum VolumeVerb {
    /// List persistent volumes: whose they are, what is reserved and what is used
    Ls,
    /// Remove a volume that no task uses, with its data; one of a resting instance takes the
    /// instance's other volumes along
    Rm(IdArgs),
}

#[derive(Args, Debug)]
struct IdArgs {
    /// Id of the volume
    id: String,
}

pub async fn run(client: &Client, common: &Common, args: VolumeArgs) -> Result<u8> {
    match args.verb {
        VolumeVerb::Ls => list(client, common).await,
        VolumeVerb::Rm(args) => remove(client, common, &args.id).await,
    }
}

async fn list(client: &Client, common: &Common) -> Result<u8> {
    let answer: Value = client.get("/v1/bramble/volumes").await?;
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let volumes: Vec<VolumeView> = serde_json::from_value(answer).context("reading the volumes")?;
    let mut table = Table::new(&["VOLUME", "APP", "AGENT", "STATE", "RESERVED", "USED"]);
    for volume in volumes {
        table.row(vec![
            volume.id,
            volume.app.unwrap_or_else(|| "-".into()),
            volume.host,
            words(volume.state).into(),
            size(volume.reserved_bytes),
            volume.used_bytes.map_or_else(|| "?".into(), size),
        ]);
    }
    print(&table.render())?;
    Ok(0)
}

fn words(state: VolumeState) -> &'static str {
    match state {
        VolumeState::Used => "used",
        VolumeState::Kept => "kept",
        VolumeState::GivenUp => "being removed",
        VolumeState::LeftOver => "left over",
    }
}

async fn remove(client: &Client, common: &Common, id: &str) -> Result<u8> {
    let path = format!("/v1/bramble/volumes/{}", encode(id));
    let answer = client.call(Method::DELETE, &path, None).await?;
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    print(&format!("{id} is given up: its agent removes the data\n"))?;
    Ok(0)
}
