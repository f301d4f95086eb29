//! Credentials for registries, as `docker login` writes them (`config.json`): out of the node's
//! file, or of what came with a pull.
//!
//! Owns finding the entry of a registry. The file is read at every pull, so that a changed
//! password needs no restart. Never runs credential helpers: a node has none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Credentials that come with one pull, before those of the node: what a docker config holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// What to call them in messages.
    pub name: String,
    pub docker_config: Vec<u8>,
}

impl fmt::Debug for Login {
    /// Leaves the content out, so that no log can leak it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("name", &self.name).finish_non_exhaustive()
    }
}

/// No variant holds or repeats what is wrong: it may be a password.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("reading registry credentials {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "registry credentials {from} are not valid JSON of a docker config \
         (line {line}, column {column})"
    )]
    Json { from: String, line: usize, column: usize },
    #[error(
        "entry {registry:?} of registry credentials {from}: auth is not base64 of user:password"
    )]
    Auth { from: String, registry: String },
    #[error(
        "entry {registry:?} of registry credentials {from} holds an identity token, which is not \
         supported: use a user and password"
    )]
    IdentityToken { from: String, registry: String },
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// Finds what to show to a registry known by any of `hosts`: what came with the pull, else what
/// the node's file has; nothing there means anonymous.
pub(crate) fn find(
    login: Option<&Login>,
    path: Option<&Path>,
    hosts: &[&str],
) -> Result<RegistryAuth, CredentialsError> {
    if let Some(login) = login {
        let found = entry(&login.name, &login.docker_config, hosts)?;
        if found != RegistryAuth::Anonymous {
            return Ok(found);
        }
    }
    let Some(path) = path else { return Ok(RegistryAuth::Anonymous) };
    let bytes = std::fs::read(path)
        .map_err(|source| CredentialsError::Read { path: path.to_owned(), source })?;
    entry(&path.display().to_string(), &bytes, hosts)
}

fn entry(from: &str, config: &[u8], hosts: &[&str]) -> Result<RegistryAuth, CredentialsError> {
    let from = || from.to_owned();
    let config: DockerConfig = serde_json::from_slice(config).map_err(|error| {
        CredentialsError::Json { from: from(), line: error.line(), column: error.column() }
    })?;
    let entry = config.auths.iter().find(|(key, _)| hosts.contains(&host_of(key)));
    let Some((key, entry)) = entry else { return Ok(RegistryAuth::Anonymous) };
    let registry = || key.clone();
    if !entry.registrytoken.is_empty() {
        return Ok(RegistryAuth::Bearer(entry.registrytoken.clone()));
    }
    if !entry.identitytoken.is_empty() {
        return Err(CredentialsError::IdentityToken { from: from(), registry: registry() });
    }
    if !entry.username.is_empty() {
        return Ok(RegistryAuth::Basic(entry.username.clone(), entry.password.clone()));
    }
    if entry.auth.is_empty() {
        // What `docker login` leaves when a credential store holds the password.
        tracing::warn!(registry = %key, "registry credentials are in a credential store: unused");
        return Ok(RegistryAuth::Anonymous);
    }
    let bad = || CredentialsError::Auth { from: from(), registry: registry() };
    let decoded = STANDARD.decode(entry.auth.trim()).map_err(|_| bad())?;
    let text = String::from_utf8(decoded).map_err(|_| bad())?;
    let (user, password) = text.split_once(':').ok_or_else(bad)?;
    Ok(RegistryAuth::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Keys are hosts or, for the default registry, a whole address of its first version.
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_entries_as_docker_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let text = r#"{"auths":{
            "https://first.local/v1/":{"auth":"dXNlcjpwYTpzcw=="},
            "second.local:5000":{"username":"u","password":"p"},
            "third.local":{"registrytoken":"t"},
            "fourth.local":{},
            "fifth.local":{"identitytoken":"t"},
            "sixth.local":{"auth":"?"}},"credsStore":"x"}"#;
        std::fs::write(&path, text).unwrap();
        let basic = |user: &str, pass: &str| RegistryAuth::Basic(user.into(), pass.into());
        let cases = [
            ("first.local", Ok(basic("user", "pa:ss"))),
            ("second.local:5000", Ok(basic("u", "p"))),
            ("second.local", Ok(RegistryAuth::Anonymous)),
            ("third.local", Ok(RegistryAuth::Bearer("t".into()))),
            ("fourth.local", Ok(RegistryAuth::Anonymous)),
            ("fifth.local", Err("identity token")),
            ("sixth.local", Err("base64")),
        ];
        for (host, expected) in cases {
            match (find(None, Some(&path), &[host]), expected) {
                (Ok(auth), Ok(expected)) => assert!(auth == expected, "{host}: {auth:?}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part)),
                (actual, _) => panic!("{host}: {actual:?}"),
            }
        }
        assert!(find(None, None, &["x"]).unwrap() == RegistryAuth::Anonymous);
        let missing = find(None, Some(&dir.path().join("no")), &["x"]);
        assert!(matches!(missing, Err(CredentialsError::Read { .. })));
    }

    #[test]
    fn a_login_of_the_pull_comes_before_the_nodes_and_is_never_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let of = |password: &str| {
            format!(r#"{{"auths":{{"a.local":{{"username":"u","password":"{password}"}}}}}}"#)
        };
        std::fs::write(&path, of("node").replace("a.local", "b.local")).unwrap();
        let login =
            |text: &str| Login { name: "'pull'".into(), docker_config: text.as_bytes().to_vec() };
        let own = login(&of("own"));
        let find = |login: &Login, host: &str| find(Some(login), Some(&path), &[host]);
        let basic = |password: &str| RegistryAuth::Basic("u".into(), password.into());
        assert!(find(&own, "a.local").unwrap() == basic("own"));
        assert!(find(&own, "b.local").unwrap() == basic("node"));
        assert!(!format!("{own:?}").contains("own\""));
        for text in [r#"{"auths":"hush"}"#, "hush", r#"{"auths":{"a.local":{"auth":"hush"}}}"#] {
            let error = find(&login(text), "a.local").unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(told.contains("'pull'") && !told.contains("hush"), "{told}");
        }
    }
}
