//! App ids: how a written one becomes an absolute path, and what one may look like.

use crate::model::AppId;

/// Bytes of an absolute id. Marathon has no bound, but a task's directory is named by its id, and
/// file systems end at 255: `.instance-`, a UUID, `._app.` and its number take 62 of them, and a
/// few are left for what else may stand beside. A longer id would be taken and never run.
pub const APP_ID_BYTES_MAX: usize = 180;

/// Last segments that the API's own paths need.
const RESERVED: [&str; 3] = ["restart", "tasks", "versions"];

/// The rule in the words Marathon's clients know.
const SEGMENT_REGEX: &str = "^(([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])\\.)*([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])|(\\.|\\.\\.)$";

/// Resolve a written app id against the absolute path `base` (`/` for the root) and check it.
///
/// A leading slash makes it absolute; empty segments are dropped; `.` and `..` are walked.
///
/// # Errors
/// Messages of every rule it breaks; the id is then of no use.
pub fn resolve(text: &str, base: &str) -> Result<AppId, Vec<String>> {
    let id = walked(text, base)?;
    let broken = id_violations(&id);
    if broken.is_empty() { Ok(AppId(id)) } else { Err(broken) }
}

/// Resolve a written group id against the absolute path `base` and check it. The root is a group,
/// and no word is reserved.
///
/// # Errors
/// Messages of every rule it breaks.
pub fn resolve_path(text: &str, base: &str) -> Result<String, Vec<String>> {
    let path = walked(text, base)?;
    if path.split('/').filter(|s| !s.is_empty()).all(is_segment) {
        return Ok(path);
    }
    Err(vec![malformed()])
}

/// The absolute path that `text` means, unchecked but for its length.
fn walked(text: &str, base: &str) -> Result<String, Vec<String>> {
    if text.len() > APP_ID_BYTES_MAX {
        return Err(vec![too_long(text.len())]);
    }
    let mut segments: Vec<&str> = Vec::new();
    let prefix = if text.starts_with('/') { "" } else { base };
    for segment in prefix.split('/').chain(text.split('/')) {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let path = format!("/{}", segments.join("/"));
    // A relative one becomes longer than it was written.
    if path.len() > APP_ID_BYTES_MAX { Err(vec![too_long(path.len())]) } else { Ok(path) }
}

/// Messages of every rule an absolute id breaks.
pub fn id_violations(id: &str) -> Vec<String> {
    if id.len() > APP_ID_BYTES_MAX {
        return vec![too_long(id.len())];
    }
    let mut broken = Vec::new();
    let segments: Vec<&str> = id.split('/').filter(|s| !s.is_empty()).collect();
    if !id.starts_with('/') {
        broken.push("must be an absolute path".to_string());
    }
    let Some(last) = segments.last() else {
        broken.push("must not be root".to_string());
        return broken;
    };
    if !segments.iter().all(|s| is_segment(s)) {
        broken.push(malformed());
    }
    if RESERVED.contains(last) {
        broken.push(format!("must not end with any of: {}", RESERVED.join(", ")));
    }
    broken
}

fn malformed() -> String {
    format!("must fully match regular expression '{SEGMENT_REGEX}'")
}

fn too_long(length: usize) -> String {
    format!("must be at most {APP_ID_BYTES_MAX} characters long, but has {length}")
}

/// Labels of lower-case letters, digits and inner hyphens, joined by dots.
fn is_segment(segment: &str) -> bool {
    segment.split('.').all(super::is_name)
}
