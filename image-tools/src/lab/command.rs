//! `bramble-image lab`: its words, and what it prints.

use super::accel::Wanted;
use super::error::LabError;
use super::{config, destroy, status, up};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Below the directory of the machines' file.
const DIRECTORY: &str = ".bramble-lab";

#[derive(Args)]
pub struct LabArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start machines, and wait until they answer
    ///
    /// Needs root, for a network of its own. What is interrupted or fails is taken back.
    Up(UpArgs),
    /// Tell each machine's address, state, and whether its API answers
    Status(StatusArgs),
    /// Remove machines with their disks; with the last one everything of the lab
    Destroy(WhichArgs),
}

#[derive(Args)]
struct WhichArgs {
    /// Machines; without: all
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The file that describes the machines
    #[arg(
        long,
        value_name = "FILE",
        env = "VAGRANT_CONFIG",
        hide_env_values = true,
        default_value = "VagrantConfig.yaml"
    )]
    config: PathBuf,
    /// Where the lab is kept [default: .bramble-lab beside the machines' file]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Args)]
struct UpArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// An image made by `build --board x86`, for new machines [default: the one the lab has]
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// What runs the machines' processors
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        env = "BRAMBLE_LAB_ACCEL",
        hide_env_values = true
    )]
    accel: Wanted,
    /// How long machines may take until they answer; 0: do not wait
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    wait: u64,
    /// The bramble that makes the lab's keys [default: beside this program, built here, in PATH]
    #[arg(long, value_name = "FILE", env = "BRAMBLE", hide_env_values = true)]
    bramble: Option<PathBuf>,
}

#[derive(Args)]
struct StatusArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Print a JSON array instead of text
    #[arg(long)]
    json: bool,
}

impl WhichArgs {
    fn directory(&self) -> PathBuf {
        let beside = self.config.parent().unwrap_or(Path::new("")).join(DIRECTORY);
        self.dir.clone().unwrap_or(beside)
    }
}

/// Do what was asked.
///
/// # Errors
/// See [`up::up`], [`status::look`], [`destroy::destroy`].
pub fn run(args: LabArgs) -> Result<(), LabError> {
    match args.verb {
        Verb::Up(args) => up::up(&up::Order {
            directory: args.which.directory(),
            config: args.which.config,
            names: args.which.names,
            image: args.image,
            bramble: args.bramble.filter(|path| !path.as_os_str().is_empty()),
            accel: args.accel,
            patience: Duration::from_secs(args.wait),
        }),
        Verb::Status(args) => tell(&args),
        Verb::Destroy(args) => {
            let destroyed = destroy::destroy(&args.directory(), &args.names)?;
            for name in &destroyed.machines {
                println!("{name}: removed");
            }
            match (destroyed.lab, destroyed.machines.is_empty()) {
                (true, _) => println!("The lab is removed."),
                (false, true) => println!("There is no lab in {}.", args.directory().display()),
                (false, false) => {}
            }
            Ok(())
        }
    }
}

fn tell(args: &StatusArgs) -> Result<(), LabError> {
    let which = &args.which;
    // Machines that were made are there without the file, too.
    let described = if which.config.exists() || !which.directory().exists() {
        config::read(&which.config)?
    } else {
        Vec::new()
    };
    let rows = status::look(&which.directory(), &described, &which.names)?;
    if args.json {
        println!("{}", serde_json::json!(rows));
    } else {
        print!("{}", status::table(&rows));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        lab: LabArgs,
    }

    #[test]
    fn machines_and_their_files_are_named_in_any_order() {
        let line = |words: &str| {
            let words = format!("lab {words}");
            Line::try_parse_from(words.split(' ')).map(|line| line.lab.verb)
        };
        let Ok(Verb::Up(args)) = line("up m1 --image x.img a1 --config some/f.yaml --accel tcg")
        else {
            panic!("no up")
        };
        assert_eq!(args.which.names, ["m1", "a1"]);
        assert_eq!(args.which.directory(), Path::new("some/.bramble-lab"));
        assert_eq!((args.accel, args.wait), (Wanted::Tcg, 300));
        let Ok(Verb::Destroy(args)) = line("destroy --dir /lab") else { panic!("no destroy") };
        assert_eq!((args.directory().to_str(), args.names.len()), (Some("/lab"), 0));
        assert!(matches!(line("status --json"), Ok(Verb::Status(StatusArgs { json: true, .. }))));
        assert!(line("up --accel fast").is_err() && line("reload").is_err());
    }
}
