//! `bramble cluster new`: a cluster's keys, before any of its nodes exists. Asks no node.

use crate::output::{print, print_json};
use anyhow::{Context, Result, bail};
use bramble_protocol::net::FoundingFile;
use clap::{Args, Subcommand};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Readable and writable by the owner alone.
const PRIVATE_MODE: u32 = 0o600;

#[derive(Subcommand, Debug)]
pub enum ClusterVerb {
    /// Make a founding file, for exactly one node, and a join token, for all others
    ///
    /// Writes NAME.founding and NAME.token. The node started with `bramble up --founding FILE`
    /// founds the cluster; those started with `bramble up --token TOKEN` wait for it and join, in
    /// whatever order all are switched on.
    New(NewArgs),
}

#[derive(Args, Debug)]
pub struct NewArgs {
    /// What to call it: also the name of the two files
    #[arg(default_value = "home")]
    name: String,
    /// Where to write them; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

pub fn run(verb: ClusterVerb, as_json: bool) -> Result<u8> {
    let ClusterVerb::New(NewArgs { name, out }) = verb;
    let made = FoundingFile::mint(&name)?;
    std::fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let (founding, token) =
        (out.join(format!("{name}.founding")), out.join(format!("{name}.token")));
    for path in [&founding, &token] {
        if path.symlink_metadata().is_ok() {
            bail!(
                "{} is there already, and may be all there is of a cluster's keys: give another \
                 NAME or --out, or move it away",
                path.display()
            );
        }
    }
    let text = made.token.to_string();
    write_new(&founding, made.render().expose())?;
    if let Err(error) = write_new(&token, format!("{text}\n").as_bytes()) {
        // Half a cluster is none: the other half was not even shown.
        let _ = std::fs::remove_file(&founding);
        return Err(error);
    }
    if as_json {
        print_json(&json!({
            "name": name, "cluster": made.cluster_id, "token": text,
            "foundingFile": founding, "tokenFile": token,
        }))?;
        return Ok(0);
    }
    let (founding, token) = (founding.display(), token.display());
    print(&format!(
        "{founding} founds cluster \"{name}\" ({id}). It holds the cluster's master key:\n\
         give it to exactly ONE node, which removes it once it is used\n    \
         bramble up --founding {founding}\n\
         {token} holds the join token, for all other nodes\n    \
         bramble up --token {text}\n\
         They may be started in any order.\n",
        id = made.cluster_id,
    ))?;
    Ok(0)
}

/// Write a private file that is not there yet, and have it on disk.
fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(PRIVATE_MODE).open(path)?;
        let whole = file.write_all(bytes).and_then(|()| file.sync_all());
        if whole.is_err() {
            let _ = std::fs::remove_file(path);
        }
        whole?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    written().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn new(name: &str, out: &Path) -> Result<u8> {
        run(ClusterVerb::New(NewArgs { name: name.into(), out: out.into() }), true)
    }

    #[test]
    fn two_private_files_that_belong_together_and_are_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("made/here");
        new("home", &out).expect("makes");
        let (founding, token) = (out.join("home.founding"), out.join("home.token"));
        for path in [&founding, &token] {
            assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
        }
        let read = FoundingFile::read(&founding).expect("reads");
        let text = std::fs::read_to_string(&token).expect("reads");
        assert_eq!(text.trim(), read.token.to_string());
        for (kept, other) in [(&founding, &token), (&token, &founding)] {
            std::fs::remove_file(other).expect("removes");
            let before = std::fs::read(kept).expect("reads");
            let said = new("home", &out).expect_err("refused").to_string();
            assert!(said.contains(&kept.display().to_string()) && said.contains("NAME"), "{said}");
            assert!(!other.exists() && std::fs::read(kept).expect("reads") == before);
            std::fs::write(other, &before).expect("writes");
        }
        let said = new("a/b", &out).expect_err("refused").to_string();
        assert!(said.contains("a/b"), "{said}");
    }
}
