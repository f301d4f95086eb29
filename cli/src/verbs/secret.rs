//! `secret`: put, list and remove. A value is read from a file, a pipe or the terminal, never from
//! the command line, where every user of the machine could see it.

use super::terminal::Silence;
use super::{Common, encode};
use crate::client::Client;
use crate::output::{print, print_json};
use crate::table::Table;
use anyhow::{Context, Result, bail};
use bramble_protocol::native::{SecretView, Secrets};
use bramble_protocol::secret::{SECRET_BYTES_MAX, Secret};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;
use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdin};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub struct SecretArgs {
    #[command(subcommand)]
    verb: SecretVerb,
}

#[derive(Subcommand, Debug)]
enum SecretVerb {
    /// Create or replace a secret; asks for the value, or reads it from a file or pipe
    ///
    /// Every byte counts, also a newline at the end: `printf %s VALUE | bramble secret put NAME`
    /// has none. Running tasks keep the value they started with; new ones get the new one.
    Put(PutArgs),
    /// List secrets by name, never their values
    Ls,
    /// Remove a secret; running tasks keep their value, new ones wait until it is put again
    Rm(NameArgs),
}

#[derive(Args, Debug)]
struct PutArgs {
    /// Name: letters, digits and `._-`, in parts between `/`
    name: String,
    /// File with the value; `-` = standard input
    file: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct NameArgs {
    /// Name of the secret
    name: String,
}

pub async fn run(client: &Client, common: &Common, args: SecretArgs) -> Result<u8> {
    match args.verb {
        SecretVerb::Put(args) => put(client, common, args).await,
        SecretVerb::Ls => list(client, common).await,
        SecretVerb::Rm(args) => remove(client, common, &args.name).await,
    }
}

fn path(name: &str) -> String {
    format!("/v1/bramble/secrets/{}", encode(name.trim_start_matches('/')))
}

async fn put(client: &Client, common: &Common, args: PutArgs) -> Result<u8> {
    let value = value(&args.name, args.file.as_deref()).await?;
    let kind = "application/octet-stream";
    let answer = client.send(Method::PUT, &path(&args.name), kind, value.expose()).await?;
    let view = shown(common, answer)?;
    if let Some(view) = view {
        print(&format!("{} is now at version {}\n", view.name, view.version))?;
        if view.version > 1 && !view.apps.is_empty() {
            let apps = view.apps.join(", ");
            print(&format!("running tasks keep the old value until a restart of {apps}\n"))?;
        }
    }
    Ok(0)
}

/// Read the value from where the user has it.
async fn value(name: &str, file: Option<&Path>) -> Result<Secret> {
    let bytes = match file {
        Some(file) if file.as_os_str() != "-" => {
            let opened = std::fs::File::open(file).with_context(|| {
                format!(
                    "opening {} (the value is read from a file, not given here)",
                    file.display()
                )
            })?;
            bounded(opened)?
        }
        None if stdin().is_terminal() => asked(name).await?,
        _ => bounded(stdin())?,
    };
    if bytes.is_empty() {
        bail!("the value is empty; nothing was changed");
    }
    Ok(Secret::new(bytes))
}

fn bounded(from: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = SECRET_BYTES_MAX as u64 + 1;
    from.take(limit).read_to_end(&mut bytes).context("reading the value")?;
    if bytes.len() > SECRET_BYTES_MAX {
        bail!("the value is over {SECRET_BYTES_MAX} bytes; mount larger files as a volume");
    }
    Ok(bytes)
}

/// Ask at the terminal, without showing what is typed. Ctrl-C ends the question and gives the
/// terminal back.
async fn asked(name: &str) -> Result<Vec<u8>> {
    let _silent = Silence::begin()?;
    let mut prompt = stderr();
    write!(prompt, "value of {name}: ").and_then(|()| prompt.flush()).context("asking")?;
    let typed = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        stdin().lock().read_line(&mut line).map(|_| line)
    });
    let typed = tokio::select! {
        typed = typed => Some(typed),
        _ = tokio::signal::ctrl_c() => None,
    };
    // The user's own newline was not shown either.
    writeln!(prompt).context("asking")?;
    let Some(typed) = typed else { bail!("stopped; nothing was changed") };
    let mut line = typed.context("reading the value")?.context("reading the value")?;
    let kept = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(kept);
    Ok(line.into_bytes())
}

async fn list(client: &Client, common: &Common) -> Result<u8> {
    let answer: Value = client.get("/v1/bramble/secrets").await?;
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let all: Secrets = serde_json::from_value(answer).context("reading the secrets")?;
    let mut table = Table::new(&["NAME", "VERSION", "CHANGED", "APPS"]);
    for view in all.secrets {
        let apps = view.apps.join(",");
        table.row(vec![view.name, view.version.to_string(), view.changed_at, apps]);
    }
    print(&table.render())?;
    Ok(0)
}

async fn remove(client: &Client, common: &Common, name: &str) -> Result<u8> {
    let answer = client.call(Method::DELETE, &path(name), None).await?;
    if let Some(view) = shown(common, answer)? {
        print(&format!("{} is removed\n", view.name))?;
        if !view.apps.is_empty() {
            let apps = view.apps.join(", ");
            print(&format!("running tasks of {apps} keep it; new ones wait for it\n"))?;
        }
    }
    Ok(0)
}

/// Print the answer as JSON if that was asked for; else give it to be told in words.
fn shown(common: &Common, answer: Value) -> Result<Option<SecretView>> {
    if common.json {
        print_json(&answer)?;
        return Ok(None);
    }
    Ok(Some(serde_json::from_value(answer).context("reading the answer")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        assert_eq!(path("/prod/db"), "/v1/bramble/secrets/prod/db");
        assert_eq!(path("a b"), "/v1/bramble/secrets/a%20b");
    }

    #[tokio::test]
    async fn values_are_read_whole_and_bounded() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("value");
        std::fs::write(&file, b"a\0\n").expect("writes");
        assert_eq!(value("n", Some(&file)).await.expect("reads").expose(), b"a\0\n");
        std::fs::write(&file, b"").expect("writes");
        let told =
            async |file: &Path| format!("{:#}", value("n", Some(file)).await.expect_err("refused"));
        assert!(told(&file).await.contains("empty"));
        std::fs::write(&file, vec![1; SECRET_BYTES_MAX + 1]).expect("writes");
        assert!(told(&file).await.contains("65536 bytes"));
        assert!(told(&dir.path().join("absent")).await.contains("read from a file"));
    }
}
