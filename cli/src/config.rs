//! A node's settings: flag > `BRAMBLE_*` > the TOML file > default, each with its origin.

use anyhow::{Context, Result, anyhow, bail};
use bramble_agent::inventory::{ResourceOverrides, parse_attributes, parse_resources};
use bramble_protocol::net::JoinToken;
use clap::{Arg, Args};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Default of `--run-dir`: on tmpfs, so that a reboot forgets what a reboot ended.
pub const RUN_DIR: &str = "/run/bramble";
/// Names it to the verbs, as to a node.
pub const RUN_DIR_VARIABLE: &str = "BRAMBLE_RUN_DIR";
const CONFIG_FILE: &str = "/etc/bramble/bramble.toml";

/// Settings of a node. Every one is also a key of the TOML file and, upper-cased with
/// `BRAMBLE_` in front, an environment variable.
#[derive(Args, Debug, Default)]
pub struct NodeArgs {
    /// Everything that must survive: log, keys, images, sandboxes [default: /var/lib/bramble]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address of the HTTP API [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Address of the cluster port, UDP [default: 0.0.0.0:7443]
    #[arg(long, value_name = "ADDR")]
    quic: Option<String>,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Join token, as `bramble token` prints it on a node of the cluster; needed once
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Founding file, as `bramble cluster new` makes it, for exactly one node; removed once used
    #[arg(long, value_name = "FILE")]
    founding: Option<String>,
    /// A node of the cluster, where multicast does not reach one
    #[arg(long, value_name = "HOST:PORT")]
    join: Option<String>,
    /// What constraints can ask for: `rack:1;zone:a`
    #[arg(long, value_name = "KEY:VALUE;..")]
    attributes: Option<String>,
    /// What to lend: `cpus:2;mem:1024;disk:5000;ports:[31000-32000]` [default: measured]
    #[arg(long, value_name = "NAME:AMOUNT;..")]
    resources: Option<String>,
    /// Answer API calls from other machines without asking who calls (labs only)
    #[arg(long)]
    open_api: bool,
    /// Let apps mount directories of this host
    #[arg(long)]
    allow_host_volumes: bool,
    /// Let apps run privileged
    #[arg(long)]
    allow_privileged: bool,
    /// Registries spoken to in plain http, besides this machine: `host:port,..`
    #[arg(long, value_name = "HOSTS")]
    insecure_registries: Option<String>,
    /// File with registry logins, in Docker's format
    #[arg(long, value_name = "FILE")]
    docker_config: Option<String>,
    /// Web pages that may read answers: `http://host:port,..`, or `*`
    #[arg(long, value_name = "ORIGINS")]
    access_control_allow_origin: Option<String>,
    /// Keep files that clients PUT to /v2/artifacts, below the data directory
    #[arg(long)]
    artifact_store: bool,
    /// Parent of all cgroups this node makes [default: /bramble, or one named after --data-dir]
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Without word of an agent for so long, its tasks count as unreachable [default: 75s]
    #[arg(long, value_name = "TIME")]
    agent_timeout: Option<String>,
    /// Do not move tasks onto machines that are new or back; `rebalance = false` in the file
    #[arg(long)]
    no_rebalance: bool,
    /// A voting master that is silent for so long gives its vote to another [default: 20s]
    #[arg(long, value_name = "TIME")]
    voter_grace: Option<String>,
    /// The TOML file [default: /etc/bramble/bramble.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "BRAMBLE_CONFIG")]
    config: Option<PathBuf>,
    /// Print every setting with its value and origin, then leave
    #[arg(long)]
    pub print_config: bool,
}

/// Default of `--data-dir`.
pub const DATA_DIR: &str = "/var/lib/bramble";
const KEYS: [(&str, &str); 22] = [
    ("data-dir", DATA_DIR),
    ("run-dir", RUN_DIR),
    ("http", "0.0.0.0:8080"),
    ("quic", "0.0.0.0:7443"),
    ("name", ""),
    ("token", ""),
    ("founding", ""),
    ("join", ""),
    ("attributes", ""),
    ("resources", ""),
    ("open-api", "false"),
    ("allow-host-volumes", "false"),
    ("allow-privileged", "false"),
    ("insecure-registries", ""),
    ("docker-config", ""),
    ("access-control-allow-origin", ""),
    ("artifact-store", "false"),
    ("cgroup-parent", ""),
    // Mesos: five pings at 15 s. An agent is back from a restart in a second or two.
    ("agent-timeout", "75s"),
    ("rebalance", "true"),
    // A reboot must not cost a vote.
    ("voter-grace", "20s"),
    // Elsewhere where a node runs inside something that hides the machine's own, and in tests.
    ("sysfs", "/sys"),
];
/// Those that say where a node is, rather than how it runs.
const OF_PLACE: [&str; 3] = ["data-dir", "run-dir", "cgroup-parent"];
/// Where a value comes from that nobody gave.
const DEFAULT_ORIGIN: &str = "default";
/// Settings whose values nobody is shown.
const HIDDEN: [&str; 1] = ["token"];

/// Values as text, with where each comes from.
pub struct Settings {
    values: BTreeMap<&'static str, (String, String)>,
}

/// Values as the node uses them.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub http: SocketAddr,
    pub quic: SocketAddr,
    pub name: String,
    /// Nobody chose the name: it is the host's.
    pub default_name: bool,
    pub token: Option<JoinToken>,
    pub founding: Option<PathBuf>,
    pub join: Option<String>,
    pub attributes: BTreeMap<String, String>,
    pub resources: ResourceOverrides,
    pub open_api: bool,
    pub allow_host_volumes: bool,
    pub allow_privileged: bool,
    pub insecure_registries: Vec<String>,
    pub docker_config: Option<PathBuf>,
    pub allow_origins: Vec<String>,
    pub artifact_store: bool,
    pub cgroup_parent: String,
    pub agent_timeout: Duration,
    pub rebalance: bool,
    pub voter_grace: Duration,
    pub sysfs: PathBuf,
    /// Every setting with its origin, as `--print-config --json` shows it.
    pub settings: serde_json::Value,
}

/// For the help of verbs that act on a node which they do not run: leave out what only a running
/// one uses. Taken all the same, so that a line's flags fit every verb.
pub fn hide_running(arg: Arg) -> Arg {
    let key = arg.get_id().as_str().replace('_', "-");
    let runs = KEYS.iter().any(|(known, _)| *known == key) && !OF_PLACE.contains(&key.as_str());
    arg.hide(runs || key == "no-rebalance")
}

impl NodeArgs {
    fn flag(&self, key: &str) -> Option<String> {
        let switch = |on: bool| on.then(|| "true".to_string());
        match key {
            "data-dir" => self.data_dir.clone(),
            "http" => self.http.clone(),
            "quic" => self.quic.clone(),
            "name" => self.name.clone(),
            "token" => self.token.clone(),
            "founding" => self.founding.clone(),
            "join" => self.join.clone(),
            "attributes" => self.attributes.clone(),
            "resources" => self.resources.clone(),
            "open-api" => switch(self.open_api),
            "allow-host-volumes" => switch(self.allow_host_volumes),
            "allow-privileged" => switch(self.allow_privileged),
            "insecure-registries" => self.insecure_registries.clone(),
            "docker-config" => self.docker_config.clone(),
            "access-control-allow-origin" => self.access_control_allow_origin.clone(),
            "artifact-store" => switch(self.artifact_store),
            "agent-timeout" => self.agent_timeout.clone(),
            "voter-grace" => self.voter_grace.clone(),
            "cgroup-parent" => self.cgroup_parent.clone(),
            "rebalance" => self.no_rebalance.then(|| "false".to_string()),
            _ => None,
        }
    }
}

impl Settings {
    /// Find every setting's value. `run_dir` is parsed with the verbs' common flags.
    pub fn resolve(args: &NodeArgs, run_dir: Option<&Path>) -> Result<Self> {
        let (file, path) = read_file(args.config.as_deref())?;
        Self::from_sources(args, run_dir, |key| std::env::var(key).ok(), &file, &path)
    }

    fn from_sources(
        args: &NodeArgs,
        run_dir: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
        file: &toml::Table,
        path: &str,
    ) -> Result<Self> {
        if let Some(unknown) = file.keys().find(|key| !KEYS.iter().any(|(known, _)| known == key)) {
            bail!("{path}: unknown key {unknown:?}; `bramble up --print-config` lists the keys");
        }
        let mut values = BTreeMap::new();
        for (key, default) in KEYS {
            let name = format!("BRAMBLE_{}", key.to_uppercase().replace('-', "_"));
            let flag = match key {
                "run-dir" => run_dir.map(|dir| dir.display().to_string()),
                _ => args.flag(key),
            };
            let found = if let Some(value) = flag {
                (value, "flag".to_string())
            } else if let Some(value) = variable(&name) {
                (value, name)
            } else if let Some(value) = file.get(key) {
                (plain(value, path, key)?, path.to_string())
            } else {
                (default.to_string(), DEFAULT_ORIGIN.to_string())
            };
            values.insert(key, found);
        }
        Ok(Self { values })
    }

    fn get(&self, key: &'static str) -> &str {
        self.values.get(key).map(|(value, _)| value.as_str()).unwrap_or_default()
    }

    fn parsed<T: std::str::FromStr>(&self, key: &'static str, form: &str) -> Result<T> {
        let Some((value, origin)) = self.values.get(key) else { bail!("{key} has no value") };
        value.parse().map_err(|_| anyhow!("{key} is {value:?} ({origin}); write {form}"))
    }

    /// Read a value by the agent's own rules: here, so that a slip leaves nothing behind.
    fn read<T, E: std::fmt::Display>(
        &self,
        key: &'static str,
        parse: fn(&str) -> Result<T, E>,
    ) -> Result<T> {
        let Some((value, origin)) = self.values.get(key) else { bail!("{key} has no value") };
        parse(value).map_err(|error| anyhow!("{key} is {value:?} ({origin}): {error}"))
    }

    /// Check and convert every value.
    pub fn node(&self) -> Result<NodeConfig> {
        let data_dir = PathBuf::from(self.get("data-dir"));
        let list = |key| self.get(key).split(',').map(str::trim).filter(|part| !part.is_empty());
        let docker_config = self.get("docker-config");
        let cgroup_parent = match self.get("cgroup-parent") {
            "" => default_cgroup_parent(&data_dir),
            given if given.starts_with('/') && !given.contains("..") => given.to_string(),
            given => bail!("cgroup-parent is {given:?}; write an absolute path such as /bramble"),
        };
        Ok(NodeConfig {
            run_dir: PathBuf::from(self.get("run-dir")),
            http: self.parsed("http", "ADDRESS:PORT, for example 0.0.0.0:8080")?,
            quic: self.parsed("quic", "ADDRESS:PORT, for example 0.0.0.0:7443")?,
            name: self.name()?,
            default_name: self.get("name").is_empty(),
            token: self.token()?,
            founding: (!self.get("founding").is_empty()).then(|| self.get("founding").into()),
            join: (!self.get("join").is_empty()).then(|| self.get("join").to_string()),
            attributes: self.read("attributes", parse_attributes)?,
            resources: self.read("resources", parse_resources)?,
            open_api: self.parsed("open-api", "true or false")?,
            allow_host_volumes: self.parsed("allow-host-volumes", "true or false")?,
            allow_privileged: self.parsed("allow-privileged", "true or false")?,
            insecure_registries: list("insecure-registries").map(str::to_string).collect(),
            docker_config: (!docker_config.is_empty()).then(|| docker_config.into()),
            allow_origins: list("access-control-allow-origin").map(str::to_string).collect(),
            artifact_store: self.parsed("artifact-store", "true or false")?,
            cgroup_parent,
            agent_timeout: self.read("agent-timeout", parse_wait)?,
            rebalance: self.parsed("rebalance", "true or false")?,
            voter_grace: self.read("voter-grace", parse_wait)?,
            sysfs: PathBuf::from(self.get("sysfs")),
            settings: self.json(),
            data_dir,
        })
    }

    fn name(&self) -> Result<String> {
        let name = match self.get("name") {
            "" => nix::unistd::gethostname()
                .context("reading the host name")?
                .to_string_lossy()
                .into_owned(),
            given => given.to_string(),
        };
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if name.is_empty() || name.len() > 63 || !name.chars().all(good) {
            bail!("name is {name:?}; use letters, digits, '-' and '.', 63 at most");
        }
        Ok(name)
    }

    /// A mistyped token is told without showing it. An empty one is a variable of a script that was
    /// never set: who gives a token means to join, and must not found a cluster by that slip.
    fn token(&self) -> Result<Option<JoinToken>> {
        match self.values.get("token") {
            Some((value, origin)) if value.trim().is_empty() && origin != DEFAULT_ORIGIN => bail!(
                "token ({origin}) is empty: give --token what `bramble token` prints on a node of \
                 the cluster, or leave it out to make a cluster of this node's own"
            ),
            Some((value, origin)) if origin != DEFAULT_ORIGIN => {
                let token = value.parse().map_err(|error| anyhow!("token ({origin}): {error}"))?;
                Ok(Some(token))
            }
            _ => Ok(None),
        }
    }

    /// A value as it may be shown.
    fn shown<'a>(key: &str, value: &'a str) -> &'a str {
        if HIDDEN.contains(&key) && !value.is_empty() { "(hidden)" } else { value }
    }

    /// Every setting as JSON: `{"key":{"value":..,"origin":..}}`.
    pub fn json(&self) -> serde_json::Value {
        let entry =
            |value: &str, origin: &str| serde_json::json!({"value": value, "origin": origin});
        self.values
            .iter()
            .map(|(key, (value, origin))| (key.to_string(), entry(Self::shown(key, value), origin)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// One line per setting: key, value, origin.
    pub fn render(&self) -> String {
        let mut table = crate::table::Table::new(&["KEY", "VALUE", "ORIGIN"]);
        for (key, (value, origin)) in &self.values {
            let value = format!("{:?}", Self::shown(key, value));
            table.row(vec![(*key).into(), value, origin.clone()]);
        }
        table.render()
    }
}

/// Nodes with their own data directories must not share cgroups on one machine.
fn default_cgroup_parent(data_dir: &Path) -> String {
    if data_dir == Path::new(DATA_DIR) {
        return "/bramble".into();
    }
    let text = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.into());
    format!("/bramble-{}", short_name(text.as_os_str().as_encoded_bytes()))
}

/// Read how long to wait for somebody, with its unit: `90s`, `5m`. With less than a second, whoever
/// stops to breathe would be given up; a week is more than anybody who is coming back needs.
fn parse_wait(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "write a time from 1s to 10080m (a week), in whole seconds or minutes, for \
        example 90s or 5m";
    const RANGE: RangeInclusive<u64> = 1..=7 * 24 * 60 * 60;
    let (number, seconds) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 60),
        (None, None) => return Err(FORM),
    };
    let number: u32 = number.parse().map_err(|_| FORM)?;
    let all = u64::from(number) * seconds;
    if RANGE.contains(&all) { Ok(Duration::from_secs(all)) } else { Err(FORM) }
}

/// Eight characters that stand for a longer name.
pub fn short_name(text: &[u8]) -> String {
    // FNV-1a: only the name must be stable and short, nothing depends on its strength.
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}", hash >> 32)
}

fn read_file(given: Option<&Path>) -> Result<(toml::Table, String)> {
    let path = given.unwrap_or(Path::new(CONFIG_FILE));
    let shown = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let table = text.parse().with_context(|| format!("reading {shown}"))?;
            Ok((table, shown))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && given.is_none() => {
            Ok((toml::Table::new(), shown))
        }
        Err(error) => Err(error).with_context(|| format!("reading {shown}")),
    }
}

fn plain(value: &toml::Value, path: &str, key: &str) -> Result<String> {
    Ok(match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Boolean(on) => on.to_string(),
        toml::Value::Integer(number) => number.to_string(),
        _ => bail!("{path}: {key} must be a text or true/false"),
    })
}

#[cfg(test)]
mod tests;
