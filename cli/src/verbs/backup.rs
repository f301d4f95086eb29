//! `backup`: everything that makes this cluster, in one sealed file.

use super::{Common, passphrase};
use crate::client::{Client, refusal, whole};
use crate::output::{print, print_json};
use anyhow::{Context, Result, bail};
use bramble_master::backup::{BACKUP_BYTES_MAX, Header, is_sealed, seal};
use bramble_protocol::net::write_private;
use bramble_protocol::timestamp;
use clap::Args;
use http::Method;
use http_body_util::{BodyExt, Limited};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct BackupArgs {
    /// File to write, mode 0600; one that is there is replaced
    file: PathBuf,
    /// File with the passphrase that seals the backup; without, it is asked for
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Write every key of the cluster into the file in the clear
    #[arg(long, conflicts_with = "passphrase_file")]
    unencrypted: bool,
}

pub async fn run(client: &Client, common: &Common, args: BackupArgs) -> Result<u8> {
    let beside = args.file.parent().filter(|dir| !dir.as_os_str().is_empty());
    if let Some(dir) = beside.filter(|dir| !dir.is_dir()) {
        bail!("{} is no directory: make it, or name another file", dir.display());
    }
    // Asked first: nothing is fetched for somebody who has no passphrase.
    let passphrase = if args.unencrypted {
        None
    } else {
        let Some(given) = passphrase::read(args.passphrase_file.as_deref(), true).await? else {
            bail!(
                "a backup holds every key of the cluster: give a passphrase with \
                 --passphrase-file FILE, or say --unencrypted"
            );
        };
        Some(given)
    };
    let answer = client.open(Method::GET, "/v1/bramble/backup", &[], whole(b"")).await?;
    if !answer.status().is_success() {
        return Err(refusal(answer).await.into());
    }
    let limit = usize::try_from(BACKUP_BYTES_MAX).unwrap_or(usize::MAX);
    let body = Limited::new(answer.into_body(), limit).collect().await;
    let plain = body.map_err(|error| anyhow::anyhow!("reading the backup: {error}"))?.to_bytes();
    let bytes = match &passphrase {
        Some(passphrase) => seal(&plain, passphrase)?,
        None => plain.to_vec(),
    };
    let (header, sealed) = is_sealed(&bytes)?;
    write_private(&args.file, &bytes)
        .with_context(|| format!("writing {}", args.file.display()))?;
    told(common, &args, &header, sealed, bytes.len())?;
    Ok(0)
}

fn told(
    common: &Common,
    args: &BackupArgs,
    header: &Header,
    sealed: bool,
    bytes: usize,
) -> Result<()> {
    let made_at = timestamp::format(header.made_at);
    if common.json {
        return print_json(&serde_json::json!({
            "file": args.file, "cluster": header.cluster_id, "madeAt": made_at,
            "index": header.index, "bytes": bytes, "sealed": sealed,
        }));
    }
    print(&format!(
        "{} holds cluster {} as of {made_at} (index {}), {bytes} bytes\n",
        args.file.display(),
        header.cluster_id,
        header.index
    ))?;
    if !sealed {
        eprintln!(
            "bramble: warning: whoever reads this file owns the cluster and all its secrets: it is \
             not encrypted"
        );
    }
    Ok(())
}
