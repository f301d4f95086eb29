//! `logs`: a task's output as it was written.

use super::encode;
use crate::client::{Client, refusal, whole};
use crate::output::write;
use anyhow::{Context, Result};
use clap::Args;
use http::Method;
use http_body_util::BodyExt;

#[derive(Args, Debug)]
pub struct LogsArgs {
    /// Task id, its beginning, or an app id
    task: String,
    /// Go on as the task writes
    #[arg(short, long)]
    follow: bool,
    /// Standard error instead of standard output
    #[arg(long)]
    stderr: bool,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<u32>,
}

pub async fn run(client: &Client, args: LogsArgs) -> Result<u8> {
    let mut path = format!(
        "/v1/bramble/tasks/{}/logs?stderr={}&follow={}",
        encode(args.task.trim_start_matches('/')),
        args.stderr,
        args.follow
    );
    if let Some(lines) = args.tail {
        path.push_str(&format!("&tail={lines}"));
    }
    let answer = client.open(Method::GET, &path, &[], whole(&[])).await?;
    if !answer.status().is_success() {
        return Err(refusal(answer).await.into());
    }
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the log broke off")?;
        let Ok(data) = frame.into_data() else { continue };
        // `bramble logs | head` is done when head is.
        if !write(&data)? {
            break;
        }
    }
    Ok(0)
}
