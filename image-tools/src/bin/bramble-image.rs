//! `bramble-image`: makes, configures and writes images of nodes.

use anyhow::{Context, Result, bail};
use bramble_image_tools::disk::board::Board;
use bramble_image_tools::disk::build::{self, Order};
use bramble_image_tools::disk::cluster::{Keys, Part};
use bramble_image_tools::disk::configure::Changes;
use bramble_image_tools::disk::flash::{self, Image, Target};
use bramble_image_tools::disk::format::Format;
use bramble_image_tools::disk::manifest;
use bramble_image_tools::disk::progress::Progress;
use bramble_image_tools::disk::settings::Settings;
use bramble_image_tools::disk::vagrant::{self, Provider};
use bramble_image_tools::lab::command::{self as lab, LabArgs};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Images of bramble nodes: build, configure, flash.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build an image, and beside it the update for nodes that run already
    Build(BuildArgs),
    /// Change the settings in an image or on a card
    Configure(ConfigureArgs),
    /// Write an image to a card, verify it, and give it its settings
    Flash(FlashArgs),
    /// Make a Vagrant box of an x86 image
    Box(BoxArgs),
    /// Run the machines of a VagrantConfig.yaml under QEMU, without Vagrant
    Lab(LabArgs),
    /// Print the list of images that Raspberry Pi Imager reads
    Manifest(ManifestArgs),
}

/// Settings of a node; what is not given stays as it is in the image.
#[derive(Args)]
struct SettingsArgs {
    /// Its name [default: bramble- and four digits of its network card's address]
    #[arg(long)]
    hostname: Option<String>,
    /// What `bramble token` prints: the cluster it joins
    #[arg(long)]
    token: Option<String>,
    /// auto, master or agent
    #[arg(long)]
    role: Option<String>,
    /// An attribute that constraints of apps can ask for; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    attribute: Vec<(String, String)>,
    #[arg(long, value_name = "NAME")]
    wifi_ssid: Option<String>,
    #[arg(long, value_name = "PASSWORD")]
    wifi_password: Option<String>,
    /// Two letters, for example DE
    #[arg(long, value_name = "COUNTRY")]
    wifi_country: Option<String>,
    /// Instead of DHCP, for example 192.168.1.5/24
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    address: Option<String>,
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<String>,
    /// Name server; may be given again
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// A file with a public key that may log in as root; may be given again
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,
    /// Let other machines use its API without being asked who they are
    #[arg(long)]
    open_api: bool,
    /// Any setting of `bramble up`; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

#[derive(Args)]
struct ConfigureArgs {
    /// An image, or the disk of a card
    image: PathBuf,
    /// Let it join the cluster that `bramble cluster new NAME` made keys for, unless a --token is
    /// given; it does not found it: that is `flash --cluster`
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Where these keys are
    #[arg(long, value_name = "DIR", default_value = ".", requires = "cluster")]
    keys: PathBuf,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Args)]
struct FlashArgs {
    /// An image, plain or packed by xz or gzip
    image: PathBuf,
    /// The whole disk of the card, for example /dev/sdb
    device: PathBuf,
    /// Give it the keys that `bramble cluster new NAME` made; the first card founds the cluster
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    cluster: Option<String>,
    /// Where these keys are
    #[arg(long, value_name = "DIR", default_value = ".", requires = "cluster")]
    keys: PathBuf,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Args)]
struct BoxArgs {
    /// An image made by `build --board x86`
    image: PathBuf,
    /// The box to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[arg(long, value_enum, default_value = "libvirt")]
    provider: Provider,
    /// Size of a machine's disk
    #[arg(long, value_parser = size, default_value = "8G")]
    size: u64,
}

#[derive(Args)]
struct ManifestArgs {
    /// Images for the Pi, plain or packed by xz or gzip
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Where they will be fetched from
    #[arg(long)]
    url: String,
    /// What to call it
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    release: String,
    /// Day of release [default: today]
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<String>,
    /// They were built with --pi-files for a Pi 5
    #[arg(long)]
    pi_5: bool,
}

#[derive(Args)]
struct BuildArgs {
    /// For which machines
    #[arg(long, value_enum)]
    board: Board,
    /// The image to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[arg(long, value_enum, default_value = "raw")]
    format: Format,
    /// The bramble to put into it, statically linked [default: the one cross/build.sh made]
    #[arg(long, value_name = "FILE")]
    bramble: Option<PathBuf>,
    /// The bramble-init to put into it [default: the one cross/build.sh made]
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Kernel, modules and firmware as the Pi's makers publish them (needed for a Pi 5)
    #[arg(long, value_name = "DIR")]
    pi_files: Option<PathBuf>,
    /// An archive of an OCI image that nodes have from the beginning; may be given again
    #[arg(long, value_name = "TAR")]
    preload: Vec<PathBuf>,
    /// Size of the disk, for example 4G; nodes use all of the card they are on anyway
    #[arg(long, value_parser = size)]
    size: Option<u64>,
    /// What to call its version [default: bramble's, and a digest of what is in it]
    #[arg(long, value_name = "VERSION")]
    release: Option<String>,
    /// Where packages are kept between builds
    #[arg(long, value_name = "DIR", default_value = "target/images")]
    cache: PathBuf,
    /// Ask for new lists of packages first
    #[arg(long)]
    refresh: bool,
    /// Print a JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// `512M`, `4G`.
fn size(text: &str) -> Result<u64, String> {
    const FORM: &str = "write a number with M or G, for example 4G";
    let text = text.trim_end_matches("iB").trim_end_matches('B');
    let (number, unit) = match text.strip_suffix(['M', 'm']) {
        Some(number) => (number, 1 << 20),
        None => (text.strip_suffix(['G', 'g']).ok_or(FORM)?, 1 << 30),
    };
    let number: u64 = number.parse().map_err(|_| FORM)?;
    number.checked_mul(unit).ok_or_else(|| FORM.into())
}

/// `name=value`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.trim().into(), value.trim().into()))
}

fn main() -> ExitCode {
    let Arguments { verb } = Arguments::parse();
    let done = match verb {
        Verb::Build(args) => build(args),
        Verb::Configure(args) => configure(args),
        Verb::Flash(args) => flash(args),
        Verb::Box(args) => make_box(args),
        Verb::Lab(args) => lab::run(args).map_err(Into::into),
        Verb::Manifest(args) => list(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bramble-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A program that was built from this tree for a board.
fn built(given: Option<PathBuf>, name: &str, board: Board) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let path = target.join(board.target()).join("release").join(name);
    if !path.exists() {
        let flag = name.trim_start_matches("bramble-");
        bail!("there is no {}; build it with cross/build.sh, or give --{flag}", path.display());
    }
    Ok(path)
}

fn build(args: BuildArgs) -> Result<()> {
    let order = Order {
        board: args.board,
        bramble: built(args.bramble, "bramble", args.board)?,
        init: built(args.init, "bramble-init", args.board)?,
        output: args.output,
        format: args.format,
        cache: args.cache,
        pi_files: args.pi_files,
        preload: args.preload,
        size: args.size,
        release: args.release,
        refresh: args.refresh,
    };
    let built = build::build(&order, &Progress::steps(build::STEPS))?;
    let bytes = |path: &Path| path.metadata().map(|found| found.len()).context("reading its size");
    if args.json {
        let packages: serde_json::Map<_, _> = built
            .packages
            .iter()
            .map(|(name, version)| (name.clone(), version.clone().into()))
            .collect();
        let told = serde_json::json!({
            "image": built.image, "update": built.update, "version": built.version,
            "board": order.board.name(), "diskBytes": built.bytes,
            "updateBytes": bytes(&built.update)?, "packages": packages,
        });
        println!("{told}");
    } else {
        println!("{}: bramble {} for {}", built.image.display(), built.version, order.board.name());
        println!("{}: the same for `bramble os update`", built.update.display());
    }
    Ok(())
}

impl SettingsArgs {
    fn read(self) -> Result<Settings> {
        let mut ssh_keys = Vec::new();
        for path in &self.ssh_key {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("reading {}", path.display()))?;
            ssh_keys
                .extend(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from));
        }
        let mut bramble = self.set;
        if self.open_api {
            bramble.push(("open-api".into(), "true".into()));
        }
        Ok(Settings {
            hostname: self.hostname,
            cluster: None,
            token: self.token,
            role: self.role,
            attributes: self.attribute,
            wifi_ssid: self.wifi_ssid,
            wifi_password: self.wifi_password,
            wifi_country: self.wifi_country,
            address: self.address,
            gateway: self.gateway,
            dns: self.dns,
            ssh_keys,
            bramble,
        })
    }
}

fn configure(args: ConfigureArgs) -> Result<()> {
    let mut settings = args.settings.read()?;
    match &args.cluster {
        Some(name) if settings.token.is_none() => {
            Keys::new(name, &args.keys).give_token(&mut settings)?;
        }
        _ => settings.cluster = args.cluster,
    }
    if settings.is_empty() {
        bail!("nothing to set; `bramble-image configure --help` lists what can be");
    }
    let changes = Changes { settings, founding: None };
    let target = Target::existing(&args.image)?;
    target.change(&changes)?;
    println!("{}: settings written", args.image.display());
    Ok(())
}

fn flash(args: FlashArgs) -> Result<()> {
    let mut changes = Changes { settings: args.settings.read()?, founding: None };
    let image = Image::open(&args.image)?;
    let mut target = Target::open(&args.device)?;
    let shown = args.device.display();
    let cluster = args.cluster.unwrap_or_default();
    let part = if cluster.is_empty() {
        None
    } else {
        let held = target.founding();
        let keys = Keys::new(&cluster, &args.keys);
        Some(keys.give(&shown.to_string(), held.as_deref(), &mut changes)?)
    };
    let written = flash::write(&image, &mut target, &changes, false)?;
    if let Some(Part::Founds(founding)) = &part {
        founding.placed()?;
    }
    let flashed = written.finish()?;
    println!("{shown}: {} bytes written and verified", flashed.bytes);
    match part {
        Some(Part::Founds(founding)) => {
            founding.done()?;
            println!("This is the card that founds cluster {cluster}.");
        }
        Some(Part::Joins(other)) => println!("It joins cluster {cluster}: {other}."),
        None => {}
    }
    Ok(())
}

fn make_box(args: BoxArgs) -> Result<()> {
    vagrant::make(&args.image, args.provider, args.size, &args.output)?;
    println!("{}: vagrant box add --name bramble {}", args.output.display(), args.output.display());
    Ok(())
}

fn list(args: ManifestArgs) -> Result<()> {
    // In UTC, by the machine's clock.
    let form = time::macros::format_description!("[year]-[month]-[day]");
    let date = match args.date {
        None => time::OffsetDateTime::now_utc().date(),
        Some(text) => time::Date::parse(&text, &form)
            .with_context(|| format!("--date is {text:?}; write a day, for example 2026-11-28"))?,
    };
    let date = date.format(&form)?;
    let (url, version) = (args.url.as_str(), args.release.as_str());
    let about = manifest::About { url, version, date: &date, pi_5: args.pi_5 };
    let list = manifest::make(&args.images, &about)?;
    println!("{}", serde_json::to_string_pretty(&list)?);
    Ok(())
}
