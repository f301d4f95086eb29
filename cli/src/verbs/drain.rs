//! `drain` and `undrain`: empty a machine before it is switched off, and open it again.

use super::deploy::LOOK_EVERY_MS;
use super::{Common, encode};
use crate::client::{Client, ClientError};
use crate::output::{print, print_json};
use crate::table::Table;
use anyhow::{Context, Result};
use bramble_protocol::native::{DrainTask, DrainView};
use clap::Args;
use http::Method;
use serde_json::Value;
use std::time::{Duration, Instant};

#[derive(Args, Debug)]
pub struct DrainArgs {
    /// Name of the agent, its id, or how its id begins
    #[arg(value_parser = super::name)]
    agent: String,
    /// Wait until no task is left; ends with 4 when time is up, and says what stays
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait")]
    timeout: u64,
}

#[derive(Args, Debug)]
pub struct UndrainArgs {
    /// Name of the agent, its id, or how its id begins
    #[arg(value_parser = super::name)]
    agent: String,
}

pub async fn drain(client: &Client, common: &Common, args: DrainArgs) -> Result<u8> {
    let path = path(&args.agent);
    let answer = client.call(Method::POST, &path, None).await?;
    if !args.wait {
        return show(common, answer);
    }
    let until = Instant::now() + Duration::from_secs(args.timeout);
    let mut said = String::new();
    let mut answer = answer;
    loop {
        let view = read(answer.clone())?;
        let progress = progress(&view);
        if progress != said && !common.json {
            print(&progress)?;
        }
        said = progress;
        if view.state != "draining" {
            break;
        }
        if Instant::now() >= until {
            let message = left(&view);
            return Err(ClientError::TimedOut { seconds: args.timeout, message }.into());
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
        answer = client.get(&path).await?;
    }
    if common.json {
        print_json(&answer)?;
    }
    Ok(0)
}

pub async fn undrain(client: &Client, common: &Common, args: UndrainArgs) -> Result<u8> {
    let answer = client.call(Method::DELETE, &path(&args.agent), None).await?;
    show(common, answer)
}

fn path(agent: &str) -> String {
    format!("/v1/bramble/agents/{}/drain", encode(agent))
}

fn read(answer: Value) -> Result<DrainView> {
    serde_json::from_value(answer).context("reading the answer")
}

fn show(common: &Common, answer: Value) -> Result<u8> {
    if common.json {
        print_json(&answer)?;
    } else {
        print(&told(&read(answer)?))?;
    }
    Ok(0)
}

fn told(view: &DrainView) -> String {
    let head = match view.state.as_str() {
        "open" => format!("{} is open: tasks may come to it\n", view.host),
        _ => format!("{} is {}, {} left\n", view.host, view.state, tasks(view.tasks.len())),
    };
    if view.state == "open" || view.tasks.is_empty() {
        return head;
    }
    let mut table = Table::new(&["TASK", "APP", "WHAT"]);
    for task in &view.tasks {
        table.row(vec![task.id.clone(), task.app.clone(), task.message.clone()]);
    }
    head + &table.render()
}

/// What has come about since the last look, worth a line or more only when it changes.
fn progress(view: &DrainView) -> String {
    if view.state == "open" {
        return format!("{} was opened again\n", view.host);
    }
    let mut text = format!("{}: {} left\n", view.host, tasks(view.tasks.len()));
    let stays = view.tasks.iter().filter(|task| !task.goes);
    stays.for_each(|task| text.push_str(&format!("  {}\n", line(task))));
    text
}

fn left(view: &DrainView) -> String {
    let lines: Vec<String> = view.tasks.iter().map(line).collect();
    format!("{} left on {}: {}", tasks(view.tasks.len()), view.host, lines.join("; "))
}

fn line(task: &DrainTask) -> String {
    format!("{}: {}", task.id, task.message)
}

fn tasks(count: usize) -> String {
    if count == 1 { "1 task".into() } else { format!("{count} tasks") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: &str, tasks: &[(&str, bool, &str)]) -> DrainView {
        let task = |(id, goes, message): &(&str, bool, &str)| DrainTask {
            id: (*id).into(),
            app: "/a".into(),
            goes: *goes,
            message: (*message).into(),
        };
        DrainView {
            host: "pi-1".into(),
            state: state.into(),
            tasks: tasks.iter().map(task).collect(),
            ..DrainView::default()
        }
    }

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: DrainArgs,
    }

    #[test]
    fn a_time_to_wait_is_for_who_waits() {
        use clap::Parser;
        let parse = |line: &str| Line::try_parse_from(line.split(' ')).map(|line| line.args);
        assert_eq!(parse("drain pi-1").expect("good").timeout, 300);
        assert_eq!(parse("drain pi-1 --wait --timeout 5").expect("good").timeout, 5);
        let error = parse("drain pi-1 --timeout 5").expect_err("nobody waits").to_string();
        assert!(error.contains("--wait"), "{error}");
        let error = parse("drain ").expect_err("no name").to_string();
        assert!(error.contains("it is empty"), "{error}");
    }

    #[test]
    fn what_is_left_is_told_and_what_stays_is_named() {
        let both = view("draining", &[("t1", true, "stops"), ("t2", false, "stays")]);
        assert_eq!(progress(&both), "pi-1: 2 tasks left\n  t2: stays\n");
        assert_eq!(left(&both), "2 tasks left on pi-1: t1: stops; t2: stays");
        let text = told(&both);
        assert!(text.starts_with("pi-1 is draining, 2 tasks left\nTASK"), "{text}");
        assert!(text.contains("t1     /a    stops"), "{text}");
        let one = view("draining", &[("t1", true, "stops")]);
        assert_eq!(progress(&one), "pi-1: 1 task left\n");
        assert_eq!(told(&view("drained", &[])), "pi-1 is drained, 0 tasks left\n");
        assert_eq!(
            told(&view("open", &[("t1", true, "x")])),
            "pi-1 is open: tasks may come to it\n"
        );
        assert_eq!(progress(&view("open", &[])), "pi-1 was opened again\n");
    }
}
