//! `load` and `images`.

use super::Common;
use crate::client::{Body, Client, refusal};
use crate::output::{print, print_json};
use crate::table::{Table, age, size};
use anyhow::{Context, Result, bail};
use bramble_protocol::native::{ImageView, LoadLine};
use bytes::{Bytes, BytesMut};
use clap::Args;
use futures_util::StreamExt;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_util::io::ReaderStream;

/// Bytes of a line of progress; a longer one is not the API's.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes read from the archive at a time.
const CHUNK_BYTES: usize = 256 * 1024;

#[derive(Args, Debug)]
pub struct LoadArgs {
    /// The archive (plain, gzip or zstd); `-` = standard input
    file: PathBuf,
}

pub async fn load(client: &Client, common: &Common, args: LoadArgs) -> Result<u8> {
    let stdin = args.file.as_os_str() == "-";
    let (body, bytes) = if stdin {
        (streamed(tokio::io::stdin()), None)
    } else {
        let file = tokio::fs::File::open(&args.file)
            .await
            .with_context(|| format!("opening {}", args.file.display()))?;
        let kind = file.metadata().await.context("reading the archive's size")?;
        if kind.is_dir() {
            bail!("{} is a directory; give an archive of it", args.file.display());
        }
        // A pipe has no size.
        (streamed(file), kind.is_file().then_some(kind.len()))
    };
    let bar = progress_bar(bytes);
    let headers = [("Content-Type", "application/x-tar")];
    let answer = client.open(Method::POST, "/v1/bramble/images", &headers, body).await?;
    if !answer.status().is_success() {
        bar.finish_and_clear();
        return Err(refusal(answer).await.into());
    }
    let images = follow(answer.into_body(), &bar).await;
    bar.finish_and_clear();
    let images = images?;
    if common.json {
        print_json(&serde_json::to_value(&images)?)?;
    } else {
        for image in images {
            print(&format!("loaded {} ({})\n", image.reference, size(image.size_bytes)))?;
        }
    }
    Ok(0)
}

pub(super) fn streamed(reader: impl tokio::io::AsyncRead + Send + Sync + 'static) -> Body {
    let chunks = ReaderStream::with_capacity(reader, CHUNK_BYTES);
    BodyExt::boxed(StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))))
}

pub(super) fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, form) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:32} {bytes}/{total_bytes} {eta} {wide_msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {wide_msg}"),
    };
    match ProgressStyle::with_template(form) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Read lines of progress to the last one.
pub(super) async fn follow(
    mut body: hyper::body::Incoming,
    bar: &ProgressBar,
) -> Result<Vec<ImageView>> {
    let mut pending = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the upload broke off; nothing was kept")?;
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        if pending.len() > LINE_BYTES_MAX {
            bail!("the answer is not one of bramble's");
        }
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Bytes = pending.split_to(end + 1).freeze();
            match serde_json::from_slice(&line).context("reading a line of progress")? {
                LoadLine::Read(bytes) => bar.set_position(bytes),
                LoadLine::Note(note) => bar.set_message(note),
                LoadLine::Done(images) => return Ok(images),
                LoadLine::Failed(reason) => bail!("{reason}"),
            }
        }
    }
    bail!("the upload broke off before it was done; nothing was kept")
}

pub async fn list(client: &Client, common: &Common) -> Result<u8> {
    let answer: Value = client.get("/v1/bramble/images").await?;
    if common.json {
        print_json(&answer)?;
        return Ok(0);
    }
    let images: Vec<ImageView> = serde_json::from_value(answer).context("reading the images")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut table = Table::new(&["IMAGE", "DIGEST", "PLATFORM", "SIZE", "AGE", "AGENTS"]);
    for image in images {
        let digest = image.digest.trim_start_matches("sha256:");
        table.row(vec![
            image.reference,
            digest.chars().take(12).collect(),
            image.platform,
            size(image.size_bytes),
            age(now.saturating_sub(image.created_unix_s)),
            image.agents.len().to_string(),
        ]);
    }
    print(&table.render())?;
    Ok(0)
}
