//! The client verbs: each asks the API and prints shortly, or as JSON with `--json`.

mod agents;
mod apps;
mod backup;
mod deploy;
mod doctor;
mod drain;
mod exec;
mod images;
mod logs;
mod members;
mod os;
pub mod passphrase;
mod pods;
mod rollouts;
mod secret;
mod stale;
mod status;
mod terminal;
mod volumes;
mod why;

use crate::client::{Client, ClientError, Target};
use crate::config::{RUN_DIR, RUN_DIR_VARIABLE};
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::PathBuf;

/// Where the API is, and how to print. The same for every verb.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// API of any node; default: this node's own socket, else http://127.0.0.1:8080
    #[arg(long, global = true, env = "BRAMBLE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Where this node's socket is [env: BRAMBLE_RUN_DIR] [default: /run/bramble]
    // Not read from the environment here: a node must know where the value came from.
    #[arg(long, global = true, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Print the API's JSON instead of a table
    #[arg(long, global = true)]
    pub json: bool,
}

impl Common {
    pub fn client(&self) -> Result<Client, ClientError> {
        let named = || std::env::var_os(RUN_DIR_VARIABLE).map(PathBuf::from);
        let run_dir = self.run_dir.clone().or_else(named).unwrap_or_else(|| RUN_DIR.into());
        Ok(Client::new(Target::choose(self.url.as_deref(), &run_dir)?))
    }
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Create or change an app from a Marathon definition (`-` reads standard input)
    Deploy(deploy::DeployArgs),
    /// List apps, and pods if there are any
    Apps,
    /// List pods
    Pods,
    /// List tasks
    Ps,
    /// Print a task's output
    Logs(logs::LogsArgs),
    /// Run a command inside a task
    Exec(exec::ExecArgs),
    /// Set the number of instances: `bramble scale web=3`
    Scale(apps::ScaleArgs),
    /// Restart an app's tasks as its upgrade strategy says
    Restart(apps::AppArgs),
    /// Go back to an earlier version of an app
    Rollback(why::RollbackArgs),
    /// Let a canary or a second set that waits take the place of the old version
    Promote(rollouts::WordArgs),
    /// Stop a canary or a second set; the old version stays
    Withdraw(rollouts::WordArgs),
    /// Say why an app is not running, and what would make it fit
    Why(why::WhyArgs),
    /// Remove an app
    Rm(apps::AppArgs),
    /// Load a `docker save` tar or an OCI layout tar
    Load(images::LoadArgs),
    /// List images
    Images,
    /// List agents, or set their attributes and roles
    Agents(agents::AgentsArgs),
    /// Give an agent no tasks any more, and move those it has to others as their apps allow
    Drain(drain::DrainArgs),
    /// Open a drained agent again
    Undrain(drain::UndrainArgs),
    /// Show the cluster in a few lines
    Status,
    /// Look for what is wrong with machines: supply, heat, worn cards, kernels; exit code 1 if
    /// anything is
    Doctor,
    /// Show and update the images that nodes were flashed with
    Os(os::OsArgs),
    /// Put, list and remove secrets
    Secret(secret::SecretArgs),
    /// List and remove persistent volumes
    Volume(volumes::VolumeArgs),
    /// List masters: who votes, who leads, when each was last heard
    Masters,
    /// Remove a node from the cluster: it is refused from now on, its tasks run elsewhere
    RmNode(members::RemoveArgs),
    /// Print the token other machines join with, or make a new one
    Token(members::TokenArgs),
    /// Write all that makes this cluster into one file, sealed with a passphrase
    ///
    /// Definitions, versions, deployments, secrets, and the keys of the cluster. Not images, not the
    /// data of volumes, not what tasks wrote. `bramble restore` makes a node of it.
    Backup(backup::BackupArgs),
}

/// Carry out one verb. Gives the process's exit code.
pub async fn run(common: &Common, verb: Verb) -> Result<u8> {
    let client = common.client()?;
    let looks = matches!(verb, Verb::Apps | Verb::Status | Verb::Logs(_) | Verb::Exec(_));
    match carry_out(&client, common, verb).await {
        Err(error) if looks => Err(stale::with_hint(&client, error).await),
        done => done,
    }
}

async fn carry_out(client: &Client, common: &Common, verb: Verb) -> Result<u8> {
    match verb {
        Verb::Deploy(args) => deploy::run(client, common, args).await,
        Verb::Apps => apps::list(client, common).await,
        Verb::Pods => pods::list(client, common).await,
        Verb::Ps => apps::ps(client, common).await,
        Verb::Logs(args) => logs::run(client, args).await,
        Verb::Exec(args) => exec::run(client, args).await,
        Verb::Scale(args) => apps::scale(client, common, args).await,
        Verb::Restart(args) => apps::restart(client, common, args).await,
        Verb::Rollback(args) => why::rollback(client, common, args).await,
        Verb::Promote(args) => rollouts::promote(client, common, args).await,
        Verb::Withdraw(args) => rollouts::withdraw(client, common, args).await,
        Verb::Why(args) => why::run(client, common, args).await,
        Verb::Rm(args) => apps::remove(client, common, args).await,
        Verb::Load(args) => images::load(client, common, args).await,
        Verb::Images => images::list(client, common).await,
        Verb::Agents(args) => agents::run(client, common, args).await,
        Verb::Drain(args) => drain::drain(client, common, args).await,
        Verb::Os(args) => os::run(client, common, args).await,
        Verb::Undrain(args) => drain::undrain(client, common, args).await,
        Verb::Status => status::run(client, common).await,
        Verb::Doctor => doctor::run(client, common).await,
        Verb::Secret(args) => secret::run(client, common, args).await,
        Verb::Volume(args) => volumes::run(client, common, args).await,
        Verb::Masters => members::masters(client, common).await,
        Verb::RmNode(args) => members::remove(client, common, args).await,
        Verb::Token(args) => members::token(client, common, args).await,
        Verb::Backup(args) => backup::run(client, common, args).await,
    }
}

/// The name of something on the command line. An empty one (a variable that was never set) would
/// ask the API for another thing than was meant.
fn name(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty: give a name or an id".into()),
        _ => Ok(text.into()),
    }
}

/// An app id as a path of the API: `/v2/apps/a/b`.
fn app_path(id: &str) -> String {
    format!("/v2/apps/{}", encode(id.trim_matches('/')))
}

/// Percent-encode what may not stand in a path or query; `/` stays.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(byte as char);
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_empty() {
        assert_eq!(name("pi-1"), Ok("pi-1".into()));
        for empty in ["", " ", "\t\n"] {
            assert!(name(empty).is_err(), "{empty:?}");
        }
    }

    #[test]
    fn ids_become_paths() {
        assert_eq!(app_path("/prod/web"), "/v2/apps/prod/web");
        assert_eq!(app_path("hello"), "/v2/apps/hello");
        assert_eq!(app_path("a b?"), "/v2/apps/a%20b%3F");
    }
}
