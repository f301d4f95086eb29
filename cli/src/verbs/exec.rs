//! `exec`: a command inside a task, with its input, output and exit code.

use super::{encode, terminal};
use crate::client::{Client, refusal, whole};
use crate::output::write;
use anyhow::{Context, Result, bail};
use bramble_protocol::message::{ExecInput, ExecOutput};
use bramble_protocol::native::EXEC_UPGRADE;
use bramble_protocol::net as frame;
use clap::Args;
use http::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use std::io::Write;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::signal::unix::{SignalKind, signal};

/// Bytes of input sent in one frame.
const INPUT_BYTES: usize = 16 * 1024;
/// Exit code when nobody reads the output any more: what SIGPIPE would have made of the command.
const EXIT_UNREAD: u8 = 128 + 13;

#[derive(Args, Debug)]
pub struct ExecArgs {
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Task id, its beginning, or an app id
    task: String,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<String>,
}

pub async fn run(client: &Client, args: ExecArgs) -> Result<u8> {
    let (rows, columns) = terminal::size();
    let mut path = format!(
        "/v1/bramble/tasks/{}/exec?tty={}&rows={rows}&columns={columns}",
        encode(args.task.trim_start_matches('/')),
        args.tty
    );
    for argument in &args.command {
        path.push_str(&format!("&arg={}", encode(argument)));
    }
    let headers = [("Connection", "Upgrade"), ("Upgrade", EXEC_UPGRADE)];
    let answer = client.open(Method::POST, &path, &headers, whole(&[])).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(answer).await.into());
    }
    let upgraded = hyper::upgrade::on(answer).await.context("taking over the connection")?;
    let (mut down, up) = tokio::io::split(TokioIo::new(upgraded));
    let raw = if args.tty { terminal::RawTerminal::enter()? } else { None };
    let input = tokio::spawn(send_input(up, args.tty));
    let ended = receive(&mut down).await;
    input.abort();
    drop(raw);
    ended
}

/// Print what comes until the command has ended.
async fn receive(down: &mut (impl tokio::io::AsyncRead + Unpin)) -> Result<u8> {
    loop {
        let said = frame::read_frame::<ExecOutput>(down).await;
        match said.context("the connection broke off")? {
            Some(ExecOutput::Stdout(bytes)) => {
                if !write(&bytes)? {
                    return Ok(EXIT_UNREAD);
                }
            }
            // Who closes it does not want to read it; the command's code still counts.
            Some(ExecOutput::Stderr(bytes)) => drop(std::io::stderr().write_all(&bytes)),
            Some(ExecOutput::Exited(code)) => return Ok(u8::try_from(code).unwrap_or(1)),
            Some(ExecOutput::Failed(reason)) => bail!("{reason}"),
            None => bail!("the connection closed before the command ended"),
        }
    }
}

/// Send what the user types, and the terminal's size when it changes.
async fn send_input(mut up: impl AsyncWrite + Unpin, tty: bool) -> Result<()> {
    let mut stdin = tokio::io::stdin();
    let mut resized = signal(SignalKind::window_change()).context("watching the window")?;
    let mut buffer = vec![0; INPUT_BYTES];
    let mut open = true;
    loop {
        tokio::select! {
            read = stdin.read(&mut buffer), if open => match read.context("reading the input")? {
                0 => {
                    open = false;
                    frame::write_frame(&mut up, &ExecInput::StdinClosed).await?;
                }
                count => {
                    let bytes = buffer[..count].to_vec();
                    frame::write_frame(&mut up, &ExecInput::Stdin(bytes)).await?;
                }
            },
            _ = resized.recv() => {
                if !tty {
                    continue;
                }
                let (rows, columns) = terminal::size();
                frame::write_frame(&mut up, &ExecInput::Resize { rows, columns }).await?;
            }
        }
    }
}
