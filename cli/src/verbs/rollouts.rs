//! `promote` and `withdraw`: the word that ends a trial; and how a trial is told to a person.

use super::Common;
use super::deploy::{self, WaitArgs};
use crate::client::Client;
use anyhow::{Context, Result, bail};
use bramble_protocol::native::{DeploymentView, RolloutView};
use clap::Args;
use http::Method;

#[derive(Args, Debug)]
pub struct WordArgs {
    /// App id, with or without its leading slash, or the id of a deployment
    #[arg(value_name = "APP|ID")]
    name: String,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn promote(client: &Client, common: &Common, args: WordArgs) -> Result<u8> {
    say(client, common, args, "promote").await
}

pub async fn withdraw(client: &Client, common: &Common, args: WordArgs) -> Result<u8> {
    say(client, common, args, "withdraw").await
}

async fn say(client: &Client, common: &Common, args: WordArgs, word: &str) -> Result<u8> {
    let all = under_way(client).await?;
    let deployment = named(&all, &args.name)?;
    if word == "promote" {
        can_be_promoted(deployment, &args.name)?;
    }
    let path = format!("/v1/bramble/deployments/{}/{word}", deployment.id);
    let answer = client.call(Method::POST, &path, None).await?;
    let apps: Vec<&str> = deployment.apps.iter().map(|app| app.app.as_str()).collect();
    deploy::report(client, common, &answer, &apps, &args.wait).await
}

/// Deployments under way, with what is on trial.
pub async fn under_way(client: &Client) -> Result<Vec<DeploymentView>> {
    let answer = client.get("/v1/bramble/deployments").await?;
    serde_json::from_value(answer).context("reading the deployments")
}

/// The deployment of this id, or the one that touches this app.
fn named<'a>(all: &'a [DeploymentView], name: &str) -> Result<&'a DeploymentView> {
    let touches = |deployment: &&DeploymentView| {
        deployment.apps.iter().any(|app| app.app.trim_matches('/') == name.trim_matches('/'))
    };
    let found = all.iter().find(|d| d.id == name).or_else(|| all.iter().find(touches));
    match found {
        Some(deployment) => Ok(deployment),
        None => bail!("no deployment of {name} is under way"),
    }
}

/// Refuse to promote by the name of an app what another app of the deployment waits for.
fn can_be_promoted(deployment: &DeploymentView, name: &str) -> Result<()> {
    let named = |app: &&RolloutView| app.app.trim_matches('/') == name.trim_matches('/');
    match deployment.apps.iter().find(named) {
        Some(app) if !app.phase.ends_with("-waiting") => {
            bail!("{} does not wait for a word: its phase is {}", app.app, app.phase)
        }
        _ => Ok(()),
    }
}

/// Say what waits for a word, and which words there are; empty where nothing waits.
pub fn told(deployment: &DeploymentView) -> Vec<String> {
    if !deployment.waiting {
        return Vec::new();
    }
    let what = |app: &RolloutView| match app.phase.as_str() {
        "canary-waiting" => Some("canary"),
        "green-waiting" => Some("second set"),
        _ => None,
    };
    let line = |app: &RolloutView| {
        let (new, old) = (&app.new, &app.old);
        Some(format!(
            "{}: {} waits, {} of {} new and {} of {} old instances ready; go on with `bramble \
             promote {}`, go back with `bramble withdraw {}`",
            app.app,
            what(app)?,
            new.ready,
            new.wanted,
            old.ready,
            old.instances,
            app.app.trim_matches('/'),
            app.app.trim_matches('/'),
        ))
    };
    deployment.apps.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_protocol::native::SetView;

    fn view(id: &str, app: &str, phase: &str) -> DeploymentView {
        let set =
            |wanted, ready| SetView { version: None, wanted, instances: 9, ready, live: true };
        DeploymentView {
            id: id.into(),
            version: String::new(),
            current_step: 1,
            total_steps: 1,
            waiting: phase.ends_with("waiting"),
            undoes: None,
            apps: vec![RolloutView {
                app: app.into(),
                phase: phase.into(),
                old: set(9, 8),
                new: set(1, 1),
                stopping: 0,
                deadline: None,
            }],
        }
    }

    #[test]
    fn a_trial_is_named_by_its_app_or_its_id() {
        let all = [view("d1", "/a", "canary"), view("d2", "/g/b", "rolling")];
        for (name, id) in [("a", "d1"), ("/a", "d1"), ("/g/b/", "d2"), ("d2", "d2")] {
            assert_eq!(named(&all, name).map(|d| d.id.as_str()).ok(), Some(id), "{name}");
        }
        let error = named(&all, "b").expect_err("there is none").to_string();
        assert_eq!(error, "no deployment of b is under way");
    }

    #[test]
    fn an_app_is_promoted_only_while_it_waits() {
        for (phase, name, fine) in [
            ("canary-waiting", "a", true),
            ("pending", "/a", false),
            ("pending", "d", true),
            ("green-waiting", "/a/", true),
        ] {
            let known = view("d", "/a", phase);
            assert_eq!(can_be_promoted(&known, name).is_ok(), fine, "{phase} {name}");
        }
    }

    #[test]
    fn only_what_waits_asks_for_a_word() {
        assert_eq!(told(&view("d", "/a", "canary")), [""; 0]);
        let lines = told(&view("d", "/g/a", "canary-waiting"));
        assert_eq!(
            lines,
            ["/g/a: canary waits, 1 of 1 new and 8 of 9 old instances ready; go on with `bramble \
              promote g/a`, go back with `bramble withdraw g/a`"]
        );
        assert!(told(&view("d", "/a", "green-waiting"))[0].contains("second set waits"));
    }
}
