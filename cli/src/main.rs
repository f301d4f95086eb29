//! The one binary: node (`up`, `agent`), executors (hidden), and the client verbs.

mod client;
mod cluster;
mod config;
mod node;
mod output;
mod table;
mod verbs;

use anyhow::Result;
use bramble_core::model::NodeRole;
use clap::{Args, Parser, Subcommand};
use config::NodeArgs;
use output::{print, print_json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use verbs::{Common, Verb};

/// One computer out of small machines: Marathon-compatible, no Docker daemon, no ZooKeeper.
#[derive(Parser, Debug)]
#[command(name = "bramble", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no bramble \
    answers, 4 --wait ran out of time, 5 --wait stopped at a canary or a second set that waits for \
    `promote` or `withdraw`; exec: the command's own.")]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a whole node: master and agent in one process; with --token it joins a cluster, with
    /// --founding it makes that of a file, with neither one of its own
    Up(NodeArgs),
    /// Run a master only: it votes and answers, and runs no tasks
    Master(NodeArgs),
    /// Run an agent only: it runs tasks for the cluster of a token
    Agent(NodeArgs),
    /// Make a cluster before any of its nodes exists
    #[command(subcommand)]
    Cluster(cluster::ClusterVerb),
    /// Stop this node's apps, and the node if it runs
    #[command(mut_args(config::hide_running))]
    Down(NodeArgs),
    /// Forget which node this machine is, for one with a copied disk; images and volumes stay
    #[command(mut_args(config::hide_running))]
    ResetIdentity(node::ResetArgs),
    /// Make this node, which must not run and be empty, the cluster of a backup
    ///
    /// It becomes the only master, with the apps, secrets and settings of the backup. Agents return
    /// by themselves, unless a master was removed after the backup was made, which replaced the CA:
    /// then they need `bramble reset-identity` and the token. The masters of the old cluster must be
    /// wiped, and join anew.
    #[command(mut_args(config::hide_running))]
    Restore(RestoreArgs),
    /// Make this master, which must not run, the only one: where too many others are lost for ever
    ///
    /// What only the lost masters had taken is lost. They must be wiped before they join again.
    #[command(mut_args(config::hide_running))]
    Recover(RecoverArgs),
    /// Stop this node and its apps, and remove all that bramble made on this machine
    ///
    /// Containers, cgroups, the bridge and its nftables table, the run and data directories (log,
    /// keys, images, volumes), and a unit in /etc/systemd/system. The program itself stays.
    #[command(mut_args(config::hide_running))]
    Uninstall(UninstallArgs),
    #[command(flatten)]
    Client(Verb),
}

#[derive(Args, Debug)]
struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// File with the passphrase it was sealed with; without, it is asked for
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// No master of the old cluster will ever run again
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Debug)]
struct RecoverArgs {
    /// No other master of this cluster will ever run again with its data
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Debug)]
struct UninstallArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Leave the data directory: `bramble up` makes this the same node again
    #[arg(long)]
    keep_data: bool,
    #[command(flatten)]
    node: NodeArgs,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // An executor must not see a thread, an async runtime or a large heap before it clones its
    // container: it is dispatched before anything else happens.
    if let [_, verb, directory] = arguments.as_slice() {
        let directory = Path::new(directory);
        match verb.to_str() {
            Some("executor") => return exit(bramble_agent::executor::main(directory)),
            Some("exec-in") => return exit(bramble_agent::executor::exec_main(directory)),
            _ => {}
        }
    }
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("bramble: {error:#}");
            let client = error.downcast_ref::<client::ClientError>();
            ExitCode::from(client.map_or(client::EXIT_REFUSED, client::ClientError::exit_code))
        }
    }
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn run(cli: Cli) -> Result<u8> {
    let Cli { common, command } = cli;
    match command {
        Command::Up(args) => serve(&args, &common, NodeRole::Full),
        Command::Master(args) => serve(&args, &common, NodeRole::Master),
        Command::Agent(args) => serve(&args, &common, NodeRole::Agent),
        Command::Cluster(verb) => cluster::run(verb, common.json),
        Command::Down(args) => {
            let Some(config) = node_config(&args, &common)? else { return Ok(0) };
            client(node::down(config))
        }
        Command::ResetIdentity(args) => {
            let Some(config) = node_config(&args.node, &common)? else { return Ok(0) };
            client(node::reset_identity(config, args.yes))
        }
        Command::Restore(args) => {
            let Some(config) = node_config(&args.node, &common)? else { return Ok(0) };
            let RestoreArgs { file, passphrase_file, yes, .. } = args;
            let asked = node::Restore { file, passphrase_file, yes };
            client(node::restore(config, asked, common.json))
        }
        Command::Recover(args) => {
            let Some(config) = node_config(&args.node, &common)? else { return Ok(0) };
            client(node::recover(config, args.yes, common.json))
        }
        Command::Uninstall(args) => {
            let Some(config) = node_config(&args.node, &common)? else { return Ok(0) };
            let asked = node::Uninstall { yes: args.yes, keep_data: args.keep_data };
            client(node::uninstall(config, asked, common.json))
        }
        Command::Client(verb) => client(verbs::run(&common, verb)),
    }
}

fn serve(args: &NodeArgs, common: &Common, role: NodeRole) -> Result<u8> {
    let Some(config) = node_config(args, common)? else { return Ok(0) };
    node::serve(|levels| node::run(config, role, levels))
}

/// Resolve the node's settings; `None` when they were only to be printed.
fn node_config(args: &NodeArgs, common: &Common) -> Result<Option<config::NodeConfig>> {
    let settings = config::Settings::resolve(args, common.run_dir.as_deref())?;
    if args.print_config {
        if common.json {
            print_json(&settings.json())?;
        } else {
            print(&settings.render())?;
        }
        // Printed all the same: what is wrong is easiest to see among the rest.
        return settings.node().map(|_| None);
    }
    Ok(Some(settings.node()?))
}

/// Run a verb on this thread, to its end and no longer.
fn client(verb: impl Future<Output = Result<u8>>) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(verb);
    // Dropping the runtime would wait for a read of the terminal that nothing can interrupt:
    // `exec -t` would hang until the next key after its command has ended.
    runtime.shutdown_background();
    ended
}
