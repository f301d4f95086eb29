//! One node of an update: upload, drain, restart, wait, confirm, open.

use super::file::UpdateFile;
use crate::client::{Client, ClientError, refusal};
use crate::output::print;
use crate::verbs::encode;
use crate::verbs::images::{follow, progress_bar, streamed};
use anyhow::{Context, Result, bail};
use bramble_protocol::message::OsSlots;
use bramble_protocol::native::{AgentView, DrainView, OsView};
use http::Method;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};

/// Between two looks at a node that restarts.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often an upload that breaks off is begun: writing a card keeps a small node so busy that
/// it may lose its leader, or the leadership, over it.
const UPLOADS: u32 = 3;
/// Pause before the next.
const UPLOAD_AGAIN: Duration = Duration::from_secs(5);
/// A node is seen healthy for so long before its new image is confirmed.
const HEALTHY_FOR: Duration = Duration::from_secs(5);

/// A node to update, and how.
pub struct Node<'a> {
    pub client: &'a Client,
    pub id: String,
    pub host: String,
    pub slots: OsSlots,
    pub file: &'a UpdateFile,
    /// This program ends with the node: nobody is left to watch it come back.
    pub own: bool,
    pub drain: Duration,
    pub back: Duration,
    pub quiet: bool,
}

/// How a look at a node that restarts turned out.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    NotYet,
    New,
    FellBack,
}

/// How an upload ended that was not refused.
enum Upload {
    Done,
    Broken(anyhow::Error),
}

impl Node<'_> {
    /// Update it. An error leaves it with its old image, or on the way back to it.
    pub async fn update(&self) -> Result<()> {
        self.say(&format!("{} -> {}", self.slots.version, self.file.version))?;
        self.upload().await?;
        let was_drained = self.drain_view(Method::GET).await?.state != "open";
        let drained = self.drain().await;
        if let Err(error) = drained {
            self.open(was_drained).await?;
            return Err(error);
        }
        let spare = if self.slots.slot == "a" { "b" } else { "a" };
        self.say(&format!("restarts into slot {spare}"))?;
        let tried = self.post(&format!("os/try?alone={}", self.own)).await;
        if let Err(error) = tried {
            self.open(was_drained).await?;
            return Err(error);
        }
        if self.own {
            return self.say("is this node: it confirms its new image by itself once it is back");
        }
        match self.wait(spare).await? {
            Look::New => {}
            Look::FellBack => {
                self.open(was_drained).await?;
                bail!(
                    "{} went back to slot {}: its new image did not come up, or not into the \
                     cluster; its status.txt and console say more",
                    self.host,
                    self.slots.slot
                );
            }
            Look::NotYet => {
                let message = format!(
                    "{} is not back on its new image; it goes back to the old one by itself within \
                     ten minutes of its start. It stays drained: open it with `bramble undrain {}`",
                    self.host, self.host
                );
                return Err(ClientError::TimedOut { seconds: self.back.as_secs(), message }.into());
            }
        }
        self.post("os/confirm").await?;
        self.open(was_drained).await?;
        self.say(&format!("runs {}, confirmed", self.file.version))
    }

    fn say(&self, text: &str) -> Result<()> {
        if self.quiet { Ok(()) } else { print(&format!("{}: {text}\n", self.host)) }
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/bramble/agents/{}/{rest}", encode(&self.id))
    }

    async fn post(&self, rest: &str) -> Result<()> {
        self.client.call(Method::POST, &self.path(rest), None).await?;
        Ok(())
    }

    async fn upload(&self) -> Result<()> {
        for left in (0..UPLOADS).rev() {
            match self.upload_once().await? {
                Upload::Done => break,
                Upload::Broken(error) if left == 0 => return Err(error),
                Upload::Broken(error) => self.say(&format!("{error:#}; once more"))?,
            }
            tokio::time::sleep(UPLOAD_AGAIN).await;
        }
        Ok(())
    }

    /// An error is a refusal, and would be one again.
    async fn upload_once(&self) -> Result<Upload> {
        let file = tokio::fs::File::open(&self.file.path)
            .await
            .with_context(|| format!("opening {}", self.file.path.display()))?;
        let bar = progress_bar(Some(self.file.bytes));
        bar.set_message(self.host.clone());
        let headers = [("Content-Type", "application/octet-stream")];
        let path = self.path("os");
        let opened = self.client.open(Method::POST, &path, &headers, streamed(file)).await;
        let done = match opened {
            Ok(answer) if answer.status().is_client_error() => {
                bar.finish_and_clear();
                return Err(refusal(answer).await.into());
            }
            Ok(answer) if !answer.status().is_success() => Err(refusal(answer).await.into()),
            Ok(answer) => follow(answer.into_body(), &bar).await,
            Err(error) => Err(error.into()),
        };
        bar.finish_and_clear();
        let done = done.with_context(|| format!("writing the spare slot of {}", self.host));
        Ok(done.map_or_else(Upload::Broken, |_| Upload::Done))
    }

    async fn drain_view(&self, method: Method) -> Result<DrainView> {
        let answer = self.client.call(method, &self.path("drain"), None).await?;
        serde_json::from_value(answer).context("reading the answer")
    }

    /// Empty the node of what can go elsewhere. What cannot, stops and comes back with it.
    async fn drain(&self) -> Result<()> {
        let until = Instant::now() + self.drain;
        let mut view = self.drain_view(Method::POST).await?;
        self.say(&format!("is drained, {} left", view.tasks.len()))?;
        loop {
            if view.tasks.iter().all(|task| !task.goes) {
                for task in &view.tasks {
                    self.say(&format!("{} {}", task.id, task.message))?;
                }
                return Ok(());
            }
            if Instant::now() >= until {
                let going = view.tasks.iter().filter(|task| task.goes);
                let going: Vec<String> =
                    going.map(|task| format!("{}: {}", task.id, task.message)).collect();
                let message = format!("{} is not empty: {}", self.host, going.join("; "));
                return Err(ClientError::TimedOut { seconds: self.drain.as_secs(), message }.into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
            view = self.drain_view(Method::GET).await?;
        }
    }

    async fn open(&self, was_drained: bool) -> Result<()> {
        if was_drained {
            return Ok(());
        }
        self.drain_view(Method::DELETE).await.map(|_| ())
    }

    /// Wait until the cluster has seen the node healthy on its new image for a while.
    async fn wait(&self, spare: &str) -> Result<Look> {
        let until = Instant::now() + self.back;
        let mut healthy_since = None;
        let mut left = false;
        while Instant::now() < until {
            let agent: Option<AgentView> = self.look("").await;
            let here = agent.is_some_and(|agent| agent.connected && agent.reachable);
            let view: Option<OsView> = if here { self.look("os").await } else { None };
            left |= view.is_none();
            let slots = view.and_then(|view| view.slots);
            match judge(slots.as_ref(), &self.slots.slot, spare, &self.file.version, left) {
                Look::New => {
                    let since = *healthy_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= HEALTHY_FOR {
                        return Ok(Look::New);
                    }
                }
                Look::FellBack => return Ok(Look::FellBack),
                Look::NotYet => healthy_since = None,
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Look::NotYet)
    }

    /// Ask of the node; `None` while it, or the leader, is away.
    async fn look<T: DeserializeOwned>(&self, rest: &str) -> Option<T> {
        let path = self.path(rest);
        let answer = self.client.get(path.trim_end_matches('/')).await.ok()?;
        serde_json::from_value(answer).ok()
    }
}

/// What a node's slots say. One that has not left yet still runs the old slot.
fn judge(slots: Option<&OsSlots>, old: &str, spare: &str, version: &str, left: bool) -> Look {
    match slots {
        Some(slots) if slots.slot == spare && slots.version == version => Look::New,
        Some(slots) if slots.slot == old && left => Look::FellBack,
        _ => Look::NotYet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_new_only_on_its_spare_slot() {
        let slots = |slot: &str, version: &str| OsSlots {
            slot: slot.into(),
            version: version.into(),
            ..OsSlots::default()
        };
        for (seen, left, expected) in [
            (None, true, Look::NotYet),
            (Some(slots("a", "1")), false, Look::NotYet),
            (Some(slots("a", "1")), true, Look::FellBack),
            (Some(slots("b", "2")), true, Look::New),
            (Some(slots("b", "2")), false, Look::New),
            (Some(slots("b", "1")), true, Look::NotYet),
        ] {
            assert_eq!(judge(seen.as_ref(), "a", "b", "2", left), expected, "{seen:?}");
        }
    }
}
