//! Volumes that keep data: what is known here, and what is refused rather than ignored.

use super::{Violations, constraints};
use crate::model::{App, Operator, Volume, VolumeMode};

/// Said of external volumes, in Marathon's words for a feature that is off and in ours.
pub(super) const EXTERNAL: &str = "Feature external_volumes is not enabled: there are no volume \
                                   drivers here; use a persistent volume, or a host volume";

/// A volume's directory is named by its id, and file systems end at this many bytes.
const VOLUME_ID_BYTES_MAX: usize = 255;
/// What of them a UUID and two `#` take.
const VOLUME_ID_REST_BYTES: usize = 38;

pub(super) fn persistent(app: &App, volume: &Volume, path: &str, found: &mut Violations) {
    let Volume::Persistent {
        container_path,
        mode,
        kind,
        size_mib,
        max_size_mib,
        profile_name,
        constraints,
    } = volume
    else {
        return;
    };
    let inside = format!("{path}/containerPath");
    found.require(!container_path.contains('/'), &inside, "value must not contain \"/\"");
    found.require(
        !matches!(container_path.as_str(), "" | "." | ".."),
        &inside,
        "must not be empty or a dot path",
    );
    found.require(
        !container_path.contains(char::is_control),
        &inside,
        "must not contain control characters",
    );
    let longest = VOLUME_ID_BYTES_MAX.saturating_sub(app.id.safe().len() + VOLUME_ID_REST_BYTES);
    found.require(
        container_path.len() <= longest,
        &inside,
        format!("must be at most {longest} bytes long beside the app's id"),
    );
    found.require(*mode == VolumeMode::ReadWrite, format!("{path}/mode"), "must be equal to RW");
    let at = format!("{path}/persistent");
    found.require(
        kind == "root",
        format!("{at}/type"),
        "must be root: agents lend one disk, none of type path or mount",
    );
    found.require(
        profile_name.is_none(),
        format!("{at}/profileName"),
        "disk profiles are not supported",
    );
    found.require(*size_mib > 0, format!("{at}/size"), "must be greater than 0");
    found.require(
        max_size_mib.is_none() || kind == "mount",
        format!("{at}/maxSize"),
        "Only mount volumes can have maxSize",
    );
    found.require(
        max_size_mib.is_none_or(|max| max > *size_mib),
        format!("{at}/maxSize"),
        "Max size must be larger than size",
    );
    found.require(
        constraints.is_empty() || kind != "root",
        format!("{at}/constraints"),
        "Constraints on root volumes are not supported",
    );
    for (i, constraint) in constraints.iter().enumerate() {
        let path = format!("{at}/constraints({i})");
        found.require(constraint.field == "path", &path, "Unsupported constraint: must be on path");
        let is_like = matches!(constraint.operator, Operator::Like | Operator::Unlike);
        found.require(is_like, &path, "Operator must be one of LIKE, UNLIKE");
        constraints::one(constraint, &path, found);
    }
}
